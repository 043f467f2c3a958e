"""The pool of runs against the pool of blocks, which is the specification."""

import gc
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engines.protocol import ContentSegments
from simulator.kv_cache.block_pool import BlockKey
from simulator.kv_cache.content import ContentPool, ContentTable, Run
from simulator.kv_cache.manager import SHARED_KEY_PARTS, BlockTable, KVCacheManager


def runs_of_key(first: Run | None) -> Iterator[Run]:
    while first is not None:
        yield first
        first = first.junior


def queued_runs(pool: ContentPool) -> Iterator[Run]:
    run = pool._queue.after
    while run is not pool._queue:
        assert run.after.before is run
        assert run.ref_cnt == 0 < run.stop - run.start
        yield run
        run = run.after


class Request:
    """One request in both pools."""

    def __init__(
        self, number: int, segments: ContentSegments, lora: int | None, tokens: int, size: int
    ) -> None:
        self.plain = BlockTable(number, segments, lora)
        self.counted = ContentTable(number, segments, lora, size)
        self.tokens = tokens
        self.computed = 0


class BothPools:
    """Does everything in both pools and compares all that can be compared."""

    def __init__(self, num_gpu_blocks: int, size: int, watermark: float = 0.0) -> None:
        self.size = size
        self.plain = KVCacheManager(num_gpu_blocks, size, enable_caching=True, watermark=watermark)
        self.counted = ContentPool(num_gpu_blocks, size, enable_caching=True, watermark=watermark)
        self.running: list[Request] = []
        self.waiting: list[Request] = []
        self.done: Counter[str] = Counter()
        self._number = 0

    def request(self, segments: ContentSegments, tokens: int, lora: int | None = None) -> Request:
        self._number += 1
        request = Request(self._number, segments, lora, tokens, self.size)
        self.waiting.append(request)
        return request

    def look_up(self, request: Request) -> tuple[list[int], list[Run], int]:
        blocks = self.plain.get_computed_blocks(request.plain, request.tokens)
        hits, num_hits = self.counted.look_up(request.counted, request.tokens)
        assert num_hits == len(blocks) == sum(run.stop - run.start for run in hits)
        assert self.counted.num_evictable(hits) == self.plain.pool.num_evictable(blocks)
        return blocks, hits, num_hits

    def admit(self, request: Request, chunk: int) -> bool:
        blocks, hits, num_hits = self.look_up(request)
        slots = min(request.tokens, num_hits * self.size + chunk)
        admitted = self.plain.admit(
            request.plain,
            blocks,
            num_computed=slots,
            num_slots=slots,
            num_tokens=request.tokens,
            reserve_full_isl=False,
            beside_others=bool(self.running),
        )
        required = -(-slots // self.size) - num_hits + self.counted.num_evictable(hits)
        if self.running:
            required += self.counted.watermark_blocks
        assert admitted == (required <= self.counted.num_free)
        if admitted:
            self.done["blocks hit"] += num_hits
            self.counted.touch(request.counted, hits)
            self.counted.take(-(-slots // self.size) - num_hits)
            self.counted.cache_shared(request.counted, slots // self.size)
            request.computed = slots
            self.waiting.remove(request)
            self.running.append(request)
        return admitted

    def extend(self, request: Request, chunk: int, sampled: int) -> bool:
        """Compute ``chunk`` tokens more; of those behind the sequence ``sampled`` are known."""
        slots = request.computed + chunk
        request.tokens = max(request.tokens, request.computed + min(chunk, sampled))
        cacheable = min(slots, request.tokens)
        need = -(-slots // self.size) - -(-request.computed // self.size)
        assert need == max(0, -(-slots // self.size) - len(request.plain.blocks))
        extended = self.plain.extend(request.plain, slots, cacheable)
        assert extended == (need <= self.counted.num_free)
        if extended:
            self.counted.take(need)
            self.counted.cache_shared(request.counted, cacheable // self.size)
            request.computed = slots
        return extended

    def leave(self, request: Request, returns: bool) -> None:
        cached = request.plain.num_cached_blocks
        if returns and cached > max((request.tokens - 1) // self.size, request.counted.num_shared):
            request.counted.give_ids(self.size)
            self.counted.cache_shared(request.counted, cached)
            self.done["own content with ids"] += 1
        self.plain.free(request.plain)
        self.counted.release(request.counted, -(-request.computed // self.size), cached, returns=returns)
        request.computed = 0
        self.running.remove(request)
        if returns:
            self.waiting.append(request)

    # --- comparison -------------------------------------------------------------------------------------

    def check(self) -> None:
        self.plain.pool.check(r.plain.blocks for r in self.running)
        pool = self.plain.pool
        assert self.counted.num_free == pool.num_free_blocks
        alive = {r.plain.unique_id: r for r in [*self.running, *self.waiting]}
        assert self._queue(alive) == [self._own(pool._key[block], alive) for block in pool._free]
        cached = self._cached()
        for key, blocks in pool._cached.items():
            found = cached.pop(key, None)
            holders = [blocks] if isinstance(blocks, int) else list(blocks)
            if len(key) == SHARED_KEY_PARTS or found is not None:
                assert found == [pool._ref_cnt[block] for block in holders]
                self.done["blocks held twice"] += len(holders) > 1
        assert not cached

    @staticmethod
    def _own(key: BlockKey | None, alive: dict[int, Request]) -> object:
        """The pool of runs does not tell the content of requests apart that have ended."""
        if key is None or len(key) == SHARED_KEY_PARTS or key[0] in alive:
            return key
        return "own"

    def _queue(self, alive: dict[int, Request]) -> list[object]:
        own = {id(r.counted.own_run): r for r in self.waiting}
        keys: list[object] = [None] * self.counted._blank
        for run in queued_runs(self.counted):
            for index in reversed(range(run.start, run.stop)):
                if run.key is not None:
                    keys.append(self._own(self._block_key(run.key, index), alive))
                elif id(run) in own:
                    table = own[id(run)].counted
                    keys.append((table.unique_id, table.num_shareable + index))
                else:
                    keys.append("own")
        return keys

    @staticmethod
    def _block_key(key: object, index: int) -> BlockKey:
        content, lora = key if isinstance(key, tuple) and key[0] != "own" else (key, None)
        return (content[1], index) if isinstance(content, tuple) else (content, index, lora)

    def _cached(self) -> dict[BlockKey, list[int]]:
        """References on the blocks of every key, in the order of caching."""
        found: dict[BlockKey, list[int]] = {}
        for key, first in self.counted._cached.items():
            for run in runs_of_key(first):
                assert run.key == key
                assert run.start < run.stop
                for index in range(run.start, run.stop):
                    found.setdefault(self._block_key(key, index), []).append(run.ref_cnt)
        return found


def draw_segments(rng: Random, size: int, chained: bool) -> ContentSegments:
    """A path through a tree of contents; a node has the same length on every path if ids are chained."""
    node, end = rng.randint(1, 2), 0
    segments = []
    for _ in range(rng.randint(0, 4)):
        lengths = Random(node) if chained else rng
        end += lengths.choice([1, size - 1 or 1, size, 3 * size, 12 * size + 1])
        segments.append((node, end))
        node = 3 * node + rng.randrange(2) if chained else rng.randint(1, 4)
    return tuple(segments)


def run_random_operations(seed: int) -> BothPools:
    rng = Random(seed)
    size = rng.choice([1, 2, 4])
    both = BothPools(rng.randint(8, 120), size, rng.choice([0.0, 0.0, 0.1]))
    loras = rng.choice([[None], [None, 0, 1]])
    chained = rng.random() < 0.7
    extends = rng.choice([0.3, 0.6])
    for _ in range(rng.randint(20, 150)):
        draw = rng.random()
        if both.running and draw < extends:
            request = rng.choice(both.running)
            chunk = rng.choice([1, 1, size, 3 * size])
            if not both.extend(request, chunk, rng.choice([chunk, chunk, chunk - 1])):
                both.leave(both.running[-1], returns=True)
                both.done["preemptions"] += 1
        elif both.running and draw < extends + 0.15:
            both.leave(rng.choice(both.running), returns=rng.random() < 0.4)
        elif both.waiting and draw < extends + 0.3:
            request = rng.choice(both.waiting)
            if rng.random() < 0.1:
                both.waiting.remove(request)  # aborted
            elif not both.admit(request, rng.choice([1, size, 4 * size, 100])):
                both.done["blocked"] += 1
        else:
            segments = draw_segments(rng, size, chained)
            length = segments[-1][1] if segments else 0
            tokens = max(1, rng.choice([length, length + 1, rng.randint(0, length + 3 * size)]))
            both.request(segments, tokens, rng.choice(loras))
        both.check()
    return both


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**9))
def test_decides_as_the_pool_of_blocks(seed: int) -> None:
    run_random_operations(seed)


def test_the_random_operations_do_what_is_rare() -> None:
    done: Counter[str] = Counter()
    for seed in range(60):
        done += run_random_operations(seed).done
    for what in ("blocks hit", "blocks held twice", "preemptions", "blocked", "own content with ids"):
        assert done[what] > 10, what


@pytest.fixture
def both() -> BothPools:
    return BothPools(101, 4)


def shape(run: Run) -> tuple[int, int, int]:
    return run.start, run.stop, run.ref_cnt


def test_a_prompt_is_as_many_runs_as_segments(both: BothPools) -> None:
    first = both.request(((1, 80), (2, 160)), 200)
    assert both.admit(first, 200)
    assert [shape(run) for run in first.counted.shared] == [(0, 20, 1), (20, 40, 1)]
    both.leave(first, returns=False)
    assert [shape(run) for run in queued_runs(both.counted)] == [(0, 10, 0), (20, 40, 0), (0, 20, 0)]
    both.check()


def test_a_hit_of_a_part_divides_the_run_for_its_holder_too(both: BothPools) -> None:
    holder = both.request(((1, 80),), 80)
    assert both.admit(holder, 80)
    other = both.request(((1, 80),), 41)
    assert both.admit(other, 41)  # ten full blocks, and one of its own
    assert [shape(run) for run in runs_of_key(both.counted._cached[1])] == [(0, 10, 2), (10, 20, 1)]
    both.leave(holder, returns=False)
    both.check()
    both.leave(other, returns=False)
    # The last block first: what only the holder had, then what both had.
    assert [shape(run) for run in queued_runs(both.counted)] == [(10, 20, 0), (0, 10, 0)]
    both.check()


def test_eviction_shortens_a_run_from_its_end(both: BothPools) -> None:
    first = both.request(((1, 80),), 80)
    assert both.admit(first, 80)
    both.leave(first, returns=False)
    assert both.admit(both.request((), 83 * 4), 83 * 4)  # eighty blank blocks and three cached ones
    assert [shape(run) for run in queued_runs(both.counted)] == [(0, 17, 0)]
    assert both.look_up(both.request(((1, 80),), 80))[2] == 17
    both.check()


def test_of_the_same_content_cached_twice_the_first_answers(both: BothPools) -> None:
    requests = [both.request(((1, 80),), 80) for _ in range(3)]
    for request in requests:
        assert both.admit(request, 3)
    for chunk in (1, *[4] * 19):  # all prompts are computed at the same time
        for request in requests:
            assert both.extend(request, chunk, chunk)
            both.check()
    first = both.counted._cached[1]
    assert [shape(run) for run in runs_of_key(first)] == [(0, 20, 1)] * 3
    late = both.request(((1, 80),), 80)
    assert both.look_up(late)[1] == [requests[0].counted.shared[0]]
    both.leave(requests[0], returns=False)
    both.check()
    assert both.admit(late, 4)
    # It computes the last block again; its run may not grow before those that had that block earlier.
    assert [shape(run) for run in runs_of_key(first)] == [
        (0, 19, 1),
        (19, 20, 0),
        (0, 20, 1),
        (0, 20, 1),
        (19, 20, 1),
    ]
    both.check()


def test_a_run_divided_twice_is_released_whole(both: BothPools) -> None:
    holder = both.request(((1, 80),), 80)
    assert both.admit(holder, 80)
    for tokens in (61, 21, 41):
        assert both.admit(both.request(((1, 80),), tokens), tokens)
    assert [shape(run) for run in runs_of_key(both.counted._cached[1])] == [
        (0, 5, 4),
        (5, 10, 3),
        (10, 15, 2),
        (15, 20, 1),
    ]
    for request in list(both.running):
        both.leave(request, returns=False)
        both.check()


def test_ids_need_not_begin_at_the_same_place(both: BothPools) -> None:
    """Ids of a trace that are not chained: the same one follows others of different lengths."""
    first = both.request(((1, 16), (2, 32)), 32)
    assert both.admit(first, 32)
    second = both.request(((3, 8), (2, 32)), 32)
    assert both.admit(second, 32)
    both.check()
    third = both.request(((3, 8), (2, 32)), 33)
    hits = both.look_up(third)[1]
    # Blocks 2 and 3 of id 2 are the second request's alone, the first request's answer for those behind.
    assert [shape(run) for run in hits] == [(0, 2, 1), (2, 4, 1), (4, 8, 1)]
    assert hits[2] is first.counted.shared[1]
    assert both.admit(third, 1)
    both.check()


def test_what_ended_requests_leave_of_their_own_is_one_run(both: BothPools) -> None:
    requests = [both.request((), 40) for _ in range(3)]
    for request in requests:
        assert both.admit(request, 40)
    for request in requests:
        both.leave(request, returns=False)
    assert [shape(run) for run in queued_runs(both.counted)] == [(0, 30, 0)]
    both.check()


def test_evicted_runs_are_not_kept_alive_by_what_outlives_them() -> None:
    """A divided run still points to its other part when that was evicted; no chain of evicted runs may hang on it."""
    both = BothPools(51, 4)
    holder, longer = both.request(((1, 80),), 80), both.request(((1, 80),), 41)
    assert both.admit(holder, 80)
    assert both.admit(longer, 41)
    both.leave(holder, returns=False)
    for number in range(2, 200):
        twins = [both.request(((1, 40), (number // 3, 60), (number, 80)), 80) for _ in range(2)]
        for twin in twins:
            assert both.admit(twin, 2)
        for twin in twins:
            assert both.extend(twin, 80 - twin.computed, 0)
            both.leave(twin, returns=False)
        both.check()
    assert longer.counted.shared[0].rest is not None
    gc.collect()
    alive = sum(isinstance(found, Run) for found in gc.get_objects())
    assert alive < 20

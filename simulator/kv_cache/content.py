"""The KV block pool without block ids: what the free queue holds, not which block holds it.

Decides as `simulator.kv_cache.block_pool` does, in steps whose cost does not grow with the blocks:

- a block that caches nothing is like any other, and such blocks lie before all others in the free queue
  (released ones go to its head, those with content to its tail): a count stands for them;
- content with an id is kept in runs: neighbouring blocks of one id that as many requests hold and that, once
  nobody does, are neighbours in the free queue, the last block first. A run is divided where a request takes a
  part of it, and shortened where eviction ends within it;
- content that no other request can have (the tail of a prompt without an id, what a request generates) is
  released and evicted in one piece: a run without an id. Once its request has ended nobody will ask for it,
  and neighbouring runs become one.
"""

from __future__ import annotations

from typing import Final

from simulator.engines.protocol import ContentSegments

_ENDLESS: Final = 1 << 40


class Run:
    """Blocks that share their fate: ``start`` to ``stop`` - 1 of a sequence.

    Attributes:
        key: content id and adapter; None for a request's own content, which counts from 0.
        start, stop: places in the sequence, in blocks.
        ref_cnt: how many requests hold each of the blocks.
        rest: what was divided off behind it: whoever held this run then holds that too.
        junior: the next run of the same key in the order of caching. The first that has a block answers for it.
        before, after: neighbours in the free queue, in the order of eviction; of no meaning outside it.
    """

    __slots__ = ("after", "before", "junior", "key", "ref_cnt", "rest", "start", "stop")

    def __init__(self, key: object, start: int, stop: int, ref_cnt: int) -> None:
        self.key = key
        self.start = start
        self.stop = stop
        self.ref_cnt = ref_cnt
        self.rest: Run | None = None
        self.junior: Run | None = None
        self.before: Run = self
        self.after: Run = self


_NO_RUNS: Final[list[Run]] = []


class ContentTable:
    """The cached content that one request holds or left in the free queue.

    Attributes:
        shared: its runs of content with an id, from the first block. What was divided since a run was put here
            goes on in its ``rest``.
        num_shared: how many blocks these are; all of them are cached.
        num_shareable: blocks of its sequence whose content has an id.
        own_run: what it left of its own content when it was preempted.
        segments: ids of its content and where they end, in tokens.
        segment: index of the last segment that has a block among the shared ones, or of an earlier one.
    """

    __slots__ = (
        "lora",
        "num_shareable",
        "num_shared",
        "own_run",
        "segment",
        "segments",
        "shared",
        "unique_id",
    )

    def __init__(self, unique_id: int, segments: ContentSegments, lora: int | None, block_size: int) -> None:
        self.unique_id = unique_id
        self.lora = lora
        self.segments: tuple[tuple[object, int], ...] = segments
        self.num_shareable = segments[-1][1] // block_size if segments else 0
        self.shared: list[Run] = _NO_RUNS
        self.num_shared = self.segment = 0
        self.own_run: Run | None = None

    def give_ids(self, block_size: int) -> None:
        """From here on the request's own content has an id too."""
        self.segments = (*self.segments, (("own", self.unique_id), _ENDLESS * block_size))
        self.num_shareable = _ENDLESS


class ContentPool:
    """The blocks of one replica, counted.

    Args:
        num_gpu_blocks: all blocks, the null block included.
        block_size: tokens in a block.
        enable_caching: vLLM's ``enable_prefix_caching``.
        watermark: share of all blocks that an admission beside running requests leaves free.

    Attributes:
        num_free: blocks that no request holds.
    """

    __slots__ = (
        "_blank",
        "_cached",
        "_dead_tail",
        "_queue",
        "block_size",
        "enable_caching",
        "num_free",
        "num_usable",
        "watermark_blocks",
    )

    def __init__(
        self, num_gpu_blocks: int, block_size: int, enable_caching: bool, watermark: float = 0.0
    ) -> None:
        self.block_size = block_size
        self.enable_caching = enable_caching
        self.watermark_blocks = int(watermark * num_gpu_blocks)
        self.num_usable = self.num_free = self._blank = num_gpu_blocks - 1
        # Both ends of the free queue behind the blank blocks: a ring.
        self._queue = Run(None, 0, 0, 0)
        # The first cached run of every key.
        self._cached: dict[object, Run] = {}
        self._dead_tail: Run | None = None

    # --- hits -------------------------------------------------------------------------------------------

    def look_up(self, table: ContentTable, num_tokens: int) -> tuple[list[Run], int]:
        """Cached runs at the start of a sequence, the one of its own content last, and how many blocks they are.

        The last token is always left to compute. Runs are divided where the sequence leaves them.
        """
        if not self.enable_caching:
            return _NO_RUNS, 0
        own_run = table.own_run
        own = own_run.stop if own_run is not None else 0
        hits: list[Run] = []
        num_hits = 0
        if table.num_shareable:
            block_size = self.block_size
            stop = min((num_tokens - 1) // block_size, table.num_shareable)
            lora = table.lora
            for content, end_tokens in table.segments:
                end = min(end_tokens // block_size, stop)
                if end <= num_hits:
                    continue
                first = self._cached.get(content if lora is None else (content, lora))
                if first is not None:
                    num_hits = self._add_hits(hits, first, num_hits, end)
                if num_hits < end or end == stop:
                    break
        if own and own_run is not None:
            # Own content is evicted before what precedes it.
            assert num_hits == table.num_shareable
            hits.append(own_run)
        return hits, num_hits + own

    def _add_hits(self, hits: list[Run], first: Run, start: int, stop: int) -> int:
        """Add the runs of a key that answer for its blocks ``start`` to ``stop`` - 1; returns where they end."""
        run: Run | None = first
        # Where a run begins that was cached earlier than the one looked at.
        limit = stop
        while run is not None:
            if run.start > start:
                limit = min(limit, run.start)
            elif run.stop > start:
                if run.start < start:
                    run = self._divide(run, start)
                if run.stop > limit:
                    self._divide(run, limit)
                hits.append(run)
                start = run.stop
                if start == stop:
                    return start
                if start == limit:
                    run = first
                    limit = stop
                    continue
            run = run.junior
        return start

    def _divide(self, run: Run, at: int) -> Run:
        """Divide a run before a block; returns what is behind."""
        rest = Run(run.key, at, run.stop, run.ref_cnt)
        run.stop = at
        rest.rest = run.rest
        run.rest = rest
        rest.junior = run.junior
        run.junior = rest
        if run.ref_cnt == 0:
            before = run.before
            rest.before = before
            rest.after = run
            before.after = run.before = rest
        return rest

    @staticmethod
    def num_evictable(hits: list[Run]) -> int:
        """How many blocks of these runs lie in the free queue."""
        found = 0
        for run in hits:
            if run.ref_cnt == 0:
                found += run.stop - run.start
        return found

    def touch(self, table: ContentTable, hits: list[Run]) -> None:
        """Give a request its hits; those in the free queue leave it."""
        end = self._queue
        for run in hits:
            if run.ref_cnt == 0:
                self.num_free -= run.stop - run.start
                run.before.after = run.after
                run.after.before = run.before
                run.before = run.after = end
            run.ref_cnt += 1
        if hits and hits[-1] is table.own_run:
            hits.pop()
        table.own_run = None
        table.shared = hits
        table.num_shared = hits[-1].stop if hits else 0

    # --- new blocks -------------------------------------------------------------------------------------

    def take(self, num_blocks: int) -> None:
        """Take blocks from the head of the free queue, evicting what they cache; there must be as many."""
        self.num_free -= num_blocks
        if num_blocks <= self._blank:
            self._blank -= num_blocks
            return
        num_blocks -= self._blank
        self._blank = 0
        end = self._queue
        run = end.after
        while num_blocks > 0:
            size = run.stop - run.start
            if size > num_blocks:
                run.stop -= num_blocks
                break
            num_blocks -= size
            run.stop = run.start
            if run.key is not None:
                self._forget(run)
            after = run.after
            # What may still point here keeps no others alive.
            run.before = run.after = end
            run = after
        end.after = run
        run.before = end

    def _forget(self, run: Run) -> None:
        """Take a run out of the runs of its key."""
        junior = run.junior
        first = self._cached[run.key]
        if first is run:
            if junior is None:
                del self._cached[run.key]
            else:
                self._cached[run.key] = junior
        else:
            while first.junior is not run:
                assert first.junior is not None
                first = first.junior
            first.junior = junior
        run.junior = run.rest = None

    def cache_shared(self, table: ContentTable, num_full: int) -> None:
        """Cache those of a request's first ``num_full`` blocks whose content has an id."""
        start, stop = table.num_shared, min(num_full, table.num_shareable)
        if start >= stop or not self.enable_caching:
            return
        if start == 0:
            table.shared = []
        cached, shared = self._cached, table.shared
        block_size, lora, segments, segment = self.block_size, table.lora, table.segments, table.segment
        while start < stop:
            content, end_tokens = segments[segment]
            end = min(end_tokens // block_size, stop)
            if end <= start:
                segment += 1
                continue
            key = content if lora is None else (content, lora)
            first = cached.get(key)
            if first is None:
                run = Run(key, start, end, 1)
                cached[key] = run
                shared.append(run)
            else:
                self._cache_behind(shared, first, start, end)
            start = end
        table.segment = segment
        table.num_shared = stop

    @staticmethod
    def _cache_behind(shared: list[Run], first: Run, start: int, stop: int) -> None:
        """Cache blocks of a key that has runs already, the first of which is given.

        The request's last run grows, if that leaves it the last to be cached of those that have these blocks.
        """
        run = _pieces(shared[-1], start)[-1] if shared else first
        grows = bool(shared) and run.ref_cnt == 1 and run.key == first.key
        last = run if grows else first
        while last.junior is not None:
            last = last.junior
            if last.start < stop and start < last.stop:
                grows = False
        if grows:
            run.stop = stop
        else:
            last.junior = Run(first.key, start, stop, 1)
            shared.append(last.junior)

    # --- release ----------------------------------------------------------------------------------------

    def release(self, table: ContentTable, num_blocks: int, num_cached: int, *, returns: bool) -> None:
        """Release a request's blocks, the last first.

        Args:
            table: its table.
            num_blocks: how many it holds.
            num_cached: how many of them, from the first, are full and cached.
            returns: whether it may come back and look for its own content.
        """
        if not self.enable_caching:
            self.num_free += num_blocks
            self._blank += num_blocks
            return
        num_shared = table.num_shared
        own = num_cached - num_shared
        self._blank += num_blocks - num_cached
        self.num_free += num_blocks - num_shared
        if own:
            last = self._queue.before
            if returns:
                table.own_run = Run(None, 0, own, 0)
                self._append(table.own_run)
            elif last is self._dead_tail:
                last.stop += own
            else:
                self._dead_tail = Run(None, 0, own, 0)
                self._append(self._dead_tail)
        if num_shared:
            stop = num_shared
            for run in reversed(table.shared):
                if run.stop == stop:
                    self._drop(run)
                else:
                    for piece in reversed(_pieces(run, stop)):
                        self._drop(piece)
                stop = run.start
            table.shared = _NO_RUNS
            table.num_shared = table.segment = 0

    def _drop(self, run: Run) -> None:
        """Drop a reference on a run."""
        run.ref_cnt -= 1
        if run.ref_cnt == 0:
            self.num_free += run.stop - run.start
            self._append(run)

    def _append(self, run: Run) -> None:
        """Put a run at the tail of the free queue."""
        end = self._queue
        last = end.before
        run.before = last
        run.after = end
        last.after = end.before = run


def _pieces(run: Run, stop: int) -> list[Run]:
    """What a run up to ``stop`` was divided into."""
    pieces = [run]
    while run.stop < stop:
        assert run.rest is not None
        run = run.rest
        pieces.append(run)
    return pieces

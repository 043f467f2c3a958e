"""vLLM's scheduling rules at a cost that does not grow with the batch.

Decides as `simulator.engines.vllm.scheduler`, the executable specification, and follows the same source. The
difference is what a step touches: requests that join, prefill or leave. All that decode are sums
(`simulator.engines.vllm.decode_set`). When blocks run dry, or the token budget may not reach all, the step
is decided request by request (`Scheduler._walk_running`).
"""

from __future__ import annotations

from bisect import insort
from operator import attrgetter
from typing import Final

from simulator.engines.vllm.config import EngineConfig
from simulator.engines.vllm.decode_set import DecodeSet
from simulator.engines.vllm.gaps import DecodeGaps
from simulator.engines.vllm.request import FCFSQueue, PriorityQueue, RequestQueue
from simulator.engines.vllm.sequence import (
    DECODING,
    FINISHED,
    PREFILLING,
    WAITING,
    Batch,
    Sequence,
)
from simulator.kv_cache.content import ContentPool

_URGENCY: Final = attrgetter("urgency")
_ORDER: Final = attrgetter("order")

_NOBODY: Final[list[Sequence]] = []
_NO_PREFILLS: Final[list[tuple[int, int]]] = []

Chunks = list[tuple[Sequence, int]]
"""Requests scheduled on their own, with their tokens."""


class Scheduler:
    """Decides one engine's steps.

    Args:
        config: the engine's settings.
        gaps: of the requests that decode.

    Attributes:
        running: the running batch in order (a dict without values).
        waiting: requests that wait for admission.
        num_waiting: how many.
        in_flight: batches scheduled and not yet processed, the oldest first; at most 2.
        decoding: the requests that decode.
        step, output: numbers of the last schedule and of the last output.
        decode_requests, decode_context_tokens, prefills: what the last schedule computes: requests with one
            token behind a full context, those contexts summed, (tokens, context before) of all others.
        admitted, preempted: by the last schedule, in order.
        prefix_cache_queries, prefix_cache_hits: tokens looked up and found at first admissions.
    """

    def __init__(self, config: EngineConfig, gaps: DecodeGaps) -> None:
        self.config = config
        self._gaps = gaps
        self._max_running = config.max_num_active_seqs or config.max_num_seqs
        self._block_size = config.block_size
        self._max_in_flight = 2 if config.async_scheduling else 1
        self.pool = ContentPool(
            config.num_gpu_blocks, config.block_size, config.enable_prefix_caching, config.watermark
        )
        self.running: dict[Sequence, None] = {}
        self.waiting: RequestQueue[Sequence] = FCFSQueue() if config.policy == "fcfs" else PriorityQueue()
        self.in_flight: list[Batch] = []
        self.decoding = DecodeSet(config.block_size, config.async_scheduling)
        self.step = 0
        self.output = 0
        self.num_waiting = 0
        self.decode_requests = self.decode_context_tokens = 0
        self.prefills: list[tuple[int, int]] = []
        self.admitted: list[Sequence] = _NOBODY
        self.preempted: list[Sequence] = _NOBODY
        self.prefix_cache_queries = 0
        self.prefix_cache_hits = 0
        self._prefilling: list[Sequence] = []
        self._num_admitted = 0
        self._finished_since_schedule = False
        self._blocked = False
        # Blocks that decoding took up to this step have left the pool; those of later steps are still to.
        self._settled = 0

    @property
    def has_requests(self) -> bool:
        """Whether vLLM's engine loop calls ``schedule``: also once after the last request has left."""
        return bool(self.running or self.num_waiting or self._finished_since_schedule)

    def add_request(self, seq: Sequence) -> None:
        """Put a request into the waiting queue."""
        seq.status = WAITING
        self.waiting.add(seq)
        self.num_waiting += 1

    def skip_aborted(self) -> None:
        """A request was aborted before any schedule could see it."""
        self._finished_since_schedule = True

    # --- stretches --------------------------------------------------------------------------------------

    def admits(self) -> bool:
        """Whether a schedule must look at a new request: it is not behind one that is blocked."""
        if len(self.running) >= self._max_running:
            return False
        if not self.num_waiting:
            return True
        return self.config.policy == "priority" or not self._blocked

    def quiet_rounds(self) -> int:
        """How many rounds of output and schedule from now on only decode, if nothing comes from outside."""
        decoding, in_flight = self.decoding, self.in_flight
        n = decoding.n
        if not n or self._prefilling or len(in_flight) != self._max_in_flight:
            return 0
        oldest = in_flight[0]
        if oldest.entries or not oldest.num_scheduled:
            return 0
        step = self.step
        rounds = decoding.finish_keys[0] - self.output - 1
        if rounds > 1 and in_flight[-1].entries:
            rounds = 1
        if decoding.last_keys and decoding.last_keys[0] - step <= rounds:
            rounds = decoding.last_keys[0] - step - 1
        if self.num_waiting and len(self.running) < self._max_running:
            if not self._blocked:
                return 0
            if decoding.cachings:
                rounds = min(rounds, decoding.cachings[0][0] - step - 1)
        if rounds <= 0:
            return 0
        if self.pool.num_free < n * ((step - self._settled + rounds) // self._block_size + 1):
            self.settle(step)
            return min(rounds, decoding.steps_within(step + 1, self.pool.num_free))
        return rounds

    def skip(self, rounds: int) -> None:
        """Do as many quiet rounds; the caller renews ``in_flight``."""
        self.step += rounds
        self.output += rounds
        if self.decoding.cachings:
            self._cache_decoded()

    def settle(self, step: int) -> None:
        """Take the blocks from the pool that decoding has taken up to ``step``."""
        steps = step - self._settled
        if steps:
            need = self.decoding.blocks_needed(self._settled + 1, steps)
            if need:
                self.pool.take(need)
            self._settled = step

    def blocks_used(self, rounds: int) -> int:
        """Blocks that requests hold after so many quiet rounds more."""
        pool = self.pool
        steps = self.step - self._settled + rounds
        return pool.num_usable - pool.num_free + self.decoding.blocks_needed(self._settled + 1, steps)

    def _cache_decoded(self) -> None:
        for seq, num_full in self.decoding.cached_up_to(self.step):
            self.pool.cache_shared(seq, num_full)

    # --- schedule ---------------------------------------------------------------------------------------

    def schedule(self) -> Batch:
        """Decide the next step; its computed tokens count from here on. The caller sets the batch's times."""
        self._finished_since_schedule = False
        self._blocked = False
        step = self.step
        decoding = self.decoding
        last_keys = decoding.last_keys
        if last_keys and last_keys[0] <= step + 1:
            self.settle(step)
            decoding.pass_over(step + 1)
        self.step = step + 1
        n = decoding.n
        if (
            self._prefilling
            or self.num_waiting
            or self.pool.num_free < n * ((step + 1 - self._settled) // self._block_size + 1)
        ):
            return self._schedule_general()
        if decoding.cachings:
            self._cache_decoded()
        if self.admitted or self.preempted:
            self.admitted = self.preempted = _NOBODY
        self.decode_requests = n
        self.decode_context_tokens = decoding.base_sum + n * step
        self.prefills = _NO_PREFILLS
        batch = Batch(n, decoding.weights, n, 0, 0, 0)
        self.in_flight.append(batch)
        return batch

    def _schedule_general(self) -> Batch:
        decoding = self.decoding
        self.settle(self.step - 1)
        chunks: Chunks = []
        preempted: list[Sequence] = []
        admitted: list[Sequence] = []
        threshold = self._long_prefill_threshold() if self.config.long_prefill_token_threshold else 0
        budget = self._schedule_running(chunks, preempted, threshold)
        # The batch is that of the requests that decode so far; those admitted join them for the next.
        if self.num_waiting and not preempted:
            self._admit_waiting(chunks, admitted, threshold, budget)
        n = decoding.n
        self.decode_requests = n
        self.decode_context_tokens = decoding.base_sum + n * (self.step - 1)
        self.prefills = _NO_PREFILLS
        self.admitted = admitted
        self.preempted = preempted
        batch = Batch(n + len(chunks), decoding.weights, n, 0, 0, 0)
        if chunks:
            self._compute_chunks(batch, chunks, len(chunks) - len(admitted))
        self.in_flight.append(batch)
        return batch

    def _long_prefill_threshold(self) -> int:
        config = self.config
        eligible = len(self.running) + len(self.waiting)
        threshold = config.long_prefill_token_threshold if eligible > 1 else 0
        if threshold > 0 and config.long_prefill_token_threshold_adaptive:
            return max(threshold, config.max_num_batched_tokens // eligible)
        return threshold

    def _schedule_running(self, chunks: Chunks, preempted: list[Sequence], threshold: int) -> int:
        """Running requests, until the budget is spent or blocks lack; returns what is left of it."""
        budget = self.config.max_num_batched_tokens - self.decoding.n
        need = self.decoding.blocks_needed(self.step, 1)
        block_size = self._block_size
        if self._prefilling:
            for seq in self._prefilling:
                num_new = self._wanted(seq, threshold)
                if num_new > budget:
                    # Decoding requests behind it in the batch may go short of budget.
                    if next(reversed(self.running)) is not seq:
                        chunks.clear()
                        return self._walk_running(chunks, preempted, threshold)
                    num_new = budget
                if num_new:
                    chunks.append((seq, num_new))
                    budget -= num_new
                    need += -(-(seq.computed + num_new) // block_size) + (-seq.computed // block_size)
        if need > self.pool.num_free:
            chunks.clear()
            return self._walk_running(chunks, preempted, threshold)
        if need:
            self.pool.take(need)
        self._settled = self.step
        caching = self.decoding.cached_up_to(self.step)
        for seq, num_new in chunks:
            seq.cached = min(seq.computed + num_new, seq.known) // block_size
            if seq.num_shareable:
                caching.append((seq, seq.cached))
        if caching:
            for seq, num_full in sorted(caching, key=lambda c: c[0].order):
                self.pool.cache_shared(seq, num_full)
        return budget

    @staticmethod
    def _wanted(seq: Sequence, threshold: int) -> int:
        """Tokens that a running request lacks."""
        lacking = seq.known - seq.computed
        if lacking <= 0:
            # Its token in flight may be the last that max_tokens allows.
            return 0 if seq.known + 1 >= seq.length_limit else 1
        return threshold if 0 < threshold < lacking else lacking

    def _walk_running(self, chunks: Chunks, preempted: list[Sequence], threshold: int) -> int:
        """As `_schedule_running`, request by request, with preemptions."""
        pool, block_size, step = self.pool, self._block_size, self.step
        running = list(self.running)
        budget = self.config.max_num_batched_tokens
        scheduled: dict[Sequence, int] = {}
        index = 0
        stopped = False
        while index < len(running) and budget > 0 and not stopped:
            seq = running[index]
            decodes = seq.status == DECODING
            before = seq.base + step - 1 if decodes else seq.computed
            num_new = 0
            if decodes:
                num_new = 1
            elif seq.status == PREFILLING:
                num_new = min(self._wanted(seq, threshold), budget)
            if not num_new:
                index += 1
                continue
            need = -(-(before + num_new) // block_size) + (-before // block_size)
            while need > pool.num_free and not stopped:
                victim = running[-1] if self.config.policy == "fcfs" else max(running, key=_URGENCY)
                victim_index = running.index(victim)
                del running[victim_index]
                preempted.append(victim)
                taken = scheduled.pop(victim, 0)
                budget += taken
                self._preempt(victim, taken)
                if victim_index < index:
                    index -= 1
                stopped = victim is seq
            if stopped:
                break
            pool.take(need)
            if decodes:
                num_full = (seq.base + self.output + 1) // block_size
            else:
                num_full = seq.cached = min(before + num_new, seq.known) // block_size
            if seq.num_shareable:
                pool.cache_shared(seq, num_full)
            scheduled[seq] = num_new
            budget -= num_new
            index += 1
        for seq in running:
            if seq.status == DECODING:
                if seq not in scheduled:
                    self._make_single(seq)
            elif seq in scheduled:
                chunks.append((seq, scheduled[seq]))
        self._settled = step
        self._cache_decoded()
        return budget

    def _make_single(self, seq: Sequence) -> None:
        """A decoding request that this step has no budget for is scheduled on its own from now on."""
        seq.cached = max(seq.cached, (seq.base + self.output) // self._block_size)
        seq.computed = seq.base + self.step - 1
        self._leave_decoding(seq, keeps_tokens=True)
        seq.status = PREFILLING
        insort(self._prefilling, seq, key=_ORDER)

    def _leave_decoding(self, seq: Sequence, *, keeps_tokens: bool) -> None:
        """Take a request out of the sums: it is preempted, aborted, or short of budget.

        Args:
            seq: a request that decodes, or whose last token is in flight.
            keeps_tokens: whether its tokens in flight will be delivered.
        """
        decoding = self.decoding
        output = self.output
        if output >= seq.joined:
            seq.known = seq.base + output + 1
            seq.last_token_ps = self._gaps.last_output_ps
            seq.max_gap_ps = max(seq.max_gap_ps, self._gaps.max_since(seq.joined))
        last_step = self.step
        if seq.status == DECODING:
            decoding.leave(seq)
        else:
            last_step = seq.finish_at
        for number, batch in enumerate(self.in_flight, output + 1):
            if seq.joined < number <= last_step:
                batch.drop(seq.workload)
                if keeps_tokens:
                    batch.entries = sorted([*batch.entries, seq], key=_ORDER)
        seq.finish_at = 0

    def _preempt(self, seq: Sequence, num_scheduled: int) -> None:
        """Free all blocks of a running request, which will compute prompt and output again.

        Args:
            seq: the victim.
            num_scheduled: tokens that this very step had scheduled of it.
        """
        block_size = self._block_size
        if seq.status == PREFILLING:
            self._prefilling.remove(seq)
            computed, cached = seq.computed + num_scheduled, seq.cached
        else:
            cached = max(seq.cached, (seq.base + self.output + num_scheduled) // block_size)
            computed = seq.base + self.step - 1 + num_scheduled if seq.status == DECODING else seq.computed
            self._leave_decoding(seq, keeps_tokens=True)
        del self.running[seq]
        pool = self.pool
        known = seq.known + sum(s is seq for batch in self.in_flight for s in batch.entries)
        if pool.enable_caching and cached > max((known - 1) // block_size, len(seq.shared)):
            # On its return it will compute a block again that is still cached.
            seq.give_ids()
            pool.cache_shared(seq, cached)
        pool.release(seq, -(-computed // block_size), cached, returns=True)
        seq.status = WAITING
        seq.computed = seq.cached = 0
        seq.num_preemptions += 1
        self.waiting.put_back(seq)
        self.num_waiting += 1

    def _admit_waiting(self, chunks: Chunks, admitted: list[Sequence], threshold: int, budget: int) -> None:
        """Waiting requests in order, until one does not fit: those behind it wait too."""
        config, pool, running, waiting = self.config, self.pool, self.running, self.waiting
        block_size = self._block_size
        while self.num_waiting and budget > 0 and len(running) < self._max_running:
            seq = waiting.peek()
            known = seq.known
            hits, own = pool.look_up(seq, known)
            num_hits = len(hits) + own
            computed = num_hits * block_size
            num_new = known - computed
            if 0 < threshold < num_new:
                num_new = threshold
            if num_new > budget and not config.enable_chunked_prefill:
                self._blocked = not chunks and not config.long_prefill_token_threshold_adaptive
                return
            num_new = min(num_new, budget)
            must_fit = known if config.scheduler_reserve_full_isl else computed + num_new
            required = -(-must_fit // block_size) - num_hits
            if num_hits:
                required += pool.num_evictable(hits, own)
            if running:
                required += pool.watermark_blocks
            if required > pool.num_free:
                # While requests only decode, free blocks only fall and a hit that is evicted costs what it
                # saved. Not so where only the first chunk must fit: with fewer hits that may need less, and
                # an adaptive threshold may make the chunk smaller.
                self._blocked = config.scheduler_reserve_full_isl or not (
                    num_hits or config.long_prefill_token_threshold_adaptive
                )
                return
            if num_hits:
                pool.touch(seq, hits, own)
            slots = computed + num_new
            pool.take(-(-slots // block_size) - num_hits)
            seq.cached = min(slots, known) // block_size
            if seq.num_shareable:
                pool.cache_shared(seq, seq.cached)
            waiting.pop()
            self.num_waiting -= 1
            running[seq] = None
            seq.order = self._num_admitted
            self._num_admitted += 1
            seq.status = PREFILLING
            seq.computed = computed
            if seq.num_preemptions == 0:
                seq.num_cached_tokens = computed
                if config.enable_prefix_caching:
                    self.prefix_cache_queries += known
                    self.prefix_cache_hits += computed
            admitted.append(seq)
            chunks.append((seq, num_new))
            budget -= num_new

    def _compute_chunks(self, batch: Batch, chunks: Chunks, num_running: int) -> None:
        """Put what is scheduled on its own into the batch; a request that will sample a token decodes next.

        Args:
            batch: to be completed.
            chunks: requests and tokens, the admitted ones last.
            num_running: how many of them were running before.
        """
        prefills: list[tuple[int, int]] = []
        entries: list[Sequence] = []
        for index, (seq, num_new) in enumerate(chunks):
            before = seq.computed
            after = seq.computed = before + num_new
            if after < seq.known:
                prefills.append((num_new, before))
                if index >= num_running:
                    self._prefilling.append(seq)
                continue
            entries.append(seq)
            if num_new == 1:
                self.decode_requests += 1
                self.decode_context_tokens += before
            else:
                prefills.append((num_new, before))
            if index < num_running:
                self._prefilling.remove(seq)
            self.decoding.join(seq, self.step, after)
        self.prefills = prefills
        batch.entries = entries

    # --- output -----------------------------------------------------------------------------------------

    def update(self, entries: list[Sequence] | tuple[()]) -> list[tuple[Sequence, bool, bool]]:
        """Process the output of the batch that was taken from ``in_flight``.

        Args:
            entries: those of the batch.

        Returns:
            In order, whom the output concerns more than by one token of a decode: (request, whether it
            takes its token from here, whether it ends).
        """
        output = self.output = self.output + 1
        decoding = self.decoding
        concerned: list[tuple[Sequence, bool, bool]] = []
        finish_keys = decoding.finish_keys
        ends_any = False
        if finish_keys and finish_keys[0] <= output:
            for seq in decoding.finishing(output):
                if seq.joined < output:
                    concerned.append((seq, False, True))
                    ends_any = True
        for seq in entries:
            if seq.status == FINISHED:
                continue
            seq.known += 1
            ends = seq.known >= seq.final_tokens
            ends_any |= ends
            concerned.append((seq, True, ends))
            if seq.status == PREFILLING:
                ends_any = True  # it may cache a block
        if ends_any:
            self.settle(self.step)
            if len(concerned) > 1:
                concerned.sort(key=lambda c: c[0].order)
            for seq, _, ends in concerned:
                if seq.status == PREFILLING and self.config.async_scheduling:
                    seq.cached = max(seq.cached, (seq.known - 1) // self._block_size)
                    self.pool.cache_shared(seq, seq.cached)
                if ends:
                    self._finish(seq)
        return concerned

    def _finish(self, seq: Sequence) -> None:
        block_size = self._block_size
        status = seq.status
        if status == WAITING:
            self.waiting.remove(seq)
            self.num_waiting -= 1
        else:
            if status == DECODING:
                computed = seq.base + self.step
                self.decoding.leave(seq)
                for number, batch in enumerate(self.in_flight, self.output + 1):
                    if number > seq.joined:
                        batch.drop(seq.workload)
            else:
                computed = seq.computed
                if status == PREFILLING:
                    self._prefilling.remove(seq)
            cached = (seq.final_tokens - 1) // block_size
            if seq.num_shareable:
                self.pool.cache_shared(seq, cached)
            self.pool.release(seq, -(-computed // block_size), cached, returns=False)
            del self.running[seq]
        seq.status = FINISHED
        self._finished_since_schedule = True

    def abort(self, seq: Sequence) -> None:
        """Drop a request wherever it is; its output in flight will be ignored."""
        self.settle(self.step)
        block_size = self._block_size
        status = seq.status
        if status == WAITING:
            self.waiting.remove(seq)
            self.num_waiting -= 1
        else:
            if status == PREFILLING:
                self._prefilling.remove(seq)
                computed, cached = seq.computed, seq.cached
            else:
                scheduled = status == DECODING
                cached = max(seq.cached, (seq.base + self.output + scheduled) // block_size)
                computed = seq.base + self.step if scheduled else seq.computed
                self._leave_decoding(seq, keeps_tokens=False)
            self.pool.release(seq, -(-computed // block_size), cached, returns=False)
            del self.running[seq]
        seq.status = FINISHED
        self._finished_since_schedule = True
        self._blocked = False

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

from simulator.engines.vllm.sequence import (
    DECODING,
    PREFILLING,
    WAITING,
    Batch,
    Sequence,
)
from simulator.engines.vllm.skipping_state import NO_PREFILLS, NOBODY, SchedulerState

_URGENCY: Final = attrgetter("urgency")
_ORDER: Final = attrgetter("order")


Chunks = list[tuple[Sequence, int]]
"""Requests scheduled on their own, with their tokens."""


class Scheduler(SchedulerState):
    """Decides one engine's steps."""

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
            self.admitted = self.preempted = NOBODY
        self.decode_requests = n
        self.decode_context_tokens = decoding.base_sum + n * step
        self.longest_context_tokens = decoding.longest_base + step if n else 0
        self.prefills = NO_PREFILLS
        batch = Batch(n, decoding.weights, n, 0, 0, 0)
        self.in_flight.append(batch)
        return batch

    def _schedule_general(self) -> Batch:
        decoding = self.decoding
        self.settle(self.step - 1)
        chunks: Chunks = []
        preempted: list[Sequence] = []
        admitted: list[Sequence] = []
        threshold = self.config.long_prefill_threshold(len(self.running) + self.num_waiting)
        budget = self._schedule_running(chunks, preempted, threshold)
        # The batch is that of the requests that decode so far; those admitted join them for the next.
        if self.num_waiting and not preempted:
            self._admit_waiting(chunks, admitted, threshold, budget)
        n = decoding.n
        self.decode_requests = n
        self.decode_context_tokens = decoding.base_sum + n * (self.step - 1)
        self.longest_context_tokens = decoding.longest_base + self.step - 1 if n else 0
        self.prefills = NO_PREFILLS
        self.admitted = admitted
        self.preempted = preempted
        batch = Batch(n + len(chunks), decoding.weights, n, 0, 0, 0)
        if chunks:
            self._compute_chunks(batch, chunks, len(chunks) - len(admitted))
        self.in_flight.append(batch)
        return batch

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
                if victim_index < index and (taken or self._rules.unscheduled_victim_shifts_turn):
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
        if pool.enable_caching and cached > max((known - 1) // block_size, seq.num_shared):
            # On its return it will compute a block again that is still cached.
            seq.give_ids(block_size)
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
            hits, num_hits = pool.look_up(seq, known)
            computed = num_hits * block_size
            if self._rules.lookups_are_queries:
                self._count_query(seq, computed)
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
                required += pool.num_evictable(hits)
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
                pool.touch(seq, hits)
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
            if not self._rules.lookups_are_queries:
                self._count_query(seq, computed)
            admitted.append(seq)
            chunks.append((seq, num_new))
            budget -= num_new

    def _count_query(self, seq: Sequence, hit_tokens: int) -> None:
        if self.config.enable_prefix_caching and seq.num_preemptions == 0:
            self.prefix_cache_queries += seq.known
            self.prefix_cache_hits += hit_tokens

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
                self.longest_context_tokens = max(self.longest_context_tokens, before)
            else:
                prefills.append((num_new, before))
            if index < num_running:
                self._prefilling.remove(seq)
            self.decoding.join(seq, self.step, after)
        self.prefills = prefills
        batch.entries = entries

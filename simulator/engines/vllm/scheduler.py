"""vLLM's V1 scheduler: what runs in the next step, who is admitted, who is preempted.

Follows ``vllm/v1/core/sched/scheduler.py`` (``schedule``, ``update_from_output``, ``finish_requests``) and
``async_scheduler.py`` of vLLM 0.26 and 0.32, for text models without KV connectors; speculative decoding is
that of EAGLE and MTP heads. Where the releases differ, `simulator.engines.vllm.rules` says how.
`validation.scheduler` compares the two decision by decision.

One rule, one place:

- running requests first, in order, each as many tokens as it lacks: `Scheduler._schedule_running`;
- preemption when blocks lack: `Scheduler._preempt_for`;
- admission of waiting requests, prefix hits included: `Scheduler._admit_waiting`;
- what a step's output changes: `Scheduler.update`.

A pure decode step in which nobody can join, leave or be preempted is decided by `Scheduler._schedule_decode`:
the same decisions with less work. `Scheduler.schedule` says when that is so.

Under async scheduling a step is scheduled before the output of the one before it is known. A request whose
token in flight is its last by max_tokens stays in the batch without being scheduled until that output is
processed; one that stops by itself is scheduled once more, and that output is thrown away.
"""

from __future__ import annotations

from simulator.engines.vllm.batch import Batch, Plan
from simulator.engines.vllm.config import EngineConfig
from simulator.engines.vllm.request import Request, RequestStatus
from simulator.engines.vllm.request_queue import FCFSQueue, PriorityQueue, RequestQueue
from simulator.engines.vllm.speculation import Acceptance
from simulator.kv_cache.manager import KVCacheManager

__all__ = ["Batch", "Scheduler"]


class Scheduler:
    """Decides one engine's steps. It knows no time.

    Attributes:
        running: the running batch in order. Batches may share the list: it is replaced, never changed.
        waiting: requests that wait for admission.
        in_flight: batches scheduled and not yet processed, the oldest first; at most 2.
        prefix_cache_queries, prefix_cache_hits: tokens looked up and found by requests never preempted.
    """

    def __init__(self, config: EngineConfig, acceptance: Acceptance | None = None) -> None:
        if config.num_speculative_tokens and acceptance is None:
            raise ValueError("num_speculative_tokens: drafts need an acceptance")
        self.config = config
        self._rules = config.rules
        self._acceptance = acceptance
        self._max_running = config.max_num_active_seqs or config.max_num_seqs
        self.kv = KVCacheManager(
            config.num_gpu_blocks,
            config.block_size,
            config.enable_prefix_caching,
            config.watermark,
            drops_last_hit=config.num_speculative_tokens > 0,
        )
        self.running: list[Request] = []
        self.waiting: RequestQueue[Request] = (
            FCFSQueue(self._rules.skipped_wait_apart) if config.policy == "fcfs" else PriorityQueue()
        )
        self.in_flight: list[Batch] = []
        self.prefix_cache_queries = 0
        self.prefix_cache_hits = 0
        self._finished_since_schedule = False
        self._decode_only = False
        self._decode_context_tokens = 0
        self._longest_context_tokens = 0
        self._blocked_at_epoch: int | None = None

    def add_request(self, request: Request) -> None:
        """Put a request into the waiting queue."""
        request.output_check_at = request.final_tokens
        if self.config.async_scheduling:
            request.output_check_at = min(request.final_tokens, request.length_limit - 1)
        first_in_line = not self.waiting or self.config.policy == "priority"
        if first_in_line and len(self.running) < self._max_running:
            self._decode_only = False
        self.waiting.add(request)

    @property
    def has_requests(self) -> bool:
        """Whether vLLM's engine loop calls ``schedule``: also once after the last request has left."""
        return bool(self.running) or len(self.waiting) > 0 or self._finished_since_schedule

    # --- schedule ---------------------------------------------------------------------------------------

    def schedule(self) -> Batch:
        """Decide the next step; its computed tokens count from here on."""
        self._finished_since_schedule = False
        batch = self._next_batch()
        self.in_flight.append(batch)
        return batch

    def _next_batch(self) -> Batch:
        # A decode step repeats while the batch stands and nobody can be admitted to it; a block for each
        # request is more than it can ask for.
        if (
            self._decode_only
            and self._blocked_at_epoch in (None, self.kv.epoch)
            and self.kv.pool.num_free_blocks >= len(self.running)
        ):
            batch = self._schedule_decode()
            if self._blocked_at_epoch in (None, self.kv.epoch):
                return batch
            # A block that this step cached may be what the head of the queue lacks: decide again.
            for request in self.running:
                request.num_computed_tokens -= 1
        self.running = self.running.copy()
        threshold = self.config.long_prefill_threshold(len(self.running) + len(self.waiting))
        plan = Plan()
        budget = self._schedule_running(plan, threshold)
        if not plan.preempted:
            self._admit_waiting(plan, threshold, budget)
            if plan.skipped:
                self.waiting.put_back_skipped(plan.skipped)
        return self._batch(plan)

    def _schedule_decode(self) -> Batch:
        running = self.running
        for request in running:
            computed = request.num_computed_tokens
            if computed >= request.schedule_check_at:
                allocated = self._allocate(request, computed + 1)
                assert allocated
            request.num_computed_tokens = computed + 1
        batch = Batch(running, True)
        batch.decode_requests = len(running)
        batch.decode_context_tokens = self._decode_context_tokens
        batch.longest_context_tokens = self._longest_context_tokens
        self._decode_context_tokens += len(running)
        self._longest_context_tokens += 1
        return batch

    def _allocate(self, request: Request, num_computed: int) -> bool:
        """Blocks for a running request with that many computed tokens; sets when it must ask again."""
        if not self.kv.extend(
            request, self.config.num_slots(num_computed), min(num_computed, request.num_tokens)
        ):
            return False
        self._set_schedule_check(request)
        return True

    def _set_schedule_check(self, request: Request) -> None:
        if self.config.num_speculative_tokens:
            return
        block_size = self.config.block_size
        check_at = len(request.blocks) * block_size
        if self.config.enable_prefix_caching:
            check_at = min(check_at, (request.num_cached_blocks + 1) * block_size - 1)
        request.schedule_check_at = check_at

    def _schedule_running(self, plan: Plan, threshold: int) -> int:
        """Running requests in order, until the budget is spent or blocks lack; returns what is left of it."""
        running = self.running
        scheduled = plan.scheduled
        budget = self.config.max_num_batched_tokens
        index = 0
        while index < len(running) and budget > 0:
            request = running[index]
            computed = request.num_computed_tokens
            known = request.num_tokens
            if computed >= known and known + 1 >= request.length_limit:
                index += 1  # its token in flight is the last that max_tokens allows
                continue
            num_new = known - computed if computed < known else 1
            num_wanted = num_new + request.num_spec_tokens
            if 0 < threshold < num_wanted:
                num_wanted = threshold
            num_wanted = min(num_wanted, budget, self.config.max_model_len - computed - 1)
            if num_wanted <= 0:
                index += 1  # the drafts in flight may fill its context
                continue
            may_lack = num_wanted > 1 or computed >= request.schedule_check_at
            while may_lack and not self._allocate(request, computed + num_wanted):
                victim, victim_index = self._preempt_for()
                plan.preempted.append(victim)
                was_scheduled = victim in scheduled
                if was_scheduled:  # under the priority policy
                    budget += scheduled.pop(victim)
                    plan.drafts.pop(victim, None)
                if victim_index < index and (was_scheduled or self._rules.unscheduled_victim_shifts_turn):
                    index -= 1
                if victim is request:
                    return budget
            scheduled[request] = num_wanted
            if request.num_spec_tokens:
                if num_wanted > num_new:
                    plan.drafts[request] = num_wanted - num_new
                request.num_spec_tokens = 0
            budget -= num_wanted
            index += 1
        return budget

    def _preempt_for(self) -> tuple[Request, int]:
        """Preempt one running request: the last, or the least urgent; it may be the one that lacks blocks.

        All its blocks are freed and it will compute prompt and output again, prefix hits aside. Its tokens
        in flight are still delivered.
        """
        running = self.running
        victim = running[-1] if self.config.policy == "fcfs" else max(running, key=lambda r: r.urgency)
        index = running.index(victim)
        del running[index]
        self.kv.free(victim)
        victim.status = RequestStatus.WAITING
        victim.num_computed_tokens = 0
        victim.num_spec_tokens = 0
        victim.num_stale_outputs = sum(victim in batch.requests for batch in self.in_flight)
        victim.num_preemptions += 1
        self._break_decode()
        self.waiting.put_back(victim)
        return victim, index

    def _admit_waiting(self, plan: Plan, threshold: int, budget: int) -> None:
        """Waiting requests in order, until one does not fit: those behind it wait too.

        Only a request whose adapter would be one too many is skipped.
        """
        config = self.config
        running = self.running
        waiting = self.waiting
        scheduled = plan.scheduled
        decodes_only = not any(r.in_prefill for r in scheduled)
        self._blocked_at_epoch = None
        num_drafts = config.num_speculative_tokens
        loras = {r.lora for r in scheduled if r.lora is not None}
        while waiting and budget > 0 and len(running) < self._max_running:
            request = waiting.peek()
            if request.lora is not None and len(loras) == config.max_loras and request.lora not in loras:
                plan.skipped.append(waiting.pop())
                continue
            known = request.num_tokens
            hits = self.kv.get_computed_blocks(request, known)
            computed = len(hits) * config.block_size
            if self._rules.lookups_are_queries:
                self._count_query(request, computed)
            num_new = known - computed
            # Beside decodes a prompt of one token is given the drafts' places too, so that all have as many.
            pads = num_new == 1 and num_drafts > 0 and decodes_only and len(scheduled) > len(plan.admitted)
            if pads:
                num_new += num_drafts
                if num_new > budget:
                    return
            if 0 < threshold < num_new:
                num_new = threshold
            if num_new > budget and not config.enable_chunked_prefill:
                return
            num_new = min(num_new, budget)
            if not self.kv.admit(
                request,
                hits,
                num_computed=computed + num_new,
                num_slots=self.config.num_slots(computed + num_new),
                num_tokens=known,
                reserve_full_isl=config.scheduler_reserve_full_isl,
                beside_others=bool(running),
            ):
                # While requests only decode, free blocks only fall and a hit that is evicted costs what
                # it saved, so the head stays blocked. Not so where only the first chunk must fit.
                if config.scheduler_reserve_full_isl:
                    self._blocked_at_epoch = self.kv.epoch
                return
            self._set_schedule_check(request)
            waiting.pop()
            running.append(request)
            request.status = RequestStatus.RUNNING
            request.num_computed_tokens = computed
            if not self._rules.lookups_are_queries:
                self._count_query(request, computed)
            if request.num_preemptions == 0:
                request.num_cached_tokens = computed
            if request.lora is not None:
                loras.add(request.lora)
            if pads:
                plan.padded.append(request)
                plan.drafts[request] = num_drafts
            plan.admitted.append(request)
            scheduled[request] = num_new
            budget -= num_new

    def _count_query(self, request: Request, hit_tokens: int) -> None:
        if self.config.enable_prefix_caching and request.num_preemptions == 0:
            self.prefix_cache_queries += request.num_tokens
            self.prefix_cache_hits += hit_tokens

    def _batch(self, plan: Plan) -> Batch:
        batch = Batch(list(plan.scheduled), False)
        self._decode_context_tokens, self._longest_context_tokens = batch.compute(plan)
        assert batch.samples is not None
        last_token = False
        for request in batch.requests:
            if not request.in_prefill and self.config.async_scheduling:
                request.num_spec_tokens = self.config.num_speculative_tokens
            if request.num_tokens + 1 >= request.length_limit:
                last_token = True
        full = len(self.running) >= self._max_running
        counts_lookups = self._rules.lookups_are_queries and self.config.enable_prefix_caching
        blocked = self._blocked_at_epoch is not None and not counts_lookups
        self._decode_only = (
            not plan.preempted
            and len(plan.scheduled) == len(self.running) > 0
            and all(batch.samples)
            and not (last_token and self.config.async_scheduling)
            and (full or not self.waiting or blocked)
            and not self.config.num_speculative_tokens
        )
        return batch

    # --- output -----------------------------------------------------------------------------------------

    def update(self) -> tuple[Batch, list[Request]]:
        """Process the output of the oldest batch in flight; returns it and the requests that finished.

        A request whose entry in the batch gives no token, because it left before, is dropped from it.
        """
        batch = self.in_flight.pop(0)
        if batch.all_decode:
            looked_at = []
            for request in batch.requests:
                known = request.num_tokens + 1
                request.num_tokens = known
                if known >= request.output_check_at:
                    looked_at.append(request)
            return batch, [r for r in looked_at if self._token_stops(r)] if looked_at else looked_at
        sampled = []
        finished = []
        samples = batch.samples or [True] * len(batch.requests)
        for request, samples_token in zip(batch.requests, samples, strict=True):
            stale = request.num_stale_outputs > 0
            if stale:
                request.num_stale_outputs -= 1
            if not samples_token or request.status == RequestStatus.FINISHED:
                continue
            sampled.append(request)
            if self._outputs_stop(request, batch, stale):
                finished.append(request)
        batch.requests = sampled
        return batch, finished

    def _outputs_stop(self, request: Request, batch: Batch, stale: bool) -> bool:
        """Append a request's accepted drafts and one token more; True if one of them is the last."""
        num_drafts = batch.drafts.get(request, 0)
        batch.num_checked_drafts += num_drafts
        accepted = 0
        if num_drafts and request not in batch.padded:
            assert self._acceptance is not None
            accepted = self._acceptance.accepted(request.request_id, request.num_output_tokens, num_drafts)
        if not stale:
            request.num_computed_tokens -= num_drafts - accepted
            if not self.config.async_scheduling:
                request.num_spec_tokens = self.config.num_speculative_tokens
        for index in range(1 + accepted):
            request.num_tokens += 1
            batch.num_accepted_drafts += index > 0
            if self._token_stops(request):
                return True
        return False

    def _token_stops(self, request: Request) -> bool:
        """What a token that has just been appended changes; True if it is the last."""
        known = request.num_tokens
        running = request.status == RequestStatus.RUNNING
        if self.config.async_scheduling and running:
            # The token itself has no KV yet. Of a decode step only the last token comes here with a block to
            # cache: for the others the schedule that followed has done it.
            self.kv.cache_blocks(request, known - 1)
        if known >= request.final_tokens:
            self._remove(request)
            return True
        if known + 1 >= request.length_limit and self.config.async_scheduling:
            self._decode_only = False  # the next schedule passes over it
        return False

    def abort(self, request: Request) -> None:
        """Drop a request wherever it is; its output in flight will be ignored."""
        self._remove(request)

    def _remove(self, request: Request) -> None:
        if request.status == RequestStatus.RUNNING:
            self.running = [r for r in self.running if r is not request]
        else:
            self.waiting.remove(request)
        request.status = RequestStatus.FINISHED
        self.kv.free(request)
        self._finished_since_schedule = True
        self._break_decode()

    def _break_decode(self) -> None:
        self._decode_only = False
        for batch in self.in_flight:
            batch.all_decode = False

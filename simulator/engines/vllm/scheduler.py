"""vLLM's V1 scheduler: what runs in the next step, who is admitted, who is preempted.

Follows vLLM 0.32 ``vllm/v1/core/sched/scheduler.py`` (``schedule``, ``update_from_output``,
``finish_requests``) and ``async_scheduler.py``, for text models without speculative decoding, LoRA limits or
KV connectors. `validation.scheduler` compares the two decision by decision.

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

from simulator.engines.vllm.config import EngineConfig
from simulator.engines.vllm.request import FCFSQueue, PriorityQueue, Request, RequestQueue, RequestStatus
from simulator.kv_cache.manager import KVCacheManager


class Batch:
    """What one call of ``schedule`` decided.

    Attributes:
        requests: scheduled requests in order.
        num_scheduled_tokens: tokens of each; None if each has one.
        samples: whether each one's output is a token; None if every one's is.
        decode_requests: requests that compute one token behind a full context.
        decode_context_tokens: the contexts of those before the step, summed.
        prefills: (tokens, context before the step) of all others.
        admitted: requests admitted by this step.
        preempted: requests preempted by this step, in order.
        all_decode: whether the output may be processed as that of a decode step whose requests are all the
            requests of the batch before, none of which has left since.
        start_ps, gpu_ps, end_ps: set by the engine.
    """

    __slots__ = (
        "admitted",
        "all_decode",
        "decode_context_tokens",
        "decode_requests",
        "end_ps",
        "gpu_ps",
        "num_scheduled_tokens",
        "preempted",
        "prefills",
        "requests",
        "samples",
        "start_ps",
    )

    def __init__(self, requests: list[Request], all_decode: bool) -> None:
        self.requests = requests
        self.num_scheduled_tokens: list[int] | None = None
        self.samples: list[bool] | None = None
        self.decode_requests = 0
        self.decode_context_tokens = 0
        self.prefills: list[tuple[int, int]] | tuple[()] = ()
        self.admitted: list[Request] | tuple[()] = ()
        self.preempted: list[Request] | tuple[()] = ()
        self.all_decode = all_decode
        self.start_ps = 0
        self.gpu_ps = 0
        self.end_ps = 0


class Scheduler:
    """Decides one engine's steps. It knows no time.

    Attributes:
        running: the running batch in order. Batches may share the list: it is replaced, never changed.
        waiting: requests that wait for admission.
        in_flight: batches scheduled and not yet processed, the oldest first; at most 2.
        prefix_cache_queries, prefix_cache_hits: tokens looked up and found at first admissions.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self._max_running = config.max_num_active_seqs or config.max_num_seqs
        self.kv = KVCacheManager(
            config.num_gpu_blocks, config.block_size, config.enable_prefix_caching, config.watermark
        )
        self.running: list[Request] = []
        self.waiting: RequestQueue[Request] = FCFSQueue() if config.policy == "fcfs" else PriorityQueue()
        self.in_flight: list[Batch] = []
        self.prefix_cache_queries = 0
        self.prefix_cache_hits = 0
        self._finished_since_schedule = False
        self._decode_only = False
        self._decode_context_tokens = 0
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
        threshold = self._long_prefill_threshold()
        scheduled: dict[Request, int] = {}
        preempted: list[Request] = []
        budget = self._schedule_running(scheduled, preempted, threshold)
        admitted: list[Request] = []
        if not preempted:
            self._admit_waiting(scheduled, admitted, threshold, budget)
        return self._batch(scheduled, admitted, preempted)

    def _long_prefill_threshold(self) -> int:
        """Most tokens of one request; it keeps a long prompt from starving others, so alone there is none."""
        config = self.config
        eligible = len(self.running) + len(self.waiting)
        threshold = config.long_prefill_token_threshold if eligible > 1 else 0
        if threshold > 0 and config.long_prefill_token_threshold_adaptive:
            return max(threshold, config.max_num_batched_tokens // eligible)
        return threshold

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
        self._decode_context_tokens += len(running)
        return batch

    def _allocate(self, request: Request, num_slots: int) -> bool:
        """Blocks for ``num_slots`` tokens of a running request, and when its decode must ask again."""
        if not self.kv.extend(request, num_slots, request.num_tokens):
            return False
        self._set_schedule_check(request)
        return True

    def _set_schedule_check(self, request: Request) -> None:
        block_size = self.config.block_size
        check_at = len(request.blocks) * block_size
        if self.config.enable_prefix_caching:
            check_at = min(check_at, (request.num_cached_blocks + 1) * block_size - 1)
        request.schedule_check_at = check_at

    def _schedule_running(
        self, scheduled: dict[Request, int], preempted: list[Request], threshold: int
    ) -> int:
        """Running requests in order, until the budget is spent or blocks lack; returns what is left of it."""
        running = self.running
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
            if 0 < threshold < num_new:
                num_new = threshold
            num_new = min(num_new, budget)
            may_lack = num_new > 1 or computed >= request.schedule_check_at
            while may_lack and not self._allocate(request, computed + num_new):
                victim, victim_index = self._preempt_for()
                preempted.append(victim)
                if victim in scheduled:  # under the priority policy
                    budget += scheduled.pop(victim)
                if victim_index < index:
                    index -= 1
                if victim is request:
                    return budget
            scheduled[request] = num_new
            budget -= num_new
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
        victim.num_stale_outputs = sum(victim in batch.requests for batch in self.in_flight)
        victim.num_preemptions += 1
        self._break_decode()
        self.waiting.put_back(victim)
        return victim, index

    def _admit_waiting(
        self, scheduled: dict[Request, int], admitted: list[Request], threshold: int, budget: int
    ) -> None:
        """Waiting requests in order, until one does not fit: those behind it wait too."""
        config = self.config
        running = self.running
        waiting = self.waiting
        self._blocked_at_epoch = None
        while waiting and budget > 0 and len(running) < self._max_running:
            request = waiting.peek()
            known = request.num_tokens
            hits = self.kv.get_computed_blocks(request, known)
            computed = len(hits) * config.block_size
            num_new = known - computed
            if 0 < threshold < num_new:
                num_new = threshold
            if num_new > budget and not config.enable_chunked_prefill:
                return
            num_new = min(num_new, budget)
            if not self.kv.admit(
                request,
                hits,
                computed + num_new,
                known,
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
            if request.num_preemptions == 0:
                request.num_cached_tokens = computed
                if config.enable_prefix_caching:
                    self.prefix_cache_queries += known
                    self.prefix_cache_hits += computed
            admitted.append(request)
            scheduled[request] = num_new
            budget -= num_new

    def _batch(
        self, scheduled: dict[Request, int], admitted: list[Request], preempted: list[Request]
    ) -> Batch:
        batch = Batch(list(scheduled), False)
        batch.num_scheduled_tokens = list(scheduled.values())
        batch.admitted = admitted
        batch.preempted = preempted
        samples: list[bool] = []
        prefills: list[tuple[int, int]] = []
        decodes = 0
        decode_context = 0
        next_context = 0
        last_token = False
        for request, num_new in scheduled.items():
            before = request.num_computed_tokens
            after = before + num_new
            request.num_computed_tokens = after
            next_context += after
            samples_token = after >= request.num_tokens
            samples.append(samples_token)
            if samples_token and num_new == 1:
                decodes += 1
                decode_context += before
            else:
                prefills.append((num_new, before))
            if request.num_tokens + 1 >= request.length_limit:
                last_token = True
        batch.samples = samples
        batch.decode_requests = decodes
        batch.decode_context_tokens = decode_context
        batch.prefills = prefills
        self._decode_context_tokens = next_context
        full = len(self.running) >= self._max_running
        self._decode_only = (
            not preempted
            and len(scheduled) == len(self.running) > 0
            and all(samples)
            and not (last_token and self.config.async_scheduling)
            and (full or not self.waiting or self._blocked_at_epoch is not None)
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
            request.num_tokens += 1
            if self._token_stops(request):
                finished.append(request)
        batch.requests = sampled
        return batch, finished

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

"""The plain vLLM engine: one scheduler decision and one output after another, on the integer clock.

It is the executable specification of a vLLM replica. The order of events is that of vLLM 0.32
``vllm/v1/engine/core.py`` (``run_busy_loop``, ``step``, ``step_with_batch_queue``).

Synchronous (``async_scheduling=False``), one loop: take what arrived; schedule; run the batch, which takes
GPU time plus host time; process its output; again at that instant.

Asynchronous, two batches in flight. One loop: take what arrived; if a request is there, schedule a batch and
queue it; if the queue has room, loop at once, else wait for the oldest batch and process its output::

    time        0            end 1          end 2          end 3
    schedule    1  2         3              4              5
    GPU         |-- batch 1 -|-- batch 2 ---|-- batch 3 ---|
    output                   1              2              3

- From idle, two schedules happen at the same instant. A request that arrives while batch 1 runs is first
  seen by schedule 3, at the end of batch 1, and computed after batch 2, which was launched before.
- Batch 3 is scheduled when the output of batch 1 is known and that of batch 2 is not. Blocks of a request
  that ends in batch 2 are free for schedule 4.
- A batch starts when the one before it ends. Host work overlaps the GPU, so it lasts the longer of the two;
  on an idle GPU there is nothing to overlap with, and the batch lasts their sum.
- A schedule may be empty (every running request waits for its last token): an empty batch takes no time,
  but its place in the queue. When a loop scheduled nothing though requests are there, vLLM sleeps for 1 ms.

Aborts take effect when they are made: no schedule comes between them and the output that vLLM applies them
before. A request that can never fit keeps everybody behind it waiting; vLLM then polls every millisecond,
this engine rests until a submission or an abort, and schedules at that instant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from simulator.engines.protocol import (
    Delivery,
    DeliveryKind,
    EngineCounters,
    EngineRequest,
    EngineSnapshot,
    Finish,
    ItlSink,
    StepTime,
)
from simulator.engines.vllm.config import EngineConfig
from simulator.engines.vllm.request import Request
from simulator.engines.vllm.scheduler import Batch, Scheduler
from simulator.engines.vllm.speculation import Acceptance
from simulator.units import PS_PER_MS

EMPTY_LOOP_SLEEP_PS: Final = PS_PER_MS
"""``time.sleep(0.001)`` in ``EngineCoreProc._process_engine_step``."""


class StepRecord(NamedTuple):
    """One call of ``schedule``, for observers; empty ones included.

    Attributes:
        time_ps: when it was decided.
        scheduled: (request id, tokens, context before) in order.
        admitted: (request id, tokens found in the prefix cache) in order.
        preempted: request ids in order.
        running: ids of the running batch in order, after the decision.
        num_waiting: requests waiting after it.
        num_free_blocks: free blocks after it.
    """

    time_ps: int
    scheduled: list[tuple[int, int, int]]
    admitted: list[tuple[int, int]]
    preempted: list[int]
    running: list[int]
    num_waiting: int
    num_free_blocks: int


class PlainEngine:
    """One vLLM engine; implements `simulator.engines.protocol.Engine`.

    Args:
        config: its settings.
        step_time: how long a step takes.
        itl: where inter-token latencies go.
        observer: called with every scheduling decision.
        acceptance: how many drafts are accepted; needed if the configuration has some.
    """

    def __init__(
        self,
        config: EngineConfig,
        step_time: StepTime,
        itl: ItlSink,
        observer: Callable[[StepRecord], None] | None = None,
        acceptance: Acceptance | None = None,
    ) -> None:
        self.config = config
        self.scheduler = Scheduler(config, acceptance)
        self.counters = EngineCounters()
        self._step_time = step_time
        self._itl = itl
        self._observer = observer
        self._requests: dict[int, Request] = {}
        self._input_queue: list[Request] = []
        self._aborted_in_queue: list[Request] = []
        self._num_submitted = 0
        self._queued_prompt_tokens = 0
        self._max_in_flight = 2 if config.async_scheduling else 1
        self._next_ps: int | None = None
        self._next_is_output = False
        self._scheduled_something = False
        self._gpu_free_ps = 0
        self._last_output_ps = 0
        self._decode_terms: dict[int, tuple[int, int, int]] = {}
        # Requests that got a token from each of the last outputs: their last token and largest gap are
        # kept once for all.
        self._stretch: list[Request] | None = None
        self._stretch_workloads: list[tuple[int, int]] = []
        self._stretch_max_gap_ps = 0

    # --- from outside -----------------------------------------------------------------------------------

    def submit(self, request: EngineRequest, now: int) -> str | None:
        """Take a request at ``now``; None, or the front end's reason to refuse it."""
        config = self.config
        max_reqs = config.max_num_queued_reqs
        max_tokens = config.max_num_queued_tokens
        too_long = request.prompt_tokens + request.max_tokens > config.max_model_len
        too_many = max_reqs is not None and len(self._requests) >= max_reqs
        too_much = max_tokens is not None and self._queued_prompt_tokens >= max_tokens
        if too_long or too_many or too_much:
            self.counters.requests_rejected += 1
            return "context_length" if too_long else "queue_full"
        state = Request(request, self._num_submitted)
        self._num_submitted += 1
        self._requests[request.request_id] = state
        self._input_queue.append(state)
        self._queued_prompt_tokens += request.prompt_tokens
        self._wake(now)
        return None

    def abort(self, request_id: int, now: int) -> int:
        """Drop a request; returns the output tokens it has.

        Raises:
            KeyError: no such request, or it has ended.
        """
        request = self._requests.pop(request_id)
        if request.num_output_tokens == 0:
            self._queued_prompt_tokens -= request.num_prompt_tokens
        if request in self._input_queue:
            self._aborted_in_queue.append(request)
        else:
            self.scheduler.abort(request)
        self.counters.requests_aborted += 1
        self._wake(now)
        return request.num_output_tokens

    def retime(self, step_time: StepTime, now: int) -> None:
        """Steps launched from ``now`` on take other times."""
        self._step_time = step_time
        self._decode_terms.clear()

    def _wake(self, now: int) -> None:
        if self._next_ps is None:
            self._next_ps = now
            self._next_is_output = False

    def next_time(self) -> int | None:
        """The next instant at which something happens inside; None while idle."""
        return self._next_ps

    def advance(self, t: int) -> list[Delivery]:
        """Do all that happens up to and including ``t``."""
        deliveries: list[Delivery] = []
        while (now := self._next_ps) is not None and now <= t:
            if self._next_is_output:
                self._process_output(now, deliveries)
            else:
                self._schedule(now, deliveries)
        return deliveries

    def peek(self, t: int) -> EngineSnapshot:
        """State at ``t``; changes nothing."""
        pool = self.scheduler.kv.pool
        counters = self.counters.copy()
        counters.busy_ps += sum(max(0, min(t - b.start_ps, b.gpu_ps)) for b in self.scheduler.in_flight)
        counters.prefix_cache_queries = self.scheduler.prefix_cache_queries
        counters.prefix_cache_hits = self.scheduler.prefix_cache_hits
        return EngineSnapshot(
            time_ps=t,
            running=len(self.scheduler.running),
            waiting=len(self.scheduler.waiting) + len(self._input_queue) - len(self._aborted_in_queue),
            kv_blocks_used=pool.num_usable_blocks - pool.num_free_blocks,
            kv_blocks_total=pool.num_usable_blocks,
            counters=counters,
        )

    # --- one loop of vLLM's engine core -----------------------------------------------------------------

    def _schedule(self, now: int, deliveries: list[Delivery]) -> None:
        scheduler = self.scheduler
        in_flight = scheduler.in_flight
        if self._input_queue:
            self._take_input()
        self._scheduled_something = False
        if scheduler.has_requests:
            batch = scheduler.schedule()
            self._scheduled_something = bool(batch.requests)
            self._launch(batch, now)
            if not batch.all_decode:
                self._report_schedule(batch, now, deliveries)
            if self._observer is not None:
                self._observer(_record(batch, scheduler, now))
            if not self._scheduled_something and self._is_stuck(batch):
                in_flight.clear()
                self._next_ps = None
                return
            if len(in_flight) < self._max_in_flight and (self._scheduled_something or scheduler.has_requests):
                self._next_ps = now if self._scheduled_something else now + EMPTY_LOOP_SLEEP_PS
                return
        elif not in_flight:
            self._next_ps = None
            return
        self._next_is_output = True
        self._next_ps = max(now, in_flight[0].end_ps)

    def _take_input(self) -> None:
        for request in self._input_queue:
            self.scheduler.add_request(request)
        for request in self._aborted_in_queue:
            self.scheduler.abort(request)
        self._input_queue.clear()
        self._aborted_in_queue.clear()

    def _is_stuck(self, batch: Batch) -> bool:
        """Whether every further schedule would be as empty as this one."""
        return (
            not batch.preempted
            and self.scheduler.has_requests
            and not any(b.requests for b in self.scheduler.in_flight)
        )

    def _launch(self, batch: Batch, now: int) -> None:
        if not batch.requests:
            batch.start_ps = batch.end_ps = max(now, self._gpu_free_ps)
            return
        decodes = batch.decode_requests
        if batch.prefills:
            gpu_ps = self._step_time.step_ps(decodes, batch.decode_context_tokens, batch.prefills)
            host_ps = self._step_time.host_ps(len(batch.requests))
        else:
            terms = self._decode_terms.get(decodes)
            if terms is None:
                terms = (*self._step_time.decode_terms(decodes), self._step_time.host_ps(decodes))
                self._decode_terms[decodes] = terms
            base_ps, per_token_ps, host_ps = terms
            gpu_ps = base_ps + per_token_ps * batch.decode_context_tokens
        batch.gpu_ps = gpu_ps
        if now < self._gpu_free_ps:
            batch.start_ps = self._gpu_free_ps
            batch.end_ps = batch.start_ps + max(gpu_ps, host_ps)
        else:
            batch.start_ps = now
            batch.end_ps = now + gpu_ps + host_ps
        self._gpu_free_ps = batch.end_ps

    def _report_schedule(self, batch: Batch, now: int, deliveries: list[Delivery]) -> None:
        for request in batch.preempted:
            self.counters.num_preemptions += 1
            deliveries.append(Delivery(now, DeliveryKind.PREEMPTED, request.request_id))
        for request in batch.admitted:
            if request.num_preemptions == 0:
                request.scheduled_ps = now
                deliveries.append(Delivery(now, DeliveryKind.SCHEDULED, request.request_id))

    def _process_output(self, now: int, deliveries: list[Delivery]) -> None:
        scheduler = self.scheduler
        counters = self.counters
        batch, finished = scheduler.update()
        if batch.decode_requests or batch.prefills:
            counters.steps += 1
            counters.busy_ps += batch.gpu_ps
            counters.generation_tokens += len(batch.requests) + batch.num_accepted_drafts
            counters.spec_decode_draft_tokens += batch.num_checked_drafts
            counters.spec_decode_accepted_tokens += batch.num_accepted_drafts
            if batch.all_decode:
                self._count_common_gap(batch.requests, now)
                self._last_output_ps = now
                if finished:
                    self._settle_stretch()
                    for request in finished:
                        deliveries.append(self._finish(request, now))
            else:
                self._settle_stretch()
                self._last_output_ps = now
                self._count_tokens(batch.requests, finished, now, deliveries)
        self._next_is_output = False
        if scheduler.has_requests:
            self._next_ps = now if self._scheduled_something else now + EMPTY_LOOP_SLEEP_PS
        else:
            self._next_ps = now if scheduler.in_flight else None

    # --- tokens -----------------------------------------------------------------------------------------

    def _count_common_gap(self, requests: list[Request], now: int) -> None:
        gap_ps = now - self._last_output_ps
        if requests is not self._stretch:
            self._settle_stretch()
            self._stretch = requests
            self._stretch_workloads = sorted(Counter(r.workload for r in requests).items())
            self._stretch_max_gap_ps = 0
        self._stretch_max_gap_ps = max(self._stretch_max_gap_ps, gap_ps)
        add = self._itl.add
        for workload, count in self._stretch_workloads:
            add(workload, gap_ps, 0, 1, count)

    def _settle_stretch(self) -> None:
        if self._stretch is None:
            return
        for request in self._stretch:
            request.last_token_ps = self._last_output_ps
            request.max_gap_ps = max(request.max_gap_ps, self._stretch_max_gap_ps)
        self._stretch = None

    def _count_tokens(
        self, requests: list[Request], finished: list[Request], now: int, deliveries: list[Delivery]
    ) -> None:
        gaps: dict[tuple[int, int], int] = {}
        for request in requests:
            if request.num_tokens == request.num_prompt_tokens + 1:
                request.first_token_ps = now
                self.counters.prompt_tokens += request.num_prompt_tokens
                self._queued_prompt_tokens -= request.num_prompt_tokens
                deliveries.append(Delivery(now, DeliveryKind.FIRST_TOKEN, request.request_id))
            else:
                gap_ps = now - request.last_token_ps
                key = (request.workload, gap_ps)
                gaps[key] = gaps.get(key, 0) + 1
                if gap_ps > request.max_gap_ps:  # noqa: PLR1730  (a call for each token is dear)
                    request.max_gap_ps = gap_ps
            request.last_token_ps = now
            if finished and request in finished:
                deliveries.append(self._finish(request, now))
        for (workload, gap_ps), count in gaps.items():
            self._itl.add(workload, gap_ps, 0, 1, count)

    def _finish(self, request: Request, now: int) -> Delivery:
        del self._requests[request.request_id]
        self.counters.requests_finished += 1
        finish = Finish(
            reason=request.finish_reason,
            output_tokens=request.num_output_tokens,
            scheduled_ps=request.scheduled_ps,
            first_token_ps=request.first_token_ps,
            cached_tokens=request.num_cached_tokens,
            preemptions=request.num_preemptions,
            max_gap_ps=request.max_gap_ps,
        )
        return Delivery(now, DeliveryKind.FINISHED, request.request_id, finish)


def _record(batch: Batch, scheduler: Scheduler, now: int) -> StepRecord:
    tokens = batch.num_scheduled_tokens or [1] * len(batch.requests)
    before = [r.num_computed_tokens - n for r, n in zip(batch.requests, tokens, strict=True)]
    context = {r.request_id: c for r, c in zip(batch.requests, before, strict=True)}
    return StepRecord(
        time_ps=now,
        scheduled=[(r.request_id, n, c) for r, n, c in zip(batch.requests, tokens, before, strict=True)],
        admitted=[(r.request_id, context[r.request_id]) for r in batch.admitted],
        preempted=[r.request_id for r in batch.preempted],
        running=[r.request_id for r in scheduler.running],
        num_waiting=len(scheduler.waiting),
        num_free_blocks=scheduler.kv.pool.num_free_blocks,
    )

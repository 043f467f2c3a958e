"""The event-skipping vLLM engine: it does the steps in which something is decided, and sums up the others.

Gives what `simulator.engines.vllm.plain` gives, to the picosecond: same loop (its module text has the
timeline), same rules. Between two changes, which are an arrival that can be admitted, a prefill chunk, a
finish, an abort, or the block pool running dry, every round of the loop takes the output of one decode step
and schedules another. After each schedule the engine works out how many rounds are quiet in this sense
(`simulator.engines.vllm.quiet_rounds`), sets its alarm for the first that is not, and does the quiet ones in
closed form when they have to be done: at that alarm, or before an abort.
"""

from __future__ import annotations

from typing import Final

from simulator.engines.protocol import (
    Delivery,
    DeliveryKind,
    EngineRequest,
    EngineSnapshot,
    Finish,
    ItlSink,
    StepTime,
)
from simulator.engines.vllm.config import EngineConfig
from simulator.engines.vllm.plain import EMPTY_LOOP_SLEEP_PS
from simulator.engines.vllm.quiet_rounds import QuietRounds
from simulator.engines.vllm.sequence import FINISHED, QUEUED, Batch, Sequence

_FIRST_TOKEN: Final = DeliveryKind.FIRST_TOKEN
_FINISHED: Final = DeliveryKind.FINISHED


class SkippingEngine(QuietRounds):
    """One vLLM engine; implements `simulator.engines.protocol.Engine`.

    Args:
        config: its settings.
        step_time: how long a step takes.
        itl: where inter-token latencies go.
    """

    def __init__(self, config: EngineConfig, step_time: StepTime, itl: ItlSink) -> None:
        super().__init__(config, step_time, itl)
        self._requests: dict[int, Sequence] = {}
        self._num_submitted = 0
        self._queued_prompt_tokens = 0
        self._scheduled_something = False

    # --- from outside -----------------------------------------------------------------------------------

    def submit(self, request: EngineRequest, now: int) -> str | None:
        """Take a request at ``now``; None, or the front end's reason to refuse it."""
        config = self.config
        max_reqs = config.max_num_queued_reqs
        max_tokens = config.max_num_queued_tokens
        too_long = request.prompt_tokens + request.max_tokens > config.max_model_len
        too_many = max_reqs is not None and len(self._requests) >= max_reqs
        if too_long or too_many or (max_tokens is not None and self._queued_prompt_tokens >= max_tokens):
            self.counters.requests_rejected += 1
            return "context_length" if too_long else "queue_full"
        seq = Sequence(request, self._num_submitted, config.block_size, now)
        self._num_submitted += 1
        self._requests[request.request_id] = seq
        self._input_queue.append(seq)
        self._num_waiting_in_queue += 1
        self._queued_prompt_tokens += request.prompt_tokens
        if self._next_ps is None:
            self._next_ps = now
            self._next_is_output = False
        elif self._pass_over_ps is not None:
            if now <= self._pass_over_ps and self.scheduler.admits():
                self._shorten(self._rounds_before(now))
        elif self._quiet and self.scheduler.admits():
            self._shorten(self._rounds_before(now))
        return None

    def abort(self, request_id: int, now: int) -> int:
        """Drop a request; returns the output tokens it has.

        Raises:
            KeyError: no such request, or it has ended.
        """
        seq = self._requests.pop(request_id)
        was_quiet = self._break_off(now)
        if seq.status == QUEUED:
            self._num_waiting_in_queue -= 1
            seq.status = FINISHED
            generated = 0
        else:
            self.scheduler.abort(seq)
            generated = seq.known - seq.num_prompt_tokens
        if generated == 0:
            self._queued_prompt_tokens -= seq.num_prompt_tokens
        self.counters.requests_aborted += 1
        if self._next_ps is None:
            self._next_ps = now
            self._next_is_output = False
        elif was_quiet:
            self._set_alarm(now)
        return generated

    def retime(self, step_time: StepTime, now: int) -> None:
        """Steps launched from ``now`` on take other times: the stretch ends, and another begins with them."""
        was_quiet = self._break_off(now)
        self._step_time = step_time
        self._decode_terms.clear()
        if was_quiet:
            self._set_alarm(now)

    def _break_off(self, now: int) -> bool:
        """Do the quiet rounds before ``now``; whether the engine was in a stretch, and needs its alarm set anew."""
        if self._pass_over_ps is not None and self._pass_over_ps < now:
            self._next_ps = self._pass_over_ps
            self._process_output(self._pass_over_ps, [])
        was_quiet = self._quiet > 0 or self._pass_over_ps is not None
        if self._quiet:
            self._skip(self._rounds_before(now))
        self._gaps.flush()
        return was_quiet

    def next_time(self) -> int | None:
        """The next instant at which something is decided; None while idle."""
        return self._next_ps

    def advance(self, t: int) -> list[Delivery]:
        """Do all that happens up to and including ``t``."""
        deliveries: list[Delivery] = []
        due = self._next_ps
        if self._pass_over_ps is not None and self._pass_over_ps <= t:
            self._next_ps = self._pass_over_ps
        now = self._next_ps
        while now is not None and now <= t:
            if self._next_is_output:
                self._process_output(now, deliveries)
            else:
                self._schedule(now, deliveries)
            now = self._next_ps
        if now is None:
            self._gaps.flush()
        elif due != t:
            self._catch_up(t)
        return deliveries

    def _catch_up(self, t: int) -> None:
        """Do what happens up to and including ``t`` without a decision, for who wants to know."""
        if self._quiet:
            self._skip(self._rounds_before(t + 1))
        self._gaps.flush()

    def peek(self, t: int) -> EngineSnapshot:
        """State at ``t``; changes nothing."""
        scheduler, counters = self.scheduler, self.counters
        pool = scheduler.pool
        rounds = self._rounds_before(t) if self._quiet else 0
        in_flight = scheduler.in_flight
        steps, busy_ps, tokens = counters.steps, counters.busy_ps, counters.generation_tokens
        if rounds:
            launched = self._launched(rounds)
            known = in_flight[:rounds]
            steps += rounds
            busy_ps += sum(batch.gpu_ps for batch in known)
            tokens += sum(batch.tokens for batch in known)
            more = rounds - len(known)
            if more:
                busy_ps += self._series.gpu_total_ps(more)
                tokens += more * scheduler.decoding.n
            in_flight = in_flight[rounds:] + launched
        blocks = scheduler.blocks_used(rounds)
        if self._pass_over_ps is not None and self._pass_over_ps < t:
            step = scheduler.step + rounds + 1
            blocks = scheduler.blocks_used(rounds + 1) - scheduler.decoding.passed_over(step)[1]
            oldest, *in_flight = in_flight
            steps += 1
            busy_ps += oldest.gpu_ps
            tokens += oldest.tokens
        busy_ps += sum(max(0, min(t - b.start_ps, b.gpu_ps)) for b in in_flight)
        now = counters.copy()
        now.steps = steps
        now.busy_ps = busy_ps
        now.generation_tokens = tokens
        now.prefix_cache_queries = scheduler.prefix_cache_queries
        now.prefix_cache_hits = scheduler.prefix_cache_hits
        waiting = len(scheduler.waiting) + self._num_waiting_in_queue
        return EngineSnapshot(t, len(scheduler.running), waiting, blocks, pool.num_usable, now)

    # --- one loop of vLLM's engine core -----------------------------------------------------------------

    def _schedule(self, now: int, deliveries: list[Delivery]) -> None:
        scheduler = self.scheduler
        if self._input_queue:
            self._take_input(now)
        self._scheduled_something = False
        in_flight = scheduler.in_flight
        if scheduler.has_requests:
            batch = scheduler.schedule()
            scheduled = self._scheduled_something = batch.num_scheduled > 0
            self._launch(batch, now)
            if scheduler.admitted or scheduler.preempted:
                self._report_schedule(now, deliveries)
            if not scheduled and self._is_stuck():
                in_flight.clear()
                scheduler.output = scheduler.step
                self._next_ps = None
                return
            if len(in_flight) < self._max_in_flight and (scheduled or scheduler.has_requests):
                self._next_ps = now if scheduled else now + EMPTY_LOOP_SLEEP_PS
                return
        elif not in_flight:
            self._next_ps = None
            return
        self._set_alarm(now)

    def _is_stuck(self) -> bool:
        """Whether every further schedule would be as empty as this one."""
        return (
            not self.scheduler.preempted
            and self.scheduler.has_requests
            and not any(b.num_scheduled for b in self.scheduler.in_flight)
        )

    def _launch(self, batch: Batch, now: int) -> None:
        free_ps = self._gpu_free_ps
        scheduled = batch.num_scheduled
        if not scheduled:
            batch.start_ps = batch.end_ps = max(now, free_ps)
            return
        scheduler = self.scheduler
        decodes, context_tokens = scheduler.decode_requests, scheduler.decode_context_tokens
        if scheduler.prefills:
            spread_tokens = decodes * scheduler.longest_context_tokens - context_tokens
            gpu_ps = self._step_time.step_ps(decodes, context_tokens, scheduler.prefills, spread_tokens)
            host_ps = self._step_time.host_ps(scheduled)
        else:
            terms = self._decode_terms.get(decodes) or self._terms(decodes)
            base_ps, per_token_ps, per_spread_ps, host_ps = terms
            gpu_ps = base_ps + per_token_ps * context_tokens
            if per_spread_ps:
                gpu_ps += per_spread_ps * (decodes * scheduler.longest_context_tokens - context_tokens)
        batch.gpu_ps = gpu_ps
        if now < free_ps:
            batch.start_ps = free_ps
            self._gpu_free_ps = batch.end_ps = free_ps + (gpu_ps if gpu_ps > host_ps else host_ps)
        else:
            batch.start_ps = now
            self._gpu_free_ps = batch.end_ps = now + gpu_ps + host_ps

    def _report_schedule(self, now: int, deliveries: list[Delivery]) -> None:
        for seq in self.scheduler.preempted:
            self.counters.num_preemptions += 1
            deliveries.append(Delivery(now, DeliveryKind.PREEMPTED, seq.request_id))
        for seq in self.scheduler.admitted:
            if seq.num_preemptions == 0:
                seq.scheduled_ps = now
                deliveries.append(Delivery(now, DeliveryKind.SCHEDULED, seq.request_id))

    def _process_output(self, now: int, deliveries: list[Delivery]) -> None:
        scheduler = self.scheduler
        self._pass_over_ps = None
        quiet = self._quiet
        entries: list[Sequence] | tuple[()] = ()
        if quiet >= self._max_in_flight:
            self._end_stretch(quiet, now)
        else:
            if quiet:
                self._skip(quiet)
            batch = scheduler.in_flight.pop(0)
            entries = batch.entries
            if batch.num_scheduled:
                counters = self.counters
                counters.steps += 1
                counters.busy_ps += batch.gpu_ps
                counters.generation_tokens += batch.tokens
                self._gaps.add(scheduler.output + 1, now, batch.weights)
        for seq, alone, ends in scheduler.update(entries):
            if alone:
                self._count_token(seq, now, deliveries)
            if ends:
                deliveries.append(self._finish(seq, alone, now))
        self._next_is_output = False
        if scheduler.running or scheduler.has_requests:
            if self._scheduled_something:
                self._schedule(now, deliveries)
            else:
                self._next_ps = now + EMPTY_LOOP_SLEEP_PS
        else:
            self._next_ps = now if scheduler.in_flight else None

    # --- tokens -----------------------------------------------------------------------------------------

    def _count_token(self, seq: Sequence, now: int, deliveries: list[Delivery]) -> None:
        """A token of a request that did not decode in the step before."""
        self.counters.generation_tokens += 1
        if seq.known == seq.num_prompt_tokens + 1:
            seq.first_token_ps = now
            self.counters.prompt_tokens += seq.num_prompt_tokens
            self._queued_prompt_tokens -= seq.num_prompt_tokens
            deliveries.append(Delivery(now, _FIRST_TOKEN, seq.request_id))
        else:
            gap_ps = now - seq.last_token_ps
            self._itl.add(seq.workload, gap_ps, 0, 1, 1)
            seq.max_gap_ps = max(seq.max_gap_ps, gap_ps)
        seq.last_token_ps = now

    def _finish(self, seq: Sequence, alone: bool, now: int) -> Delivery:
        del self._requests[seq.request_id]
        self.counters.requests_finished += 1
        max_gap_ps = seq.max_gap_ps
        if not alone:
            max_gap_ps = max(max_gap_ps, self._gaps.max_since(seq.joined))
            self._gaps.flush()  # its process may end with it; the next gaps have other weights in any case
        finish = Finish(
            "stop" if seq.final_tokens < seq.length_limit else "length",
            seq.final_tokens - seq.num_prompt_tokens,
            seq.scheduled_ps,
            seq.first_token_ps,
            seq.num_cached_tokens,
            seq.num_preemptions,
            max_gap_ps,
        )
        return Delivery(now, _FINISHED, seq.request_id, finish)

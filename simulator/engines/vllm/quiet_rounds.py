"""Rounds of the engine's loop in which nothing is decided: when they end, and what they do.

A round is one output and the schedule that follows it. It is quiet if all that it does is to give every
decoding request a token and to schedule the next: no finish, no admission, no block missing. `QuietRounds`
sets the engine's alarm for the first round that is not, and does the quiet ones in closed form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.engines.protocol import EngineCounters, ItlSink, StepTime
from simulator.engines.vllm.config import EngineConfig
from simulator.engines.vllm.gaps import DecodeGaps
from simulator.engines.vllm.sequence import QUEUED, Batch, Sequence
from simulator.engines.vllm.skipping_scheduler import Scheduler
from simulator.engines.vllm.stretch import StepSeries

if TYPE_CHECKING:
    from mypy_extensions import i64  # a machine integer where compiled


class QuietRounds:
    """State of one engine between two rounds that are not quiet.

    Attributes:
        scheduler: decides the steps.
        counters: up to the last round done.

    Args:
        config: the engine's settings.
        step_time: how long a step takes.
        itl: where inter-token latencies go.
    """

    def __init__(self, config: EngineConfig, step_time: StepTime, itl: ItlSink) -> None:
        self.config = config
        self._gaps = DecodeGaps(itl)
        self.scheduler = Scheduler(config, self._gaps)
        self.counters = EngineCounters()
        self._step_time = step_time
        self._itl = itl
        self._input_queue: list[Sequence] = []
        self._num_waiting_in_queue: i64 = 0
        self._async = config.async_scheduling
        self._max_in_flight: i64 = 2 if config.async_scheduling else 1
        self._next_ps: int | None = None
        self._next_is_output = False
        self._gpu_free_ps: i64 = 0
        self._decode_terms: dict[int, tuple[int, int, int, int]] = {}
        # Rounds before the one at `_next_ps` that are not done yet, and the steps that they schedule.
        self._quiet: i64 = 0
        # When a round follows them that only passes over requests, whose last token the alarm's round brings.
        self._pass_over_ps: int | None = None
        self._series = StepSeries(1, 0, 0, self._async)

    def _set_alarm(self, now: i64) -> None:
        """Find the first round that is not quiet; the next thing to do is an output, not before ``now``."""
        scheduler = self.scheduler
        in_flight = scheduler.in_flight
        oldest_ps = in_flight[0].end_ps
        self._next_is_output = True
        self._quiet = 0
        self._next_ps = oldest_ps if oldest_ps > now else now
        self._pass_over_ps = None
        rounds = scheduler.quiet_rounds()
        if not rounds:
            return
        newest_ps = in_flight[-1].end_ps
        if self._async and oldest_ps == newest_ps:
            return  # on an idle GPU a step takes longer
        if self._num_waiting_in_queue and scheduler.admits():
            return
        decoding = scheduler.decoding
        n = decoding.n
        base_ps, per_token_ps, per_spread_ps, host_ps = self._decode_terms.get(n) or self._terms(n)
        gpu_ps = base_ps + per_token_ps * (decoding.base_sum + n * scheduler.step)
        if per_spread_ps:
            gpu_ps += per_spread_ps * (n * decoding.longest_base - decoding.base_sum)
        if gpu_ps <= 0:
            return
        series = self._series = StepSeries(gpu_ps, per_token_ps * n, host_ps, self._async)
        self._quiet = rounds
        behind = rounds + 1 - len(in_flight)
        self._next_ps = newest_ps + series.total_ps(behind) if behind else newest_ps
        if self._async and scheduler.only_passes_over(rounds):
            self._pass_over_ps = self._next_ps
            self._next_ps = newest_ps + series.total_ps(rounds)

    def _terms(self, decodes: int) -> tuple[int, int, int, int]:
        terms = (*self._step_time.decode_terms(decodes), self._step_time.host_ps(decodes))
        self._decode_terms[decodes] = terms
        return terms

    def _end_of(self, index: i64) -> i64:
        """When the batch ends that is ``index`` places behind the next to end."""
        in_flight = self.scheduler.in_flight
        if index < len(in_flight):
            return in_flight[index].end_ps
        return in_flight[-1].end_ps + self._series.total_ps(index + 1 - len(in_flight))

    def _rounds_before(self, t: i64) -> i64:
        """How many of the quiet rounds take place before ``t``."""
        in_flight = self.scheduler.in_flight
        for index, batch in enumerate(in_flight):
            if batch.end_ps >= t:
                return min(index, self._quiet)
        rounds = len(in_flight) - 1 + self._series.steps_to_reach(t - in_flight[-1].end_ps)
        return min(rounds, self._quiet)

    def _shorten(self, rounds: i64) -> None:
        self._quiet = rounds
        self._pass_over_ps = None
        self._next_ps = self._end_of(rounds)

    def _launched(self, rounds: i64) -> list[Batch]:
        """Those batches scheduled by so many quiet rounds that are in flight after them."""
        series, decoding = self._series, self.scheduler.decoding
        n, weights = decoding.n, decoding.weights
        start_ps = self.scheduler.in_flight[-1].end_ps
        first = 1
        if rounds > self._max_in_flight:
            first = rounds - self._max_in_flight + 1
            start_ps += series.total_ps(first - 1)
        batches = []
        for step in range(first, rounds + 1):
            end_ps = start_ps + series.step_ps(step)
            gpu_ps = series.gpu_ps + (step - 1) * series.rise_ps
            batches.append(Batch(n, weights, n, start_ps, gpu_ps, end_ps))
            start_ps = end_ps
        return batches

    def _skip(self, rounds: i64) -> None:
        """Do so many of the quiet rounds."""
        if not rounds:
            return
        scheduler, counters, series, gaps = self.scheduler, self.counters, self._series, self._gaps
        in_flight = scheduler.in_flight
        number = scheduler.output
        launched = self._launched(rounds)
        counters.steps += rounds
        for batch in in_flight[:rounds]:
            number += 1
            counters.busy_ps += batch.gpu_ps
            counters.generation_tokens += batch.tokens
            gaps.add(number, batch.end_ps, batch.weights)
        more = rounds - len(in_flight)
        if more > 0:
            decoding = scheduler.decoding
            weights = decoding.weights
            counters.busy_ps += series.gpu_total_ps(more)
            counters.generation_tokens += more * decoding.n
            flat = min(series.flat, more)
            if flat:
                gaps.add_series(number + flat, series.host_ps, 0, flat, weights)
            if more > flat:
                first_ps = series.first_ps + flat * series.rise_ps
                gaps.add_series(number + more, first_ps, series.rise_ps, more - flat, weights)
            gaps.last_output_ps = launched[0].start_ps
        scheduler.in_flight = in_flight[rounds:] + launched
        scheduler.skip(rounds)
        self._gpu_free_ps = launched[-1].end_ps
        self._quiet -= rounds
        if self._quiet:
            self._series = series.after(rounds)
        if self._input_queue and self._input_queue[0].submitted_ps <= gaps.last_output_ps:
            self._take_input(gaps.last_output_ps)

    def _end_stretch(self, rounds: i64, now: i64) -> None:
        """Do all quiet rounds, at least as many as batches are in flight, and take the output at ``now``."""
        scheduler, counters, series, gaps = self.scheduler, self.counters, self._series, self._gaps
        in_flight, decoding = scheduler.in_flight, scheduler.decoding
        n, weights = decoding.n, decoding.weights
        first_ps, rise_ps, flat = series.first_ps, series.rise_ps, series.flat
        number = scheduler.output + len(in_flight)
        more = rounds + 1 - len(in_flight)
        busy_ps = more * series.gpu_ps + rise_ps * (more * (more - 1) // 2)
        tokens = more * n
        newest = in_flight[-1]
        if self._async:
            oldest = in_flight[0]
            busy_ps += oldest.gpu_ps
            tokens += oldest.tokens
            gaps.add(number - 1, oldest.end_ps, oldest.weights)
        counters.steps += rounds + 1
        counters.busy_ps += busy_ps + newest.gpu_ps
        counters.generation_tokens += tokens + newest.tokens
        if (
            not flat
            and newest.weights is weights
            and newest.end_ps - gaps.last_output_ps == first_ps - rise_ps
        ):
            gaps.add_series(number + more, first_ps - rise_ps, rise_ps, more + 1, weights)
        else:
            gaps.add(number, newest.end_ps, newest.weights)
            if flat:
                flat = min(flat, more)
                gaps.add_series(number + flat, series.host_ps, 0, flat, weights)
            if more > flat:
                gaps.add_series(number + more, first_ps + flat * rise_ps, rise_ps, more - flat, weights)
        gaps.last_output_ps = now
        scheduler.skip(rounds)
        self._quiet = 0
        if self._async:
            end_ps = self._gpu_free_ps = now + series.step_ps(rounds)
            gpu_ps = series.gpu_ps + (rounds - 1) * rise_ps
            scheduler.in_flight = [Batch(n, weights, n, now, gpu_ps, end_ps)]
        else:
            scheduler.in_flight = []
            self._gpu_free_ps = now
        if self._input_queue:
            self._take_input(now - series.step_ps(more))

    def _take_input(self, now: i64) -> None:
        """Requests that arrived up to ``now`` join the waiting queue."""
        queue = self._input_queue
        taken = 0
        for seq in queue:
            if seq.submitted_ps > now:
                break
            taken += 1
            if seq.status == QUEUED:
                self.scheduler.add_request(seq)
                self._num_waiting_in_queue -= 1
            else:
                self.scheduler.skip_aborted()
        del queue[:taken]

"""The clients' books: a row for each request and attempt when it ends, and counts for the timeline."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.attempts import Attempt
from simulator.clients.counters import ClientCounters, IntervalStats
from simulator.clients.request import LiveRequest
from simulator.clients.rows import (
    attempt_outcome,
    completed_rows,
    end_of,
    failed_attempt_row,
    fallback_row,
    unanswered_row,
)
from simulator.engines.protocol import Finish
from simulator.outcomes import Cause, Outcome
from simulator.records.sink import RecordSink
from simulator.scenario.slo import Slo
from simulator.units import PS_PER_S_FLOAT


class Ledger:
    """Writes rows and counts.

    Args:
        sink: takes the rows.
        workloads: names of the workloads, by index.
        slos: what counts as good, by workload.

    Attributes:
        interval: counts since the last `close_interval`.
    """

    def __init__(self, sink: RecordSink, workloads: Sequence[str], slos: Sequence[Slo]) -> None:
        self._sink = sink
        self._workloads = workloads
        self._limits_s = [slo.limits_s for slo in slos]
        self.interval = IntervalStats()
        self._closed = ClientCounters()

    def totals(self) -> ClientCounters:
        """Counts of the run so far."""
        return self._closed.plus(self.interval)

    def close_interval(self) -> IntervalStats:
        """The counts of the interval that ends here."""
        closed, self.interval = self.interval, IntervalStats()
        self._closed = self._closed.plus(closed)
        return closed

    def first_token(self, request: LiveRequest, seen_ps: int) -> None:
        """A first token has come."""
        self.interval.ttft_s.append((seen_ps - request.arrival_ps) / PS_PER_S_FLOAT)

    def attempt_failed(self, attempt: Attempt, end_ps: int, cause: Cause, output_tokens: int) -> None:
        """An attempt was refused, cut or abandoned."""
        self._sink.attempt(failed_attempt_row(attempt, end_ps, output_tokens, attempt_outcome(cause), cause))
        self.interval.cut += cause.startswith("cut_")

    def completed(self, request: LiveRequest, attempt: Attempt, end_ps: int, finish: Finish) -> None:
        """The own fleet has answered."""
        workload = request.workload
        assert attempt.first_token_ps is not None
        latencies = _latencies(request.arrival_ps, attempt.first_token_ps, end_ps, finish.output_tokens)
        good = is_good(latencies, self._limits_s[workload])
        attempt_row, request_row = completed_rows(
            request.spec,
            self._workloads[workload],
            attempt,
            finish,
            request.attempts,
            end_ps,
            latencies,
            good,
        )
        self._sink.attempt(attempt_row)
        self._sink.request(request_row)
        self.interval.completed += 1
        self._answered(latencies[1], good)

    def fell_back(
        self, request: LiveRequest, first_ps: int, end_ps: int, output_tokens: int, tpot_ps: int, cause: Cause
    ) -> None:
        """The fallback API has answered; ``cause`` is why the own fleet did not."""
        spec = request.spec
        latencies = _latencies(spec.arrival_ps, first_ps, end_ps, output_tokens)
        good = is_good(latencies, self._limits_s[spec.workload])
        name = self._workloads[spec.workload]
        max_itl_s = tpot_ps / PS_PER_S_FLOAT if output_tokens > 1 else 0.0
        self._sink.request(
            fallback_row(
                spec, name, cause, output_tokens, request.attempts, end_ps, latencies, max_itl_s, good
            )
        )
        self.interval.fell_back += 1
        self._answered(latencies[1], good)

    def gave_up(self, request: LiveRequest, end_ps: int, cause: Cause) -> None:
        """A request ends without an answer."""
        name = self._workloads[request.spec.workload]
        row = unanswered_row(request.spec, name, end_of(cause), cause, request.attempts, end_ps)
        self._sink.request(row)
        self.interval.errors += 1

    def in_flight(self, request: LiveRequest, first_ps: int | None) -> None:
        """The run ends before the request does; ``first_ps`` if it had its first token."""
        if request.attempt is not None:
            self._sink.attempt(failed_attempt_row(request.attempt, None, None, "in-flight"))
        spec = request.spec
        ttft_s = None if first_ps is None else (first_ps - spec.arrival_ps) / PS_PER_S_FLOAT
        name = self._workloads[spec.workload]
        self._sink.request(
            unanswered_row(spec, name, Outcome.IN_FLIGHT, Cause.NONE, request.attempts, None, ttft_s)
        )

    def _answered(self, tpot_s: float | None, good: bool) -> None:
        self.interval.slo_good += good
        if tpot_s is not None:
            self.interval.tpot_s.append(tpot_s)


Latencies = tuple[float, float | None, float]
"""(ttft_s, tpot_s, e2e_s) of an answer; tpot is None below two tokens."""


def is_good(latencies: Latencies, limits_s: tuple[float, float, float]) -> bool:
    """Whether an answer is within every limit (`Slo.limits_s`); one of a single token meets any of TPOT."""
    ttft_s, tpot_s, e2e_s = latencies
    ttft, tpot, e2e = limits_s
    return ttft_s <= ttft and e2e_s <= e2e and (tpot_s is None or tpot_s <= tpot)


def _latencies(arrival_ps: int, first_ps: int, end_ps: int, output_tokens: int) -> Latencies:
    tpot_s = (end_ps - first_ps) / (output_tokens - 1) / PS_PER_S_FLOAT if output_tokens > 1 else None
    return (first_ps - arrival_ps) / PS_PER_S_FLOAT, tpot_s, (end_ps - arrival_ps) / PS_PER_S_FLOAT

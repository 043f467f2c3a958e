"""Rows of ``requests`` and ``attempts`` in the order of `simulator.records.columns`."""

from __future__ import annotations

from typing import Any, Final

from simulator.attempts import Attempt, request_id_of
from simulator.engines.protocol import Finish
from simulator.outcomes import Cause, Outcome
from simulator.units import PS_PER_S_FLOAT
from simulator.workload.request import RequestSpec

Row = tuple[Any, ...]

_LABELS: Final = {outcome: outcome.label for outcome in Outcome}
_STATUS: Final = {cause: cause.status for cause in Cause}
_COMPLETED: Final = Outcome.COMPLETED.label
_OK: Final = Cause.NONE.status


def end_of(cause: Cause) -> Outcome:
    """The outcome of a request whose last failure has this cause."""
    if cause.startswith("timeout"):
        return Outcome.TIMED_OUT
    if cause.startswith("cut_") or cause is Cause.FALLBACK_ERROR:
        return Outcome.FAILED
    return Outcome.REJECTED


def attempt_outcome(cause: Cause) -> str:
    """How an attempt that failed for this cause is labelled."""
    return "cut" if cause.startswith("cut_") else _LABELS[end_of(cause)]


def _s(time_ps: int | None) -> float | None:
    return None if time_ps is None else time_ps / PS_PER_S_FLOAT


def failed_attempt_row(
    attempt: Attempt,
    end_ps: int | None,
    output_tokens: int | None,
    outcome: str,
    cause: Cause = Cause.NONE,
) -> Row:
    """A row of ``attempts`` without an answer; in flight: ``end_ps`` and ``output_tokens`` are None, status 0."""
    return (
        attempt.attempt_id,
        request_id_of(attempt.attempt_id),
        attempt.number,
        attempt.pod,
        attempt.sent_ps / PS_PER_S_FLOAT,
        _s(attempt.engine_ps),
        _s(attempt.scheduled_ps),
        _s(attempt.first_token_ps),
        _s(end_ps),
        output_tokens,
        outcome,
        cause.value,
        0 if end_ps is None else _STATUS[cause],
        attempt.preemptions,
        None,
    )


def completed_rows(
    spec: RequestSpec,
    workload: str,
    attempt: Attempt,
    finish: Finish,
    attempts: int,
    end_ps: int,
    latencies: tuple[float, float | None, float],
    slo_good: bool,
) -> tuple[Row, Row]:
    """Rows of ``attempts`` and ``requests`` of an own answer; ``latencies`` are (ttft_s, tpot_s, e2e_s)."""
    output_tokens, scheduled_ps, cached_tokens = (
        finish.output_tokens,
        finish.scheduled_ps,
        finish.cached_tokens,
    )
    ttft_s, tpot_s, e2e_s = latencies
    request_id, _, arrival_ps, prompt_tokens, _, max_tokens, _, _, session_id, turn = spec
    sent_ps, engine_ps, first_ps = attempt.sent_ps, attempt.engine_ps, attempt.first_token_ps
    assert engine_ps is not None
    assert first_ps is not None
    arrival_s, end_s = arrival_ps / PS_PER_S_FLOAT, end_ps / PS_PER_S_FLOAT
    attempt_row = (
        attempt.attempt_id,
        request_id,
        attempt.number,
        attempt.pod,
        arrival_s if sent_ps == arrival_ps else sent_ps / PS_PER_S_FLOAT,
        engine_ps / PS_PER_S_FLOAT,
        scheduled_ps / PS_PER_S_FLOAT,
        first_ps / PS_PER_S_FLOAT,
        end_s,
        output_tokens,
        _COMPLETED,
        "",
        _OK,
        attempt.preemptions,
        cached_tokens,
    )
    request_row = (
        request_id,
        workload,
        session_id,
        turn,
        arrival_s,
        prompt_tokens,
        max_tokens,
        output_tokens,
        _COMPLETED,
        "",
        attempts,
        ttft_s,
        tpot_s,
        e2e_s,
        finish.max_gap_ps / PS_PER_S_FLOAT,
        (scheduled_ps - engine_ps) / PS_PER_S_FLOAT,
        end_s,
        finish.preemptions,
        cached_tokens,
        slo_good,
    )
    return attempt_row, request_row


def fallback_row(
    spec: RequestSpec,
    workload: str,
    cause: Cause,
    output_tokens: int,
    attempts: int,
    end_ps: int,
    latencies: tuple[float, float | None, float],
    max_itl_s: float,
    slo_good: bool,
) -> Row:
    """A row of ``requests`` that the fallback API answered; ``cause`` is why the own fleet did not."""
    ttft_s, tpot_s, e2e_s = latencies
    return (
        *_asked(spec, workload),
        output_tokens,
        _LABELS[Outcome.FELL_BACK],
        cause.value,
        attempts,
        ttft_s,
        tpot_s,
        e2e_s,
        max_itl_s,
        None,
        end_ps / PS_PER_S_FLOAT,
        0,
        None,
        slo_good,
    )


def unanswered_row(
    spec: RequestSpec,
    workload: str,
    outcome: Outcome,
    cause: Cause,
    attempts: int,
    end_ps: int | None,
    ttft_s: float | None = None,
) -> Row:
    """A row of ``requests`` without an answer; ``end_ps`` is None and ``ttft_s`` may be known in flight."""
    return (
        *_asked(spec, workload),
        0,
        _LABELS[outcome],
        cause.value,
        attempts,
        ttft_s,
        None,
        None,
        None,
        None,
        _s(end_ps),
        0,
        None,
        None if end_ps is None else False,
    )


def _asked(spec: RequestSpec, workload: str) -> Row:
    return (
        spec.request_id,
        workload,
        spec.session_id,
        spec.turn,
        spec.arrival_ps / PS_PER_S_FLOAT,
        spec.prompt_tokens,
        spec.max_tokens,
    )

"""When a failed attempt is tried again: exponential backoff with jitter, under a retry budget.

Backoff and jitter: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015. Budget: "Handling
Overload", Site Reliability Engineering, 2016, ch. 21, as a token bucket (gRPC's and Envoy's retry throttling).
"""

from __future__ import annotations

from typing import Final

from simulator.draws import Draws
from simulator.outcomes import Cause
from simulator.scenario.clients import Retry
from simulator.units import to_ps

JITTER_PURPOSE: Final = "clients.retry-jitter"


class RetryBudget:
    """A token bucket that all clients share: each first attempt adds ``ratio``, each retry takes 1.

    Args:
        ratio: retries that each first attempt earns; None: retries are free.
        burst: tokens at the start and at most.
    """

    def __init__(self, ratio: float | None, burst: float) -> None:
        self._ratio = ratio
        self._burst = burst
        self._tokens = burst

    def first_attempt(self) -> None:
        """A request was sent for the first time."""
        if self._ratio is not None:
            self._tokens = min(self._burst, self._tokens + self._ratio)

    def take(self) -> bool:
        """Take the token of one retry; False if there is none."""
        if self._ratio is None:
            return True
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


def backoff_s(retry: Retry, number: int, u: float) -> float:
    """Seconds between the failure of an attempt and the next send.

    Args:
        retry: the scenario's retry section.
        number: number of the attempt that comes next, 1 for the first retry.
        u: a uniform draw.
    """
    # The exponent is bounded by max_attempts (20) only, and a large multiplier may overflow a float.
    try:
        grown = retry.initial_backoff * retry.multiplier ** (number - 1)
    except OverflowError:
        grown = retry.max_backoff
    backoff = min(retry.max_backoff, grown)
    match retry.jitter:
        case "full":
            return backoff * u
        case "equal":
            return backoff * (1.0 + u) / 2.0
        case "none":
            return backoff


class Retries:
    """Decides on retries.

    Args:
        retry: the scenario's section; None: nothing is retried.
        draws: the run's draws; a jitter is addressed by request and attempt number.
    """

    def __init__(self, retry: Retry | None, draws: Draws) -> None:
        self._retry = retry
        self._draws = draws
        self._on = frozenset[str](retry.on if retry is not None else ())
        self._budget = RetryBudget(
            retry.budget if retry is not None else None, retry.budget_burst if retry is not None else 0.0
        )

    def first_attempt(self) -> None:
        """A request was sent for the first time; earns budget."""
        self._budget.first_attempt()

    def next_send_ps(
        self, request_id: int, attempts: int, cause: Cause, now_ps: int, deadline_ps: int | None
    ) -> int | None:
        """When the next attempt is sent, and takes its token; None if there is to be none.

        A retry that could only be sent at or after the deadline is not waited for.

        Args:
            request_id: the request.
            attempts: attempts sent so far.
            cause: why the last one failed.
            now_ps: when the client learned it.
            deadline_ps: of the whole request; None without one.
        """
        retry = self._retry
        if retry is None or attempts >= retry.max_attempts or cause.retry_class not in self._on:
            return None
        u = 0.0
        if retry.jitter != "none":
            u = self._draws.uniform(JITTER_PURPOSE, request_id, attempts)
        send_ps = now_ps + to_ps(backoff_s(retry, attempts, u))
        if deadline_ps is not None and send_ps >= deadline_ps:
            return None
        return send_ps if self._budget.take() else None

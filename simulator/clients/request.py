"""The client's record of one logical request while it lives."""

from __future__ import annotations

from simulator.attempts import Attempt
from simulator.workload.request import RequestSpec


class LiveRequest:
    """A request that has been sent and has not ended.

    Attributes:
        spec: what is asked.
        attempt: the attempt under way, or None (backing off, or at the fallback API).
        attempts: attempts sent so far.
        fallback_ps: when the fallback API was asked, or None.
        over: it has ended.
    """

    __slots__ = ("attempt", "attempts", "fallback_ps", "over", "spec")

    def __init__(self, spec: RequestSpec) -> None:
        self.spec = spec
        self.attempt: Attempt | None = None
        self.attempts = 0
        self.fallback_ps: int | None = None
        self.over = False


def request_of(attempt: Attempt) -> LiveRequest:
    """The request that an attempt belongs to."""
    request: LiveRequest = attempt.owner
    return request


def is_current(attempt: Attempt) -> bool:
    """The client still waits for this attempt."""
    current: bool = attempt.owner.attempt is attempt
    return current

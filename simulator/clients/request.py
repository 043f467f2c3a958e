"""The client's record of one logical request while it lives."""

from __future__ import annotations

from simulator.attempts import Attempt
from simulator.workload.request import RequestSpec


class LiveRequest:
    """A request that has been sent and has not ended.

    Attributes:
        spec: what is asked.
        request_id, workload, arrival_ps: of the spec, for a compiled class finds its own attributes ten times as fast
            as those of a named tuple.
        attempt: the attempt under way, or None (backing off, or at the fallback API).
        attempts: attempts sent so far.
        fallback_ps: when the fallback API was asked, or None.
        over: it has ended.
    """

    __slots__ = (
        "arrival_ps",
        "attempt",
        "attempts",
        "fallback_ps",
        "over",
        "request_id",
        "spec",
        "workload",
    )

    def __init__(self, spec: RequestSpec) -> None:
        self.spec = spec
        self.request_id = spec.request_id
        self.workload = spec.workload
        self.arrival_ps = spec.arrival_ps
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

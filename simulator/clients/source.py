"""What clients ask of a workload (package `simulator.workload`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from simulator.workload.request import RequestSpec


class RequestSource(Protocol):
    """Where requests come from."""

    def arrivals(self) -> Iterator[RequestSpec]:
        """Everything that does not wait for an answer, in time order."""

    # Any: a source is handed back what it made, and may count on its own kind of spec.
    def may_follow(self, workload: int) -> bool:
        """Whether the end of one of this workload's requests may bring another."""

    def after(self, spec: Any, end_ps: int, succeeded: bool) -> RequestSpec | None:
        """What follows from the end of a request, arriving at or after ``end_ps``; None if nothing does.

        Called once for each request of a workload of which one may follow.
        """

"""What clients ask of a workload (package `simulator.workload`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from simulator.engines.protocol import ContentSegments


class RequestSpec(Protocol):
    """One logical request; `simulator.workload.request` describes the fields."""

    @property
    def request_id(self) -> int: ...
    @property
    def workload(self) -> int: ...
    @property
    def arrival_ps(self) -> int: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def max_tokens(self) -> int | None: ...
    @property
    def segments(self) -> ContentSegments: ...
    @property
    def priority(self) -> int: ...
    @property
    def session_id(self) -> int | None: ...
    @property
    def turn(self) -> int: ...


class RequestSource(Protocol):
    """Where requests come from."""

    def arrivals(self) -> Iterator[RequestSpec]:
        """Everything that does not wait for an answer, in time order."""

    # Any: a source is handed back what it made, and may count on its own kind of spec.
    def after(self, spec: Any, end_ps: int, succeeded: bool) -> RequestSpec | None:
        """What follows from the end of a request, arriving at or after ``end_ps``; None if nothing does."""

"""Where the parts of a simulation report what happened: one row at a time, as tuples in column order."""

from __future__ import annotations

from typing import Any, Protocol


class RecordSink(Protocol):
    """Takes rows in the order of `simulator.records.columns`; values as Python scalars or None."""

    def request(self, row: tuple[Any, ...]) -> None: ...

    def attempt(self, row: tuple[Any, ...]) -> None: ...

    def timeline(self, row: tuple[Any, ...]) -> None: ...

    def event(
        self, t_ps: int, kind: str, subject: str, reason: str, message: str, value: float | None = None
    ) -> None: ...

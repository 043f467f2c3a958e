"""The SimPy environment that a `simulator.clock.Clock` has: its time and its numbers are the clock's.

Apart from the clock, which is compiled: a compiled class cannot have a base class that is not.
"""

from __future__ import annotations

from heapq import heappop
from typing import TYPE_CHECKING, Any, Final

import simpy

if TYPE_CHECKING:
    from simulator.clock import Clock

CALL: Final = 5
"""Length of a callback's entry on the event list: (time, priority, sequence number, callback, argument)."""


class IntegerEnvironment(simpy.Environment):
    """SimPy's environment with the clock's time and its count of entries."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        super().__init__(0)
        self._eid: Any = iter(clock.next_number, None)

    @property
    def _now(self) -> Any:
        return self._clock.now

    @_now.setter
    def _now(self, now_ps: Any) -> None:
        self._clock.now = now_ps

    def step(self) -> None:
        """As SimPy's, for callbacks too."""
        entries: list[Any] = self._queue
        if entries and len(entries[0]) == CALL:
            entry = heappop(entries)
            self._clock.now = entry[0]
            entry[3](entry[4])
        else:
            super().step()

"""SimPy's environment on the integer clock, with plain callbacks beside processes.

A SimPy process costs about 5 µs to make, a bare event about 1: loops and lives (pods, nodes, autoscalers,
scrapes) are processes, requests are callbacks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import simpy
from simpy.events import NORMAL, EventPriority

LAST: Final = EventPriority(2)
"""After every ordinary event of the same instant (SimPy: URGENT 0, NORMAL 1)."""


class Clock(simpy.Environment):
    """A SimPy environment whose time is an int of picoseconds."""

    _now: int

    def __init__(self) -> None:
        super().__init__(initial_time=0)

    @property
    def now(self) -> int:
        """Current time in picoseconds."""
        return self._now

    def call_at(
        self, t_ps: int, callback: Callable[[simpy.Event], None], priority: EventPriority = NORMAL
    ) -> simpy.Event:
        """Run ``callback(event)`` at an instant that is not in the past; the event can be told apart by identity.

        Raises:
            ValueError: the instant lies in the past.
        """
        if t_ps < self._now:
            raise ValueError(f"cannot schedule at {t_ps} ps, the clock shows {self._now} ps")
        event = simpy.Event(self)
        event._ok = True
        event._value = None
        event.callbacks = [callback]
        self.schedule(event, priority, t_ps - self._now)
        return event

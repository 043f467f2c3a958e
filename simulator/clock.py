"""SimPy's environment on the integer clock, with plain callbacks beside processes.

A SimPy process costs about 5 µs to make, a callback well under 1: loops and lives (pods, nodes, autoscalers,
scrapes) are processes, requests are callbacks. Both are on SimPy's one event list.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Final

import simpy
from simpy.events import NORMAL, Event, EventPriority

LAST: Final = EventPriority(2)
"""After every ordinary event of the same instant (SimPy: URGENT 0, NORMAL 1)."""


class Call(Event):
    """An event that has succeeded from the start and has one callback; processes can wait for it."""

    _ok = True
    _value = None

    def __init__(self, env: simpy.Environment, callback: Callable[[Event], None]) -> None:
        self.env = env
        self.callbacks = [callback]


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
        self, t_ps: int, callback: Callable[[Event], None], priority: EventPriority = NORMAL
    ) -> Event:
        """Run ``callback(event)`` at an instant that is not in the past; returns the event.

        Raises:
            ValueError: the instant lies in the past.
        """
        if t_ps < self._now:
            raise ValueError(f"cannot schedule at {t_ps} ps, the clock shows {self._now} ps")
        call = Call(self, callback)
        heappush(self._queue, (t_ps, priority, next(self._eid), call))
        return call

    def run(self, until: Any = None) -> Any:
        """As SimPy's; up to an instant (not including its events) without the cost of a method call per event."""
        if until is None or isinstance(until, Event):
            return super().run(until)
        if until <= self._now:
            raise ValueError(f"until ({until} ps) must be after the current time, {self._now} ps")
        queue = self._queue
        while queue and queue[0][0] < until:
            self._now, _, _, event = heappop(queue)  # type: ignore[assignment]
            callbacks, event.callbacks = event.callbacks, None  # type: ignore[assignment]
            for callback in callbacks:
                callback(event)
            if not event._ok and not event.defused:
                raise event._value
        self._now = until
        return None

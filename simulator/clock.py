"""SimPy's environment on the integer clock, with plain callbacks beside processes.

A SimPy process costs about 5 µs to make, a callback a third of one: loops and lives (pods, nodes, autoscalers,
scrapes) are processes, requests are callbacks. Both are on SimPy's one event list: an event as SimPy's own tuple of
four, a callback as one of five, with the argument in place of an event object.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Final

import simpy
from simpy.events import NORMAL, Event, EventPriority

LAST: Final = EventPriority(2)
"""After every ordinary event of the same instant (SimPy: URGENT 0, NORMAL 1)."""

_CALL: Final = 5
"""Length of a callback's entry: (time, priority, sequence number, callback, argument)."""


class Clock(simpy.Environment):
    """A SimPy environment whose time is an int of picoseconds.

    Attributes:
        now: current time in picoseconds. An attribute, for SimPy's property is read a dozen times per request.
    """

    now: int = 0

    def __init__(self) -> None:
        super().__init__(initial_time=0)
        self._entries: list[tuple[Any, ...]] = self._queue

    def call_at(
        self,
        t_ps: int,
        callback: Callable[[Any], object],
        argument: Any = None,
        priority: EventPriority = NORMAL,
    ) -> None:
        """Run ``callback(argument)`` at an instant that is not in the past.

        Raises:
            ValueError: the instant lies in the past.
        """
        if t_ps < self.now:
            raise ValueError(f"cannot schedule at {t_ps} ps, the clock shows {self.now} ps")
        heappush(self._entries, (t_ps, priority, next(self._eid), callback, argument))

    def event_at(self, t_ps: int, priority: EventPriority = NORMAL) -> Event:
        """An event of an instant that is not in the past, for a process to wait for."""
        event = Event(self)
        event._ok, event._value = True, None
        heappush(self._entries, (t_ps, priority, next(self._eid), event))
        return event

    def step(self) -> None:
        """As SimPy's, for callbacks too."""
        entries = self._entries
        if entries:
            self.now = entries[0][0]
            if len(entries[0]) == _CALL:
                entry = heappop(entries)
                self._now = entry[0]
                entry[3](entry[4])
                return
        super().step()

    def run(self, until: Any = None) -> Any:
        """As SimPy's; up to an instant (not including its events) without the cost of a method call per event."""
        if until is None or isinstance(until, Event):
            return super().run(until)
        if until <= self.now:
            raise ValueError(f"until ({until} ps) must be after the current time, {self.now} ps")
        entries = self._entries
        while entries and entries[0][0] < until:
            if len(entries[0]) == _CALL:
                entry = heappop(entries)
                self._now = self.now = entry[0]
                entry[3](entry[4])
            else:
                self.step()
        self._now = self.now = until
        return None

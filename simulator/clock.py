"""The run's clock: SimPy's event list on integer time, with plain callbacks beside processes.

A SimPy process costs about 5 µs to make, a callback a third of one: loops and lives (pods, nodes, autoscalers,
scrapes) are processes, requests are callbacks. Both are on SimPy's one event list: an event as SimPy's own tuple of
four, a callback as one of five, with the argument in place of an event object.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from heapq import heappop, heappush
from typing import Any, Final

from simpy.events import NORMAL, Event, EventPriority, Process, Timeout

from simulator.simpy_environment import CALL, IntegerEnvironment

LAST: Final = EventPriority(2)
"""After every ordinary event of the same instant (SimPy: URGENT 0, NORMAL 1)."""


class Clock:
    """Time as an int of picoseconds, and what is due.

    It has a `simpy.Environment` for its processes rather than being one: an attribute is read and a callback made
    a dozen times per request.

    Attributes:
        now: current time in picoseconds.
    """

    def __init__(self) -> None:
        self.now = 0
        self._number = 0  # of the entry put on the list last
        self._environment = IntegerEnvironment(self)
        self._entries: list[tuple[Any, ...]] = self._environment._queue

    # --- callbacks --------------------------------------------------------------------------------------

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
        self._number += 1
        heappush(self._entries, (t_ps, priority, self._number, callback, argument))

    def next_ps(self) -> int | None:
        """When the next thing is due; None if nothing is."""
        return self._entries[0][0] if self._entries else None

    # --- processes --------------------------------------------------------------------------------------

    def process(self, generator: Generator[Event, Any, Any]) -> Process:
        """Start a SimPy process now."""
        return Process(self._environment, generator)

    @property
    def active_process(self) -> Process | None:
        """The process that runs now, if one does."""
        return self._environment.active_process

    def timeout(self, delay_ps: int) -> Timeout:
        """An event so much later, for a process to wait for."""
        return Timeout(self._environment, delay_ps)

    def event(self) -> Event:
        """An event that somebody will trigger."""
        return Event(self._environment)

    def event_at(self, t_ps: int, priority: EventPriority = NORMAL) -> Event:
        """An event of an instant that is not in the past, for a process to wait for."""
        event = Event(self._environment)
        event._ok, event._value = True, None
        heappush(self._entries, (t_ps, priority, self.next_number(), event))
        return event

    def next_number(self) -> int:
        """Numbers the entries of one instant in the order in which they were made."""
        self._number += 1
        return self._number

    # --- running ----------------------------------------------------------------------------------------

    def run(self, until: Any = None) -> Any:
        """As SimPy's: to the end, to an event, or up to an instant, not including its events."""
        environment = self._environment
        if until is None or isinstance(until, Event):
            return environment.run(until)
        if until <= self.now:
            raise ValueError(f"until ({until} ps) must be after the current time, {self.now} ps")
        entries = self._entries
        while entries and entries[0][0] < until:
            if len(entries[0]) == CALL:
                entry = heappop(entries)
                self.now = entry[0]
                entry[3](entry[4])
            else:
                environment.step()
        self.now = until
        return None

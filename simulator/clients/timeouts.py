"""Timeouts without an event per request.

Every request of a run has the same timeout, so deadlines fall due in the order in which they were set: a queue
with one timer for its head is enough. Most requests end long before their deadline and cost nothing but their
place in the queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from simulator.clock import Clock

T = TypeVar("T")


class Timeouts(Generic[T]):
    """Calls back for items that are not over when their time is up.

    Args:
        clock: the run's clock.
        timeout_ps: time that each item gets from the moment it is added.
        is_over: the item needs no watching any more; once true it stays so.
        expire: called at the deadline of an item that is not over.
    """

    def __init__(
        self, clock: Clock, timeout_ps: int, is_over: Callable[[T], bool], expire: Callable[[T], None]
    ) -> None:
        self.timeout_ps = timeout_ps
        self._clock = clock
        self._is_over = is_over
        self._expire = expire
        self._items: deque[tuple[int, T]] = deque()
        self._armed = False

    def add(self, item: T) -> None:
        """Watch an item from now on."""
        items, is_over = self._items, self._is_over
        while items and is_over(items[0][1]):
            items.popleft()
        deadline_ps = self._clock.now + self.timeout_ps
        items.append((deadline_ps, item))
        if not self._armed:
            self._armed = True
            self._clock.call_at(deadline_ps, self._fire)

    def _fire(self, _: object) -> None:
        items, now = self._items, self._clock.now
        while items:
            deadline_ps, item = items[0]
            if self._is_over(item):
                items.popleft()
            elif deadline_ps <= now:
                items.popleft()
                self._expire(item)
            else:
                self._clock.call_at(deadline_ps, self._fire)
                return
        self._armed = False

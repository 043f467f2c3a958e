"""When requests come: a stream in time order, merged with those that follow from the end of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heappop, heappush

from simulator.clock import Clock
from simulator.workload.request import RequestSpec


class Arrivals:
    """Calls back at each arrival; one event armed at a time, one request of the stream read ahead.

    Args:
        clock: the run's clock.
        stream: makes the iterator of what does not wait for an answer, in time order; called by `start`.
        begin: called with each request at its ``arrival_ps``. At one instant the stream comes first.
    """

    def __init__(
        self, clock: Clock, stream: Callable[[], Iterator[RequestSpec]], begin: Callable[[RequestSpec], None]
    ) -> None:
        self._clock = clock
        self._stream = stream
        self._begin = begin
        self._iterator: Iterator[RequestSpec] = iter(())
        self._head: RequestSpec | None = None
        self._head_ps = 0  # when the head comes
        self._followers: list[tuple[int, int, RequestSpec]] = []  # heap: (arrival_ps, request_id, spec)
        self._armed_ps: int | None = None

    @property
    def exhausted(self) -> bool:
        """Nothing is due, now or later, unless something is added."""
        return self._head is None and not self._followers

    def start(self) -> None:
        """Read the stream's first request and wait for it."""
        self._iterator = self._stream()
        self._read()
        self._arm()

    def add(self, spec: RequestSpec) -> None:
        """A request that follows from another's end.

        Raises:
            ValueError: its arrival lies in the past.
        """
        heappush(self._followers, (spec.arrival_ps, spec.request_id, spec))
        self._arm()

    def _read(self) -> None:
        head = self._head = next(self._iterator, None)
        if head is not None:
            self._head_ps = head.arrival_ps

    def _arm(self) -> None:
        followers = self._followers
        if self._head is not None and (not followers or self._head_ps <= followers[0][0]):
            due = self._head_ps
        elif followers:
            due = followers[0][0]
        else:
            return
        if self._armed_ps is None or due < self._armed_ps:
            self._armed_ps = due
            self._clock.call_at(due, self._fire)

    def _fire(self, _: object) -> None:
        now = self._clock.now
        if now != self._armed_ps:
            return  # an earlier arrival replaced this one
        head = self._head
        while head is not None and self._head_ps <= now:
            self._read()
            self._begin(head)
            head = self._head
        followers = self._followers
        while followers and followers[0][0] <= now:
            self._begin(heappop(followers)[2])
        self._armed_ps = None
        self._arm()

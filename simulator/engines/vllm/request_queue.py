"""The waiting queue of one engine, by policy (vLLM's v1/core/sched/request_queue.py)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import insort
from collections import deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """What a queue knows of its members."""

    priority: int
    arrival: int


R = TypeVar("R", bound=Waiting)


class RequestQueue(ABC, Generic[R]):
    """Waiting requests in the order in which admission looks at them."""

    @abstractmethod
    def add(self, request: R) -> None: ...

    @abstractmethod
    def put_back(self, request: R) -> None: ...

    @abstractmethod
    def put_back_skipped(self, requests: list[R]) -> None: ...

    @abstractmethod
    def peek(self) -> R: ...

    @abstractmethod
    def pop(self) -> R: ...

    @abstractmethod
    def remove(self, request: R) -> None: ...

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __iter__(self) -> Iterator[R]: ...


class FCFSQueue(RequestQueue[R]):
    """First come, first served; a preempted request goes to the front.

    Args:
        skipped_wait_apart: requests that admission skipped stay ahead of preempted ones.
    """

    def __init__(self, skipped_wait_apart: bool = False) -> None:
        self._queue: deque[R] = deque()
        self._skipped_wait_apart = skipped_wait_apart
        self._num_skipped = 0  # of the first ones, if they wait apart

    def add(self, request: R) -> None:
        self._queue.append(request)

    def put_back(self, request: R) -> None:
        self._queue.insert(self._num_skipped, request)

    def put_back_skipped(self, requests: list[R]) -> None:
        self._queue.extendleft(reversed(requests))
        if self._skipped_wait_apart:
            self._num_skipped += len(requests)

    def peek(self) -> R:
        return self._queue[0]

    def pop(self) -> R:
        self._num_skipped = max(0, self._num_skipped - 1)
        return self._queue.popleft()

    def remove(self, request: R) -> None:
        if self._num_skipped and self._queue.index(request) < self._num_skipped:
            self._num_skipped -= 1
        self._queue.remove(request)

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[R]:
        return iter(self._queue)


class PriorityQueue(RequestQueue[R]):
    """The most urgent first; a preempted request gets the place that its urgency gives it."""

    def __init__(self) -> None:
        self._least_urgent_first: list[R] = []

    def add(self, request: R) -> None:
        insort(self._least_urgent_first, request, key=lambda r: (-r.priority, -r.arrival))

    def put_back(self, request: R) -> None:
        self.add(request)

    def put_back_skipped(self, requests: list[R]) -> None:
        for request in requests:
            self.add(request)

    def peek(self) -> R:
        return self._least_urgent_first[-1]

    def pop(self) -> R:
        return self._least_urgent_first.pop()

    def remove(self, request: R) -> None:
        self._least_urgent_first.remove(request)

    def __len__(self) -> int:
        return len(self._least_urgent_first)

    def __iter__(self) -> Iterator[R]:
        return reversed(self._least_urgent_first)

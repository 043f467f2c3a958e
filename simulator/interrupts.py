"""Signals that wait for a safe point.

A handler that raises, as Python's own for Ctrl-C does, may strike anywhere, also inside a compiled module, whose C code
does not expect it there. During a run signals are noted, and their handlers are called between two slices of it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def deferred_signals() -> Iterator[Callable[[], None]]:
    """Hold back SIGINT and SIGTERM where they have handlers in Python; yields what to call at safe points.

    The call runs the handlers of the signals that came since, which may raise. Outside the main thread, which is
    the one that gets signals, it does nothing.
    """
    pending: list[tuple[int, FrameType | None]] = []
    handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):
                handlers[number] = handler
                signal.signal(number, lambda given, frame: pending.append((given, frame)))

    def deliver() -> None:
        while pending:
            number, frame = pending.pop(0)
            handlers[number](number, frame)

    try:
        yield deliver
    finally:
        for given, handler in handlers.items():
            signal.signal(given, handler)
        deliver()

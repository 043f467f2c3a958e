"""The one clock of a capture: integer microseconds of the machine's monotonic clock from one zero."""

from __future__ import annotations

import time


class CaptureClock:
    """Microseconds since the capture's zero.

    Args:
        start_us: what it shows now; a resumed capture goes on behind what it has.
    """

    def __init__(self, start_us: int = 0) -> None:
        self._zero_ns = time.monotonic_ns() - start_us * 1000

    def now_us(self) -> int:
        return (time.monotonic_ns() - self._zero_ns) // 1000

    def from_ns(self, monotonic_ns: int) -> int:
        """A value of ``time.monotonic_ns()`` of any process of this machine."""
        return (monotonic_ns - self._zero_ns) // 1000

    def from_s(self, monotonic_s: float) -> int:
        """A value of ``time.monotonic()`` of any process of this machine."""
        return round(monotonic_s * 1e6) - self._zero_ns // 1000

    @property
    def zero_ns(self) -> int:
        """``time.monotonic_ns()`` at the zero."""
        return self._zero_ns

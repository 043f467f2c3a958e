"""Times between tokens of the requests that decode, shared by all of them.

Whoever decodes gets a token from every output, so all of them see the same gaps. Consecutive gaps in
arithmetic progression, seen by the same requests, go to the sink in one piece.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from simulator.engines.protocol import ItlSink

if TYPE_CHECKING:
    from mypy_extensions import i64  # a machine integer where compiled


class DecodeGaps:
    """The gaps of one engine.

    Attributes:
        last_output_ps: when the last output of a batch that was not empty was processed.

    Args:
        sink: where they go.
    """

    __slots__ = (
        "_add",
        "_count",
        "_first_ps",
        "_largest",
        "_last_output",
        "_next_ps",
        "_outputs",
        "_rise_ps",
        "_weights",
        "last_output_ps",
    )

    def __init__(self, sink: ItlSink) -> None:
        self._add = sink.add
        self.last_output_ps: i64 = 0
        # The progression that still grows.
        self._weights: dict[int, int] = {}
        self._first_ps: i64 = 0
        self._rise_ps: i64 = 0
        self._count: i64 = 0
        self._next_ps: i64 = -1
        self._last_output: i64 = 0
        # Largest gaps since any output: numbers of outputs and falling gaps.
        self._outputs: list[int] = []
        self._largest: list[int] = []

    def add(self, output: i64, now: i64, weights: dict[int, int]) -> None:
        """One output at ``now``, by which so many decoding requests of each workload got a token."""
        gap_ps = now - self.last_output_ps
        self.last_output_ps = now
        if weights is self._weights:
            if gap_ps == self._next_ps:
                self._count += 1
                self._next_ps = gap_ps + self._rise_ps
                self._last_output = output
                return
            if self._count == 1:
                self._count = 2
                self._rise_ps = gap_ps - self._first_ps
                self._next_ps = gap_ps + self._rise_ps
                self._last_output = output
                return
        if self._count:
            self.flush()
        if weights:
            self._weights = weights
            self._first_ps = gap_ps
            self._next_ps = -1
            self._count = 1
            self._last_output = output

    def add_series(
        self, output: i64, first_ps: i64, rise_ps: i64, count: i64, weights: dict[int, int]
    ) -> None:
        """Gaps first, first + rise, ..., of the outputs up to number ``output``; the caller keeps the time."""
        if weights is not self._weights or not self._count:
            self.flush()
            self._weights = weights
            self._first_ps = first_ps
            self._count = count
        elif (self._next_ps == first_ps and self._rise_ps == rise_ps) or (
            self._count == 1 and first_ps - self._first_ps == rise_ps
        ):
            self._count += count
        else:
            self.flush()
            self._weights = weights
            self._first_ps = first_ps
            self._count = count
        self._rise_ps = rise_ps
        self._next_ps = first_ps + count * rise_ps
        self._last_output = output

    def flush(self) -> None:
        """Give the sink all that was added."""
        count = self._count
        if not count:
            return
        first_ps, rise_ps = self._first_ps, self._rise_ps
        if count == 1:
            rise_ps = 0
        for workload, weight in self._weights.items():
            self._add(workload, first_ps, rise_ps, count, weight)
        gap_ps = first_ps + (count - 1) * rise_ps
        if rise_ps < 0:
            gap_ps = first_ps
        self._count = 0
        self._next_ps = -1
        largest, outputs = self._largest, self._outputs
        while largest and largest[-1] <= gap_ps:
            largest.pop()
            outputs.pop()
        outputs.append(self._last_output)
        largest.append(gap_ps)

    def max_since(self, output: i64) -> i64:
        """The largest gap that ended after ``output``; 0 if there is none."""
        outputs = self._outputs
        index = bisect_right(outputs, output)
        gap_ps: i64 = self._largest[index] if index < len(outputs) else 0
        count = self._count
        if count and self._last_output > output:
            # Nobody joined during a progression, so it lies before or after as a whole.
            last_ps = self._first_ps + (count - 1) * self._rise_ps if count > 1 else self._first_ps
            gap_ps = max(gap_ps, self._first_ps, last_ps)
        return gap_ps

"""Where the CPU time of a run goes, by part of the simulator: a sampling profiler on the process's CPU clock.

Instrumenting calls would distort a run whose calls last microseconds. Here a timer of the operating system
interrupts the process every few milliseconds of CPU time, and the innermost frame of the simulator's own code says
which part was at work (what NumPy or SimPy do is the caller's).
"""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final

PARTS: Final = {
    "engine": ("engines", "kv_cache", "cluster/replica.py"),
    "step times": ("step_time",),
    "clients and gateway": ("clients", "gateway", "workload", "attempts.py", "draws.py"),
    "control plane": ("cluster", "autoscaling", "timeline.py"),
    "recording": ("records",),
    "output": ("metrics", "report", "statistics"),
}
"""Folders and files of the package, by part; the first that matches counts."""

_PACKAGE: Final = str(Path(__file__).parent.parent / "simulator")
_EVERY_S: Final = 0.002


def part_of(path: str) -> str | None:
    """The part that a source file belongs to; None outside the package."""
    if not path.startswith(_PACKAGE):
        return None
    inside = path[len(_PACKAGE) + 1 :]
    candidates = [
        (part, prefix) for part, prefixes in PARTS.items() for prefix in prefixes if inside.startswith(prefix)
    ]
    return max(candidates, key=lambda pair: len(pair[1]))[0] if candidates else None


class PartSampler:
    """A context manager that counts samples by part while it is open; main thread only."""

    def __init__(self) -> None:
        self.samples: Counter[str] = Counter()
        self._parts: dict[str, str | None] = {}

    def __enter__(self) -> PartSampler:
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)

    def shares(self) -> dict[str, float]:
        """Share of the samples by part, in the order of `PARTS`; what is left is the event list and the wiring."""
        total = max(1, sum(self.samples.values()))
        return {part: self.samples[part] / total for part in (*PARTS, "event list")}

    def _sample(self, _signal: int, frame: FrameType | None) -> None:
        while frame is not None:
            path = frame.f_code.co_filename
            if path not in self._parts:
                self._parts[path] = part_of(path)
            part = self._parts[path]
            if part is not None:
                self.samples[part] += 1
                return
            frame = frame.f_back
        self.samples["event list"] += 1

"""Where the CPU time of a run goes: a clock on the control plane, and a sampling profiler for the rest.

A request is callbacks on the event list, and loops and lives are SimPy processes (`simulator.clock`): autoscalers,
scrapes, the timeline, nodes, pods, faults. So the time of the processes is the control plane's, and can be taken of a
compiled run too, at the one place where the clock hands over to SimPy.

The other parts are told apart by their files, of which a compiled run shows none. Instrumenting calls would distort a
run whose calls last microseconds. A timer of the operating system interrupts the process every few milliseconds of CPU
time, and the innermost frame of the simulator's own code says which part was at work (what NumPy or SimPy do is the
caller's).
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final

from simulator.simpy_environment import IntegerEnvironment

PARTS: Final = {
    "engine": ("engines", "kv_cache", "cluster/replica.py"),
    "step times": ("step_time",),
    "clients and gateway": ("clients", "gateway", "workload", "attempts.py", "draws.py"),
    "control plane": ("cluster", "autoscaling", "timeline.py"),
    "recording": ("records",),
    "output": ("metrics", "report", "statistics"),
}
"""Folders and files of the package, by part; the first that matches counts."""


class ProcessTimer:
    """A context manager that adds up the CPU time of SimPy processes while it is open; main thread only.

    What a pod or a node has put on the event list as a plain callback, a few for each life, is left out.
    """

    def __init__(self) -> None:
        self._spent_ns = 0
        self._step = IntegerEnvironment.step

    @property
    def cpu_s(self) -> float:
        return self._spent_ns / 1e9

    def __enter__(self) -> ProcessTimer:
        step, now_ns = self._step, time.thread_time_ns

        def timed(environment: IntegerEnvironment) -> None:
            began_ns = now_ns()
            step(environment)
            self._spent_ns += now_ns() - began_ns

        setattr(IntegerEnvironment, "step", timed)  # noqa: B010
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        setattr(IntegerEnvironment, "step", self._step)  # noqa: B010


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

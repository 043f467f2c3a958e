"""Runs one case in a process of its own and measures CPU time, memory and where the time went.

Measured is what a user's run does once the interpreter and the imports are there: loading the scenario, simulating,
streaming every record to Parquet, the summary. Plots and the HTML report are left out.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.sampling import PartSampler, ProcessTimer
from simulator.records.recorder import Recorder
from simulator.scenario.load import load_scenario
from simulator.simulation import Simulation


@dataclass(frozen=True)
class Measurement:
    """What a run cost.

    Attributes:
        requests: requests that arrived.
        steps: engine steps that were simulated.
        cpu_s: user and system time.
        memory_bytes: largest resident memory of the process, interpreter and libraries included.
        control_plane_cpu_s: of that in SimPy processes.
        shares: share of the CPU time by part; means something only of the Python files.
        summary: of the run.
    """

    requests: int
    steps: int
    cpu_s: float
    control_plane_cpu_s: float
    memory_bytes: int
    shares: dict[str, float]
    summary: dict[str, Any]

    @property
    def requests_per_cpu_s(self) -> float:
        return self.requests / self.cpu_s

    @property
    def control_plane_share(self) -> float:
        return self.control_plane_cpu_s / self.cpu_s

    @property
    def us_per_request(self) -> float:
        return 1e6 * self.cpu_s / self.requests


def measure(scenario: Path, overrides: Sequence[str]) -> Measurement:
    """Run a scenario once and say what it cost; to be called in a fresh process."""
    with tempfile.TemporaryDirectory() as folder, PartSampler() as sampler, ProcessTimer() as processes:
        began = time.process_time()
        loaded = load_scenario(scenario, overrides)
        recorder = Recorder([workload.name for workload in loaded.scenario.workload], Path(folder))
        summary = Simulation(loaded, recorder).run()
        cpu_s = time.process_time() - began
    return Measurement(
        requests=summary["requests"]["total"],
        steps=summary["step_time"]["steps"],
        cpu_s=cpu_s,
        control_plane_cpu_s=processes.cpu_s,
        memory_bytes=_peak_bytes(),
        shares=sampler.shares(),
        summary=summary,
    )


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

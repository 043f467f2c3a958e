"""Validation loads of a capture against the same loads simulated with a fitted profile (`validation.captured_load`).

Loads that were captured several times say how much two runs of the same differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from calibration.capture_format import Capture, CapturedStage, CaptureError
from simulator.step_time.profile import StepTimeProfile
from validation.captured_load import captured_replica, load_rows, measured, recorded_requests
from validation.single_replica import replay

METRICS: Final = ("TTFT", "TPOT", "E2E")
STATISTICS: Final = ("mean", "p50", "p95")


def statistic(times: pd.DataFrame, metric: str, name: str) -> float:
    """Mean or a percentile (``p95``) of ``TTFT``, ``TPOT`` or ``E2E``, ms, over requests of which it is known."""
    values = times[f"{metric.lower()}_ms"].to_numpy(float)
    return float(np.nanmean(values) if name == "mean" else np.nanpercentile(values, float(name[1:])))


@dataclass(frozen=True)
class LoadRun:
    """One load: as captured, and as simulated.

    Attributes:
        stage: of the capture.
        measured, simulated: a row per request: ttft_ms, tpot_ms and e2e_ms as the client sees them; missing (NaN) of
            those that did not finish in the capture.
        out_of_range: simulated steps outside the profile's range.
    """

    stage: CapturedStage
    measured: pd.DataFrame
    simulated: pd.DataFrame
    out_of_range: int

    @property
    def load(self) -> str:
        """Name of the load, the same for all its repeats."""
        return self.stage.repeat_of or self.stage.name

    @property
    def requests(self) -> int:
        """Number of requests that finished."""
        return int(self.measured["e2e_ms"].notna().sum())

    def error(self, metric: str, name: str) -> float:
        """Relative error of a simulated statistic."""
        return statistic(self.simulated, metric, name) / statistic(self.measured, metric, name) - 1.0


def compare_loads(capture: Capture, profile: StepTimeProfile) -> list[LoadRun]:
    """Every load of a capture that ran to its end, in order.

    Raises:
        CaptureError: settings that our engine refuses, or a request that it refuses.
    """
    runs = []
    for position, stage in enumerate(capture.manifest.stages):
        if stage.kind != "load" or stage.status != "ok":
            continue
        rows = load_rows(capture, position)
        if not (rows["status"] == "finished").any():
            continue
        seen = measured(rows)
        replayed = replay(captured_replica(capture, stage.engine, profile), recorded_requests(rows))
        refused = replayed.requests[replayed.requests["outcome"] != "completed"]
        if len(refused):
            raise CaptureError(
                f"{capture.folder}: stage {stage.name}: request {refused.index[0]}: the simulated engine refuses it: "
                f"{refused['cause'].iloc[0]}"
            )
        simulated = replayed.requests.where(seen["e2e_ms"].notna())
        runs.append(LoadRun(stage, seen, simulated, sum(replayed.out_of_range.values())))
    return runs


def repeat_noise(runs: list[LoadRun], metric: str, name: str) -> dict[str, float]:
    """By load with repeats: largest difference between two captured runs of it, relative to their mean."""
    groups: dict[str, list[float]] = {}
    for run in runs:
        groups.setdefault(run.load, []).append(statistic(run.measured, metric, name))
    return {
        load: (max(values) - min(values)) / float(np.mean(values))
        for load, values in groups.items()
        if len(values) > 1
    }

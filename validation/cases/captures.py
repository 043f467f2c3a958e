"""Loads that our own captures of a real vLLM hold (`calibration.capture_format`), found by listing a folder.

Every step of a capture is replayed and its decisions compared (`validation.real_trace`). Its loads for validation are
replayed request by request at the arrivals that the load generator had (`validation.captured_load`), on the step
times that are best for the machine. A load that was run twice shows its noise: the second run held against the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from calibration.capture_format import MANIFEST, Capture, CapturedStage
from validation.captured_load import CapturedReplica, captured_replica, load_rows, measured, recorded_requests
from validation.cases.case import Bar, ReplayCase
from validation.cases.regimes import regimes, unqueued
from validation.comparison import Figures, compare
from validation.real_trace import differing_steps, traces_of

RECORDS: Final = Path(__file__).parents[2] / "calibration" / "records"

_BARS: Final = {"ttft_ms": 5.0, "tpot_ms": 2.0, "e2e_ms": 2.0}
_BARRED: Final = ("light", "knee", "overload")
"""Loads of these regimes have bars, where the machine has a GPU."""


@dataclass(frozen=True)
class Load:
    """One validation load of a capture: the stage and its number."""

    number: int
    stage: CapturedStage


@dataclass(frozen=True, kw_only=True)
class LoadCase(ReplayCase):
    """A captured load, on the engine that it was captured of."""

    captured: CapturedReplica

    @property
    def replica(self) -> CapturedReplica:
        return self.captured


def folders(records: Path = RECORDS) -> dict[str, Path]:
    """Captures below a folder, by name: their path with ``--`` between its parts."""
    found = sorted(path.parent for path in records.rglob(MANIFEST))
    return {"--".join(folder.relative_to(records).parts): folder for folder in found}


def decisions(name: str, capture: Capture) -> dict[str, Any]:
    """Every engine's steps held against ours.

    Raises:
        CaptureError: an engine with settings that ours refuses.
    """
    manifest = capture.manifest
    engines = []
    for trace in traces_of(capture):
        differing = differing_steps(trace)
        engines.append(
            {
                "engine": trace.source,
                "requests": len(trace.arrivals),
                "steps": len(trace.steps),
                "preemptions": trace.num_preemptions,
                "prefix_hits": trace.num_prefix_hits,
                "differing_steps": len(differing),
            }
        )
    return {
        "case": name,
        "kind": "decisions",
        "title": f"{manifest.plan}, vLLM {manifest.versions['vllm']} on {manifest.gpu}",
        "source": "own capture",
        "notes": [],
        "engines": engines,
    }


def tells_decisions(capture: Capture) -> bool:
    """Whether steps were recorded, and when the scheduler saw each request: a server's client cannot tell."""
    return bool(capture.steps.num_rows) and len(capture.requests["arrival_step"].drop_null()) > 0


def loads(capture: Capture) -> dict[int, list[Load]]:
    """The loads for validation that ran to their end, by the engine's position."""
    found: dict[int, list[Load]] = {}
    for number, stage in enumerate(capture.manifest.stages):
        if stage.kind == "load" and stage.purpose == "validation" and stage.status == "ok":
            found.setdefault(stage.engine, []).append(Load(number, stage))
    return found


def load_times(capture: Capture, load: Load) -> pd.DataFrame:
    """What was measured of a load's requests."""
    return measured(load_rows(capture, load.number))


def noise(capture: Capture, load: Load) -> tuple[str, dict[str, Figures]] | None:
    """The load held against the run of it before, request by request, and that run's name; None for a first run."""
    before: Load | None = None
    for other in loads(capture)[load.stage.engine]:
        if other.number >= load.number:
            break
        if load.stage.repeat_of in (other.stage.name, other.stage.repeat_of) and load.stage.repeat_of:
            before = other
    if before is None:
        return None
    once, again = load_times(capture, before), load_times(capture, load)
    if len(once) != len(again):
        return None
    return before.stage.name, compare(again, once)


def bars(gpu: str, load: Load) -> tuple[Bar, ...]:
    """What a load should reach; paths begin with the load's name."""
    if gpu == "CPU" or load.stage.regime not in _BARRED:
        return ()
    return tuple(Bar(f"all.{metric}.mape_pct", at_most) for metric, at_most in _BARS.items())


def load_case(capture: Capture, load: Load) -> LoadCase:
    """A load as a case to be replayed.

    Raises:
        CaptureError: a machine of which no step times are known, settings that our engine refuses.
    """
    manifest = capture.manifest
    engine = manifest.engines[load.stage.engine]
    replica = captured_replica(capture, load.stage.engine)
    rows = load_rows(capture, load.number)
    times = measured(rows)
    steps = _steps(capture, load, int(rows["submitted_us"].min()))
    stamped = bool(times["queue_ms"].notna().any())
    met = pd.Series("all", index=times.index)
    if stamped and steps is not None:
        met = regimes(times["queue_ms"], times["scheduled_s"], steps, replica.engine.max_num_seqs)
    return LoadCase(
        name=load.stage.name,
        title=f"{manifest.gpu}, {engine.model}, vLLM {manifest.versions['vllm']}: {load.stage.name}",
        requests=recorded_requests(rows),
        measured=times,
        timeline=None if steps is None else _each_second(steps, rows),
        regimes=met,
        groups={"unqueued": unqueued(times["queue_ms"])} if stamped else {},
        preemptions=None if steps is None else int(steps["preempted"].sum()),
        bars=bars(manifest.gpu, load),
        captured=replica,
    )


def _steps(capture: Capture, load: Load, start_us: int) -> pd.DataFrame | None:
    """t_s of each step's launch, counted from the first arrival, and the state after its schedule."""
    steps = capture.steps.to_pandas()
    steps = steps[steps["stage"] == load.number].sort_values("launch_us")
    if steps.empty:
        return None
    blocks = capture.manifest.engines[load.stage.engine].num_gpu_blocks - 1
    return pd.DataFrame(
        {
            "t_s": (steps["launch_us"] - start_us).to_numpy(float) / 1e6,
            "running": steps["running"].map(len).to_numpy(),
            "waiting": steps["waiting"].to_numpy(),
            "kv_usage": 1.0 - steps["free_blocks"].to_numpy(float) / blocks,
            "preempted": steps["preempted"].map(len).to_numpy(),
        }
    )


def _each_second(steps: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Running and waiting at each whole second: after the last schedule, or none where the engine was empty."""
    start_us = rows["submitted_us"].min()
    begin = np.sort((rows["submitted_us"] - start_us).to_numpy(float)) / 1e6
    end = np.sort((rows["last_token_us"] - start_us).to_numpy(float)) / 1e6
    at_s = np.arange(1.0, np.floor(steps["t_s"].iloc[-1]) + 2.0)
    last = np.maximum(np.searchsorted(steps["t_s"].to_numpy(), at_s, side="right") - 1, 0)
    inside = np.searchsorted(begin, at_s, side="right") > np.searchsorted(end, at_s, side="right")
    state = {name: np.where(inside, steps[name].to_numpy()[last], 0) for name in ("running", "waiting")}
    return pd.DataFrame({"t_s": at_s, **state})

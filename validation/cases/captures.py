"""Loads that our own captures of a real vLLM hold (`calibration.capture_format`), found by listing a folder.

Every step of a capture is replayed and its decisions compared (`validation.real_trace`). Its stages for validation
are replayed request by request at the arrivals that the load generator had, on the profile that is best for the GPU;
a load that was run twice shows its noise: the second run held against the first. A machine without a profile (a CPU)
gets no prediction of times: of it decisions and noise are shown.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
import yaml

from calibration.capture_format import MANIFEST, Capture, CapturedEngine, CapturedStage
from validation.cases.case import RunCase
from validation.cases.regimes import unqueued
from validation.comparison import Figures, compare
from validation.deployment import Deployment, load_deployment
from validation.real_trace import differing_steps, traces_of
from validation.requests import RecordedRequest

RECORDS: Final = Path(__file__).parents[2] / "calibration" / "records"


@dataclass(frozen=True)
class Load:
    """One validation load of a capture: the stage and its number."""

    number: int
    stage: CapturedStage


def folders(records: Path = RECORDS) -> list[Path]:
    """Captures in a folder, by name."""
    return sorted(path.parent for path in records.glob(f"*/{MANIFEST}"))


def decisions(capture: Capture) -> dict[str, Any]:
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
        "case": f"{manifest.plan}--decisions",
        "kind": "decisions",
        "title": f"{manifest.plan}, vLLM {manifest.versions['vllm']} on {manifest.gpu}",
        "source": "own capture",
        "notes": [],
        "engines": engines,
    }


def loads(capture: Capture) -> list[Load]:
    """The open- or closed-loop loads that are for validation."""
    return [
        Load(number, stage)
        for number, stage in enumerate(capture.manifest.stages)
        if stage.purpose == "validation" and stage.status == "ok"
    ]


def name_of(capture: Capture, load: Load) -> str:
    """The case's name."""
    engine = capture.manifest.engines[load.stage.engine]
    return f"{capture.folder.name}--{engine.name}--{load.stage.name}"


def _rows(capture: Capture, load: Load) -> pd.DataFrame:
    """The load's requests that got a token."""
    rows: pd.DataFrame = capture.requests.to_pandas()
    return rows[(rows["stage"] == load.number) & (rows["output_tokens"] > 0)].reset_index(drop=True)


def measured(capture: Capture, load: Load) -> pd.DataFrame:
    """What was measured of a load's requests, in the capture's order.

    Requests that were aborted or cut are load and nothing else: of them the arrival alone is known.
    """
    rows = _rows(capture, load)
    start_us = rows["submitted_us"].min()
    sent, first, last, queued, scheduled = (
        rows[name].astype(float)
        for name in ("submitted_us", "first_token_us", "last_token_us", "queued_us", "scheduled_us")
    )
    steps = (rows["output_tokens"] - 1).where(rows["output_tokens"] > 1)
    times = pd.DataFrame(
        {
            "ttft_ms": (first - sent) / 1e3,
            "tpot_ms": (last - first) / steps / 1e3,
            "e2e_ms": (last - sent) / 1e3,
            "queue_ms": (scheduled - queued) / 1e3,
            "scheduled_s": (scheduled - start_us) / 1e6,
        }
    ).where(rows["status"] == "finished")
    times.insert(0, "arrival_s", (sent - start_us) / 1e6)
    return times


def noise(capture: Capture, load: Load) -> dict[str, Figures] | None:
    """The load held against the one that it repeats, request by request; None if it repeats none."""
    if load.stage.repeat_of is None:
        return None
    first = next((other for other in loads(capture) if other.stage.name == load.stage.repeat_of), None)
    if first is None:
        return None
    once, again = measured(capture, first), measured(capture, load)
    if len(once) != len(again):
        return None
    return compare(again, once)


def preemptions(capture: Capture, load: Load) -> int:
    """Preemptions of the engine during a load."""
    steps = capture.steps.to_pandas()
    return int(sum(len(row) for row in steps.loc[steps["stage"] == load.number, "preempted"]))


def load_case(capture: Capture, load: Load) -> RunCase:
    """A load as a case to be replayed.

    Raises:
        ScenarioError: no GPU of the catalogue, a model that does not fit.
    """
    manifest = capture.manifest
    engine = manifest.engines[load.stage.engine]
    deployment = _deployment(manifest.gpu, manifest.versions["vllm"], engine)
    times = measured(capture, load)
    table = _rows(capture, load)
    requests = [
        RecordedRequest(
            float(times["arrival_s"][row]),
            int(table["prompt_tokens"][row]),
            int(table["output_tokens"][row]),
            segments=tuple(
                (int(content), int(end))
                for content, end in zip(table["segment_ids"][row], table["segment_ends"][row], strict=True)
            ),
        )
        for row in range(len(table))
    ]
    regime = load.stage.regime or "load"
    return RunCase(
        name=name_of(capture, load),
        title=f"{manifest.gpu}, {engine.model}, vLLM {manifest.versions['vllm']}: {load.stage.name}",
        source=f"own capture {capture.folder.name}",
        deployment=deployment,
        requests=requests,
        measured=times,
        timeline=_timeline(capture, load),
        regimes=pd.Series(regime, index=times.index),
        groups={"unqueued": unqueued(times["queue_ms"])} if times["queue_ms"].notna().any() else {},
        preemptions=preemptions(capture, load),
        notes=(f"regime as planned: {regime}",),
    )


def _timeline(capture: Capture, load: Load) -> pd.DataFrame | None:
    """Running and waiting at the last step of each second; None where steps were not recorded."""
    steps = capture.steps.to_pandas()
    steps = steps[steps["stage"] == load.number]
    if steps.empty:
        return None
    requests = capture.requests.to_pandas()
    start_us = requests.loc[requests["stage"] == load.number, "submitted_us"].min()
    seconds = ((steps["launch_us"] - start_us) // 1_000_000 + 1).astype(int)
    last = steps.groupby(seconds).last()
    return pd.DataFrame(
        {
            "t_s": last.index.to_numpy(float),
            "running": last["running"].map(len).to_numpy(),
            "waiting": last["waiting"].to_numpy(),
        }
    )


def _deployment(gpu: str, version: str, engine: CapturedEngine) -> Deployment:
    config: dict[str, Any] = {
        "model": engine.model,
        "dtype": engine.dtype,
        "quantization": engine.quantisation,
        "kv-cache-dtype": engine.kv_cache_dtype,
        "tensor-parallel-size": engine.tp,
        "max-num-seqs": engine.max_num_seqs,
        "max-num-batched-tokens": engine.max_num_batched_tokens,
        "max-model-len": engine.max_model_len,
        "num-gpu-blocks-override": engine.num_gpu_blocks,
        "block-size": engine.block_size,
        "gpu-memory-utilization": engine.gpu_memory_utilization,
        "enforce-eager": engine.enforce_eager,
        "async-scheduling": engine.async_scheduling,
        "enable-prefix-caching": engine.enable_prefix_caching,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "engine.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in config.items() if value is not None}))
        return load_deployment(path, "auto", gpu=gpu, vllm_version=version)

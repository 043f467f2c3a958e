"""Loads that our own captures of a real vLLM hold (`calibration.capture_format`), found by listing a folder.

A capture's stages for validation are replayed request by request at the arrivals that the load generator had, on the
profile that is best for the GPU; a load that was run twice shows its noise: the second run held against the first. A
capture of a CPU has no profile: of it only the noise is shown here, its decisions are compared step by step by
``python -m validation.real_engine``.
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
from validation.requests import Measured, RecordedRequest

RECORDS: Final = Path(__file__).parents[2] / "calibration" / "records"
BLOCK_TOKENS: Final = 1
"""Content of a prompt is given by segments of any length; they are replayed token by token."""


@dataclass(frozen=True)
class Load:
    """One validation load of a capture: the stage and its number."""

    number: int
    stage: CapturedStage


def folders(records: Path = RECORDS) -> list[Path]:
    """Captures in a folder, by name."""
    return sorted(path.parent for path in records.glob(f"*/{MANIFEST}"))


def loads(capture: Capture) -> list[Load]:
    """The open- or closed-loop loads that are for validation."""
    return [
        Load(number, stage)
        for number, stage in enumerate(capture.manifest.stages)
        if stage.purpose == "validation" and stage.status == "ok"
    ]


def name_of(capture: Capture, load: Load) -> str:
    """The case's name."""
    return f"{capture.folder.name}--{load.stage.name}"


def measured(capture: Capture, load: Load) -> pd.DataFrame:
    """What was measured of a load's requests, in the capture's order; those that finished only."""
    rows = capture.requests.to_pandas()
    rows = rows[(rows["stage"] == load.number) & (rows["status"] == "finished")].reset_index(drop=True)
    start_us = rows["submitted_us"].min()
    sent, first, last = (
        rows[name].astype(float) for name in ("submitted_us", "first_token_us", "last_token_us")
    )
    steps = (rows["output_tokens"] - 1).where(rows["output_tokens"] > 1)
    return pd.DataFrame(
        {
            "arrival_s": (sent - start_us) / 1e6,
            "ttft_ms": (first - sent) / 1e3,
            "tpot_ms": (last - first) / steps / 1e3,
            "e2e_ms": (last - sent) / 1e3,
            "queue_ms": (rows["scheduled_us"].astype(float) - rows["queued_us"].astype(float)) / 1e3,
            "scheduled_s": (rows["scheduled_us"].astype(float) - start_us) / 1e6,
            "prompt_tokens": rows["prompt_tokens"],
            "output_tokens": rows["output_tokens"],
        }
    )


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
    table = capture.requests.to_pandas()
    table = table[(table["stage"] == load.number) & (table["status"] == "finished")].reset_index(drop=True)
    requests = [
        RecordedRequest(
            float(times["arrival_s"][row]),
            int(table["prompt_tokens"][row]),
            int(table["output_tokens"][row]),
            _block_ids(list(table["segment_ids"][row]), list(table["segment_ends"][row])),
            Measured(),
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
        prefix_block_tokens=BLOCK_TOKENS,
        preemptions=preemptions(capture, load),
        notes=(f"regime as planned: {regime}",),
    )


def _block_ids(ids: list[int], ends: list[int]) -> tuple[int, ...]:
    """Segments as blocks of one token: the id of a prefix is that of its last segment and its length."""
    blocks: list[int] = []
    start = 0
    for identifier, end in zip(ids, ends, strict=True):
        blocks += [(int(identifier) << 24) + position for position in range(start, int(end))]
        start = int(end)
    return tuple(blocks)


def _timeline(capture: Capture, load: Load) -> pd.DataFrame:
    """Running and waiting at the last step of each second."""
    steps = capture.steps.to_pandas()
    steps = steps[steps["stage"] == load.number]
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

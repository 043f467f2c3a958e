"""What a capture of a real engine is on disk: a folder with one manifest and three Parquet tables.

``manifest.json`` says what was run on what; its engines and stages are referred to by their position.
``steps.parquet`` has one row for each engine step that scheduled something, ``requests.parquet`` one for each
request, ``device.parquet`` one for each sample of the device. Times are integer microseconds on one monotonic
clock with one zero for the whole capture. An interrupted capture has the same form, with the stages that it
reached.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simulator.catalog import ModelShape
from simulator.files import write_text

FORMAT: Final = "llm-step-capture"
FORMAT_VERSION: Final = 1
MANIFEST: Final = "manifest.json"

_INTS: Final = pa.list_(pa.int32())

STEPS: Final = pa.schema(
    [
        ("engine", pa.int16()),
        ("stage", pa.int16()),
        ("step", pa.int32()),  # number among the engine's steps that scheduled something
        ("depth", pa.int8()),  # batches in flight when schedule() was entered
        ("schedule_us", pa.int64()),  # schedule() entered
        ("launch_us", pa.int64()),  # schedule() left
        ("output_us", pa.int64()),  # model output taken, update entered
        ("update_us", pa.int64()),  # update left
        ("requests", _INTS),  # scheduled, in order: positions in requests.parquet
        ("tokens", _INTS),  # scheduled tokens of each
        ("context", _INTS),  # computed tokens of each before the step
        ("admitted", _INTS),  # new and resumed requests, in order
        ("preempted", _INTS),  # in order
        ("finished", _INTS),  # since the step before, ascending
        ("running", _INTS),  # running requests after schedule(), in order
        ("waiting", pa.int32()),  # waiting requests after schedule()
        ("free_blocks", pa.int32()),
    ]
)
"""Columns of ``steps.parquet``. In sync mode ``output_us - launch_us`` is the step; in async mode two batches are
in flight and the time from one ``output_us`` to the next is (where ``depth`` is 1)."""

REQUESTS: Final = pa.schema(
    [
        ("engine", pa.int16()),
        ("stage", pa.int16()),
        ("arrival_step", pa.int32()),  # the engine's scheduled steps before the scheduler saw it
        ("prompt_tokens", pa.int32()),
        ("max_tokens", pa.int32()),
        ("priority", pa.int32()),  # smaller is more urgent; used by the priority policy only
        ("segment_ids", pa.list_(pa.int64())),  # content of the prompt as (id, end) pairs; the rest is unique
        ("segment_ends", _INTS),
        ("due_us", pa.int64()),  # planned time of sending; null outside open-loop loads
        ("submitted_us", pa.int64()),  # sent
        ("queued_us", pa.int64()),  # the engine's own time stamps; null where it gives none
        ("scheduled_us", pa.int64()),
        ("engine_first_token_us", pa.int64()),
        ("engine_last_token_us", pa.int64()),
        # At the client; null without any token, the first also where the end alone was delivered.
        ("first_token_us", pa.int64()),
        ("last_token_us", pa.int64()),
        ("token_gaps_us", _INTS),  # between deliveries at the client; empty where only totals were kept
        ("output_tokens", pa.int32()),
        ("cached_tokens", pa.int32()),  # null where the engine did not say
        ("status", pa.string()),  # finished, aborted, cut (the stage ran out of time)
    ]
)
"""Columns of ``requests.parquet``; a request's position in the table is its id."""

DEVICE: Final = pa.schema(
    [
        ("t_us", pa.int64()),
        ("sm_clock_mhz", pa.int32()),
        ("memory_clock_mhz", pa.int32()),
        ("power_w", pa.float32()),
        ("temperature_c", pa.int32()),
        ("utilisation_pct", pa.int32()),
        ("memory_used_bytes", pa.int64()),
        ("throttle_reasons", pa.int64()),  # NVML's bit mask
    ]
)
"""Columns of ``device.parquet``; no rows where NVML is missing (a CPU)."""

TABLES: Final = {"steps": STEPS, "requests": REQUESTS, "device": DEVICE}


class CaptureError(ValueError):
    """A capture that cannot be used; the message names the file, the key and the reason."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class StartupPhase(_Part):
    """One phase of an engine's start, in seconds since its process was started."""

    phase: Literal["process", "weights", "compile", "graph_capture", "kv_cache", "ready"]
    start_s: float
    end_s: float


class CapturedEngine(_Part):
    """One engine process: what it was told and what it resolved to."""

    name: str
    model: str
    """Hugging Face name, or the name of the made-up model."""
    shape: ModelShape
    dtype: str
    kv_cache_dtype: str
    quantisation: str | None = None
    tp: int = Field(ge=1)
    pp: int = Field(ge=1)
    num_gpu_blocks: int = Field(gt=1)
    """As the engine reports it; one of them is the null block."""
    block_size: int = Field(gt=0)
    max_model_len: int = Field(gt=0)
    max_num_batched_tokens: int = Field(gt=0)
    max_num_seqs: int = Field(gt=0)
    gpu_memory_utilization: float = Field(gt=0, le=1)
    enforce_eager: bool
    async_scheduling: bool
    enable_prefix_caching: bool
    scheduler: dict[str, Any]
    """Every other setting that decisions depend on, by `EngineConfig`'s names."""
    attention_backend: str | None = None
    cudagraph_mode: str | None = None
    cudagraph_sizes: list[int] = Field(default_factory=list)
    compile_cache: Literal["cold", "warm", "none"]
    startup: list[StartupPhase]
    resolved: dict[str, Any]
    """The whole resolved configuration, as plain JSON."""


class CapturedStage(_Part):
    """One stage of the plan."""

    engine: int = Field(ge=0)
    name: str
    kind: str
    """Kind of the plan's stage: column, chunks, multi, mixed, heterogeneous, load, warmup."""
    purpose: Literal["warmup", "fill", "calibration", "validation"]
    """Fits use calibration stages (and fills, as prefill data) and nothing else."""
    regime: str | None = None
    """Of a validation load: light, knee, overload, starved, prefix, long."""
    repeat_of: str | None = None
    """Name of the load that this one repeats, to learn the run-to-run noise."""
    status: Literal["ok", "timeout", "error", "interrupted", "skipped"]
    start_us: int
    end_us: int
    plan: dict[str, Any]
    """The stage as the plan gives it."""


class CaptureManifest(_Part):
    """``manifest.json``."""

    format: Literal["llm-step-capture"] = FORMAT
    format_version: Literal[1] = FORMAT_VERSION
    plan: str
    """Name of the plan."""
    plan_sha256: str = ""
    """Of the plan's file; empty where a capture came from elsewhere."""
    model: str = ""
    """Of the plan's engines."""
    created: str
    """UTC, ISO 8601."""
    gpu: str
    """GPU id of the catalog, or ``CPU``."""
    device_name: str
    """As the driver gives it."""
    versions: dict[str, str]
    """vllm, torch, python, and on a GPU cuda and driver."""
    host: dict[str, Any]
    """CPU model, cores, memory; nothing that names the machine."""
    engines: list[CapturedEngine]
    stages: list[CapturedStage]
    notes: list[str] = Field(default_factory=list)
    sha256: dict[str, str] = Field(default_factory=dict)
    """Of the tables, by file name."""


@dataclass(frozen=True)
class Capture:
    """A capture read into memory.

    Attributes:
        folder: where it was read from.
        manifest: what was run.
        steps, requests, device: the tables.
    """

    folder: Path
    manifest: CaptureManifest
    steps: pa.Table
    requests: pa.Table
    device: pa.Table


def write_capture(
    folder: Path, manifest: CaptureManifest, steps: pa.Table, requests: pa.Table, device: pa.Table
) -> None:
    """Write a capture; each file appears whole or not at all, the manifest last."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = manifest.model_copy(deep=True)
    for name, table in (("steps", steps), ("requests", requests), ("device", device)):
        path = folder / f"{name}.parquet"
        partial = path.with_suffix(".partial")
        pq.write_table(table.cast(TABLES[name]), partial, compression="zstd", compression_level=19)
        manifest.sha256[path.name] = hashlib.sha256(partial.read_bytes()).hexdigest()
        partial.replace(path)
    write_text(folder / MANIFEST, manifest.model_dump_json(indent=1) + "\n")


def read_capture(folder: Path) -> Capture:
    """Read a capture and check that it is whole.

    Raises:
        CaptureError: no manifest, a foreign or newer one, a table that is missing, truncated, changed or not of
            this form.
    """
    path = folder / MANIFEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        unfinished = "; the capture was not ended: --resume does that" if (folder / "parts").is_dir() else ""
        raise CaptureError(f"{path}: {error.strerror}{unfinished}") from None
    except ValueError as error:
        raise CaptureError(f"{path}: not JSON: {error}") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise CaptureError(f"{path}: format: not a capture (expected {FORMAT!r})")
    if data.get("format_version") != FORMAT_VERSION:
        raise CaptureError(
            f"{path}: format_version: {data.get('format_version')!r}; this release reads {FORMAT_VERSION}"
        )
    try:
        manifest = CaptureManifest.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise CaptureError(f"{path}: {key}: {first['msg']}") from None
    tables = {name: _read_table(folder, name, manifest) for name in TABLES}
    return Capture(folder, manifest, **tables)


def _read_table(folder: Path, name: str, manifest: CaptureManifest) -> pa.Table:
    path = folder / f"{name}.parquet"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CaptureError(f"{path}: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != manifest.sha256.get(path.name):
        raise CaptureError(f"{path}: sha256 differs from the manifest's: truncated or changed")
    try:
        table = pq.read_table(pa.BufferReader(content))
        return table.cast(TABLES[name])
    except (pa.ArrowException, ValueError) as error:
        raise CaptureError(f"{path}: not a table of {name}: {error}") from None

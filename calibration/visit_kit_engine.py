"""What the visit kit's ``meta.jsonl`` says of an engine."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any, Final

from calibration.capture_format import CapturedEngine, CaptureError
from calibration.host_facts import plain
from calibration.startup_log import startup_phases
from simulator.catalog import CatalogError, ModelShape, find_model, model_from_config, model_names

_SCHEDULER: Final = {
    "chunked": "enable_chunked_prefill",
    "policy": "policy",
    "reserve_full_isl": "scheduler_reserve_full_isl",
    "watermark": "watermark",
    "long_prefill": "long_prefill_token_threshold",
}


def _shape(resolved: dict[str, Any], folder: Path) -> ModelShape:
    configuration = resolved.get("model_config", {}).get("hf_config")
    if not isinstance(configuration, dict):
        raise CaptureError(f"{folder / 'meta.jsonl'}: resolved.model_config.hf_config: is missing")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "config.json")
        path.write_text(json.dumps(configuration), encoding="utf-8")
        try:
            return model_from_config(path).shape
        except CatalogError as error:
            raise CaptureError(f"{folder / 'meta.jsonl'}: hf_config: {error}") from None


def _model_name(path: str, shape: ModelShape) -> str:
    """The catalog's name of a shape; the kit knows models by folders."""
    same = [name for name in model_names() if find_model(name).shape == shape]
    return same[0] if same else Path(path).name


def captured_engine(
    run: str, configuration: dict[str, Any], ready: dict[str, Any], startup: dict[str, Any], folder: Path
) -> CapturedEngine:
    resolved = configuration["resolved"]
    model, cache = resolved["model_config"], resolved["cache_config"]
    scheduler, parallel = resolved["scheduler_config"], resolved["parallel_config"]
    shape = _shape(resolved, folder)
    phases = startup.get("phases", [])
    ready_s = next((at for name, at, _ in phases if name == "ready"), None)
    eager = bool(model.get("enforce_eager"))
    cached = any(name == "compile_cached" for name, _, _ in phases)
    lines = [(float(at), str(text)) for _, at, text in phases]
    backend = next((text for name, _, text in phases if name == "attention"), "")
    mode = str(ready.get("cudagraph_mode")).rpartition(".")[2].partition(":")[0]
    return CapturedEngine(
        name=run,
        model=_model_name(configuration["args"]["model"], shape),
        shape=shape,
        dtype=str(model.get("dtype", "bfloat16")).removeprefix("torch."),
        kv_cache_dtype=str(cache.get("cache_dtype", "auto")),
        quantisation=model.get("quantization"),
        tp=parallel["tensor_parallel_size"],
        pp=parallel["pipeline_parallel_size"],
        num_gpu_blocks=ready["num_gpu_blocks"],
        block_size=ready["block_size"],
        max_model_len=model["max_model_len"],
        max_num_batched_tokens=scheduler["max_num_batched_tokens"],
        max_num_seqs=scheduler["max_num_seqs"],
        gpu_memory_utilization=cache["gpu_memory_utilization"],
        enforce_eager=eager,
        async_scheduling=bool(scheduler["async_scheduling"]),
        enable_prefix_caching=bool(cache["enable_prefix_caching"]),
        scheduler={},
        attention_backend=backend.partition(" attention backend")[0].rpartition("Using ")[2] or None,
        cudagraph_mode=mode,
        cudagraph_sizes=ready.get("cudagraph_sizes") or [],
        compile_cache="none" if eager else "warm" if cached else "cold",
        startup=[] if ready_s is None else startup_phases(lines, 0.0, float(ready_s)),
        resolved=plain(resolved),
    )


def logged_version(startup: dict[str, Any]) -> str | None:
    """VLLM's version by its own log; a build under another name has none in its metadata."""
    found = re.search(
        r"V1 LLM engine \(v([\d.]+)", " ".join(text for _, _, text in startup.get("phases", []))
    )
    return found[1] if found else None


def add_scheduler_settings(engine: CapturedEngine, told: dict[str, Any]) -> None:
    """What the scheduler itself said of its settings."""
    engine.scheduler.update(
        {ours: told[theirs] for theirs, ours in _SCHEDULER.items() if told.get(theirs) is not None}
    )

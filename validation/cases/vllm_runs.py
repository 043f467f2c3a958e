"""Runs of a real vLLM that LLMServingSim publishes with its own predictions (``measured/vllm_runs``).

Each was made with vLLM's ``AsyncLLM`` in one process, without a server: prompts are token ids, first and last token
are stamped by the engine core (LLMServingSim 5daddb21, ``bench/core/runner.py``). So there is no HTTP, no tokeniser
and no way back to a client in these times; what is left before the engine's queue is the hand-over to its process
(`HAND_OVER_S`).
"""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any, Final

import pandas as pd
import yaml

from validation.cases.case import Bar, RunCase
from validation.cases.regimes import regimes, unqueued
from validation.deployment import Deployment, load_deployment
from validation.requests import Measured, RecordedRequest

FOLDER: Final = Path("measured/vllm_runs")
BLOCK_TOKENS: Final = 16

HAND_OVER_S: Final = 0.0008
"""From ``AsyncLLM.generate`` to the engine core's scheduler of an idle engine: validation of the request, a ZMQ
message and the wake-up of the core. Measured on a real vLLM 0.32 with a tiny model on a CPU, 60 requests one at a
time: median 0.80 ms for prompts of 300 tokens, 1.09 ms for 3,900."""

_BARS: Final = {
    "rtx4090_llama31_8b_tp1": (
        Bar("all.ttft_ms.mape_pct", 3.5),
        Bar("all.tpot_ms.mape_pct", 1.55),
        Bar("all.e2e_ms.mape_pct", 0.65),
    ),
    "rtxpro6000_llama31_8b_tp1": (
        Bar("all.ttft_ms.mape_pct", 6.0),
        Bar("all.tpot_ms.mape_pct", 1.5),
        Bar("all.e2e_ms.mape_pct", 1.5),
        Bar("unqueued.ttft_ms.median_ape_pct", 8.0),
    ),
}


def names(data: Path) -> list[str]:
    """The runs in a folder of data."""
    path = data / FOLDER / "cases.json"
    return [str(item["case"]) for item in json.loads(path.read_text())["cases"]] if path.is_file() else []


def load(data: Path, name: str) -> RunCase:
    """One run.

    Raises:
        OSError, ValueError: the files are not as their README says.
    """
    folder = data / FOLDER
    listing = json.loads((folder / "cases.json").read_text())
    facts = next(item for item in listing["cases"] if item["case"] == name)
    rows = pd.read_csv(folder / facts["requests_csv"])
    deployment = _deployment(facts)
    timeline = pd.read_csv(folder / facts["timeseries_csv"]).rename(columns={"t": "t_s"})
    timeline["kv_usage"] = timeline["kv_cache_pct"] / 100
    blocks = _block_ids(data / f"{facts['dataset']}.gz")
    if len(blocks) != len(rows):
        raise ValueError(f"{name}: {len(rows)} requests, but {len(blocks)} prompts")
    measured = pd.DataFrame(
        {
            "arrival_s": rows["arrival_s"],
            "ttft_ms": rows["ttft_client_ms"],
            "tpot_ms": rows["tpot_ms"],
            "e2e_ms": rows["e2e_client_ms"],
            "queue_ms": rows["queue_ms"],
            "scheduled_s": rows["scheduled_s"],
            "first_token_s": rows["first_token_s"],
        }
    )
    requests = [
        RecordedRequest(
            arrival_s,
            int(input_tokens),
            int(output_tokens),
            blocks[index],
            Measured(ttft_ms=ttft_ms, tpot_ms=tpot_ms, e2e_ms=e2e_ms),
        )
        for arrival_s, input_tokens, output_tokens, index, ttft_ms, tpot_ms, e2e_ms in zip(
            rows["arrival_s"],
            rows["input_tokens"],
            rows["output_tokens"],
            rows["request_idx"],
            measured["ttft_ms"],
            measured["tpot_ms"],
            measured["e2e_ms"],
            strict=True,
        )
    ]
    lss = pd.DataFrame(
        {"ttft_ms": rows["lss_ttft_ms"], "tpot_ms": rows["lss_tpot_ms"], "e2e_ms": rows["lss_e2e_ms"]}
    )
    notes = ["in process: no HTTP, no tokeniser; tokens stamped by the engine core"]
    if facts["num_gpu_blocks"] is None:
        notes.append(
            "number of KV blocks not recorded: derived from GPU memory (they are never short in this run)"
        )
    return RunCase(
        name=name,
        title=f"{facts['gpu']}, {facts['model'].rsplit('/', 1)[-1]}, vLLM {facts['vllm_version']}",
        source=f"{listing['source']} at {listing['commit'][:8]}, {facts['source_path']}; {listing['licence']}",
        deployment=deployment,
        requests=requests,
        measured=measured,
        timeline=timeline[["t_s", "running", "waiting"]],
        regimes=regimes(
            measured["queue_ms"], measured["scheduled_s"], timeline, deployment.plan.engine.max_num_seqs
        ),
        groups={"unqueued": unqueued(measured["queue_ms"])},
        published={"LLMServingSim": lss},
        prefix_block_tokens=BLOCK_TOKENS,
        planned_arrival_s=rows["arrival_planned_s"],
        bars=_BARS.get(name, ()),
        notes=tuple(notes),
    )


def _deployment(facts: dict[str, Any]) -> Deployment:
    cache = facts["kv_cache"] or {}
    config = {
        "model": facts["model"],
        "dtype": facts["dtype"],
        "tensor-parallel-size": facts["tp"],
        "max-num-seqs": facts["max_num_seqs"],
        "max-num-batched-tokens": facts["max_num_batched_tokens"],
        "max-model-len": facts["max_model_len"],
        "num-gpu-blocks-override": facts["num_gpu_blocks"],
        "block-size": facts["block_size"],
        "gpu-memory-utilization": cache.get("gpu_memory_utilization", 0.9),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{facts['case']}.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in config.items() if value is not None}))
        return load_deployment(
            path,
            "auto",
            gpu=facts["gpu"],
            vllm_version=facts["vllm_version"],
            frontend_in_s=HAND_OVER_S,
            frontend_out_s=0.0,
        )


def _block_ids(path: Path) -> list[tuple[int, ...]]:
    """Ids of every prompt's full blocks; equal ids, equal prompt up to there."""
    numbers: dict[tuple[int, tuple[int, ...]], int] = {}
    prompts = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            tokens = json.loads(line)["input_tok_ids"]
            parent = -1
            ids = []
            for start in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
                key = (parent, tuple(tokens[start : start + BLOCK_TOKENS]))
                parent = numbers.setdefault(key, len(numbers))
                ids.append(parent)
            prompts.append(tuple(ids))
    return prompts

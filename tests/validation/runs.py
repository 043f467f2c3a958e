"""A made-up run in the form of ``measured/vllm_runs``, "measured" by the simulator itself."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd

from validation.cases import vllm_runs

NAME = "made_up"
OUTPUT = 40


def write_run(data: Path, slower: float = 1.0) -> None:
    """Write a run of 30 requests whose times are the simulator's own, those of decoding multiplied."""
    folder = data / vllm_runs.FOLDER
    folder.mkdir(parents=True)
    (data / "workloads").mkdir()
    facts: dict[str, Any] = {
        "case": NAME,
        "source_path": "nowhere",
        "requests_csv": "requests.csv",
        "timeseries_csv": "timeline.csv",
        "model": "meta-llama/Llama-3.1-8B",
        "gpu": "RTX4090",
        "vllm_version": "0.19.0",
        "tp": 1,
        "dtype": "bfloat16",
        "max_num_seqs": 16,
        "max_num_batched_tokens": 2048,
        "max_model_len": 4096,
        "kv_cache": {"gpu_memory_utilization": 0.9},
        "block_size": 16,
        "num_gpu_blocks": 1000,
        "dataset": "workloads/prompts.jsonl",
    }
    listing = {"source": "made up", "commit": "0123456789", "licence": "none", "cases": [facts]}
    (folder / "cases.json").write_text(json.dumps(listing))
    prompts = [[*range(100), *range(1000 * k, 1000 * k + 300 + 10 * (k % 7))] for k in range(30)]
    with gzip.open(data / "workloads" / "prompts.jsonl.gz", "wt") as out:
        out.writelines(json.dumps({"input_tok_ids": tokens}) + "\n" for tokens in prompts)
    rows = pd.DataFrame(
        {
            "request_idx": range(30),
            "arrival_planned_s": [0.1 * k for k in range(30)],
            "arrival_s": [0.1 * k + 0.001 for k in range(30)],
            "input_tokens": [len(tokens) for tokens in prompts],
            "output_tokens": OUTPUT,
        }
    )
    for name in (
        *("scheduled_s", "first_token_s", "ttft_client_ms", "tpot_ms", "e2e_client_ms", "queue_ms"),
        *("lss_ttft_ms", "lss_tpot_ms", "lss_e2e_ms"),
    ):
        rows[name] = 1.0
    rows.to_csv(folder / "requests.csv", index=False)
    pd.DataFrame({"t": [1.0], "running": [8], "waiting": [0], "kv_cache_pct": [10.0]}).to_csv(
        folder / "timeline.csv", index=False
    )
    _measure(data, folder, rows, slower)


def _measure(data: Path, folder: Path, rows: pd.DataFrame, slower: float) -> None:
    from validation.judge import replay_case

    replayed = replay_case(vllm_runs.load(data, NAME))
    times = replayed.requests
    tpot_ms = times["tpot_ms"] * slower
    rows = rows.assign(
        scheduled_s=times["scheduled_s"] + 0.001,
        first_token_s=times["arrival_s"] + times["ttft_ms"] / 1e3 + 0.001,
        ttft_client_ms=times["ttft_ms"],
        tpot_ms=tpot_ms,
        e2e_client_ms=times["ttft_ms"] + tpot_ms * (OUTPUT - 1),
        queue_ms=0.01,
        lss_ttft_ms=2 * times["ttft_ms"],
        lss_tpot_ms=tpot_ms,
        lss_e2e_ms=times["e2e_ms"],
    )
    rows.to_csv(folder / "requests.csv", index=False)
    timeline = replayed.timeline.assign(t_s=replayed.timeline["t_s"] + 0.001, kv_cache_pct=10.0)
    timeline.rename(columns={"t_s": "t"}).to_csv(folder / "timeline.csv", index=False)

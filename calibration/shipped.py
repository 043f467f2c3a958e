"""Remake the profiles that ship with the simulator.

    python -m calibration.shipped --tables DIR

``DIR`` holds the ``aic_*.csv`` files and a folder ``llmservingsim`` with that project's tables. Where a real
engine reported its number of KV blocks, the figure is recorded here with its flags and source.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer

from calibration.compose import compose
from simulator.catalog import find_gpu, find_model
from simulator.step_time.profile import KvCacheRecord, dump_profile

PROFILES: Final = Path(__file__).parents[1] / "simulator" / "step_time" / "profiles"


class Shipped(NamedTuple):
    """One shipped profile."""

    tables: str
    gpu: str
    model: str
    tp: int
    kv_cache: KvCacheRecord | None = None


_8B: Final = "meta-llama/Llama-3.1-8B"

SHIPPED: Final = (
    Shipped("llmservingsim", "RTXPRO6000", _8B, 1),
    Shipped(
        "llmservingsim",
        "RTX4090",
        _8B,
        1,
        KvCacheRecord(
            num_blocks=2588,
            block_size=16,
            gpu_memory_utilization=0.9,
            max_num_batched_tokens=2048,
            max_num_seqs=256,
            enforce_eager=False,
            source="vLLM 0.19.0's own report; LLMServingSim 5daddb21, bench/examples/RTX4090/Llama-3.1-8B",
        ),
    ),
    Shipped(".", "A100-80GB-SXM", _8B, 1),
    Shipped(".", "H100-SXM", _8B, 1),
    Shipped(".", "H200-SXM", _8B, 1),
    Shipped(".", "A100-80GB-SXM", "meta-llama/Llama-2-70b-hf", 4),
    Shipped(".", "H100-SXM", "meta-llama/Llama-2-70b-hf", 4),
    Shipped(".", "H100-SXM", "meta-llama/Llama-3.1-70B", 4),
)


def shipped_files(tables: Path) -> dict[str, str]:
    """File name and text of every shipped profile, made from ``tables``."""
    files = {}
    for entry in SHIPPED:
        profile = compose(tables / entry.tables, find_gpu(entry.gpu), find_model(entry.model), entry.tp)
        profile = profile.model_copy(update={"kv_cache": entry.kv_cache})
        files[f"{profile.name}.yaml"] = dump_profile(profile)
    return files


def main(tables: Annotated[Path, typer.Option(help="folder of operator tables")]) -> None:
    """Remake the profiles that ship with the simulator."""
    for name, text in shipped_files(tables).items():
        (PROFILES / name).write_text(text, encoding="utf-8")
        typer.echo(f"{name}: {len(text)} bytes")


if __name__ == "__main__":
    typer.run(main)

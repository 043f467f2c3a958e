"""Remake the profiles that ship with the simulator.

    python -m calibration.shipped --tables DIR

``DIR`` holds a folder ``llmservingsim`` with that project's tables and, unless ``aiconfigurator-core`` is
installed, the ``aic_*.csv`` files. The RTX PRO 6000's all-reduce is in the package only. Profiles that are no
longer in the list are removed. Where a real engine reported its number of KV blocks, the figure is recorded
here with its flags and source.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer

from calibration.compose import compose, profile_name
from simulator.catalog import CatalogError, find_gpu, find_model
from simulator.files import write_text
from simulator.step_time.kv_blocks import DoesNotFitError, num_kv_blocks
from simulator.step_time.profile import KvCacheRecord, dump_profile

PROFILES: Final = Path(__file__).parents[1] / "simulator" / "step_time" / "profiles"


class Shipped(NamedTuple):
    """One shipped profile."""

    gpu: str
    model: str
    tp: int
    dtype: str = "bfloat16"
    kv_cache: KvCacheRecord | None = None

    @property
    def name(self) -> str:
        """The profile's name."""
        return profile_name(find_gpu(self.gpu), find_model(self.model), self.tp, self.dtype, "bfloat16")


_8B: Final = "meta-llama/Llama-3.1-8B"
_70B: Final = "meta-llama/Llama-3.1-70B"
_LLAMA2: Final = "meta-llama/Llama-2-70b-hf"
_DENSE: Final = "Qwen/Qwen3-32B"
_EXPERTS: Final = "Qwen/Qwen3-30B-A3B-Instruct-2507"
_SMALLEST: Final = 4096

_RTX: Final = (
    Shipped(
        "RTX4090",
        _8B,
        1,
        kv_cache=KvCacheRecord(
            num_blocks=2588,
            block_size=16,
            gpu_memory_utilization=0.9,
            max_num_batched_tokens=2048,
            max_num_seqs=256,
            enforce_eager=False,
            source="vLLM 0.19.0's own report; LLMServingSim 5daddb21, bench/examples/RTX4090/Llama-3.1-8B",
        ),
    ),
    *(Shipped("RTXPRO6000", model, tp) for model in (_8B, _DENSE, _EXPERTS) for tp in (1, 2)),
)


def _fits(entry: Shipped) -> bool:
    """Whether a small engine with one request of 4,096 tokens has room on these GPUs."""
    try:
        num_kv_blocks(
            find_gpu(entry.gpu),
            find_model(entry.model).shape,
            dtype=entry.dtype,
            tp=entry.tp,
            max_model_len=_SMALLEST,
        )
    except DoesNotFitError:
        return False
    return True


def _data_centre() -> Iterator[Shipped]:
    for gpu in ("A100-80GB-SXM", "H100-SXM", "H200-SXM"):
        dtypes = ["bfloat16"] if find_gpu(gpu).fp8_flop_per_s is None else ["bfloat16", "fp8"]
        for model, weights in ((_8B, ["bfloat16"]), (_70B, dtypes)):
            for dtype in weights:
                yield from (Shipped(gpu, model, tp, dtype) for tp in (1, 2, 4, 8))
    yield from (Shipped(gpu, _LLAMA2, 4) for gpu in ("A100-80GB-SXM", "H100-SXM"))


SHIPPED: Final = (*_RTX, *(entry for entry in _data_centre() if _fits(entry)))
"""8B and 70B on every degree that they fit; fp8 weights where the GPU has fp8 tensor cores (A100 has none)."""


def shipped_text(tables: Path, entry: Shipped) -> str:
    """The file of one shipped profile, made from ``tables``.

    Raises:
        ValueError: tables that it needs are missing.
    """
    gpu, model = find_gpu(entry.gpu), find_model(entry.model)
    has_rows = entry in _RTX or list(tables.glob("aic_gemm_vllm.csv*"))
    profile = compose(tables if has_rows else None, gpu, model, entry.tp, entry.dtype)
    return dump_profile(profile.model_copy(update={"kv_cache": entry.kv_cache}))


def main(tables: Annotated[Path, typer.Option(help="folder of operator tables")]) -> None:
    """Remake the profiles that ship with the simulator."""
    try:
        texts = {f"{entry.name}.yaml": shipped_text(tables, entry) for entry in SHIPPED}
    except (CatalogError, ValueError, OSError) as error:
        typer.echo(f"shipped: {error}", err=True)
        raise typer.Exit(2) from None
    for name, text in texts.items():
        write_text(PROFILES / name, text)
        typer.echo(f"{name}: {len(text)} bytes")
    for path in PROFILES.glob("*.yaml"):
        if path.name not in texts and "source: composed from kernels" in path.read_text(encoding="utf-8"):
            path.unlink()
            typer.echo(f"{path.name}: removed, no longer in the list")


if __name__ == "__main__":
    typer.run(main)

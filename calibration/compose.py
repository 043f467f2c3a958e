"""Make a step-time profile from tables of measured operators.

    python -m calibration.compose --gpu H100-SXM --model meta-llama/Llama-3.1-8B --tables DIR --out h100.yaml

``DIR`` holds either LLMServingSim's tables (``<gpu>/<model>/bf16/meta.yaml`` beneath it) or aiconfigurator's
(``aic_gemm_vllm.csv`` and its neighbours, gzipped or not). Offline: the simulator itself reads profiles only.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from calibration.aiconfigurator_tables import SYSTEMS, AiconfiguratorTables
from calibration.llmservingsim_tables import LlmServingSimTables, MeasuredTerms
from simulator.catalog import CatalogError, Gpu, Model, find_gpu, find_model
from simulator.step_time.assumed import (
    EAGER_FLOOR_US_PER_LAYER,
    EAGER_NOTE,
    FRONT_END,
    HETEROGENEITY_NOTE,
    HOST,
    OVERHEAD_NOTE,
    OVERHEAD_US,
)
from simulator.step_time.profile import FitError, Identity, StepTimeProfile, Terms, dump_profile

COMPARED_NOTE = (
    "the same composition for Llama-2-70B TP4 and CodeLlama-34B TP2 on H100 was compared, not fitted, with "
    "1,967 steps of a running vLLM: median difference by trace -3 to +2 % in pure decode, -3 to +4 % in "
    "mixed steps, nine tenths of all steps within -8 to +7 % (worst trace -12 to +3 %), nearly all "
    "of them under 256 tokens; large prefill steps and other GPUs were not compared (GEMMs timed alone may "
    "run at higher clocks than under sustained load)"
)
"""Recomputed by tests/calibration/test_aiconfigurator_tables.py from steps published by inference-sim."""


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _files(folder: Path, pattern: str) -> dict[str, str]:
    return {path.name: f"sha256 {_sha256(path)}" for path in sorted(folder.glob(pattern))}


def _errors(errors: list[FitError]) -> str:
    return ", ".join(f"{e.regime.replace('_', ' ')} {e.mean_abs_pct:.1f} %" for e in errors)


def _profile(gpu: Gpu, model: Model, tp: int, terms: MeasuredTerms, **fields: object) -> StepTimeProfile:
    """The parts that do not depend on where the tables come from."""
    return StepTimeProfile.model_validate(
        {
            "name": f"{gpu.id}--{model.name.rsplit('/', 1)[-1]}--bf16--tp{tp}".lower(),
            "identity": Identity(
                gpu=gpu.id,
                model=model.name,
                shape=model.shape,
                dtype="bfloat16",
                kv_cache_dtype="bfloat16",
                tp=tp,
                pp=1,
                engine_version=terms.engine_version,
                attention_backend=str(fields.pop("attention_backend")),
            ),
            "terms": Terms(
                dense=terms.dense,
                per_sequence=terms.per_sequence,
                decode_attention=terms.decode_attention,
                prefill_attention=terms.prefill_attention,
                mixed_attention=terms.mixed_attention,
                overhead_us=OVERHEAD_US,
                eager_floor_us=EAGER_FLOOR_US_PER_LAYER * model.shape.layers,
            ),
            "host": HOST,
            "front_end": FRONT_END,
            "fit_error": terms.fit_error,
            **fields,
        }
    )


def compose_llmservingsim(folder: Path, gpu: Gpu, model: Model, tp: int) -> StepTimeProfile:
    """Profile from LLMServingSim's tables in ``folder`` (the one with meta.yaml)."""
    kv_room = 0.92 * gpu.memory_bytes * tp - model.shape.weight_bytes("bfloat16")
    tables = LlmServingSimTables(
        folder, model.shape, tp, int(kv_room / model.shape.kv_bytes_per_token("bfloat16"))
    )
    terms = tables.terms()
    assumptions = [OVERHEAD_NOTE, EAGER_NOTE, HOST.source, FRONT_END.source]
    if tables.skew is None:
        skewed = terms.decode_attention.model_copy(update={"heterogeneity": 1.02})
        terms = MeasuredTerms(**{**terms.__dict__, "decode_attention": skewed})
        assumptions.append(HETEROGENEITY_NOTE)
    return _profile(
        gpu,
        model,
        tp,
        terms,
        attention_backend="FlashAttention 2",
        source="composed from kernels",
        known_error=(
            f"mean error on held-out rows of the operator tables: {_errors(terms.fit_error)}; "
            "the sum of the parts was not checked against steps of a running engine in this profile"
        ),
        assumptions=assumptions,
        provenance={
            "records": "LLMServingSim profiler tables (vLLM with one layer and dummy weights, scaled to all)",
            "repository": "github.com/casys-kaist/LLMServingSim at 5daddb21a545658d5150b535712d0494584b5278",
            "licence": "MIT, (c) 2024 CASYS Lab at KAIST",
            "measured_on": terms.measured_on,
            "gpu_as_recorded": tables.meta["gpu"],
            "files": _files(folder / f"tp{tp}", "*.csv*"),
            "made_by": "python -m calibration.compose",
        },
    )


def compose_aiconfigurator(folder: Path, gpu: Gpu, model: Model, tp: int) -> StepTimeProfile:
    """Profile from aiconfigurator's tables in ``folder``."""
    tables = AiconfiguratorTables(folder, gpu, model.shape, tp)
    terms = tables.terms()
    return _profile(
        gpu,
        model,
        tp,
        terms,
        attention_backend=tables.kernel,
        source="composed from kernels",
        known_error=(
            f"mean interpolation error on held-out rows of the operator tables: {_errors(terms.fit_error)}; "
            f"{COMPARED_NOTE}"
        ),
        assumptions=[
            OVERHEAD_NOTE,
            EAGER_NOTE,
            HETEROGENEITY_NOTE,
            "mixed steps: a decoding request's context costs 1.3 (FlashAttention 3) or 1.6 (FlashAttention "
            "2) times its pure-decode cost beside a prefill chunk",
            "prefill behind cached context: derived from prompts without one, attention being quadratic",
            "norms, rotary, activation and KV write: bytes over bandwidth, at least 2.7 us a kernel",
            "sampler: 25 us + 0.54 us per sequence, as measured on RTX PRO 6000",
            HOST.source,
            FRONT_END.source,
        ],
        provenance={
            "records": "NVIDIA aiconfigurator operator tables of vLLM kernels",
            "package": "aiconfigurator-core 0.12.0 (PyPI wheel sha256 aadc4aad...), systems/data",
            "licence": "Apache-2.0 (ai-dynamo/aiconfigurator)",
            "system": SYSTEMS[gpu.id],
            "files": _files(folder, "aic_*.csv*"),
            "made_by": "python -m calibration.compose",
        },
    )


def compose(tables: Path, gpu: Gpu, model: Model, tp: int) -> StepTimeProfile:
    """Profile from whichever tables ``tables`` holds.

    Raises:
        FileNotFoundError: neither kind of table is there.
        ValueError: the tables do not cover the GPU, the shape or the degree.
    """
    nested = tables / gpu.id / model.name / "bf16"
    for folder in (tables, nested):
        if (folder / "meta.yaml").is_file():
            return compose_llmservingsim(folder, gpu, model, tp)
    if list(tables.glob("aic_gemm_vllm.csv*")):
        return compose_aiconfigurator(tables, gpu, model, tp)
    raise FileNotFoundError(f"{tables}: neither LLMServingSim's meta.yaml nor aic_gemm_vllm.csv is there")


def main(
    gpu: Annotated[str, typer.Option(help="GPU id, e.g. H100-SXM")],
    model: Annotated[str, typer.Option(help="Hugging Face name or config.json")],
    tables: Annotated[Path, typer.Option(help="folder of operator tables")],
    out: Annotated[Path, typer.Option(help="profile to write")],
    tp: Annotated[int, typer.Option(help="tensor-parallel degree")] = 1,
) -> None:
    """Make a step-time profile from tables of measured operators."""
    try:
        profile = compose(tables, find_gpu(gpu), find_model(model), tp)
    except (CatalogError, ValueError, OSError) as error:
        typer.echo(f"compose: {error}", err=True)
        raise typer.Exit(2) from None
    out.write_text(dump_profile(profile), encoding="utf-8")
    for fit in profile.fit_error:
        typer.echo(
            f"{fit.regime}: mean {fit.mean_abs_pct} %, p95 {fit.p95_abs_pct} %, bias {fit.bias_pct} % "
            f"of {fit.of} ({fit.rows} rows)"
        )


if __name__ == "__main__":
    typer.run(main)

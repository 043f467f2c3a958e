"""Make a step-time profile from tables of measured operators.

    python -m calibration.compose --gpu H100-SXM --model Qwen/Qwen3-14B --tp 1 --out h100.yaml

``--tables DIR`` holds LLMServingSim's tables (``<gpu>/<model>/bf16/meta.yaml`` beneath it, or
``llmservingsim/<gpu>/...``), aiconfigurator's (``aic_gemm_vllm.csv`` and its neighbours, gzipped or not), or
both; of two that cover a deployment LLMServingSim's win, being of that very model. Without it the rows come from
the installed package ``aiconfigurator-core`` (extra ``aiconfigurator``); they are the same rows. Offline: the
simulator itself reads profiles only.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from calibration.aiconfigurator_tables import AiconfiguratorTables
from calibration.experts import NOTE as EXPERTS_NOTE
from calibration.llmservingsim_tables import LlmServingSimTables
from calibration.measured_terms import MeasuredTerms
from calibration.operator_tables import (
    PACKAGE,
    PACKAGE_DATE,
    PACKAGE_VERSION,
    SYSTEMS,
    OperatorTables,
    TablesError,
)
from simulator.catalog import CatalogError, Gpu, Model, canonical_dtype, find_gpu, find_model
from simulator.files import write_text
from simulator.step_time.assumed import (
    EAGER_FLOOR_US_PER_LAYER,
    EAGER_NOTE,
    FRONT_END,
    HETEROGENEITY_NOTE,
    HOST,
    LONGEST_CONTEXT_NOTE,
    OVERHEAD_NOTE,
    OVERHEAD_US_PER_LAYER,
)
from simulator.step_time.profile import Identity, StepTimeProfile, Terms, dump_profile
from simulator.step_time.select import shipped_profiles

COMPARED_NOTE = (
    "the same composition for Llama-2-70B TP4 and CodeLlama-34B TP2 on H100 (16-bit weights) was compared, not "
    "fitted, with 1,967 steps of a running vLLM: median difference by trace 1 to 3 % in pure decode, 2 to 5 % "
    "in steps with prompts, nine tenths of the steps within 11 %, nearly all of them under 256 tokens; large "
    "prefill steps and other GPUs were not compared (GEMMs timed alone may run at higher clocks than under "
    "sustained load)"
)
"""Recomputed by ``python -m calibration.heldout`` from steps published by inference-sim."""

HETEROGENEITY = 1.02


def _errors(terms: MeasuredTerms) -> str:
    return ", ".join(f"{e.regime.replace('_', ' ')} {e.mean_abs_pct:.1f} %" for e in terms.held_out.errors())


def profile_name(gpu: Gpu, model: Model, tp: int, dtype: str, kv_cache_dtype: str) -> str:
    """Name of a profile, and of its file without the ending."""
    short = {"bfloat16": "bf16"}.get(dtype, dtype)
    cache = "" if kv_cache_dtype == "bfloat16" else f"-kv-{kv_cache_dtype}"
    return f"{gpu.id}--{model.name.rsplit('/', 1)[-1]}--{short}{cache}--tp{tp}".lower()


def _profile(
    gpu: Gpu, model: Model, tp: int, dtypes: tuple[str, str], terms: MeasuredTerms, **fields: object
) -> StepTimeProfile:
    """The parts that do not depend on where the tables come from."""
    dtype, kv_cache_dtype = dtypes
    return StepTimeProfile.model_validate(
        {
            "name": profile_name(gpu, model, tp, dtype, kv_cache_dtype),
            "source": "composed from kernels",
            "identity": Identity(
                gpu=gpu.id,
                model=model.name,
                shape=model.shape,
                dtype=dtype,
                kv_cache_dtype=kv_cache_dtype,
                quantisation="fp8" if dtype == "fp8" else None,
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
                overhead_us=OVERHEAD_US_PER_LAYER * model.shape.layers,
                eager_floor_us=EAGER_FLOOR_US_PER_LAYER * model.shape.layers,
            ),
            "host": HOST,
            "front_end": FRONT_END,
            "fit_error": terms.held_out.errors(),
            **fields,
        }
    )


def llmservingsim_terms(
    folder: Path, gpu: Gpu, model: Model, tp: int, operators: OperatorTables | None
) -> tuple[LlmServingSimTables, MeasuredTerms]:
    """Tables in ``folder`` (the one with meta.yaml) and what they determine.

    Raises:
        TablesError: a degree that was not measured, or all-reduce tables missing.
    """
    kv_room = 0.92 * gpu.memory_bytes * tp - model.shape.weight_bytes("bfloat16")
    kv_tokens = int(kv_room / model.shape.kv_bytes_per_token("bfloat16"))
    tables = LlmServingSimTables(folder, gpu, model.shape, tp, kv_tokens, operators)
    return tables, tables.terms()


def compose_llmservingsim(
    folder: Path, gpu: Gpu, model: Model, tp: int, operators: OperatorTables | None
) -> StepTimeProfile:
    """Profile from LLMServingSim's tables in ``folder`` (the one with meta.yaml)."""
    tables, terms = llmservingsim_terms(folder, gpu, model, tp, operators)
    assumptions = [OVERHEAD_NOTE, EAGER_NOTE, HOST.source, FRONT_END.source]
    if tables.skew is None:
        skewed = terms.decode_attention.model_copy(update={"heterogeneity": HETEROGENEITY})
        terms = replace(terms, decode_attention=skewed)
        assumptions.append(HETEROGENEITY_NOTE)
    if model.shape.experts:
        assumptions.append(EXPERTS_NOTE["llmservingsim"])
    provenance: dict[str, object] = {
        "records": "LLMServingSim profiler tables (vLLM with one layer and dummy weights, scaled to all)",
        "repository": "github.com/casys-kaist/LLMServingSim at 5daddb21a545658d5150b535712d0494584b5278",
        "licence": "MIT, (c) 2024 CASYS Lab at KAIST",
        "date": terms.measured_on,
        "gpu_as_recorded": tables.meta["gpu"],
        "files": {
            path.name: f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
            for path in sorted((folder / f"tp{tp}").glob("*.csv*"))
        },
    }
    if tp > 1:
        version = tables.collectives.version
        provenance["communication"] = f"{PACKAGE} {PACKAGE_VERSION}, {SYSTEMS[gpu.id]}, vLLM {version}"
        assumptions.append(
            "communication: measured on another host with direct access between its GPUs; without it an "
            "all-reduce takes 2 to 5 times as long"
        )
        if model.shape.experts:
            assumptions.append("experts split over GPUs: degree 1 times aiconfigurator's ratio of degrees")
    return _profile(
        gpu,
        model,
        tp,
        ("bfloat16", "bfloat16"),
        terms,
        attention_backend="FlashAttention 2",
        known_error=(
            f"mean error on held-out rows and columns of the operator tables: {_errors(terms)}; "
            "the sum of the parts was not checked against steps of a running engine in this profile"
        ),
        assumptions=assumptions,
        provenance={**provenance, "made_by": "python -m calibration.compose"},
    )


def compose_aiconfigurator(
    operators: OperatorTables,
    gpu: Gpu,
    model: Model,
    tp: int,
    dtype: str = "bfloat16",
    kv_cache_dtype: str = "bfloat16",
) -> StepTimeProfile:
    """Profile from aiconfigurator's tables."""
    tables = AiconfiguratorTables(operators, gpu, model.shape, tp, dtype, kv_cache_dtype)
    terms = tables.terms()
    assumptions = [
        OVERHEAD_NOTE,
        EAGER_NOTE,
        LONGEST_CONTEXT_NOTE if tables.unsplit else HETEROGENEITY_NOTE,
        "mixed steps: a decoding request's context costs 1.3 (FlashAttention 3) or 1.6 (FlashAttention "
        "2) times its pure-decode cost beside a prefill chunk",
        "prefill behind cached context: derived from prompts without one, attention being quadratic",
        "norms, rotary, activation and KV write: bytes over bandwidth, at least 2.7 us a kernel",
        "sampler: 25 us + 0.54 us per sequence, as measured on RTX PRO 6000",
        HOST.source,
        FRONT_END.source,
    ]
    if dtype == "fp8":
        assumptions.append(
            "fp8: activations are quantised inside the norms and the activation function, one kernel a layer "
            "for the attention's output; head and embedding in 16 bits"
        )
    if model.shape.experts:
        assumptions.append(EXPERTS_NOTE["aiconfigurator"])
    return _profile(
        gpu,
        model,
        tp,
        (dtype, kv_cache_dtype),
        terms,
        attention_backend=tables.kernel,
        known_error=(
            f"mean interpolation error on held-out rows of the operator tables: {_errors(terms)}; "
            f"{COMPARED_NOTE}"
        ),
        assumptions=assumptions,
        provenance={
            "records": "NVIDIA aiconfigurator operator tables of vLLM kernels",
            "package": f"{PACKAGE} {PACKAGE_VERSION} (PyPI), systems/data",
            "licence": "Apache-2.0 (ai-dynamo/aiconfigurator)",
            "date": PACKAGE_DATE,
            "date_is": "the newest collection that the package states; these tables do not date themselves",
            "system": SYSTEMS[gpu.id],
            "files": tables.files,
            "communication": f"vLLM {tables.collectives.version}" if tp > 1 else "none",
            "made_by": "python -m calibration.compose",
        },
    )


def _own_tables(tables: Path, gpu: Gpu, model: Model) -> Path | None:
    """LLMServingSim's folder of this GPU and model, if there is one."""
    below = Path(gpu.id) / model.name / "bf16"
    for folder in (tables, tables / below, tables / "llmservingsim" / below):
        if (folder / "meta.yaml").is_file():
            return folder
    return None


def operator_tables(tables: Path | None) -> OperatorTables | None:
    """Aiconfigurator's rows: of the folder or the one above it, else of the package; None if there are none."""
    for folder in (tables, tables.parent) if tables is not None else ():
        if list(folder.glob("aic_gemm_vllm.csv*")):
            return OperatorTables(folder)
    try:
        return OperatorTables()
    except TablesError:
        if tables is None:
            raise
        return None


def compose(
    tables: Path | None,
    gpu: Gpu,
    model: Model,
    tp: int,
    dtype: str = "bfloat16",
    kv_cache_dtype: str = "bfloat16",
) -> StepTimeProfile:
    """Profile from whichever tables ``tables`` holds; from the installed package if it is None.

    Raises:
        TablesError: the tables do not cover the GPU, the shape, the weights or the degree; or there are none.
    """
    own = _own_tables(tables, gpu, model) if tables is not None else None
    if own is not None:
        if (dtype, kv_cache_dtype) != ("bfloat16", "bfloat16"):
            raise TablesError(f"{own}: these tables are of bfloat16 weights and KV cache only")
        return compose_llmservingsim(own, gpu, model, tp, _communication(tables, gpu))
    if tables is not None and not list(tables.glob("aic_gemm_vllm.csv*")):
        raise TablesError(
            f"{tables}: neither LLMServingSim's meta.yaml of {gpu.id} and {model.name} nor aic_gemm_vllm.csv "
            f"is there{_listing(tables)}"
        )
    return compose_aiconfigurator(OperatorTables(tables), gpu, model, tp, dtype, kv_cache_dtype)


def _communication(tables: Path | None, gpu: Gpu) -> OperatorTables | None:
    """Tables with this GPU's all-reduce: those beside LLMServingSim's if they have it, else the package's."""
    found = operator_tables(tables)
    if found is not None and found.folder is not None:
        try:
            found.read("allreduce", gpu.id)
        except TablesError:
            return operator_tables(None) if _installed() else found
    return found


def _installed() -> bool:
    try:
        OperatorTables()
    except TablesError:
        return False
    return True


def _listing(tables: Path) -> str:
    roots = [root for root in (tables, tables / "llmservingsim") if root.is_dir()]
    there = sorted(
        {str(p.parent.parent.relative_to(r)) for r in roots for p in r.glob("*/*/*/bf16/meta.yaml")}
    )
    return f"; it has: {', '.join(there)}" if there else ""


def main(
    gpu: Annotated[str, typer.Option(help="GPU id, e.g. H100-SXM")],
    model: Annotated[str, typer.Option(help="Hugging Face name or config.json")],
    out: Annotated[Path, typer.Option(help="profile to write")],
    tables: Annotated[
        Path | None, typer.Option(help="folder of operator tables; the installed package if left out")
    ] = None,
    tp: Annotated[int, typer.Option(min=1, help="tensor-parallel degree")] = 1,
    quantisation: Annotated[str | None, typer.Option(help="of the weights: fp8; bf16 if left out")] = None,
    kv_cache_dtype: Annotated[str, typer.Option(help="auto (bf16) or fp8")] = "auto",
) -> None:
    """Make a step-time profile from tables of measured operators."""
    try:
        if quantisation not in (None, "fp8"):
            raise TablesError(f"--quantisation {quantisation}: only fp8 has tables")
        profile = compose(
            tables,
            find_gpu(gpu),
            find_model(model),
            tp,
            quantisation or "bfloat16",
            canonical_dtype(kv_cache_dtype),
        )
        write_text(out, dump_profile(profile))
    except (CatalogError, ValueError, OSError) as error:
        typer.echo(f"compose: {error}", err=True)
        raise typer.Exit(2) from None
    for fit in profile.fit_error:
        typer.echo(
            f"{fit.regime}: mean {fit.mean_abs_pct} %, p95 {fit.p95_abs_pct} %, bias {fit.bias_pct} % "
            f"of {fit.of} ({fit.rows} rows)"
        )
    shipped = shipped_profiles().get(profile.name)
    if shipped is not None and shipped.provenance["records"] != profile.provenance["records"]:
        typer.echo(
            f"note: engine.profile: auto takes the shipped profile of the same name, which is from "
            f"{shipped.provenance['records']}; name this file in the scenario to use it instead"
        )


if __name__ == "__main__":
    typer.run(main)

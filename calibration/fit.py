"""Fit a step-time profile to captured steps of a real engine.

    python -m calibration.fit DIR... --out profile.yaml --plots DIR

Each ``DIR`` is a capture (`calibration.capture`). Only synchronous engines' calibration stages and fills are
fitted; whole cells of the sweep are held out and say how good the fit is; validation loads are compared and
never fitted. The profile's range is what the captures cover, and holes in it are named.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer

from calibration.capture_format import CaptureError
from calibration.capture_set import CaptureSet, read_capture_set
from calibration.captured_steps import Floats
from calibration.cells import Cell, cells_of, held_out
from calibration.fit_report import StepPredictor, cell_bias, plot_predicted, plot_residuals, step_errors
from calibration.fitting import huber_weights
from calibration.host_fit import HostModel, front_end, kv_cache_record, startups
from calibration.step_model import Knots, StepModel, choose_knots, reach_of, terms_of, weights
from calibration.uncertainty import uncertainty_of
from simulator.catalog import DTYPE_BYTES, CatalogError, canonical_dtype
from simulator.files import write_text
from simulator.step_time.assumed import EAGER_FLOOR_US_PER_LAYER, EAGER_NOTE
from simulator.step_time.profile import FitError, Identity, StepTimeProfile, Terms, dump_profile

_WIDE_GAP: Final = 8.0
_FEWEST_SKEWED: Final = 3
_WEAKEST_SKEW: Final = 0.05
"""Largest standard error of the heterogeneity factor with which it is still used."""

HELD_OUT: Final = "a captured step of cells held out of the fit"
VALIDATION: Final = "a captured step of validation loads"
EAGER_OF_EAGER_NOTE: Final = (
    "CUDA graphs: captured without them, so dense holds the launching of kernels and eager_floor_us is 0; with "
    "graphs the times are others"
)
FRONT_END_NOTE: Final = (
    "front_end: prompts were sent as token ids in one process, without tokenisation and HTTP"
)
MIXED_NOTE: Final = "mixed_attention: not measured; taken as in pure decode"
ASYNC_NOTE: Final = (
    "asynchronous scheduling was not captured: the whole step of a synchronous engine counts as GPU time, of which "
    "an asynchronous one hides the preparation of the input"
)


@dataclass(frozen=True)
class Fit:
    """A fitted profile and what it was made of.

    Attributes:
        profile: complete.
        captures: that it is of.
        fitted: cells; heterogeneous decode cells gave their factor only.
        held_out: cells of the sweep that the fit has not seen, and those that the plan keeps for validation.
        outliers: fitted cells that the Huber loss gave less than half of their weight.
    """

    profile: StepTimeProfile
    captures: CaptureSet
    fitted: tuple[Cell, ...]
    held_out: tuple[Cell, ...]
    outliers: int

    @property
    def predictor(self) -> StepPredictor:
        """The profile on captured steps; equal contexts without the factor for differing ones."""
        return StepPredictor(self.profile, self.captures.engine.cudagraph_sizes)


def fit_profile(captures: CaptureSet) -> Fit:
    """Fit a profile.

    Raises:
        ValueError: a regime without which there is no profile was not measured; the message says which.
    """
    engine = captures.engine
    eager = not engine.cudagraph_sizes
    cells = cells_of(captures.fitted)
    apart = held_out(cells)
    unseen = (
        *(cell for cell in cells if cell.combination in apart),
        *cells_of(captures.unfitted_sweeps),
    )
    fitted = tuple(cell for cell in cells if cell.combination not in apart)
    even = [cell for cell in fitted if not (cell.is_heterogeneous and cell.regime == "pure_decode")]
    knots = choose_knots(even, engine.cudagraph_sizes)
    model = StepModel(knots)
    columns, times, weight = (
        model.cell_columns(even),
        np.array([cell.median_us for cell in even]),
        weights(even),
    )
    solution, huber = model.solve(columns, times, weight)
    skew, skew_notes = heterogeneity(model, solution, fitted)
    preparation_us = preparation(captures, model, solution)
    host = HostModel(captures.fitted)
    front, front_note = front_end(captures)
    reach = reach_of(fitted)
    floor_us = 0.0 if eager else EAGER_FLOOR_US_PER_LAYER * engine.shape.layers

    def terms(coefficients: Floats) -> Terms:
        parts = model.coefficients(coefficients)
        parts["dense"] = np.maximum(parts["dense"] - (preparation_us or 0.0), 0.0)
        return terms_of(knots, parts, reach, skew, floor_us)

    bare = StepTimeProfile(
        name=_name(captures),
        source="fitted profile",
        known_error="not known yet",
        identity=_identity(captures),
        terms=terms(solution),
        host=host.host_time(preparation_us),
        front_end=front,
        kv_cache=kv_cache_record(captures),
        startup=startups(captures),
        range_notes=[*captures.notes, *skew_notes, *holes(knots, even)] or None,
        assumptions=[
            EAGER_OF_EAGER_NOTE if eager else EAGER_NOTE,
            front_note or FRONT_END_NOTE,
            *([MIXED_NOTE] if not knots.mixed_requests else []),
            *([ASYNC_NOTE] if preparation_us is None else []),
        ],
        provenance=_provenance(captures),
    )
    predictor = StepPredictor(bare, engine.cudagraph_sizes)
    errors = step_errors(predictor, [step for cell in unseen for step in cell.steps], HELD_OUT)
    checked = step_errors(predictor, captures.loads, VALIDATION)
    profile = bare.model_copy(
        update={
            "known_error": _known_error(errors, checked),
            "fit_error": errors,
            "validation_error": checked or None,
            "uncertainty": uncertainty_of(
                model, columns, times, weight, solution, huber, host, terms, cell_bias(predictor, unseen)
            ),
        }
    )
    return Fit(profile, captures, fitted, unseen, int((huber < 0.5).sum()))


def heterogeneity(model: StepModel, solution: Floats, cells: Iterable[Cell]) -> tuple[float, list[str]]:
    """Factor on the context's cost where contexts differ within a batch, and notes; at least 1."""
    where = model.slices["decode_context"]
    skewed = [cell for cell in cells if cell.is_heterogeneous and cell.regime == "pure_decode"]
    if len(skewed) < _FEWEST_SKEWED:
        return 1.0, ["decode_attention.heterogeneity: no batches of differing contexts measured, taken as 1"]
    columns = model.cell_columns(skewed)
    times = np.array([cell.median_us for cell in skewed])
    context = columns[:, where] @ solution[where] / times
    excess = 1.0 - columns @ solution / times
    # The excess is in proportion to what context costs: a line through the origin, outliers at Huber's weights.
    weight, slope, scale = weights(skewed), 0.0, 0.0
    huber = np.ones(len(skewed))
    for _ in range(8):
        slope = float((huber * weight * context) @ excess / max((huber * weight * context) @ context, 1e-12))
        residual = np.abs(excess - slope * context) * np.sqrt(weight)
        huber, scale = huber_weights(residual)
    if scale > _WEAKEST_SKEW * float(np.sqrt(weight @ context**2)):
        return 1.0, ["decode_attention.heterogeneity: lost in the noise of the captured batches, taken as 1"]
    return 1.0 + max(slope, 0.0), []


def preparation(captures: CaptureSet, model: StepModel, solution: Floats) -> float | None:
    """Time of a synchronous step that is not there between two outputs of an asynchronous engine, us.

    From pure decode with even contexts, where the GPU sets the pace. None without such steps.
    """
    cells = [
        cell
        for cell in cells_of(captures.asynchronous)
        if cell.regime == "pure_decode" and not cell.is_heterogeneous
    ]
    if len(cells) < _FEWEST_SKEWED:
        return None
    hidden = float(np.median(model.cell_columns(cells) @ solution - [cell.median_us for cell in cells]))
    return min(max(hidden, 0.0), 0.9 * float(model.coefficients(solution)["dense"][0]))


def holes(knots: Knots, cells: Sequence[Cell]) -> list[str]:
    """What the sweep left out inside its own range, in words."""
    decode: dict[int, list[float]] = defaultdict(list)
    for cell in cells:
        if cell.regime == "pure_decode":
            decode[cell.steps[0].decodes].append(cell.steps[0].mean_context)
    reach = max(max(contexts) for contexts in decode.values())
    summed = max(batch * max(contexts) for batch, contexts in decode.items())
    notes = []
    for batch, contexts in sorted(decode.items()):
        within = min(reach, summed / batch)
        if max(contexts) < within / 2:
            notes.append(
                f"pure decode, {batch} requests: contexts up to {max(contexts):.0f} tokens were measured, "
                f"the slope carries on to {within:.0f}"
            )
    axes: dict[str, Sequence[float]] = {
        "requests in pure decode": sorted(decode),
        "tokens in a step": knots.dense,
        "context in pure decode": sorted({context for contexts in decode.values() for context in contexts}),
        "requests decoding beside prefill": knots.mixed_requests,
        "prefill tokens beside decodes": knots.mixed_chunks,
    }
    for name, values in axes.items():
        for low, high in pairwise(values):
            if high > _WIDE_GAP * max(low, 1):
                notes.append(f"{name}: nothing was measured between {low:.0f} and {high:.0f}: interpolated")
    if not knots.has_prefill_context:
        notes.append("prefill behind cached context was not measured: no range there")
    elif knots.scaled_last_chunk:
        notes.append(
            f"prefill behind cached context: chunks above {knots.chunks[-2]} tokens were measured without "
            "context, their slope is in proportion"
        )
    if not knots.mixed_requests:
        notes.append("mixed steps were not measured: no range there")
    return notes


def _name(captures: CaptureSet) -> str:
    engine, gpu = captures.engine, captures.captures[0].manifest.gpu
    dtype = {"bfloat16": "bf16", "float16": "fp16"}.get(engine.dtype, engine.dtype)
    model = engine.model.rsplit("/", 1)[-1]
    return f"{gpu}--{model}--{engine.quantisation or dtype}--tp{engine.tp}--fitted".lower()


def _identity(captures: CaptureSet) -> Identity:
    engine, manifest = captures.engine, captures.captures[0].manifest
    dtype = canonical_dtype(engine.dtype)
    cache = dtype if engine.kv_cache_dtype == "auto" else canonical_dtype(engine.kv_cache_dtype)
    return Identity(
        gpu=manifest.gpu,
        model=engine.model,
        shape=engine.shape,
        dtype=engine.quantisation if engine.quantisation in DTYPE_BYTES else dtype,
        kv_cache_dtype=cache,
        quantisation=engine.quantisation,
        tp=engine.tp,
        pp=engine.pp,
        engine_version=manifest.versions.get("vllm", "unknown"),
        attention_backend=engine.attention_backend,
        enforce_eager=engine.enforce_eager,
    )


def _provenance(captures: CaptureSet) -> dict[str, object]:
    manifests = [capture.manifest for capture in captures.captures]
    return {
        "records": "steps of a running vLLM engine (calibration.capture)",
        "licence": "the project's own measurements",
        "plan": ", ".join(dict.fromkeys(manifest.plan for manifest in manifests)),
        "measured_on": min(manifest.created for manifest in manifests)[:10],
        "device_as_recorded": manifests[0].device_name,
        "versions": dict(manifests[0].versions),
        "files": {
            f"{capture.folder.name}/steps.parquet": f"sha256 {capture.manifest.sha256['steps.parquet'][:16]}"
            for capture in captures.captures
        },
        "made_by": "python -m calibration.fit",
    }


def _known_error(held_out_errors: Sequence[FitError], load_errors: Sequence[FitError]) -> str:
    def listed(errors: Sequence[FitError]) -> str:
        return ", ".join(
            f"{e.regime.replace('_', ' ')} {e.median_abs_pct:.1f} % (p90 {e.p90_abs_pct:.1f} %)"
            for e in errors
        )

    text = f"median error on steps held out of the fit: {listed(held_out_errors) or 'none were held out'}"
    if load_errors:
        text += f"; on the steps of validation loads: {listed(load_errors)}"
    return text


def report(fit: Fit) -> str:
    """What was fitted and how good it is, as text."""
    profile = fit.profile
    lines = [
        f"{profile.name}: {len(fit.fitted)} cells fitted ({fit.outliers} of them mostly disregarded as outliers), "
        f"{len(fit.held_out)} held out",
        f"{'error by regime':<34} {'steps':>6} {'median':>8} {'p90':>8} {'bias':>8}",
    ]
    for title, errors in (("held out", profile.fit_error), ("loads", profile.validation_error or [])):
        lines += [
            f"{title + ', ' + e.regime.replace('_', ' '):<34} {e.rows:>6} {e.median_abs_pct:>6.2f} % "
            f"{e.p90_abs_pct:>6.2f} % {e.bias_pct:>+6.2f} %"
            for e in errors
        ]
    if profile.uncertainty is not None:
        lines += ["standard error of the terms (95 % interval: twice that on either side)"]
        lines += [
            f"  {group.replace('_', ' '):<32} {100 * profile.uncertainty.covariance[i][i] ** 0.5:.2f} %"
            for i, group in enumerate(profile.uncertainty.groups)
        ]
    host = profile.host
    lines.append(f"host: {host.base_us:.0f} us + {host.per_request_us:.2f} us per scheduled request")
    lines += [f"note: {note}" for note in profile.range_notes or ()]
    return "\n".join(lines)


def main(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="captures of one GPU and model")],
    out: Annotated[Path, typer.Option(help="profile to write")],
    plots: Annotated[Path | None, typer.Option(help="folder for the residual plots")] = None,
    model: Annotated[str | None, typer.Option(help="which model, if the captures hold several")] = None,
) -> None:
    """Fit a step-time profile to captured steps of a real engine."""
    try:
        fit = fit_profile(read_capture_set(folders, model))
    except (CaptureError, CatalogError, ValueError) as error:
        typer.echo(f"fit: {error}", err=True)
        raise typer.Exit(2) from None
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, dump_profile(fit.profile))
    if plots is not None:
        write_plots(fit, plots)
    typer.echo(report(fit))


def write_plots(fit: Fit, folder: Path) -> None:
    """``predicted.png`` and ``residuals.png``."""
    import matplotlib  # noqa: PLC0415  (slow import)

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    predictor = fit.predictor
    plot_predicted(predictor, fit.fitted, fit.held_out).savefig(folder / "predicted.png", dpi=110)
    plot_residuals(predictor, [*fit.fitted, *fit.held_out]).savefig(folder / "residuals.png", dpi=110)


if __name__ == "__main__":
    typer.run(main)

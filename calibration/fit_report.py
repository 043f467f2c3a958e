"""Errors and residual plots of a fitted profile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from calibration.captured_steps import CapturedStep, StepRegime
from calibration.cells import Cell
from calibration.fitting import fit_error
from simulator.step_time.profile import FitError, StepTimeProfile
from simulator.step_time.tables import ProfileStepTime
from simulator.units import PS_PER_US

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REGIMES: Final[tuple[StepRegime, ...]] = ("pure_decode", "pure_prefill", "mixed")
_COLOURS: Final = {"pure_decode": "#1f77b4", "pure_prefill": "#ff7f0e", "mixed": "#2ca02c"}


class StepPredictor:
    """What a profile says of captured steps.

    Args:
        profile: the times.
        captured: CUDA-graph sizes of the engine; none is an eager one.
    """

    def __init__(self, profile: StepTimeProfile, captured: Sequence[int]) -> None:
        decode = profile.terms.decode_attention.model_copy(update={"heterogeneity": 1.0})
        terms = profile.terms.model_copy(update={"decode_attention": decode})
        uniform = profile.model_copy(update={"terms": terms})
        self._preparation_us = profile.host.preparation_us or 0.0
        self._times = {
            True: _step_time(profile, captured),
            False: _step_time(uniform, captured),
        }

    def step_us(self, step: CapturedStep) -> float:
        """The captured step of a synchronous engine, which prepares the input before the GPU starts."""
        return self.gpu_us(step) + self._preparation_us

    def gpu_us(self, step: CapturedStep) -> float:
        """The GPU's part."""
        model = self._times[step.is_heterogeneous]
        return model.step_ps(step.decodes, step.decode_context, step.prefills) / PS_PER_US


def _step_time(profile: StepTimeProfile, captured: Sequence[int]) -> ProfileStepTime:
    return ProfileStepTime(
        profile,
        enforce_eager=not captured,
        max_num_seqs=profile.terms.per_sequence.sequences[-1],
        capture_sizes=captured or None,
    )


def step_errors(predictor: StepPredictor, steps: Iterable[CapturedStep], of: str) -> list[FitError]:
    """Error of the steps by regime."""
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for step in steps:
        if step.step_us:
            pairs[step.regime].append((predictor.step_us(step), step.step_us))
    return [
        fit_error(
            regime, np.array([p for p, _ in pairs[regime]]), np.array([m for _, m in pairs[regime]]), of
        )
        for regime in REGIMES
        if pairs[regime]
    ]


def cell_bias(predictor: StepPredictor, cells: Iterable[Cell]) -> list[float]:
    """Mean relative error of the cells' medians by regime."""
    errors: dict[str, list[float]] = defaultdict(list)
    for cell in cells:
        predicted = float(np.median([predictor.step_us(step) for step in cell.steps]))
        errors[cell.regime].append(predicted / cell.median_us - 1.0)
    return [float(np.mean(errors[regime])) for regime in REGIMES if errors[regime]]


def plot_predicted(predictor: StepPredictor, fitted: Sequence[Cell], held_out: Sequence[Cell]) -> Figure:
    """Predicted against measured time of each cell, a panel for each regime; held-out cells stand out."""
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter  # noqa: PLC0415  (slow import)

    figure, panels = _panels(3, "measured step, ms")
    for panel, regime in zip(panels, REGIMES, strict=True):
        panel.set_title(regime.replace("_", " "))
        for cells, marker, colour, label in (
            (fitted, ".", "#9aa5b1", "fitted"),
            (held_out, "o", _COLOURS[regime], "held out"),
        ):
            chosen = [cell for cell in cells if cell.regime == regime]
            measured = [cell.median_us / 1e3 for cell in chosen]
            predicted = [_predicted_us(predictor, cell) / 1e3 for cell in chosen]
            panel.plot(
                measured,
                predicted,
                marker,
                color=colour,
                markersize=4,
                label=f"{label} ({len(chosen)} cells)",
            )
        low, high = panel.get_xlim()
        panel.plot([low, high], [low, high], color="black", linewidth=0.8)
        panel.set_xscale("log")
        panel.set_yscale("log")
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(ScalarFormatter())
            axis.set_minor_formatter(NullFormatter())
        panel.legend(fontsize=8)
    panels[0].set_ylabel("predicted step, ms")
    return figure


def plot_residuals(predictor: StepPredictor, cells: Sequence[Cell]) -> Figure:
    """Relative error of each cell against decoding requests, their mean context, and prefill tokens."""
    figure, panels = _panels(3, "")
    sizes: dict[str, Callable[[CapturedStep], float]] = {
        "decoding requests": lambda step: step.decodes,
        "mean context of decoding requests, tokens": lambda step: step.mean_context,
        "prefill tokens": lambda step: step.prefill_tokens,
    }
    for panel, (name, value) in zip(panels, sizes.items(), strict=True):
        panel.set_xlabel(name)
        panel.axhline(0.0, color="black", linewidth=0.8)
        panel.set_xscale("symlog", linthresh=1)
        for regime in REGIMES:
            chosen = [cell for cell in cells if cell.regime == regime and value(cell.steps[0]) > 0]
            errors = [100 * (_predicted_us(predictor, cell) / cell.median_us - 1) for cell in chosen]
            panel.plot(
                [value(cell.steps[0]) for cell in chosen],
                errors,
                ".",
                color=_COLOURS[regime],
                label=regime.replace("_", " "),
            )
    panels[0].set_ylabel("predicted over measured - 1, %")
    panels[0].legend(fontsize=8)
    return figure


def _predicted_us(predictor: StepPredictor, cell: Cell) -> float:
    return float(np.median([predictor.step_us(step) for step in cell.steps]))


def _panels(count: int, x_label: str) -> tuple[Figure, list[Axes]]:
    from matplotlib import pyplot as plt  # noqa: PLC0415  (slow import)

    figure, axes = plt.subplots(1, count, figsize=(4.2 * count, 3.8), layout="constrained", squeeze=False)
    panels = list(axes[0])
    for panel in panels:
        panel.set_xlabel(x_label)
        panel.grid(alpha=0.3)
    return figure, panels

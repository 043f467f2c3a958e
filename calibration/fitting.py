"""Fitting the terms of a step-time profile: knot selection, linear attention fits, held-out error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from simulator.step_time.profile import FitError

Floats = NDArray[np.float64]
Regime = Literal["dense", "pure_decode", "pure_prefill", "mixed"]


def select_knots(x: Floats, y: Floats, tolerance: float) -> list[int]:
    """Indices of a subset of the points whose linear interpolation is within ``tolerance`` of all of them.

    Greedy: starts from the ends and adds the worst point until the largest relative error is small enough
    (Ramer-Douglas-Peucker on relative error).
    """
    chosen = [0, len(x) - 1] if len(x) > 1 else [0]
    while True:
        error = np.abs(np.interp(x, x[chosen], y[chosen]) / y - 1.0)
        worst = int(np.argmax(error))
        if error[worst] <= tolerance:
            return chosen
        chosen = sorted([*chosen, worst])


@dataclass(frozen=True)
class Line:
    """base + slope x with both at least 0."""

    base: float
    slope: float

    def __call__(self, x: Floats) -> Floats:
        return self.base + self.slope * x


def fit_line(x: Floats, y: Floats, weight: Floats) -> Line:
    """Weighted least squares of y on (1, x), neither coefficient below 0."""
    solution = fit_nonnegative(np.column_stack([np.ones_like(x), x]), y, weight)
    return Line(float(solution[0]), float(solution[1]))


def fit_nonnegative(columns: Floats, y: Floats, weight: Floats) -> Floats:
    """Non-negative weighted least squares; columns are scaled so that their sizes do not matter."""
    from scipy.optimize import nnls  # noqa: PLC0415  (slow import, offline use only)

    scale = np.maximum(np.abs(columns * weight[:, None]).max(axis=0), 1e-300)
    solution, _ = nnls(columns * weight[:, None] / scale, y * weight)
    return np.asarray(solution / scale, dtype=np.float64)


HUBER: Final = 1.345
"""Residuals beyond this many scales count linearly: 95 % efficient for normal errors (Huber 1981)."""


def fit_huber(
    columns: Floats,
    y: Floats,
    weight: Floats,
    *,
    pull: Floats | None = None,
    start: Floats | None = None,
    rounds: int = 8,
) -> tuple[Floats, Floats]:
    """Non-negative coefficients that minimise the Huber loss of relative residuals, by re-weighted least squares.

    Args:
        columns: shape (rows, coefficients).
        y: measured, above 0.
        weight: of each row's squared relative residual.
        pull: further rows whose target is 0, for coefficients that the others do not determine.
        start: Huber weights to start from.
        rounds: of re-weighting.

    Returns:
        The coefficients, and the rows' final Huber weights (1: no outlier).
    """
    pull = np.zeros((0, columns.shape[1])) if pull is None else pull
    target = np.concatenate([y, np.zeros(len(pull))])
    stacked = np.vstack([columns, pull])
    huber = np.ones(len(y)) if start is None else start
    solution = np.zeros(columns.shape[1])
    for _ in range(rounds):
        relative = np.sqrt(huber * weight) / y
        solution = fit_nonnegative(stacked, target, np.concatenate([relative, np.ones(len(pull))]))
        huber, _ = huber_weights(np.abs(columns @ solution / y - 1.0) * np.sqrt(weight))
    return solution, huber


def huber_weights(residual: Floats) -> tuple[Floats, float]:
    """Weights of residuals (absolute values) in the next round, and their robust scale, from the median."""
    scale = max(1.4826 * float(np.median(residual)), 1e-9)
    return np.minimum(1.0, HUBER * scale / np.maximum(residual, 1e-12)), scale


def hat_basis(x: Floats, knots: Sequence[float]) -> Floats:
    """Columns of the piecewise-linear basis on ``knots`` (constant outside), shape (len(x), len(knots))."""
    eye = np.eye(len(knots))
    return np.column_stack([np.interp(x, knots, eye[i]) for i in range(len(knots))])


def fit_error(regime: Regime, predicted: Floats, measured: Floats, of: str) -> FitError:
    """Relative error of held-out rows."""
    relative = 100.0 * (predicted / measured - 1.0)
    return FitError(
        regime=regime,
        rows=len(relative),
        mean_abs_pct=round(float(np.abs(relative).mean()), 2),
        median_abs_pct=round(float(np.median(np.abs(relative))), 2),
        p90_abs_pct=round(float(np.percentile(np.abs(relative), 90)), 2),
        p95_abs_pct=round(float(np.percentile(np.abs(relative), 95)), 2),
        bias_pct=round(float(relative.mean()), 2),
        of=of,
    )


def rounded(values: Sequence[float] | Floats, digits: int = 6) -> list[float]:
    """Values with ``digits`` significant digits: what a profile file stores."""
    return [float(f"{float(value):.{digits}g}") for value in values]

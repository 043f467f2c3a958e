"""Predicted against measured: request by request, and in aggregate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import ks_2samp

METRICS: Final = ("ttft_ms", "tpot_ms", "e2e_ms")
QUANTILES: Final = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}

Figures = dict[str, Any]


def paired_errors(predicted: ArrayLike, measured: ArrayLike) -> Figures | None:
    """Errors of pairs, over those where both are known; None if there are none.

    Returns:
        ``pairs``; ``mape_pct`` mean of |predicted / measured - 1|; ``median_ape_pct`` and ``p90_ape_pct`` of the
        same; ``bias_pct`` median of predicted / measured - 1; ``median_abs_ms`` and ``p90_abs_ms`` of |predicted -
        measured|; ``ks`` the Kolmogorov-Smirnov distance of the two distributions; and for ``mean``, ``p50``,
        ``p90``, ``p95``, ``p99`` of each what was measured and predicted, and the error in per cent.
    """
    p, m = _both_known(predicted, measured)
    if not len(m):
        return None
    relative = p / m - 1.0
    absolute = np.abs(p - m)
    figures: Figures = {
        "pairs": len(m),
        "mape_pct": 100 * float(np.mean(np.abs(relative))),
        "median_ape_pct": 100 * float(np.median(np.abs(relative))),
        "p90_ape_pct": 100 * float(np.quantile(np.abs(relative), 0.9)),
        "bias_pct": 100 * float(np.median(relative)),
        "median_abs_ms": float(np.median(absolute)),
        "p90_abs_ms": float(np.quantile(absolute, 0.9)),
        "ks": ks_distance(p, m),
    }
    for name in ("mean", *QUANTILES):
        figures[name] = _aggregate(name, p, m)
    return figures


def ks_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Kolmogorov-Smirnov distance of two samples."""
    with np.errstate(divide="ignore"):  # in the p-value of single values, which is not used
        return float(ks_2samp(a, b, method="asymp").statistic)


def _both_known(predicted: ArrayLike, measured: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    p = np.asarray(predicted, dtype=np.float64)
    m = np.asarray(measured, dtype=np.float64)
    known = np.isfinite(p) & np.isfinite(m) & (m > 0)
    return p[known], m[known]


def _aggregate(name: str, p: NDArray[np.float64], m: NDArray[np.float64]) -> Figures:
    if name == "mean":
        predicted, measured = float(np.mean(p)), float(np.mean(m))
    else:
        predicted, measured = (float(np.quantile(values, QUANTILES[name])) for values in (p, m))
    return {"measured": measured, "predicted": predicted, "error_pct": 100 * (predicted / measured - 1.0)}


def compare(predicted: pd.DataFrame, measured: pd.DataFrame) -> dict[str, Figures]:
    """`paired_errors` of every metric that both have, row by row."""
    figures = {}
    for metric in METRICS:
        if metric in measured and metric in predicted:
            errors = paired_errors(predicted[metric].to_numpy(float), measured[metric].to_numpy(float))
            if errors is not None:
                figures[metric] = errors
    return figures


def throughput(requests: pd.DataFrame, output_tokens: Sequence[int]) -> Figures:
    """Makespan and rates of a run, over the requests that ended.

    Args:
        requests: with ``arrival_s`` and ``e2e_ms``.
        output_tokens: of each.
    """
    ends_s = requests["arrival_s"].to_numpy(float) + requests["e2e_ms"].to_numpy(float) / 1e3
    done = np.isfinite(ends_s)
    if not done.any():
        return {}
    makespan_s = float(ends_s[done].max() - np.nanmin(requests["arrival_s"].to_numpy(float)))
    tokens = float(np.asarray(output_tokens, dtype=np.float64)[done].sum())
    return {
        "makespan_s": makespan_s,
        "requests_per_s": float(done.sum()) / makespan_s,
        "output_tokens_per_s": tokens / makespan_s,
    }


def table(comparisons: dict[str, Figures]) -> str:
    """A comparison for the console."""
    lines = [
        f"{'':8}{'pairs':>7}{'MAPE':>9}{'median':>9}{'p90':>9}{'KS':>7}"
        f"{'mean, measured':>18}{'predicted':>12}{'error':>9}{'p99':>9}"
    ]
    for metric, figures in comparisons.items():
        mean, p99 = figures["mean"], figures["p99"]
        lines.append(
            f"{metric.removesuffix('_ms').upper():8}{figures['pairs']:>7}{figures['mape_pct']:>7.2f} %"
            f"{figures['median_ape_pct']:>7.2f} %{figures['p90_ape_pct']:>7.2f} %{figures['ks']:>7.3f}"
            f"{mean['measured']:>15.2f} ms{mean['predicted']:>9.2f} ms{mean['error_pct']:>+7.2f} %"
            f"{p99['error_pct']:>+7.2f} %"
        )
    return "\n".join(lines)

"""Mean, quantiles and maximum of a column; time averages of a gauge.

Quantiles of requests are numpy's default (``linear``: between the two nearest ranks), as ``vllm bench serve``
reports them. Quantiles of inter-token latencies come from a histogram and are nearest ranks
(`simulator.records.itl`).
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd

from simulator.records.itl import QUANTILE_RELATIVE_ERROR, ItlPool

Described: TypeAlias = dict[str, float | int | None]
"""Figures of a distribution, by name; None where there is no value."""

LEVELS: Final = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}


def number(value: Any) -> float | None:
    """A JSON number: NaN becomes None."""
    result = float(value)
    return result if np.isfinite(result) else None


def ratio(part: float, whole: float) -> float | None:
    """Part over whole; None when the whole is 0."""
    return part / whole if whole else None


def label_counts(labels: pd.Categorical) -> dict[str, int]:
    """How many of each label; missing ones are not counted."""
    codes = labels.codes[labels.codes >= 0]
    counts = np.bincount(codes, minlength=len(labels.categories))
    return dict(zip(labels.categories, counts.tolist(), strict=True))


def describe(values: np.ndarray, of: np.ndarray) -> Described:
    """Count, mean, p50, p90, p95, p99 and maximum.

    Args:
        values: floats; NaN where there is none.
        of: which of them are meant, as a mask.
    """
    known = values[of & ~np.isnan(values)]
    if not len(known):
        return {"count": 0, "mean": None, **dict.fromkeys(LEVELS), "max": None}
    mean, most = float(known.mean()), float(known.max())
    # The copy is ours to put in order.
    quantiles = np.quantile(known, list(LEVELS.values()), overwrite_input=True)
    return {
        "count": len(known),
        "mean": mean,
        **{name: float(value) for name, value in zip(LEVELS, quantiles)},
        "max": most,
    }


def describe_itl(pool: ItlPool) -> Described:
    """The same of pooled inter-token latencies; ``quantile_relative_error`` bounds the histogram's error."""
    return {
        "count": pool.tokens,
        "mean": pool.mean_s,
        **dict(zip(LEVELS, pool.quantiles_s(LEVELS.values()))),
        "max": pool.max_s,
        "quantile_relative_error": QUANTILE_RELATIVE_ERROR,
    }


def gauge(timeline: pd.DataFrame, column: str) -> dict[str, float | None]:
    """Time average and maximum of a gauge, over the intervals in which it has a value."""
    known = timeline[["interval_s", column]].dropna()
    weight = known["interval_s"].to_numpy(dtype=float)
    values = known[column].to_numpy(dtype=float)
    if not len(values) or not weight.sum():
        return {"mean": None, "max": None}
    return {"mean": float((values * weight).sum() / weight.sum()), "max": float(values.max())}

"""Summaries of replications into one: every number becomes a mean with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from simulator.statistics.intervals import t_interval

ESTIMAND: Final = (
    "Each figure is the mean over replications of the figure of one replication (a p99 is the mean of the "
    "replications' p99s), with a t-interval over replications. The error of the step times comes on top and "
    "does not shrink with more replications."
)

_IDENTITY: Final = frozenset({"schema_version", "run", "worst_moment", "notes", "target_share", "limits"})
"""Keys whose numbers name a run or a limit, rather than measure anything."""


def combine(summaries: Sequence[dict[str, Any]], confidence: float = 0.95) -> dict[str, Any]:
    """Mean and interval of every figure of the summaries.

    A figure that some replications lack (no error of that cause, say) counts as 0 where it is a count and is
    left out where it is undefined; ``replications`` beside it says how many went in.

    Returns:
        The summaries' structure with ``{"mean", "half_width", "low", "high", "replications"}`` for each
        number; ``estimand``, ``confidence``, ``replications`` and ``seeds`` come first.

    Raises:
        ValueError: no summaries.
    """
    if not summaries:
        raise ValueError("nothing to combine")
    return {
        "replications": len(summaries),
        "confidence": confidence,
        "estimand": ESTIMAND,
        "seeds": [summary.get("run", {}).get("seed") for summary in summaries],
        "slo_met_share": sum(summary.get("slo", {}).get("verdict") == "met" for summary in summaries)
        / len(summaries),
        "figures": _merge(list(summaries), confidence),
    }


def _merge(parts: list[dict[str, Any]], confidence: float, *, counts: bool = False) -> dict[str, Any]:
    keys = dict.fromkeys(key for part in parts for key in part if key not in _IDENTITY)
    merged: dict[str, Any] = {}
    for key in keys:
        values = [part.get(key) for part in parts]
        present = [value for value in values if value is not None]
        if any(isinstance(value, dict) for value in present):
            below = _merge([value or {} for value in values], confidence, counts=key.endswith("by_cause"))
            if below:
                merged[key] = below
            continue
        if counts:
            present = [0 if value is None else value for value in values]
        numbers = [float(v) for v in present if isinstance(v, int | float) and not isinstance(v, bool)]
        if numbers and len(numbers) == len(present):
            interval = t_interval(numbers, confidence)
            merged[key] = {
                "mean": interval.mean,
                "half_width": interval.half_width,
                "low": interval.low,
                "high": interval.high,
                "replications": interval.replications,
            }
    return merged

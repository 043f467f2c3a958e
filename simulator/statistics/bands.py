"""Bands of a run's figures over draws of its step-time profile: an error that replications do not shrink."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any, Final

_LATENCIES: Final = ("ttft_s", "tpot_s", "e2e_s")
_STATISTICS: Final = ("p50", "p99")


def draw_bands(summaries: Sequence[dict[str, Any]], source: str) -> dict[str, Any]:
    """Lowest, median and highest figure of runs that differ in their step times only.

    Args:
        summaries: one for each draw; at least one.
        source: what the draws were made from, in words.

    Returns:
        ``draws``; ``coverage``, the chance that a further draw lies between the lowest and the highest,
        (K - 1) / (K + 1); ``source``; ``latency`` by metric and statistic; ``good_share``. A figure that some
        draw lacks is None.
    """
    draws = len(summaries)
    return {
        "draws": draws,
        "coverage": (draws - 1) / (draws + 1),
        "source": source,
        "latency": {
            metric: {
                name: _band([summary["latency"].get(metric, {}).get(name) for summary in summaries])
                for name in _STATISTICS
            }
            for metric in _LATENCIES
        },
        "good_share": _band([summary["slo"].get("good_share") for summary in summaries]),
    }


def _band(values: Sequence[float | None]) -> dict[str, float] | None:
    numbers = [value for value in values if value is not None]
    if not numbers or len(numbers) != len(values):
        return None
    return {"low": min(numbers), "median": median(numbers), "high": max(numbers)}

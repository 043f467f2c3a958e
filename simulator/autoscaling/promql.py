"""The functions of Prometheus' query language that autoscalers use, on one series' samples in a window.

Samples are (time in seconds, value), in time order. A window is open at its start and closed at its end, as from
Prometheus 3. Rules from prometheus/prometheus, promql/functions.go and promql/quantile.go.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

Samples = Sequence[tuple[float, float]]


def rate(samples: Samples, start_s: float, end_s: float) -> float | None:
    """``rate()`` of a counter over the window, per second; None with fewer than two samples.

    The increase between first and last sample, a fall being a restart from 0, stretched to the window's ends: fully
    where a sample is as near to the end as the spacing lets expect (1.1 times the mean), else by half a spacing, and
    never to before the counter would have been 0.
    """
    gained = increase(samples, start_s, end_s)
    return None if gained is None else gained / (end_s - start_s)


def increase(samples: Samples, start_s: float, end_s: float) -> float | None:
    """``increase()`` of a counter over the window; None with fewer than two samples."""
    if len(samples) < 2:
        return None
    (first_s, first), (last_s, last) = samples[0], samples[-1]
    gained = last - first
    gained += sum(before for (_, before), (_, after) in pairwise(samples) if after < before)
    sampled_s = last_s - first_s
    spacing_s = sampled_s / (len(samples) - 1)
    to_start_s, to_end_s = first_s - start_s, end_s - last_s
    if to_start_s >= 1.1 * spacing_s:
        to_start_s = spacing_s / 2
    if gained > 0 and first >= 0:
        to_start_s = min(to_start_s, sampled_s * (first / gained))
    if to_end_s >= 1.1 * spacing_s:
        to_end_s = spacing_s / 2
    return gained * ((sampled_s + to_start_s + to_end_s) / sampled_s)


def avg_over_time(samples: Samples) -> float | None:
    """``avg_over_time()``; None without a sample."""
    return sum(value for _, value in samples) / len(samples) if samples else None


def max_over_time(samples: Samples) -> float | None:
    """``max_over_time()``; None without a sample."""
    return max((value for _, value in samples), default=None)


def histogram_quantile(q: float, bounds: Sequence[float], cumulative: Sequence[float]) -> float:
    """``histogram_quantile()`` of a classic histogram; NaN without observations.

    Linear within a bucket; the lowest begins at 0; in the highest (+Inf) the bound below it.

    Args:
        q: 0 to 1.
        bounds: upper bounds of the buckets but for +Inf, rising and above 0.
        cumulative: count or rate of the observations up to each bound, and last of all.
    """
    count = cumulative[-1]
    if not count or math.isnan(count):
        return math.nan
    rank = q * count
    bucket = next((i for i, upto in enumerate(cumulative[:-1]) if upto >= rank), len(bounds))
    if bucket == len(bounds):
        return bounds[-1]
    low = bounds[bucket - 1] if bucket else 0.0
    below = cumulative[bucket - 1] if bucket else 0.0
    return low + (bounds[bucket] - low) * (rank - below) / (cumulative[bucket] - below)

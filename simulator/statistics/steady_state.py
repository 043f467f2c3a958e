"""Steady state of one long run: how much warm-up to delete, and an interval from batch means.

Not for runs that end by themselves (a spike, a day): these have no warm-up and are replicated instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from simulator.statistics.intervals import Interval, t_interval

_BATCH: Final = 5


def mser5_warm_up(values: Sequence[float]) -> int | None:
    """Number of observations to delete at the start, by MSER-5.

    Means of five observations each; the cut d minimises the squared standard error of the mean of what is
    left, Σ (x - mean)² / (n - d)². Source: White, Cobb and Spratt, "A comparison of five steady-state
    truncation heuristics for simulation", Winter Simulation Conference 2000.

    Returns:
        None if the best cut lies in the second half: the run is too short to tell warm-up from steady state.

    Raises:
        ValueError: fewer than ten observations.
    """
    count = len(values) // _BATCH
    if count < 2:
        raise ValueError(f"MSER-5 needs at least {2 * _BATCH} observations, got {len(values)}")
    means = np.asarray(values[: count * _BATCH], dtype=float).reshape(count, _BATCH).mean(axis=1)
    # Sums over the tail from d on, for every d at once; shifted to a tail near 0, so that little cancels.
    shifted = means - means[count // 2 :].mean()
    left = np.arange(count, 0, -1)
    tail_sum = np.cumsum(shifted[::-1])[::-1]
    tail_squares = np.cumsum((shifted**2)[::-1])[::-1]
    error = (tail_squares - tail_sum**2 / left) / left.astype(float) ** 2
    # The last few cuts leave too little to judge by: their error falls to 0 by itself.
    cut = int(np.argmin(error[: max(1, count - _BATCH)]))
    return cut * _BATCH if cut <= count // 2 else None


def batch_means(values: Sequence[float], batches: int = 20, confidence: float = 0.95) -> Interval:
    """Mean of a steady-state series, with a t-interval over the means of equal batches.

    Observations at the start that do not fill a batch are left out. Source: Law, section 9.5.3.

    Raises:
        ValueError: fewer than two batches, or fewer observations than batches.
    """
    if batches < 2 or len(values) < batches:
        raise ValueError(f"batch means need 2 batches or more and an observation in each, got {batches}")
    size = len(values) // batches
    series = np.asarray(values, dtype=float)[len(values) - size * batches :]
    return t_interval(series.reshape(batches, size).mean(axis=1).tolist(), confidence)

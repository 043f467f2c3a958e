"""t-intervals over independent replications, and over paired differences.

The estimand is the mean over replications of a figure that each replication yields: "p99 of TTFT" means the
expected p99 of one run of this scenario, not the p99 of all runs thrown together. Source: Law, Simulation
Modeling and Analysis, 5th ed., sections 9.4.1 and 10.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    Attributes:
        mean: over the replications.
        half_width: of the interval; None with fewer than two replications.
        replications: how many.
        confidence: nominal coverage, such as 0.95.
    """

    mean: float
    half_width: float | None
    replications: int
    confidence: float

    @property
    def low(self) -> float | None:
        """Lower end."""
        return None if self.half_width is None else self.mean - self.half_width

    @property
    def high(self) -> float | None:
        """Upper end."""
        return None if self.half_width is None else self.mean + self.half_width


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean of independent replications with a two-sided t-interval.

    Raises:
        ValueError: no values, one that is not finite, or a confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    sample = np.asarray(values, dtype=float)
    if not len(sample) or not np.isfinite(sample).all():
        raise ValueError("an interval needs at least one value, and finite ones")
    mean = float(sample.mean())
    if len(sample) < 2:
        return Interval(mean, None, 1, confidence)
    quantile = float(stats.t.ppf(0.5 + confidence / 2, len(sample) - 1))
    half_width = quantile * float(sample.std(ddof=1)) / math.sqrt(len(sample))
    return Interval(mean, half_width, len(sample), confidence)


@dataclass(frozen=True)
class PairedDifference:
    """Candidate minus base over paired replications.

    Attributes:
        interval: of the mean difference.
        p_value: two-sided paired t-test of no difference; None with fewer than two pairs.
        correlation: between the two over the pairs: how much common random numbers help; None if undefined.
    """

    interval: Interval
    p_value: float | None
    correlation: float | None


def paired_difference(
    base: Sequence[float], candidate: Sequence[float], confidence: float = 0.95
) -> PairedDifference:
    """Difference of two policies that were run on the same random numbers, replication by replication.

    Raises:
        ValueError: the two have not the same number of replications.
    """
    if len(base) != len(candidate):
        raise ValueError(f"pairs need equal numbers of replications, got {len(base)} and {len(candidate)}")
    first, second = np.asarray(base, dtype=float), np.asarray(candidate, dtype=float)
    difference = second - first
    interval = t_interval(difference.tolist(), confidence)
    if len(difference) < 2:
        return PairedDifference(interval, None, None)
    deviation = float(difference.std(ddof=1))
    if deviation:
        t = interval.mean / (deviation / math.sqrt(len(difference)))
        p_value = float(2 * stats.t.sf(abs(t), len(difference) - 1))
    else:
        p_value = 1.0 if interval.mean == 0 else 0.0  # the same in every pair
    correlation = None
    if first.std() and second.std():
        correlation = float(np.corrcoef(first, second)[0, 1])
    return PairedDifference(interval, p_value, correlation)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: comparing each with α keeps the family-wise error at α.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6 (1979).

    Returns:
        Adjusted p-values in the order given.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted

"""Where two cost curves cross, with an interval over replications."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from simulator.statistics import t_interval


@dataclass(frozen=True)
class Crossing:
    """The load from which on the own fleet is cheaper.

    Attributes:
        load: geometric mean over the replications that have one; None if none has.
        low: lower end of its t-interval on a log scale; None with fewer than two.
        high: upper end.
        crossed: replications with a crossing between tested loads.
        always: replications in which the own fleet is cheaper at every load.
        never: replications in which it is not at the highest load.
    """

    load: float | None
    low: float | None
    high: float | None
    crossed: int
    always: int
    never: int


def crossing(loads: Sequence[float], ratios: Sequence[float]) -> float | None:
    """The load from which on a cost ratio stays at 1 or below, by interpolation on log scales.

    Between two loads the logarithm of the ratio is taken to be linear in that of the load: exact for a fleet of
    fixed size that serves all its traffic, whose cost per token falls as one over the load.

    Args:
        loads: rising, above 0.
        ratios: cost of the own fleet over that of the API at each, above 0.

    Returns:
        0 if the ratio is never above 1; None if it is at the last load.
    """
    if not loads or ratios[-1] > 1:
        return None
    above = [i for i, ratio in enumerate(ratios) if ratio > 1]
    if not above:
        return 0.0
    i = above[-1]
    before, after = math.log(ratios[i]), math.log(max(ratios[i + 1], 1e-12))
    share = before / (before - after)
    return math.exp((1 - share) * math.log(loads[i]) + share * math.log(loads[i + 1]))


def break_even(
    loads: Sequence[float], ratios: Sequence[Sequence[float]], confidence: float = 0.95
) -> Crossing:
    """The crossing over replications.

    Args:
        loads: rising.
        ratios: for each replication, cost of the own fleet over that of the API at each load.
        confidence: of the interval.

    Raises:
        ValueError: the loads do not rise.
    """
    if any(b <= a for a, b in itertools.pairwise(loads)):
        raise ValueError("loads must rise")
    found = [crossing(loads, own) for own in ratios]
    logs = [math.log(load) for load in found if load]
    always, never = found.count(0.0), found.count(None)
    if not logs:
        return Crossing(None, None, None, 0, always, never)
    interval = t_interval(logs, confidence)
    half = interval.half_width
    return Crossing(
        math.exp(interval.mean),
        None if half is None else math.exp(interval.mean - half),
        None if half is None else math.exp(interval.mean + half),
        len(logs),
        always,
        never,
    )

"""Predictive scaling: the replicas that last period's curve says will be needed one cold start from now. Pure.

The rule: replicas = ceil(highest rate between now and now + lead × (1 + margin) / rate of one replica). The look at the
whole interval and not only at its end keeps replicas that are still needed until then. No product is meant; AWS'
predictive scaling and home-made cron jobs from a dashboard do this with other curves.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

from simulator.autoscaling.decision import Decision
from simulator.units import PS_PER_S


@dataclass(frozen=True, slots=True)
class Curve:
    """Requests a second over a period, a step function.

    Attributes:
        starts_ps: where the steps begin; the first at 0, rising.
        rates_per_s: one for each.
        period_ps: after which it repeats.
    """

    starts_ps: tuple[int, ...]
    rates_per_s: tuple[float, ...]
    period_ps: int

    def highest(self, from_ps: int, to_ps: int) -> float:
        """Highest rate in [from, to]."""
        if to_ps - from_ps >= self.period_ps:
            return max(self.rates_per_s)
        start, end = from_ps % self.period_ps, to_ps % self.period_ps
        first, last = bisect_right(self.starts_ps, start) - 1, bisect_right(self.starts_ps, end) - 1
        if start <= end:
            return max(self.rates_per_s[first : last + 1])
        return max(*self.rates_per_s[first:], *self.rates_per_s[: last + 1])


@dataclass(frozen=True, slots=True)
class ForecastSpec:
    """How a curve becomes replicas.

    Attributes:
        curve: last period's.
        offset_ps: place of the run's time 0 in it.
        lead_ps: how far to look ahead: the cold start.
        rate_per_replica: requests a second that one serves within the SLO.
        margin: added share.
        min_replicas: lower limit.
        max_replicas: upper limit.
        interval_ps: between looks.
    """

    curve: Curve
    lead_ps: int
    rate_per_replica: float
    offset_ps: int = 0
    margin: float = 0.0
    min_replicas: int = 0
    max_replicas: int = 1000
    interval_ps: int = 15 * PS_PER_S


@dataclass(frozen=True, slots=True)
class ForecastState:
    """Nothing is remembered."""


@dataclass(frozen=True, slots=True)
class ForecastSnapshot:
    """What a look sees: only its settings."""

    spec: ForecastSpec


def decide(state: ForecastState, snapshot: ForecastSnapshot, now: int) -> tuple[ForecastState, Decision]:
    """The replicas to have asked for by now.

    Args:
        state: nothing.
        snapshot: the settings.
        now: time in picoseconds.
    """
    spec = snapshot.spec
    at = spec.offset_ps + now
    rate = spec.curve.highest(at, at + spec.lead_ps + spec.interval_ps)
    wanted = math.ceil(rate * (1 + spec.margin) / spec.rate_per_replica)
    size = max(spec.min_replicas, min(spec.max_replicas, wanted))
    ahead_s = (spec.lead_ps + spec.interval_ps) / PS_PER_S
    text = f"up to {rate:.3g} requests/s within {ahead_s:g} s from now need {wanted}"
    return state, Decision(size, "Forecast", text)

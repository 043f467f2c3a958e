"""Looking ahead on a curve."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulator.autoscaling.forecast import Curve, ForecastSnapshot, ForecastSpec, ForecastState, decide
from simulator.units import PS_PER_S as S

# 10/s, from 100 s on 35/s, from 160 s on 5/s; again after 300 s.
CURVE = Curve((0, 100 * S, 160 * S), (10.0, 35.0, 5.0), 300 * S)
SPEC = ForecastSpec(CURVE, lead_ps=40 * S, rate_per_replica=10.0, interval_ps=5 * S)


def size(now_s: float, spec: ForecastSpec = SPEC) -> int | None:
    return decide(ForecastState(), ForecastSnapshot(spec), int(now_s * S))[1].replicas


@pytest.mark.parametrize(
    ("now_s", "replicas"),
    [(0, 1), (54, 1), (55, 4), (100, 4), (159, 4), (160, 1), (254, 1), (300 + 60, 4)],
)
def test_orders_one_lead_and_one_interval_ahead_and_keeps_what_is_in_use(now_s: float, replicas: int) -> None:
    assert size(now_s) == replicas


def test_wraps_around_the_period() -> None:
    assert size(299, replace(SPEC, lead_ps=120 * S)) == 4
    assert CURVE.highest(170 * S, 290 * S) == 5.0
    assert CURVE.highest(170 * S, 300 * S) == 10.0
    assert CURVE.highest(0, 300 * S) == 35.0


def test_margin_offset_and_limits() -> None:
    assert size(100, replace(SPEC, margin=0.2)) == 5  # 42 / 10
    assert size(0, replace(SPEC, offset_ps=100 * S)) == 4
    assert size(100, replace(SPEC, max_replicas=3)) == 3
    assert size(200, replace(SPEC, min_replicas=2)) == 2

"""The planner's arithmetic, by hand; the Kalman filter against plain matrices."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.autoscaling.dynamo import (
    DynamoSnapshot,
    DynamoSpec,
    DynamoState,
    Forecast,
    KalmanParameters,
    decide,
    decode_replicas,
    observe,
    prefill_replicas,
)

SPEC = DynamoSpec()


def plan(requests: float, rate: float = 0.5, spec: DynamoSpec = SPEC) -> int | None:
    snapshot = DynamoSnapshot(spec, lambda isl, osl: rate, requests, 1000.0, 200.0, 1)
    return decide(DynamoState(), snapshot, 0)[1].replicas


def test_replicas_are_demand_over_engine_rate() -> None:
    assert plan(360.0) == 4  # 2/s at 0.5/s
    assert plan(361.0) == 5


def test_limits() -> None:
    assert plan(3600.0) == 8
    assert plan(3600.0, spec=replace(SPEC, gpus_per_engine=4)) == 2
    assert plan(3600.0, spec=replace(SPEC, max_gpu_budget=-1)) == 40
    assert plan(1.0, spec=replace(SPEC, min_endpoint=3)) == 3


def test_nothing_is_decided_before_the_first_request_or_without_a_model() -> None:
    assert plan(0.0) is None
    assert plan(math.nan) is None
    assert plan(10.0, rate=0.0) is None


def test_constant_predicts_the_last_value() -> None:
    forecast, predicted = observe(Forecast(), 7.0, SPEC)
    assert predicted == 7.0
    assert observe(forecast, 0.0, SPEC)[1] == 0.0


@given(st.lists(st.floats(0.1, 1e4), min_size=1, max_size=12), st.booleans())
def test_kalman_is_the_textbook_filter(values: list[float], log1p: bool) -> None:
    parameters = KalmanParameters(q_level=2.0, q_trend=0.3, r=5.0)
    spec = replace(SPEC, predictor="kalman", kalman=parameters, log1p=log1p)
    f = np.array([[1.0, 1.0], [0.0, 1.0]])
    q, p, x = np.diag([2.0, 0.3]), np.eye(2) * 1000.0, np.zeros(2)
    h = np.array([[1.0, 0.0]])
    forecast = Forecast()
    for index, value in enumerate(values):
        z = math.log1p(value) if log1p else value
        if index == 0:
            x = np.array([z, 0.0])
        else:
            gain = (p @ h.T) / (h @ p @ h.T + 5.0)
            x = x + (gain * (z - x[0])).ravel()
            p = (np.eye(2) - gain @ h) @ p
        x, p = f @ x, f @ p @ f.T + q
        expected = max(0.0, math.expm1(x[0])) if log1p else x[0]
        forecast, predicted = observe(forecast, value, spec)
        assert predicted == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_kalman_follows_a_ramp() -> None:
    spec, forecast, predicted = replace(SPEC, predictor="kalman"), Forecast(), 0.0
    for value in range(100, 1100, 100):
        forecast, predicted = observe(forecast, float(value), spec)
    assert predicted == pytest.approx(1100.0, rel=0.02)


def test_disaggregated_formulas() -> None:
    # 360 requests × 1000 tokens / 180 s = 2000/s; 500/s a GPU, 2 GPUs an engine: 2.
    assert prefill_replicas(360, 1000, 180, 500, 2) == 2
    assert prefill_replicas(360, 1000, 180, 500, 2, correction=0.4) == 1
    assert prefill_replicas(360, 1000, 180, 500, 2, correction=3.0) == 2  # only downwards
    # 360 × 200 / 180 = 400/s; the best at 25 ms (50 ms corrected by 2) is 90/s a GPU.
    throughput = {0.05: 150.0, 0.025: 90.0}.__getitem__
    assert decode_replicas(360, 200, 180, throughput, 0.05, 1) == 3
    assert decode_replicas(360, 200, 180, throughput, 0.05, 1, correction=2.0) == 5

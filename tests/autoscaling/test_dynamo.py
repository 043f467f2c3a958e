"""The planner's throughput-based scaling, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from simulator.autoscaling.decision import Decision
from simulator.autoscaling.dynamo import (
    DynamoSnapshot,
    DynamoState,
    decide,
    decode_replicas,
    prefill_replicas,
)
from simulator.autoscaling.dynamo_plan import DynamoSpec, Inventory
from simulator.autoscaling.dynamo_predictors import PredictorSpec
from simulator.units import PS_PER_S

SPEC = DynamoSpec("sla", PredictorSpec("constant"))


def step(
    state: DynamoState,
    requests: float,
    inventory: Inventory,
    rate: float = 0.5,
    spec: DynamoSpec = SPEC,
    isl: float = 1000.0,
    now_s: int = 0,
) -> tuple[DynamoState, Decision]:
    snapshot = DynamoSnapshot(spec, lambda i, o: rate, requests, isl, 200.0, inventory)
    return decide(state, snapshot, now_s * PS_PER_S)


def plan(requests: float, rate: float = 0.5, spec: DynamoSpec = SPEC, ready: int = 1) -> int | None:
    return step(DynamoState(), requests, Inventory(ready), rate, spec)[1].replicas


def test_replicas_are_demand_over_engine_rate() -> None:
    assert plan(360.0) == 4  # 2/s at 0.5/s
    assert plan(361.0) == 5
    assert plan(90.0) is None  # one is what there is


def test_a_pass_changes_eight_replicas_at_most() -> None:
    free = replace(SPEC, max_gpu_budget=-1)
    assert plan(3600.0, spec=free) == 9  # of 40
    assert plan(3600.0, spec=free, ready=35) == 40
    assert plan(90.0, spec=free, ready=20) == 12
    assert plan(3600.0, spec=replace(free, max_change=2)) == 3


def test_limits() -> None:
    assert plan(3600.0) == 8
    assert plan(3600.0, spec=replace(SPEC, gpus_per_engine=4)) == 2
    assert plan(1.0, spec=replace(SPEC, min_endpoint=3)) == 3
    assert plan(1.0, spec=replace(SPEC, min_endpoint=12, max_gpu_budget=-1)) == 12  # past the eight


def test_the_lengths_asked_for_are_rounded_up() -> None:
    asked = []
    snapshot = DynamoSnapshot(SPEC, lambda i, o: asked.append((i, o)) or 1.0, 10.0, 100.2, 7.0, Inventory(1))
    decide(DynamoState(), snapshot, 0)
    assert asked == [(101, 7)]


def test_nothing_is_decided_before_the_first_request_or_without_a_model() -> None:
    assert plan(0.0, ready=3) is None
    assert plan(math.nan) is None
    assert plan(10.0, rate=0.0, ready=3) is None


def test_an_idle_interval_keeps_the_last_lengths() -> None:
    state, _ = step(DynamoState(), 360.0, Inventory(4))
    state, decision = step(state, 0.0, Inventory(4), isl=math.nan)
    assert decision.replicas == 1
    assert (state.requests.last, state.input_tokens.last) == (0.0, 1000.0)
    assert state.input_tokens.points == 2  # carried forward as a value
    state, _ = step(state, 5.0, Inventory(1), isl=math.nan)  # requests came, none has ended
    assert state.input_tokens.points == 2


def test_a_larger_size_waits_until_all_are_ready() -> None:
    assert step(DynamoState(), 720.0, Inventory(4, pending=1))[1].replicas is None
    assert step(DynamoState(), 720.0, Inventory(5))[1].replicas == 8
    assert step(DynamoState(), 720.0, Inventory(9, ending=True))[1].reason == "ScalingInProgress"


def test_a_reduction_during_startup_needs_two_passes() -> None:
    starting = Inventory(4, pending=2)
    state, decision = step(DynamoState(), 180.0, starting)
    assert decision.replicas is None
    state, decision = step(state, 180.0, starting, now_s=180)
    assert decision.replicas == 2
    other, decision = step(state, 180.0, Inventory(5, pending=1), now_s=360)  # one became ready
    assert decision.replicas is None
    assert step(other, 720.0, Inventory(5, pending=1), now_s=540)[0].candidate is None


def test_a_failed_prediction_proposes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "simulator.autoscaling.dynamo.observe", lambda forecast, value, spec: (forecast, None)
    )
    assert step(DynamoState(), 360.0, Inventory(1))[1].reason == "PredictionFailed"


def test_disaggregated_formulas() -> None:
    # 360 requests × 1000 tokens / 180 s = 2000/s; 500/s a GPU, 2 GPUs an engine: 2.
    assert prefill_replicas(360, 1000, 180, 500, 2) == 2
    assert prefill_replicas(360, 1000, 180, 500, 2, correction=0.4) == 1
    assert prefill_replicas(360, 1000, 180, 500, 2, correction=3.0) == 2  # only downwards
    # 360 × 200 / 180 = 400/s; the best at 25 ms (50 ms corrected by 2) is 90/s a GPU.
    throughput = {0.05: 150.0, 0.025: 90.0}.__getitem__
    assert decode_replicas(360, 200, 180, throughput, 0.05, 1) == 3
    assert decode_replicas(360, 200, 180, throughput, 0.05, 1, correction=2.0) == 5

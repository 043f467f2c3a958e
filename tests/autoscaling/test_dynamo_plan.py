"""The planner's GPU budget, and what it writes while replicas start or end."""

from __future__ import annotations

import pytest

from simulator.autoscaling.decision import Decision
from simulator.autoscaling.dynamo_plan import DynamoSpec, Inventory, clamp, guard, in_budget, project
from simulator.units import PS_PER_S


def spec(low: int = -1, high: int = -1, gpus: int = 1, least: int = 1) -> DynamoSpec:
    return DynamoSpec(min_gpu_budget=low, max_gpu_budget=high, gpus_per_engine=gpus, min_endpoint=least)


@pytest.mark.parametrize(
    ("limits", "replicas", "inside"),
    [
        (spec(high=8, gpus=4), 2, True),
        (spec(high=8, gpus=4), 3, False),
        (spec(low=5, gpus=2), 2, False),
        (spec(low=5, high=5, gpus=2), 2, True),  # 4 is within a replica of 5
        (spec(low=5, high=5, gpus=2), 3, False),  # the upper limit is hard
        (spec(), 1000, True),
    ],
)
def test_the_budget_band(limits: DynamoSpec, replicas: int, inside: bool) -> None:
    assert in_budget(limits, replicas) is inside


def test_the_nearest_size_in_the_budget() -> None:
    assert clamp(spec(high=10, gpus=4), 7) == 2
    assert clamp(spec(high=3, gpus=4), 7) == 0  # not even the least replica fits
    assert clamp(spec(low=9, gpus=2), 1) == 5


def test_the_guard_never_turns_a_proposal_around() -> None:
    assert guard(spec(high=8), 8, 10) == 8  # full
    assert guard(spec(low=4), 4, 2) == 4  # at the lower limit
    assert guard(spec(high=8), 5, 12) == 8
    assert guard(spec(low=4), 6, 2) == 4
    assert guard(spec(high=8), 12, 13) == 8  # outside: put right


def test_a_settled_fleet_below_the_least_is_put_right() -> None:
    nothing = Decision(None, "Unchanged", "calm")
    assert project(None, nothing, Inventory(1), spec(least=3), 0)[1].replicas == 3
    assert project(None, nothing, Inventory(12), spec(high=8), 0)[1].replicas == 8
    assert project(None, nothing, Inventory(3), spec(least=3), 0)[1].replicas is None


def test_a_reduction_during_startup_must_last_a_load_interval() -> None:
    limits, starting = spec(), Inventory(4, pending=2)
    down = Decision(3, "ScaleDown", "calm")
    candidate, decision = project(None, down, starting, limits, 0)
    assert decision.replicas is None
    candidate, decision = project(candidate, down, starting, limits, 4 * PS_PER_S)
    assert decision.replicas is None
    candidate, decision = project(candidate, down, starting, limits, 5 * PS_PER_S)
    assert decision.replicas == 3
    assert project(candidate, Decision(None, "Unchanged", ""), starting, limits, 0)[0] is None
    assert project(candidate, Decision(6, "ScaleUp", ""), starting, limits, 0)[0] is None
    assert project(None, down, starting, spec(low=4), 0)[0] is None  # below the lower GPU limit

"""CloudWatch alarms and Application Auto Scaling, rule by rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulator.autoscaling.sagemaker import (
    Alarm,
    Cooldown,
    Policy,
    SageMakerSnapshot,
    SageMakerState,
    StepAdjustment,
    StepScaling,
    TargetTracking,
    alarm_state,
    decide,
)
from simulator.units import PS_PER_S as S

TRACK = TargetTracking("tt", 100.0)
STEP = StepScaling(
    "step",
    Alarm(100.0),
    (StepAdjustment(1, 0.0, 20.0), StepAdjustment(3, 20.0, None)),
)


def look(
    values: list[float | None],
    capacity: int,
    now: int = 0,
    *,
    policy: Policy = TRACK,
    state: SageMakerState | None = None,
    limits: tuple[int, int] = (1, 20),
) -> tuple[SageMakerState, int | None, str]:
    snapshot = SageMakerSnapshot((policy,), (tuple(values),), capacity, *limits)
    state, decision = decide(state or SageMakerState(), snapshot, now)
    return state, decision.replicas, decision.reason


def test_alarm_high_takes_three_of_three_periods() -> None:
    assert look([500, 500], 2)[1] is None
    assert look([99, 500, 500], 2)[1] is None
    assert look([101, 500, 250], 2)[1] == 5  # ceil(2 × 250 / 100)


def test_alarm_high_is_strictly_above_the_target() -> None:
    assert look([100.0] * 3, 2)[1] is None


def test_alarm_low_takes_fifteen_periods_below_ninety_per_cent() -> None:
    assert look([89.0] * 14, 4)[1] is None
    assert look([90.0] + [10.0] * 14, 4)[1] is None
    assert look([89.0] * 15, 4)[1:] == (None, "NotScaled")  # ceil(4 × 0.89) = 4
    assert look([10.0] * 15, 4)[1:] == (3, "ScaleIn")  # one at a time


def test_missing_data_is_insufficient_and_scales_nothing_in() -> None:
    assert alarm_state(TRACK.low, [None] * 20) == "INSUFFICIENT_DATA"
    assert look([None] * 20, 4)[1] is None
    assert look([10.0] * 14 + [None], 4)[1] is None


@pytest.mark.parametrize(
    ("treat", "expected"), [("breaching", "ALARM"), ("notBreaching", "OK"), ("missing", "INSUFFICIENT_DATA")]
)
def test_treatment_of_missing_data(treat: str, expected: str) -> None:
    assert alarm_state(Alarm(1.0, periods=3, datapoints=2, missing_data=treat), [None] * 3) == expected  # type: ignore[arg-type]


def test_m_of_n_datapoints() -> None:
    alarm = Alarm(1.0, periods=5, datapoints=3)
    assert alarm_state(alarm, [2, 0, 2, 0, 2]) == "ALARM"
    assert alarm_state(alarm, [2, 0, 0, 0, 2]) == "OK"


def test_scale_out_cooldown_counts_what_was_added() -> None:
    state, size, _ = look([200.0] * 3, 4, 0)
    assert (size, state.scale_out) == (8, Cooldown(300 * S, 4))
    # The metric has not fallen yet: 4 × 2 is what there is; no more is added.
    assert look([200.0] * 3, 8, 60 * S, state=state)[1] is None
    # More load is a larger scale-out, from the same base.
    larger, size, _ = look([250.0] * 3, 8, 120 * S, state=state)
    assert (size, larger.scale_out) == (10, Cooldown(420 * S, 4))
    # After it the present capacity is the base.
    assert look([200.0] * 3, 8, 300 * S, state=state)[1] == 16


def test_scale_in_cooldown_blocks_scale_in_and_a_scale_out_ends_it() -> None:
    state, size, _ = look([10.0] * 15, 6, 0)
    assert (size, state.scale_in) == (5, Cooldown(300 * S, 6))
    assert look([10.0] * 15, 5, 60 * S, state=state)[1:] == (None, "ScaleInCooldown")
    state, size, _ = look([150.0] * 3, 5, 120 * S, state=state)
    assert (size, state.scale_in) == (8, None)


def test_disable_scale_in() -> None:
    assert look([10.0] * 15, 6, policy=replace(TRACK, disable_scale_in=True))[1] is None


def test_limits() -> None:
    assert look([900.0] * 3, 4, limits=(1, 10))[1] == 10
    assert look([1.0] * 15, 4, limits=(4, 10))[1] is None


def test_several_policies_largest_out_and_all_agree_on_in() -> None:
    two = (TRACK, TargetTracking("b", 10.0))

    def both(first: list[float | None], second: list[float | None]) -> int | None:
        snapshot = SageMakerSnapshot(two, (tuple(first), tuple(second)), 4, 1, 20)
        return decide(SageMakerState(), snapshot, 0)[1].replicas

    assert both([150.0] * 3, [20.0] * 3) == 8
    assert both([10.0] * 15, [10.0] * 15) is None
    assert both([10.0] * 15, [1.0] * 15) == 3
    assert both([10.0] * 15, [None] * 15) is None  # insufficient data agrees to nothing


@pytest.mark.parametrize(("value", "size"), [(100.5, 5), (119.9, 5), (120.0, 7), (500.0, 7)])
def test_step_by_breach_size(value: float, size: int) -> None:
    assert look([value], 4, policy=STEP)[1] == size


def test_step_without_a_matching_interval_does_nothing() -> None:
    policy = replace(STEP, steps=(StepAdjustment(3, 20.0, None),))
    assert look([110.0], 4, policy=policy)[1] is None


def test_step_cooldown_adds_only_the_difference() -> None:
    # AWS' own example: +2 added, then a step of +3 within the cooldown adds one more.
    policy = replace(STEP, steps=(StepAdjustment(2, 0.0, 20.0), StepAdjustment(3, 20.0, None)))
    state, size, _ = look([110.0], 4, policy=policy)
    assert size == 6
    assert look([130.0], 6, 60 * S, policy=policy, state=state)[1] == 7
    assert look([110.0], 6, 60 * S, policy=policy, state=state)[1] is None


@pytest.mark.parametrize(
    ("kind", "adjustment", "minimum", "capacity", "size"),
    [
        ("PercentChangeInCapacity", 25, 0, 10, 12),  # 2.5 rounded down
        ("PercentChangeInCapacity", 10, 0, 5, 6),  # 0.5 rounded up
        ("PercentChangeInCapacity", 25, 2, 4, 6),  # AWS' example
        ("PercentChangeInCapacity", -25, 0, 10, 8),
        ("PercentChangeInCapacity", -10, 0, 5, 4),
        ("ExactCapacity", 9, 0, 4, 9),
        ("ExactCapacity", 2, 0, 4, 2),
        ("ChangeInCapacity", -1, 0, 4, 3),
    ],
)
def test_adjustment_types(kind: str, adjustment: int, minimum: int, capacity: int, size: int) -> None:
    policy = replace(
        STEP,
        adjustment_type=kind,
        min_adjustment_magnitude=minimum,
        steps=(StepAdjustment(adjustment),),
    )
    assert look([150.0], capacity, policy=policy)[1] == size


def test_step_leaves_zero() -> None:
    policy = StepScaling(
        "from-zero",
        Alarm(1.0, "GreaterThanOrEqualToThreshold", missing_data="notBreaching"),
        (StepAdjustment(1, 0.0),),
    )
    assert look([None], 0, policy=policy, limits=(0, 5))[1] is None
    assert look([3.0], 0, policy=policy, limits=(0, 5))[1] == 1

"""SageMaker endpoints: CloudWatch alarms, and Application Auto Scaling's target tracking and step scaling. Pure.

`decide` is one look at the alarms, which CloudWatch takes once a period. All policies of an endpoint are looked at
together: the largest capacity wins, and a scale-in happens only if no policy wants to scale out and every
target-tracking policy that may scale in wants to.

Sources: AWS, Application Auto Scaling user guide (target tracking, step scaling, cooldowns) and API reference;
SageMaker developer guide; re:Post "SageMaker autoscaling delay" for the alarms' 3 of 3 and 15 of 15 periods and the
90 %. AWS does not publish the sizes of target tracking: scale-out in proportion is what users see, the size of a
scale-in is an assumption (`TargetTracking.scale_in_step`), and so is that a larger scale-out within a cooldown
restarts it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from simulator.autoscaling.decision import Decision
from simulator.units import PS_PER_S

AlarmState = Literal["OK", "ALARM", "INSUFFICIENT_DATA"]
Comparison = Literal[
    "GreaterThanThreshold",
    "GreaterThanOrEqualToThreshold",
    "LessThanThreshold",
    "LessThanOrEqualToThreshold",
]
MissingData = Literal["missing", "breaching", "notBreaching", "ignore"]


@dataclass(frozen=True, slots=True)
class Alarm:
    """A CloudWatch alarm: ``datapoints`` of the last ``periods`` values breach the threshold."""

    threshold: float
    comparison: Comparison = "GreaterThanThreshold"
    periods: int = 1
    datapoints: int = 1
    missing_data: MissingData = "missing"


@dataclass(frozen=True, slots=True)
class TargetTracking:
    """A TargetTrackingScaling policy, cooldowns in picoseconds.

    Attributes:
        name: of the policy.
        target: TargetValue.
        scale_out_cooldown_ps: ScaleOutCooldown.
        scale_in_cooldown_ps: ScaleInCooldown.
        disable_scale_in: DisableScaleIn.
        periods_high: how many periods in a row must be above the target.
        periods_low: how many in a row must be below 90 % of it.
        scale_in_step: the most instances that one scale-in removes (assumed: AWS says "more gradually").
    """

    name: str
    target: float
    scale_out_cooldown_ps: int = 300 * PS_PER_S
    scale_in_cooldown_ps: int = 300 * PS_PER_S
    disable_scale_in: bool = False
    periods_high: int = 3
    periods_low: int = 15
    scale_in_step: int = 1

    @property
    def high(self) -> Alarm:
        return Alarm(self.target, "GreaterThanThreshold", self.periods_high, self.periods_high)

    @property
    def low(self) -> Alarm:
        return Alarm(0.9 * self.target, "LessThanThreshold", self.periods_low, self.periods_low)


@dataclass(frozen=True, slots=True)
class StepAdjustment:
    """What to do when metric − threshold lies in [lower, upper), or (lower, upper] for an alarm on low values.

    Attributes:
        adjustment: ScalingAdjustment.
        lower: MetricIntervalLowerBound; None is unbounded.
        upper: MetricIntervalUpperBound; likewise.
    """

    adjustment: int
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True, slots=True)
class StepScaling:
    """A StepScaling policy and the alarm that invokes it.

    Attributes:
        name: of the policy.
        alarm: the user's alarm.
        steps: StepAdjustments.
        adjustment_type: what the steps' numbers mean.
        min_adjustment_magnitude: least change of a PercentChangeInCapacity.
        cooldown_ps: Cooldown.
    """

    name: str
    alarm: Alarm
    steps: tuple[StepAdjustment, ...]
    adjustment_type: Literal["ChangeInCapacity", "PercentChangeInCapacity", "ExactCapacity"] = (
        "ChangeInCapacity"
    )
    min_adjustment_magnitude: int = 0
    cooldown_ps: int = 300 * PS_PER_S


Policy = TargetTracking | StepScaling


@dataclass(frozen=True, slots=True)
class Cooldown:
    """A cooldown in force: until when, and the capacity before the scaling that began it."""

    until_ps: int
    base: int


@dataclass(frozen=True, slots=True)
class SageMakerState:
    """The cooldowns in force; None when there is none."""

    scale_out: Cooldown | None = None
    scale_in: Cooldown | None = None


@dataclass(frozen=True, slots=True)
class SageMakerSnapshot:
    """What a look sees.

    Attributes:
        policies: of the scalable target.
        series: for each policy its metric's values, one a period, oldest first; None for a period without data.
        capacity: desired instances at present.
        min_capacity: of the scalable target.
        max_capacity: likewise.
    """

    policies: tuple[Policy, ...]
    series: tuple[tuple[float | None, ...], ...]
    capacity: int
    min_capacity: int
    max_capacity: int


def _breaches(alarm: Alarm, value: float) -> bool:
    match alarm.comparison:
        case "GreaterThanThreshold":
            return value > alarm.threshold
        case "GreaterThanOrEqualToThreshold":
            return value >= alarm.threshold
        case "LessThanThreshold":
            return value < alarm.threshold
    return value <= alarm.threshold


def alarm_state(alarm: Alarm, values: Sequence[float | None]) -> AlarmState:
    """An alarm's state from its metric's last periods, oldest first.

    With "missing" data alone, or fewer breaching than needed while gaps leave it open, nothing can be told:
    INSUFFICIENT_DATA if there are no values at all, OK otherwise. CloudWatch also looks at a few older periods to fill
    gaps; that is left out.
    """
    given = values[-alarm.periods :]
    window: list[float | None] = [*(None for _ in range(alarm.periods - len(given))), *given]
    if alarm.missing_data in ("breaching", "notBreaching"):
        breaching = sum(
            alarm.missing_data == "breaching" if value is None else _breaches(alarm, value)
            for value in window
        )
        return "ALARM" if breaching >= alarm.datapoints else "OK"
    present = [value for value in window if value is not None]
    if not present:
        return "INSUFFICIENT_DATA"
    return "ALARM" if sum(_breaches(alarm, value) for value in present) >= alarm.datapoints else "OK"


def _step_capacity(policy: StepScaling, value: float, base: int) -> int | None:
    """The capacity that a step asks for; None if no step covers the breach."""
    difference = value - policy.alarm.threshold
    above = policy.alarm.comparison.startswith("Greater")
    for step in policy.steps:
        lower = -math.inf if step.lower is None else step.lower
        upper = math.inf if step.upper is None else step.upper
        if lower <= difference < upper if above else lower < difference <= upper:
            break
    else:
        return None
    if policy.adjustment_type == "ExactCapacity":
        return step.adjustment
    if policy.adjustment_type == "ChangeInCapacity":
        return base + step.adjustment
    change = base * step.adjustment / 100
    # Above 1 rounded down, between 0 and 1 up to 1; likewise below 0.
    whole = math.floor(abs(change)) if abs(change) >= 1 else math.ceil(abs(change))
    whole = max(whole, policy.min_adjustment_magnitude)
    return base + (whole if change > 0 else -whole if change < 0 else 0)


@dataclass(frozen=True, slots=True)
class _Wish:
    """What one policy wants; None leaves the capacity as it is."""

    capacity: int | None
    cooldown_ps: int
    text: str
    vetoes_scale_in: bool = False


def _wish(policy: Policy, values: Sequence[float | None], capacity: int, base_out: int) -> _Wish:
    """What a policy wants.

    Args:
        policy: the policy.
        values: of its metric.
        capacity: at present; what a scale-in counts from.
        base_out: what a scale-out counts from: before the one whose cooldown runs.
    """
    latest = next((value for value in reversed(values) if value is not None), None)
    if isinstance(policy, TargetTracking):
        high, low = alarm_state(policy.high, values), alarm_state(policy.low, values)
        seen = f"{policy.name}: AlarmHigh {high}, AlarmLow {low}" + (
            "" if latest is None else f", metric {latest:g} at target {policy.target:g}"
        )
        if high == "ALARM" and latest is not None:
            # The metric is per instance of the present fleet; counted from the base it is the same load.
            wanted = max(capacity, math.ceil(base_out * latest / policy.target))
            return _Wish(wanted, policy.scale_out_cooldown_ps, seen, True)
        if low == "ALARM" and latest is not None and not policy.disable_scale_in:
            needed = math.ceil(capacity * latest / policy.target)
            wanted = max(needed, capacity - policy.scale_in_step)
            return _Wish(min(wanted, capacity), policy.scale_in_cooldown_ps, seen)
        return _Wish(None, 0, seen, not policy.disable_scale_in)
    state = alarm_state(policy.alarm, values)
    seen = f"{policy.name}: alarm {state}" + ("" if latest is None else f", metric {latest:g}")
    if state != "ALARM":
        return _Wish(None, 0, seen)
    # Data that is missing and counts as breaching comes without a size: it breaches by nothing.
    value = policy.alarm.threshold if latest is None or values[-1] is None else latest
    out = _step_capacity(policy, value, base_out)
    if out is not None and out > base_out:
        return _Wish(max(out, capacity), policy.cooldown_ps, seen, True)
    down = _step_capacity(policy, value, capacity)
    if down is None:
        return _Wish(None, 0, f"{seen}, no step covers it")
    return _Wish(min(down, capacity), policy.cooldown_ps, seen)


def decide(state: SageMakerState, snapshot: SageMakerSnapshot, now: int) -> tuple[SageMakerState, Decision]:
    """One look at all policies' alarms.

    Args:
        state: what the last look left.
        snapshot: what this one sees.
        now: time in picoseconds.
    """
    out = state.scale_out if state.scale_out is not None and now < state.scale_out.until_ps else None
    into = state.scale_in if state.scale_in is not None and now < state.scale_in.until_ps else None
    state = SageMakerState(out, into)
    capacity = snapshot.capacity
    base_out = capacity if out is None else min(out.base, capacity)
    wishes = [
        _wish(policy, values, capacity, base_out)
        for policy, values in zip(snapshot.policies, snapshot.series, strict=True)
    ]
    text = "alarms say: " + "; ".join(wish.text for wish in wishes)

    def limited(size: int) -> int:
        return max(snapshot.min_capacity, min(snapshot.max_capacity, size))

    ups = [wish for wish in wishes if wish.capacity is not None and limited(wish.capacity) > capacity]
    if ups:
        best = max(ups, key=lambda wish: wish.capacity or 0)
        size = limited(best.capacity or 0)
        cooldown = Cooldown(now + best.cooldown_ps, base_out)
        # A scale-out passes a scale-in's cooldown, and ends it.
        return replace(state, scale_out=cooldown, scale_in=None), Decision(
            size, "ScaleOut", f"from {capacity} to {size}; {text}"
        )
    if any(wish.vetoes_scale_in for wish in wishes):
        reason = "ScaleOutCooldown" if out is not None else "NotScaled"
        return state, Decision(None, reason, text)
    downs = [wish for wish in wishes if wish.capacity is not None and limited(wish.capacity) < capacity]
    if not downs:
        return state, Decision(None, "NotScaled", text)
    if into is not None:
        return state, Decision(None, "ScaleInCooldown", text)
    best = max(downs, key=lambda wish: wish.capacity or 0)
    size = limited(best.capacity or 0)
    cooldown = Cooldown(now + best.cooldown_ps, capacity)
    return replace(state, scale_in=cooldown), Decision(size, "ScaleIn", f"from {capacity} to {size}; {text}")

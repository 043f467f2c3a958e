"""From a raw proposal to the size that is written: stabilisation, rate limits, minimum and maximum.

Two paths exist and differ in more than settings: without ``spec.behavior`` (doubling limit, window end included)
and with it (policies over periods, window end excluded). Follows kubernetes/kubernetes,
pkg/controller/podautoscaler/horizontal.go. Logs are tuples in slot order: the controller overwrites the last
outdated slot instead of keeping them sorted, and so do we.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from simulator.autoscaling.hpa_replicas import MAX_INT32, MIN_INT32
from simulator.autoscaling.hpa_spec import ScalingPolicy, ScalingRules
from simulator.autoscaling.hpa_types import Recommendation, ScaleEvent
from simulator.units import PS_PER_S

SCALE_UP_LIMIT_FACTOR: Final = 2
SCALE_UP_LIMIT_MINIMUM: Final = 4

RECENTLY_HIGHER: Final = (
    "recent recommendations were higher than current one, applying the highest recent recommendation"
)
RECENTLY_LOWER: Final = (
    "recent recommendations were lower than current one, applying the lowest recent recommendation"
)
LIMIT_MESSAGES: Final = {
    "DesiredWithinRange": "the desired count is within the acceptable range",
    "TooFewReplicas": "the desired replica count is less than the minimum replica count",
    "TooManyReplicas": "the desired replica count is more than the maximum replica count",
    "ScaleUpLimit": "the desired replica count is increasing faster than the maximum scale rate",
    "ScaleDownLimit": "the desired replica count is decreasing faster than the maximum scale rate",
}


@dataclass(frozen=True, slots=True)
class Stabilized:
    """A proposal after stabilisation, and the log with the raw proposal in it.

    Attributes:
        replicas: the stabilised count.
        reason: ``ScaleUpStabilized`` or ``ScaleDownStabilized`` if it differs from the proposal, else empty.
        recommendations: the new log.
    """

    replicas: int
    reason: str
    recommendations: tuple[Recommendation, ...]


@dataclass(frozen=True, slots=True)
class Limited:
    """A count after the limits; ``reason`` is a key of `LIMIT_MESSAGES`."""

    replicas: int
    reason: str


def _logged(
    log: Sequence[Recommendation], proposal: int, now: int, cutoff_ps: int
) -> tuple[Recommendation, ...]:
    """The log with a proposal in the last slot that is older than the cut-off, else at the end."""
    entries = list(log)
    outdated = [slot for slot, entry in enumerate(entries) if entry.timestamp_ps < cutoff_ps]
    if outdated:
        entries[outdated[-1]] = Recommendation(proposal, now)
    else:
        entries.append(Recommendation(proposal, now))
    return tuple(entries)


def stabilize(proposal: int, log: Sequence[Recommendation], window_ps: int, now: int) -> Stabilized:
    """Without behaviour: the largest of the proposal and the log of the window, the window's end included."""
    cutoff = now - window_ps
    highest = max((entry.replicas for entry in log if entry.timestamp_ps >= cutoff), default=proposal)
    replicas = max(proposal, highest)
    reason = "ScaleDownStabilized" if replicas != proposal else ""
    return Stabilized(replicas, reason, _logged(log, proposal, now, cutoff))


def scale_up_limit(current: int) -> int:
    """Without behaviour: the most replicas that one pass may ask for."""
    return max(SCALE_UP_LIMIT_FACTOR * current, SCALE_UP_LIMIT_MINIMUM)


def limit(current: int, desired: int, min_replicas: int, max_replicas: int) -> Limited:
    """Without behaviour: minimum, maximum and doubling limit; there is no limit on the way down."""
    up_limit = scale_up_limit(current)
    if desired < min_replicas:
        return Limited(min_replicas, "TooFewReplicas")
    if desired > min(max_replicas, up_limit):
        if max_replicas > up_limit:
            return Limited(up_limit, "ScaleUpLimit")
        return Limited(max_replicas, "TooManyReplicas")
    return Limited(desired, "DesiredWithinRange")


def stabilize_with_behavior(
    current: int,
    proposal: int,
    log: Sequence[Recommendation],
    up_window_ps: int,
    down_window_ps: int,
    now: int,
) -> Stabilized:
    """With behaviour: the current size moved into [lowest of the up window, highest of the down window].

    The proposal belongs to both windows; the windows' ends are excluded.
    """
    up_cutoff, down_cutoff = now - up_window_ps, now - down_window_ps
    lowest = min([proposal, *(entry.replicas for entry in log if entry.timestamp_ps > up_cutoff)])
    highest = max([proposal, *(entry.replicas for entry in log if entry.timestamp_ps > down_cutoff)])
    replicas = min(max(current, lowest), highest)
    reason = ""
    if replicas != proposal:
        reason = "ScaleUpStabilized" if proposal >= current else "ScaleDownStabilized"
    return Stabilized(replicas, reason, _logged(log, proposal, now, min(up_cutoff, down_cutoff)))


def change_in_period(events: Sequence[ScaleEvent], period_s: int, now: int) -> int:
    """Sum of the events of the last ``period_s`` seconds; one that is exactly that old no longer counts."""
    cutoff = now - period_s * PS_PER_S
    return sum(event.change for event in events if event.timestamp_ps > cutoff)


def _period_start(
    current: int,
    policy: ScalingPolicy,
    up_events: Sequence[ScaleEvent],
    down_events: Sequence[ScaleEvent],
    now: int,
) -> int:
    added = change_in_period(up_events, policy.period_s, now)
    deleted = change_in_period(down_events, policy.period_s, now)
    return current - added + deleted


def _saturated(value: int) -> int:
    return min(max(value, MIN_INT32), MAX_INT32)


def scale_up_limit_with_rules(
    current: int,
    up_events: Sequence[ScaleEvent],
    down_events: Sequence[ScaleEvent],
    rules: ScalingRules,
    now: int,
) -> int:
    """With behaviour: the most replicas that the policies allow; may be below the current size.

    Args:
        current: scale.spec.replicas.
        up_events: increases.
        down_events: decreases; they give room back.
        rules: scale-up rules with nothing unset.
        now: time in picoseconds.
    """
    if rules.select_policy == "Disabled":
        return current
    proposals = []
    for policy in rules.policies or ():
        start = _period_start(current, policy, up_events, down_events, now)
        if policy.type == "Pods":
            proposed = start + policy.value
        else:
            proposed = math.ceil(float(start) * (1 + float(policy.value) / 100))
        proposals.append(_saturated(proposed))
    if not proposals:
        return current
    return min(proposals) if rules.select_policy == "Min" else max(proposals)


def scale_down_limit_with_rules(
    current: int,
    up_events: Sequence[ScaleEvent],
    down_events: Sequence[ScaleEvent],
    rules: ScalingRules,
    now: int,
) -> int:
    """With behaviour: the fewest replicas that the policies allow; arguments as for `scale_up_limit_with_rules`."""
    if rules.select_policy == "Disabled":
        return current
    proposals = []
    for policy in rules.policies or ():
        start = _period_start(current, policy, up_events, down_events, now)
        if policy.type == "Pods":
            proposed = start - policy.value
        else:
            proposed = math.trunc(float(start) * (1 - float(policy.value) / 100))
        proposals.append(_saturated(proposed))
    if not proposals:
        return current
    # The largest change leaves the fewest replicas.
    return max(proposals) if rules.select_policy == "Min" else min(proposals)


def limit_with_behavior(
    current: int,
    desired: int,
    min_replicas: int,
    max_replicas: int,
    up: ScalingRules,
    down: ScalingRules,
    up_events: Sequence[ScaleEvent],
    down_events: Sequence[ScaleEvent],
    now: int,
) -> Limited:
    """With behaviour: the rate of the direction of travel, and minimum or maximum in that direction only."""
    if desired > current:
        rate = max(scale_up_limit_with_rules(current, up_events, down_events, up, now), current)
        cap, reason = (rate, "ScaleUpLimit") if max_replicas > rate else (max_replicas, "TooManyReplicas")
        if desired > cap:
            return Limited(cap, reason)
    elif desired < current:
        rate = min(scale_down_limit_with_rules(current, up_events, down_events, down, now), current)
        floor, reason = (rate, "ScaleDownLimit") if min_replicas < rate else (min_replicas, "TooFewReplicas")
        if desired < floor:
            return Limited(floor, reason)
    return Limited(desired, "DesiredWithinRange")


def longest_period_s(rules: ScalingRules) -> int:
    """The longest period of the policies, in seconds; 0 without policies."""
    return max((policy.period_s for policy in rules.policies or ()), default=0)


def store_event(
    events: Sequence[ScaleEvent], change: int, rules: ScalingRules, now: int
) -> tuple[ScaleEvent, ...]:
    """The events of one direction with a new one, in the last outdated slot if there is one.

    Args:
        events: earlier events of the direction.
        change: replicas added or removed, positive.
        rules: the rules of the direction; an event older than their longest period is outdated.
        now: time in picoseconds.
    """
    cutoff = now - longest_period_s(rules) * PS_PER_S
    entries = [replace(event, outdated=event.outdated or event.timestamp_ps < cutoff) for event in events]
    outdated = [slot for slot, event in enumerate(entries) if event.outdated]
    if outdated:
        entries[outdated[-1]] = ScaleEvent(change, now)
    else:
        entries.append(ScaleEvent(change, now))
    return tuple(entries)

"""How many replicas one metric asks for: tolerance, ratios, per-pod metrics, and metrics of a single number.

Integers where the controller has integers (percentages and means are truncated first), float64 where it has
floats (Python's float is the same), rounding up last. Follows the controller's replica calculator
(kubernetes/kubernetes, pkg/controller/podautoscaler/replica_calculator.go and metrics/utilization.go).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from simulator.autoscaling.hpa_controller import FINISHED_PHASES, HpaController, HpaFlags
from simulator.autoscaling.hpa_pods import (
    MetricUnavailableError,
    group_pods,
    ready_pod_count,
    requests_milli,
)
from simulator.autoscaling.hpa_spec import Behavior
from simulator.autoscaling.hpa_types import Pod, Sample

MAX_INT32: Final = 2**31 - 1
MIN_INT32: Final = -(2**31)
MAX_INT64: Final = 2**63 - 1

NO_PODS: Final = "no pods returned by selector while calculating replica count"
NO_SAMPLES: Final = "did not receive metrics for targeted pods (pods might be unready)"


def go_divide(numerator: float, denominator: float) -> float:
    """Division of two float64, with IEEE infinities and NaN for a zero denominator."""
    if denominator != 0.0:
        return numerator / denominator
    if numerator == 0.0 or math.isnan(numerator):
        return math.nan
    return math.copysign(math.inf, numerator) * math.copysign(1.0, denominator)


def truncated_divide(numerator: int, denominator: int) -> int:
    """Integer division that truncates toward zero, as Go's does."""
    quotient = abs(numerator) // abs(denominator)
    return quotient if (numerator < 0) == (denominator < 0) else -quotient


def ceil_int32(value: float) -> int:
    """Rounded up and saturated to int32; NaN gives 0."""
    if math.isnan(value):
        return 0
    if math.isinf(value) or abs(value) > MAX_INT32:
        return MAX_INT32 if value > 0 else MIN_INT32
    return math.ceil(value)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a ratio may be from 1 without a change.

    Attributes:
        down: below 1.
        up: above 1.
        interval: [1 - down, 1 + up], both ends included (v1.33); else |1 - ratio| <= up. In floats these differ.
    """

    down: float = 0.1
    up: float = 0.1
    interval: bool = True

    def within(self, ratio: float) -> bool:
        """Whether a ratio asks for no change; never for NaN and infinity."""
        if self.interval:
            return (1.0 - self.down) <= ratio <= (1.0 + self.up)
        return abs(1.0 - ratio) <= self.up


def effective_tolerance(behavior: Behavior | None, controller: HpaController) -> Tolerance:
    """The flag's tolerance, or the autoscaler's own in each direction where it is set and the gate is on."""
    down = up = controller.flags.tolerance
    if controller.configurable_tolerance and behavior is not None:
        if behavior.scale_down is not None and behavior.scale_down.tolerance is not None:
            down = behavior.scale_down.tolerance
        if behavior.scale_up is not None and behavior.scale_up.tolerance is not None:
            up = behavior.scale_up.tolerance
    return Tolerance(down, up, controller.interval_tolerance)


@dataclass(frozen=True, slots=True)
class Usage:
    """A ratio to the target and what it was made from.

    Attributes:
        ratio: usage over target.
        average_milli: mean per sample, truncated, in milli-units.
        utilization_percent: per cent of the requests, truncated; None for plain averages.
    """

    ratio: float
    average_milli: int
    utilization_percent: int | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """A proposed replica count and the usage to report with it."""

    replicas: int
    usage_milli: int
    utilization_percent: int | None = None


def utilization_usage(
    values_milli: Mapping[str, int], requests: Mapping[str, int], target_percent: int
) -> Usage:
    """Usage of pods that have both a value and a request, in whole per cent, over the target.

    Raises:
        MetricUnavailableError: the requests sum to 0, or no pod has both.
    """
    known = [name for name in values_milli if name in requests]
    used = sum(values_milli[name] for name in known)
    requested = sum(requests[name] for name in known)
    if requested == 0:
        raise MetricUnavailableError("no metrics returned matched known pods")
    percent = truncated_divide(100 * used, requested)
    ratio = go_divide(float(percent), float(target_percent))
    return Usage(ratio, truncated_divide(used, len(known)), percent)


def average_usage(values_milli: Mapping[str, int], target_milli: int) -> Usage:
    """Mean of all values, names of unknown pods included, truncated to a milli-unit, over the target."""
    mean = truncated_divide(sum(values_milli.values()), len(values_milli))
    return Usage(go_divide(float(mean), float(target_milli)), mean)


def _settle(
    current: int,
    tolerance: Tolerance,
    first: Usage,
    second: Usage,
    sample_count: int,
) -> int:
    """The count after filling in; the current one if the fill turned the direction or the change is small."""
    if tolerance.within(second.ratio) or first.ratio < 1.0 < second.ratio or second.ratio < 1.0 < first.ratio:
        return current
    want = ceil_int32(second.ratio * float(sample_count))
    if (second.ratio < 1.0 and want > current) or (second.ratio > 1.0 and want < current):
        return current
    return want


def utilization_replicas(
    current: int,
    target_percent: int,
    samples: Mapping[str, Sample],
    pods: Sequence[Pod],
    resource: str,
    tolerance: Tolerance,
    flags: HpaFlags,
    now: int,
    container: str = "",
    pod_level_resources: bool = True,
    finished_phases: Collection[str] = FINISHED_PHASES,
) -> Count:
    """Replicas for a Resource or ContainerResource metric with a Utilization target.

    Args:
        current: scale.spec.replicas.
        target_percent: averageUtilization.
        samples: usage by pod name.
        pods: the pods of the target.
        resource: name of the resource.
        tolerance: change that is ignored.
        flags: the controller's flags.
        now: time in picoseconds.
        container: of a ContainerResource metric; empty for the whole pod.
        pod_level_resources: see `pod_request_milli`.
        finished_phases: see `group_pods`.

    Raises:
        MetricUnavailableError: no pods, no usable samples or a request that is not set.
    """
    if not pods:
        raise MetricUnavailableError(NO_PODS)
    groups = group_pods(pods, samples, resource, flags, now, finished_phases)
    dropped = {*groups.ignored, *groups.unready}
    values = {name: sample.value_milli for name, sample in samples.items() if name not in dropped}
    if not values:
        raise MetricUnavailableError(NO_SAMPLES)
    requests = requests_milli(pods, resource, container, pod_level_resources)
    first = utilization_usage(values, requests, target_percent)
    boost = bool(groups.unready) and first.ratio > 1.0
    if not boost and not groups.missing:
        within = tolerance.within(first.ratio)
        replicas = current if within else ceil_int32(first.ratio * float(groups.ready_count))
        return Count(replicas, first.average_milli, first.utilization_percent)
    if first.ratio < 1.0:
        # Taken at 100 % of the request, or at the target if that is higher, so that they never cause a scale-up.
        full_percent = max(100, target_percent)
        values |= {name: truncated_divide(requests[name] * full_percent, 100) for name in groups.missing}
    elif first.ratio > 1.0:
        values |= dict.fromkeys(groups.missing, 0)
    if boost:
        values |= dict.fromkeys(groups.unready, 0)
    second = utilization_usage(values, requests, target_percent)
    replicas = _settle(current, tolerance, first, second, len(values))
    return Count(replicas, first.average_milli, first.utilization_percent)


def average_replicas(
    current: int,
    target_milli: int,
    samples: Mapping[str, Sample],
    pods: Sequence[Pod],
    resource: str,
    tolerance: Tolerance,
    flags: HpaFlags,
    now: int,
    finished_phases: Collection[str] = FINISHED_PHASES,
) -> Count:
    """Replicas for a Pods metric, or a Resource or ContainerResource metric with an AverageValue target.

    Args:
        current: scale.spec.replicas.
        target_milli: averageValue.
        samples: the metric by pod name.
        pods: the pods of the target.
        resource: name of the resource; empty for a Pods metric.
        tolerance: change that is ignored.
        flags: the controller's flags.
        now: time in picoseconds.
        finished_phases: see `group_pods`.

    Raises:
        MetricUnavailableError: no pods or no usable samples.
    """
    if not pods:
        raise MetricUnavailableError(NO_PODS)
    groups = group_pods(pods, samples, resource, flags, now, finished_phases)
    dropped = {*groups.ignored, *groups.unready}
    values = {name: sample.value_milli for name, sample in samples.items() if name not in dropped}
    if not values:
        raise MetricUnavailableError(NO_SAMPLES)
    first = average_usage(values, target_milli)
    boost = bool(groups.unready) and first.ratio > 1.0
    if not boost and not groups.missing:
        within = tolerance.within(first.ratio)
        replicas = current if within else ceil_int32(first.ratio * float(groups.ready_count))
        return Count(replicas, first.average_milli)
    if first.ratio < 1.0:
        values |= dict.fromkeys(groups.missing, target_milli)
    elif first.ratio > 1.0:
        values |= dict.fromkeys(groups.missing, 0)
    if boost:
        values |= dict.fromkeys(groups.unready, 0)
    second = average_usage(values, target_milli)
    return Count(_settle(current, tolerance, first, second, len(values)), first.average_milli)


def value_replicas(
    current: int, target_milli: int, usage_milli: int, pods: Sequence[Pod], tolerance: Tolerance
) -> Count:
    """Replicas for an Object or External metric with a Value target: the ratio times the ready pods.

    Raises:
        MetricUnavailableError: there are pods to count, and none is listed.
    """
    ratio = go_divide(float(usage_milli), float(target_milli))
    if current == 0:
        return Count(ceil_int32(ratio), usage_milli)
    if tolerance.within(ratio):
        return Count(current, usage_milli)
    if not pods:
        raise MetricUnavailableError(f"unable to calculate ready pods: {NO_PODS}")
    return Count(ceil_int32(ratio * float(ready_pod_count(pods))), usage_milli)


def per_pod_replicas(
    status_replicas: int, target_milli: int, usage_milli: int, tolerance: Tolerance
) -> Count:
    """Replicas for an Object or External metric with an AverageValue target, from the status' replicas."""
    ratio = go_divide(float(usage_milli), float(target_milli) * float(status_replicas))
    replicas = status_replicas
    if not tolerance.within(ratio):
        replicas = ceil_int32(go_divide(float(usage_milli), float(target_milli)))
    if float(usage_milli) >= float(MAX_INT64):
        return Count(replicas, MAX_INT64)
    per_pod = math.ceil(float(usage_milli) / float(status_replicas)) if status_replicas else 0
    return Count(replicas, per_pod)


def external_total_milli(values_milli: Sequence[int]) -> int:
    """Sum of an External metric's series, saturating at the largest int64.

    Raises:
        MetricUnavailableError: no series.
    """
    if not values_milli:
        raise MetricUnavailableError("no metrics returned from external metrics API")
    total = 0
    for value in values_milli:
        total += value
        if total > MAX_INT64:
            return MAX_INT64
    return total

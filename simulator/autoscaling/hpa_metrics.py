"""What each entry of ``spec.metrics`` proposes, and how the proposals combine.

Dispatches a metric to its rule in `simulator.autoscaling.hpa_replicas`, words descriptions and errors as the
controller does, and applies the rule of partial failure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simulator.autoscaling.hpa_controller import HpaController
from simulator.autoscaling.hpa_pods import MetricUnavailableError, resource_samples
from simulator.autoscaling.hpa_replicas import (
    Tolerance,
    average_replicas,
    effective_tolerance,
    external_total_milli,
    per_pod_replicas,
    utilization_replicas,
    value_replicas,
)
from simulator.autoscaling.hpa_spec import MetricSpec
from simulator.autoscaling.hpa_types import (
    ExternalValues,
    HpaSnapshot,
    MetricError,
    MetricProposal,
    MetricStatus,
    ObjectValue,
    PodSamples,
    Reading,
    ResourceUsage,
    Sample,
    Scale,
)

METRIC_TYPES = ("Resource", "ContainerResource", "Pods", "Object", "External")


def describe(metric: MetricSpec) -> str:
    """A metric in the controller's words."""
    match metric.type:
        case "Object":
            return f"{metric.described_object[0]} metric {metric.name}"
        case "Pods":
            return f"pods metric {metric.name}"
        case "Resource" | "ContainerResource":
            kind = "resource" if metric.type == "Resource" else "container resource"
            if metric.target.average_value_milli is not None:
                return f"{metric.name} {kind}"
            return f"{metric.name} {kind} utilization (percentage of request)"
        case "External":
            return f"external metric {metric.name}({metric.selector})"
    return metric.name


def _samples(metric: MetricSpec, reading: Reading, controller: HpaController) -> Mapping[str, Sample]:
    if isinstance(reading, PodSamples):
        if metric.type == "Pods" and not reading.samples:
            raise MetricUnavailableError(
                f"unable to get metric {metric.name}: no metrics returned from custom metrics API"
            )
        return reading.samples
    if isinstance(reading, ResourceUsage) and metric.type != "Pods":
        return resource_samples(reading, metric.name, metric.container, controller.requires_container_sample)
    raise TypeError(f"a {metric.type} metric cannot be read from {type(reading).__name__}")


def _per_pod_metric(
    metric: MetricSpec, reading: Reading, scale: Scale, snapshot: HpaSnapshot, tolerance: Tolerance, now: int
) -> tuple[int, MetricStatus]:
    target, controller = metric.target, snapshot.controller
    flags = controller.flags
    samples = _samples(metric, reading, controller)
    resource = "" if metric.type == "Pods" else metric.name
    if target.average_value_milli is not None:
        count = average_replicas(
            scale.spec_replicas,
            target.average_value_milli,
            samples,
            snapshot.pods,
            resource,
            tolerance,
            flags,
            now,
            controller.finished_phases,
        )
    elif target.average_utilization_percent is not None and resource:
        count = utilization_replicas(
            scale.spec_replicas,
            target.average_utilization_percent,
            samples,
            snapshot.pods,
            resource,
            tolerance,
            flags,
            now,
            metric.container,
            controller.pod_level_resources,
            controller.finished_phases,
        )
    elif resource:
        raise MetricUnavailableError(
            f"invalid {describe(metric).removesuffix(' utilization (percentage of request)')} metric source: "
            "neither an average utilization target nor an average value target was set"
        )
    else:
        raise MetricUnavailableError("invalid pods metric source: no average value target was set")
    status = MetricStatus(
        metric.type,
        metric.name,
        average_value_milli=count.usage_milli,
        average_utilization_percent=count.utilization_percent,
    )
    return count.replicas, status


def _single_value_metric(
    metric: MetricSpec, reading: Reading, scale: Scale, snapshot: HpaSnapshot, tolerance: Tolerance
) -> tuple[int, MetricStatus]:
    target = metric.target
    if isinstance(reading, ObjectValue) and metric.type == "Object":
        usage = reading.value_milli
        # Only Object goes by the target's type; External by which value is there.
        by_value, by_average = target.type == "Value", target.type == "AverageValue"
    elif isinstance(reading, ExternalValues) and metric.type == "External":
        usage = external_total_milli(reading.values_milli)
        by_average = target.average_value_milli is not None
        by_value = not by_average
    else:
        raise TypeError(f"a {metric.type} metric cannot be read from {type(reading).__name__}")
    if by_average and target.average_value_milli is not None:
        count = per_pod_replicas(scale.status_replicas, target.average_value_milli, usage, tolerance)
        status = MetricStatus(metric.type, metric.name, average_value_milli=count.usage_milli)
    elif by_value and target.value_milli is not None:
        count = value_replicas(scale.spec_replicas, target.value_milli, usage, snapshot.pods, tolerance)
        status = MetricStatus(metric.type, metric.name, value_milli=count.usage_milli)
    else:
        raise MetricUnavailableError(
            f"invalid {metric.type.lower()} metric source: neither a value target nor an average value target was set"
        )
    return count.replicas, status


def _unavailable_prefix(metric: MetricSpec) -> str:
    """What the controller was doing when the metric failed."""
    match metric.type:
        case "Resource" | "ContainerResource":
            what = "utilization" if metric.target.average_utilization_percent is not None else "usage"
            return f"failed to get {metric.name} {what}: "
        case "Pods":
            return "failed to get pods metric value: "
        case "Object":
            return "failed to get object metric value: "
    return f"failed to get {metric.name} external metric value: "


def propose(metric: MetricSpec, reading: Reading | None, snapshot: HpaSnapshot, now: int) -> MetricProposal:
    """What one metric asks for; never raises for what the controller survives.

    Args:
        metric: the entry of the spec.
        reading: what the metrics API gave for it; None only for a metric of unknown type.
        snapshot: the rest of what the pass sees; its scale must have been read.
        now: time in picoseconds.

    Raises:
        TypeError: the reading is not of the metric's kind.
    """
    description = describe(metric)
    if metric.type not in METRIC_TYPES:
        error = f'unknown metric source type "{metric.type}"'
        return MetricProposal(
            metric.type, metric.name, description, None, error=error, reason="InvalidMetricSourceType"
        )
    assert isinstance(snapshot.scale, Scale)
    tolerance = effective_tolerance(snapshot.spec.behavior, snapshot.controller)
    try:
        if isinstance(reading, MetricError):
            raise MetricUnavailableError(reading.message)
        if reading is None:
            raise TypeError(f"no reading for the {metric.type} metric {metric.name}")
        if metric.type in ("Object", "External"):
            replicas, status = _single_value_metric(metric, reading, snapshot.scale, snapshot, tolerance)
        else:
            replicas, status = _per_pod_metric(metric, reading, snapshot.scale, snapshot, tolerance, now)
    except MetricUnavailableError as unavailable:
        return MetricProposal(
            metric.type,
            metric.name,
            description,
            None,
            error=_unavailable_prefix(metric) + str(unavailable),
            reason=f"FailedGet{metric.type}Metric",
        )
    return MetricProposal(metric.type, metric.name, description, replicas, status)


@dataclass(frozen=True, slots=True)
class Combined:
    """The proposals taken together.

    Attributes:
        replicas: the largest proposal; None if the pass must be abandoned.
        description: the metric that it comes from.
        failure: the first metric that failed; None if none did.
        failed: how many metrics failed.
    """

    replicas: int | None
    description: str
    failure: MetricProposal | None
    failed: int


def combine(proposals: Sequence[MetricProposal], current: int) -> Combined:
    """The largest valid proposal; none if all failed, or if some failed and the rest would scale down."""
    failures = [proposal for proposal in proposals if proposal.replicas is None]
    best: int | None = None
    description = ""
    for proposal in proposals:
        # A first proposal of 0 gives way to any later one, in name too.
        if proposal.replicas is not None and (not best or proposal.replicas > best):
            best, description = proposal.replicas, proposal.description
    if failures and best is not None and best < current:
        best = None
    return Combined(best, description, failures[0] if failures else None, len(failures))

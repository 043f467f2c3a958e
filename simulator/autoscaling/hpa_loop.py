"""The HorizontalPodAutoscaler at work: passes on the clock, the snapshot of each, and what is done with its answer.

The decision itself is `simulator.autoscaling.hpa.decide`. Metric names of the manifest are mapped to exported ones
by the scenario (the job of prometheus-adapter's rules); a name that is exported needs no mapping. A Pods metric is
read per pod; an Object metric is the sum over all series of its name, whatever object it describes; an External metric
has all of them. A metric's selector is held against the labels that are known (pod, model_name, engine, namespace);
others are taken to be as wanted. Resource and ContainerResource metrics come from metrics-server.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from simulator.autoscaling import hpa_types as types
from simulator.autoscaling.autoscaler import total
from simulator.autoscaling.exporters import POD_METRICS
from simulator.autoscaling.hpa import (
    HpaController,
    HpaFlags,
    HpaGates,
    HpaSnapshot,
    HpaSpec,
    HpaState,
    decide,
    record_write,
)
from simulator.autoscaling.metrics_server import RESOURCES, PodTemplate
from simulator.scenario.errors import ScenarioError
from simulator.scenario.manifests.kubernetes import place_in_manifest
from simulator.units import PS_PER_S, to_ps

if TYPE_CHECKING:
    from simpy import Event

    from simulator.autoscaling.autoscaler import MetricsReader, Point, Services
    from simulator.autoscaling.hpa_spec import MetricSpec
    from simulator.cluster.pods import Pod
    from simulator.scenario.autoscaling_kinds import HpaController as HpaControllerSection

_TOLD_OTHERWISE: Final = ("SucceededRescale", "SucceededGetScale", "ReadyForNewScale")
"""Reasons of AbleToScale that every quiet pass and every rescale brings; the rescale has its own event."""


def validate_metrics(
    metrics: Sequence[MetricSpec],
    reader: MetricsReader,
    template: PodTemplate | None,
    *,
    manifest: Path | None = None,
    served: Container[str] = (),
) -> None:
    """Refuse a manifest whose metrics nothing in the simulation has.

    Args:
        metrics: ``spec.metrics`` of the autoscaler.
        reader: where all but resources are read.
        template: the pods' containers, where there is a metrics-server.
        manifest: the autoscaler's file, for the message.
        served: External metrics that another metrics server answers.

    Raises:
        ScenarioError: names the metric's key and what there is.
    """
    for index, metric in enumerate(metrics):
        if metric.type == "External" and metric.name in served:
            continue
        if metric.type in ("Resource", "ContainerResource"):
            reason = _resource_problem(metric, template)
        else:
            reason = _name_problem(metric, reader)
        if reason is None:
            continue
        file, key = None, f"spec.metrics[{index}]"
        if manifest is not None:
            file, key = place_in_manifest(manifest, "HorizontalPodAutoscaler", ["spec", "metrics", index])
        raise ScenarioError(reason, file=file, key=key)


def _name_problem(metric: MetricSpec, reader: MetricsReader) -> str | None:
    exported = reader.exported(metric.name)
    if exported is None:
        return (
            f"nothing exports {metric.name!r}: expected one of {', '.join(reader.names())}, or a mapping for it "
            "under fleet.autoscaling.scrape.metrics in the scenario"
        )
    if metric.type == "Pods" and exported not in POD_METRICS:
        return f"pods do not export {exported!r}, the gateway does: use an Object or External metric"
    return None


def _resource_problem(metric: MetricSpec, template: PodTemplate | None) -> str | None:
    if template is None or metric.name not in RESOURCES:
        return f"metrics-server has no {metric.name!r} of pods: expected one of {', '.join(RESOURCES)}"
    containers = {c.name: c for c in (*template.containers, *template.sidecars)}
    if metric.container and metric.container not in containers:
        return f"the pod has no container {metric.container!r}: expected one of {', '.join(containers)}"
    if metric.target.average_utilization_percent is None:
        return None
    asked = [containers[metric.container]] if metric.container else list(containers.values())
    lacking = [c.name for c in asked if metric.name not in c.requests_milli]
    if lacking and not (not metric.container and metric.name in (template.pod_requests_milli or {})):
        return (
            f"averageUtilization is a share of the request, and container {lacking[0]!r} requests no {metric.name}: "
            "give fleet.deployment a manifest with resources.requests"
        )
    return None


_NO_METRICS: Final = types.MetricError("no metrics returned from custom metrics API")


def _milli(value: float) -> int:
    """A value as prometheus-adapter hands it on: whole milli-units, truncated."""
    return int(value * 1000)


def _sample(point: Point) -> types.Sample:
    return types.Sample(_milli(point.value), point.timestamp_ps, point.window_ps)


def _whole_seconds(t_ps: int) -> int:
    """The API keeps pod times to the second."""
    return t_ps // PS_PER_S * PS_PER_S


def _pod(pod: Pod, template: PodTemplate) -> types.Pod:
    ready = None
    if pod.ready_transition_ps is not None:
        ready = types.ReadyCondition(
            "True" if pod.ready else "False", _whole_seconds(pod.ready_transition_ps)
        )
    return types.Pod(
        name=pod.name,
        phase=pod.phase,
        deletion_ps=pod.deletion_ps,
        start_ps=None if pod.start_ps is None else _whole_seconds(pod.start_ps),
        ready=ready,
        containers=template.containers,
        sidecars=template.sidecars,
        pod_requests_milli=template.pod_requests_milli,
    )


def controller(policy: HpaControllerSection) -> HpaController:
    """The controller that a scenario describes.

    Raises:
        ValueError: a version whose rules are not known.
    """
    return HpaController(
        version=policy.version,
        flags=HpaFlags(
            sync_period_ps=to_ps(policy.sync_period),
            tolerance=policy.tolerance,
            downscale_stabilization_ps=to_ps(policy.downscale_stabilization),
            cpu_initialization_period_ps=to_ps(policy.cpu_initialization_period),
            initial_readiness_delay_ps=to_ps(policy.initial_readiness_delay),
        ),
        gates=HpaGates(
            scale_to_zero=policy.scale_to_zero, configurable_tolerance=policy.configurable_tolerance
        ),
    )


class HpaLoop:
    """One HorizontalPodAutoscaler and its controller.

    Args:
        services: what it works with.
        name: of the autoscaler.
        spec: what it asks for.
        policy: the controller's flags.
        manifest: the autoscaler's file, for error messages.
        ambiguous: whether another HorizontalPodAutoscaler selects the same pods.
        external: External metrics that another metrics server answers, by name: the reading at an instant.

    Raises:
        ScenarioError: the spec names a metric that nothing exports.
    """

    writes_size: Final = True

    def __init__(
        self,
        services: Services,
        name: str,
        spec: HpaSpec,
        policy: HpaControllerSection,
        *,
        manifest: Path | None = None,
        ambiguous: bool = False,
        external: Mapping[str, Callable[[int], types.Reading]] | None = None,
    ) -> None:
        self._external: Final = external or {}
        of_resources = any(metric.type in ("Resource", "ContainerResource") for metric in spec.metrics)
        self._resources = services.resources() if of_resources and services.resources is not None else None
        template = None if self._resources is None else self._resources.template
        validate_metrics(spec.metrics, services.metrics, template, manifest=manifest, served=self._external)
        self._template = template or PodTemplate()
        self.name = name
        self.state = HpaState()
        self._env = services.clock
        self._services = services
        self._spec = spec
        self._policy = policy
        self._controller = controller(policy)
        self._selector_problem: Final = "ambiguous" if ambiguous else None
        self._warnings: tuple[types.HpaEvent, ...] = ()

    def start(self) -> None:
        """Begin with the first pass: at once in v1.37, which sees what the cluster is at this instant."""
        self._env.process(self._run())

    def _run(self) -> Generator[Event, None, None]:
        yield self._env.timeout(self._controller.first_pass_delay_ps)
        for chance in self._services.draws.sequence(f"hpa-pass/{self.name}"):
            self.sync()
            took_s = self._policy.pass_duration.quantile_s(chance)
            yield self._env.timeout(self._controller.flags.sync_period_ps + to_ps(took_s))

    def snapshot(self) -> HpaSnapshot:
        """What a pass sees now; a floor of others is in its spec's minimum."""
        target = self._services.target
        counts, pods = target.counts(), target.pods()
        own = self._spec.effective_min_replicas
        minimum = self._services.floors.raised(own, self._spec.max_replicas)
        return HpaSnapshot(
            spec=self._spec if minimum == own else replace(self._spec, min_replicas=minimum),
            scale=types.Scale(counts.desired, counts.provisioned, self._selector_problem),
            pods=tuple(_pod(pod, self._template) for pod in pods),
            readings=tuple(self._reading(metric, pods) for metric in self._spec.metrics),
            controller=self._controller,
        )

    def sync(self) -> types.HpaDecision:
        """One pass."""
        now = self._env.now
        before = self.state.conditions
        snapshot = self.snapshot()
        state, decision = decide(self.state, snapshot, now)
        if decision.rescale:
            assert decision.desired_replicas is not None
            self._services.target.set_replicas(decision.desired_replicas, now, self.name)
            state, event = record_write(state, snapshot, decision, now)
            self._tell(event.reason, self._describe(decision), float(decision.desired_replicas))
        self.state = state
        self._tell_conditions(before)
        if decision.events != self._warnings:
            for warning in dict.fromkeys(decision.events):  # two metrics may fail alike
                self._tell(warning.reason, warning.message)
            self._warnings = decision.events
        return decision

    def _reading(self, metric: MetricSpec, pods: tuple[Pod, ...]) -> types.Reading:
        if metric.type == "External" and metric.name in self._external:
            return self._external[metric.name](self._env.now)
        if metric.type in ("Resource", "ContainerResource"):
            assert self._resources is not None
            return self._resources.usage(self._env.now)
        points = self._selected(metric)
        if metric.type == "External":
            return types.ExternalValues(tuple(_milli(point.value) for point in points.values()))
        if metric.type == "Object":
            value = total(points)
            return _NO_METRICS if value is None else types.ObjectValue(_milli(value))
        samples = {pod.name: _sample(points[pod.name]) for pod in pods if pod.name in points}
        return types.PodSamples(samples) if samples else _NO_METRICS

    def _selected(self, metric: MetricSpec) -> Mapping[str, Point]:
        reader, selector = self._services.metrics, metric.labels
        points = reader.latest(metric.name, self._env.now)
        if selector is None:
            return points
        return {target: point for target, point in points.items() if selector.matches(reader.labels(target))}

    def _describe(self, decision: types.HpaDecision) -> str:
        values = "; ".join(_metric_text(status) for status in decision.current_metrics)
        read = f" Read: {values}." if values else ""
        return f"From {decision.current_replicas} to {decision.desired_replicas}: {decision.text}.{read}"

    def _tell_conditions(self, before: tuple[types.Condition, ...]) -> None:
        known = {condition.type: (condition.status, condition.reason) for condition in before}
        for condition in self.state.conditions:
            new = (condition.status, condition.reason)
            if condition.status and condition.reason in _TOLD_OTHERWISE:
                continue
            if known.get(condition.type) != new:
                message = f"{condition.type} is {condition.status}: {condition.message}."
                self._tell(condition.reason, message)

    def _tell(self, reason: str, message: str, value: float | None = None) -> None:
        sentence = message if message.endswith(".") else f"{message}."
        self._services.sink.event(self._env.now, "hpa", self.name, reason, sentence, value)


def _metric_text(status: types.MetricStatus) -> str:
    value = status.average_value_milli if status.average_value_milli is not None else status.value_milli
    text = f"{status.name} {value / 1000:g}" if value is not None else status.name
    percent = status.average_utilization_percent
    return text if percent is None else f"{text} ({percent} % of the request)"

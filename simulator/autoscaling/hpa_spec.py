"""What a HorizontalPodAutoscaler asks for, as its controller sees it: plain values, nothing validated.

The manifest reader (`simulator.scenario.manifests.hpa`) refuses what the API server refuses; the controller
itself meets less tidy objects, so these classes can hold an unknown metric type or a target without a value.
The API's defaulting of ``spec.behavior`` lives here too: it happens field by field, and only if behaviour is set.

Source: Kubernetes autoscaling/v2 API and its defaults (pkg/apis/autoscaling/v2/defaults.go).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Final, Literal

from simulator.scenario.manifests.hpa import (
    HpaBehavior,
    HpaManifest,
    HpaMetric,
    HpaScalingRules,
    MetricTargetManifest,
)
from simulator.scenario.manifests.kubernetes import LabelSelector

SelectPolicy = Literal["Max", "Min", "Disabled"]


@dataclass(frozen=True, slots=True)
class MetricTarget:
    """The target of a metric; the controller takes what its kind needs and ignores the rest.

    Attributes:
        type: ``Utilization``, ``Value`` or ``AverageValue``; only Object metrics are decided by it.
        value_milli: ``value`` in milli-units.
        average_value_milli: ``averageValue`` in milli-units.
        average_utilization_percent: ``averageUtilization`` in per cent of the request.
    """

    type: str | None = None
    value_milli: int | None = None
    average_value_milli: int | None = None
    average_utilization_percent: int | None = None


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One entry of ``spec.metrics``.

    Attributes:
        type: ``Resource``, ``ContainerResource``, ``Pods``, ``Object`` or ``External``; anything else is an
            invalid metric source.
        name: name of the resource (``cpu``) or of the metric.
        target: what the metric should be.
        container: the container of a ContainerResource metric.
        selector: the metric's label selector as text; only shown.
        labels: the same as the manifest has it, for who reads the metric.
        described_object: ``Kind`` and ``name`` of an Object metric's object; only shown.
    """

    type: str
    name: str
    target: MetricTarget
    container: str = ""
    selector: str = ""
    described_object: tuple[str, str] = ("", "")
    labels: LabelSelector | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """At most ``value`` pods, or per cent of the pods at the period's start, in ``period_s`` seconds."""

    type: Literal["Pods", "Percent"]
    value: int
    period_s: int


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """``behavior.scaleUp`` or ``behavior.scaleDown``; None is a field that nobody has set.

    Attributes:
        stabilization_window_s: how long recommendations bind; None only before defaulting.
        policies: the rate limits.
        select_policy: which policy's limit applies.
        tolerance: replaces the controller's tolerance in this direction.
    """

    stabilization_window_s: int | None = None
    policies: tuple[ScalingPolicy, ...] | None = None
    select_policy: SelectPolicy | None = None
    tolerance: float | None = None


@dataclass(frozen=True, slots=True)
class Behavior:
    """``spec.behavior``; ``Behavior()`` is ``behavior: {}``, which is not the same as none at all."""

    scale_up: ScalingRules | None = None
    scale_down: ScalingRules | None = None


@dataclass(frozen=True, slots=True)
class HpaSpec:
    """The spec of a HorizontalPodAutoscaler; ``min_replicas`` None means 1, ``behavior`` None the legacy path."""

    max_replicas: int
    min_replicas: int | None = None
    metrics: tuple[MetricSpec, ...] = ()
    behavior: Behavior | None = None

    @property
    def effective_min_replicas(self) -> int:
        return 1 if self.min_replicas is None else self.min_replicas

    @property
    def has_object_or_external_metric(self) -> bool:
        return any(metric.type in ("Object", "External") for metric in self.metrics)


SCALE_UP_DEFAULTS: Final = ScalingRules(
    stabilization_window_s=0,
    policies=(ScalingPolicy("Pods", 4, 15), ScalingPolicy("Percent", 100, 15)),
    select_policy="Max",
)
SCALE_DOWN_DEFAULTS: Final = ScalingRules(
    policies=(ScalingPolicy("Percent", 100, 15),),
    select_policy="Max",
)
"""The window is left to the controller, which fills in its downscale-stabilisation flag."""


def _with_defaults(rules: ScalingRules | None, defaults: ScalingRules) -> ScalingRules:
    if rules is None:
        return defaults
    unset = {
        name: getattr(defaults, name)
        for name in ("stabilization_window_s", "policies", "select_policy")
        if getattr(rules, name) is None
    }
    return replace(rules, **unset)


@cache
def defaulted_rules(behavior: Behavior, downscale_stabilization_s: int) -> tuple[ScalingRules, ScalingRules]:
    """Scale-up and scale-down rules with every unset field filled in, each field alone.

    Args:
        behavior: the behaviour as written.
        downscale_stabilization_s: the controller's --horizontal-pod-autoscaler-downscale-stabilization.
    """
    up = _with_defaults(behavior.scale_up, SCALE_UP_DEFAULTS)
    down = _with_defaults(behavior.scale_down, SCALE_DOWN_DEFAULTS)
    if down.stabilization_window_s is None:
        down = replace(down, stabilization_window_s=downscale_stabilization_s)
    return up, down


def _target(target: MetricTargetManifest) -> MetricTarget:
    return MetricTarget(target.type, target.value, target.average_value, target.average_utilization)


def _metric(metric: HpaMetric) -> MetricSpec:
    if metric.resource is not None:
        return MetricSpec(metric.type, metric.resource.name, _target(metric.resource.target))
    if metric.container_resource is not None:
        source = metric.container_resource
        return MetricSpec(metric.type, source.name, _target(source.target), container=source.container)
    named = metric.pods or metric.object or metric.external
    assert named is not None  # the reader lets no metric through without its source
    of = None if metric.object is None else metric.object.described_object
    return MetricSpec(
        metric.type,
        named.metric.name,
        _target(named.target),
        selector=named.metric.selector_text,
        described_object=("", "") if of is None else (of.kind, of.name),
        labels=named.metric.selector,
    )


def _rules(rules: HpaScalingRules | None) -> ScalingRules | None:
    if rules is None:
        return None
    policies = None
    if rules.policies is not None:
        policies = tuple(ScalingPolicy(p.type, p.value, p.period_seconds) for p in rules.policies)
    return ScalingRules(rules.stabilization_window_seconds, policies, rules.select_policy, rules.tolerance)


def behavior_of(manifest: HpaBehavior) -> Behavior:
    """``behavior`` as a manifest has it."""
    return Behavior(_rules(manifest.scale_up), _rules(manifest.scale_down))


def hpa_spec(manifest: HpaManifest) -> HpaSpec:
    """The spec of a manifest that `simulator.scenario.manifests.load_hpa` has read."""
    spec = manifest.spec
    behavior = None if spec.behavior is None else behavior_of(spec.behavior)
    return HpaSpec(
        max_replicas=spec.max_replicas,
        min_replicas=spec.min_replicas,
        metrics=tuple(_metric(metric) for metric in spec.metrics),
        behavior=behavior,
    )

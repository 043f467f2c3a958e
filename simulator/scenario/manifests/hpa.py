"""The HorizontalPodAutoscaler manifest (autoscaling/v2), read as the API server accepts it.

Limits follow Kubernetes' validation (pkg/apis/autoscaling/validation). ``behavior`` stays None when it is not
given and an empty object when it is ``{}``: the controller treats the two differently. Whether minReplicas may be
0 depends on a gate of the cluster; what does not is that it then needs an Object or External metric.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from simulator.scenario.manifests.kubernetes import (
    FloatQuantity,
    FreeForm,
    KubernetesObject,
    LabelSelector,
    NonNegativeInt,
    ObjectMeta,
    PositiveInt,
    PositiveMilliQuantity,
    load_manifest,
    refuse,
)

DEFAULT_CPU_UTILIZATION_PERCENT: Final = 80


class CrossVersionObjectReference(KubernetesObject):
    """An object by kind and name."""

    api_version: str | None = None
    kind: Annotated[str, Field(min_length=1)]
    name: Annotated[str, Field(min_length=1)]


class MetricIdentifier(KubernetesObject):
    """A metric by name and, perhaps, labels."""

    name: Annotated[str, Field(min_length=1)]
    selector: LabelSelector | None = None

    @property
    def selector_text(self) -> str:
        return "" if self.selector is None else self.selector.text


class MetricTargetManifest(KubernetesObject):
    """What a metric should be; values in milli-units."""

    type: Literal["Utilization", "Value", "AverageValue"]
    value: PositiveMilliQuantity | None = None
    average_value: PositiveMilliQuantity | None = None
    average_utilization: PositiveInt | None = None


def _require_one(target: MetricTargetManifest, kind: str, **choices: int | None) -> None:
    given = [key for key, value in choices.items() if value is not None]
    if not given:
        wanted = " or ".join(choices)
        raise refuse(f"a {kind} metric needs {wanted} above 0", "target", next(iter(choices)))
    if len(given) > 1:
        raise refuse(f"a {kind} metric takes one of {', '.join(given)}", "target", given[1])


class ResourceMetricSource(KubernetesObject):
    """Usage of a resource by whole pods."""

    name: Annotated[str, Field(min_length=1)]
    target: MetricTargetManifest

    @model_validator(mode="after")
    def _has_target(self) -> Self:
        _require_one(
            self.target,
            "Resource",
            averageUtilization=self.target.average_utilization,
            averageValue=self.target.average_value,
        )
        return self


class ContainerResourceMetricSource(KubernetesObject):
    """Usage of a resource by one container of each pod."""

    name: Annotated[str, Field(min_length=1)]
    container: Annotated[str, Field(min_length=1)]
    target: MetricTargetManifest

    @model_validator(mode="after")
    def _has_target(self) -> Self:
        _require_one(
            self.target,
            "ContainerResource",
            averageUtilization=self.target.average_utilization,
            averageValue=self.target.average_value,
        )
        return self


class PodsMetricSource(KubernetesObject):
    """A metric that each pod reports."""

    metric: MetricIdentifier
    target: MetricTargetManifest

    @model_validator(mode="after")
    def _has_target(self) -> Self:
        _require_one(self.target, "Pods", averageValue=self.target.average_value)
        return self


class ObjectMetricSource(KubernetesObject):
    """A metric of one other object."""

    described_object: CrossVersionObjectReference
    metric: MetricIdentifier
    target: MetricTargetManifest

    @model_validator(mode="after")
    def _has_target(self) -> Self:
        _require_one(self.target, "Object", value=self.target.value, averageValue=self.target.average_value)
        return self


class ExternalMetricSource(KubernetesObject):
    """A metric of something outside the cluster."""

    metric: MetricIdentifier
    target: MetricTargetManifest

    @model_validator(mode="after")
    def _has_target(self) -> Self:
        _require_one(self.target, "External", value=self.target.value, averageValue=self.target.average_value)
        return self


_SOURCES: Final = {
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "Pods": "pods",
    "Object": "object",
    "External": "external",
}


class HpaMetric(KubernetesObject):
    """One entry of ``spec.metrics``: its type, and the source that belongs to the type."""

    type: Literal["Resource", "ContainerResource", "Pods", "Object", "External"]
    resource: ResourceMetricSource | None = None
    container_resource: ContainerResourceMetricSource | None = None
    pods: PodsMetricSource | None = None
    object: ObjectMetricSource | None = None
    external: ExternalMetricSource | None = None

    @model_validator(mode="after")
    def _has_its_source(self) -> Self:
        wanted = _SOURCES[self.type]
        given = {
            "resource": self.resource,
            "containerResource": self.container_resource,
            "pods": self.pods,
            "object": self.object,
            "external": self.external,
        }
        for key, source in given.items():
            if source is not None and key != wanted:
                raise refuse(f"a metric of type {self.type} takes {wanted}, not {key}", key)
        if given[wanted] is None:
            raise refuse(f"required for a metric of type {self.type}", wanted)
        return self


class HpaScalingPolicy(KubernetesObject):
    """A rate limit: so many pods, or per cent of the pods, in a period."""

    type: Literal["Pods", "Percent"]
    value: PositiveInt
    period_seconds: Annotated[int, Field(strict=True, ge=1, le=1800)]


class HpaScalingRules(KubernetesObject):
    """How fast to scale in one direction; None is a key that is not given."""

    stabilization_window_seconds: Annotated[int, Field(strict=True, ge=0, le=3600)] | None = None
    select_policy: Literal["Max", "Min", "Disabled"] | None = None
    policies: Annotated[tuple[HpaScalingPolicy, ...], Field(min_length=1)] | None = None
    tolerance: FloatQuantity | None = None


class HpaBehavior(KubernetesObject):
    """``spec.behavior``; the API's defaults for what is not given are applied by the controller's side."""

    scale_up: HpaScalingRules | None = None
    scale_down: HpaScalingRules | None = None


def _default_metrics() -> tuple[HpaMetric, ...]:
    """What the API server fills in: CPU at 80 % of the request."""
    target = {"type": "Utilization", "averageUtilization": DEFAULT_CPU_UTILIZATION_PERCENT}
    return (HpaMetric.model_validate({"type": "Resource", "resource": {"name": "cpu", "target": target}}),)


class HpaSpecManifest(KubernetesObject):
    """``spec`` of a HorizontalPodAutoscaler."""

    scale_target_ref: CrossVersionObjectReference
    min_replicas: NonNegativeInt | None = None
    max_replicas: PositiveInt
    metrics: tuple[HpaMetric, ...] = ()
    behavior: HpaBehavior | None = None

    @model_validator(mode="before")
    @classmethod
    def _default(cls, given: object) -> object:
        if isinstance(given, dict) and not given.get("metrics"):
            return {**given, "metrics": _default_metrics()}
        return given

    @model_validator(mode="after")
    def _check(self) -> Self:
        minimum = 1 if self.min_replicas is None else self.min_replicas
        if self.max_replicas < minimum:
            raise refuse(f"expected at least minReplicas ({minimum}), not {self.max_replicas}", "maxReplicas")
        if minimum == 0 and not any(metric.type in ("Object", "External") for metric in self.metrics):
            raise refuse("0 needs at least one Object or External metric", "minReplicas")
        return self


class HpaManifest(KubernetesObject):
    """A HorizontalPodAutoscaler manifest."""

    api_version: Literal["autoscaling/v2"]
    kind: Literal["HorizontalPodAutoscaler"]
    metadata: ObjectMeta
    spec: HpaSpecManifest
    status: FreeForm | None = None


def load_hpa(path: str | Path) -> HpaManifest:
    """The HorizontalPodAutoscaler in a YAML file.

    Raises:
        ScenarioError: names the file, the key and what was expected.
    """
    convert = (
        "convert it with `kubectl convert` or `kubectl get horizontalpodautoscalers.v2.autoscaling -o yaml`"
    )
    hint = {
        "autoscaling/v1": f"v1 has neither custom metrics nor behavior; {convert}",
        "autoscaling/v2beta1": f"v2beta1 is gone since Kubernetes 1.25; {convert}",
        "autoscaling/v2beta2": f"v2beta2 is gone since Kubernetes 1.26; its spec is that of v2, {convert}",
    }
    return load_manifest(path, HpaManifest, "HorizontalPodAutoscaler", "autoscaling/v2", hint)

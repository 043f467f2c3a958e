"""A Knative Service's autoscaling annotations and the ConfigMap config-autoscaler.

Source: knative/serving, config/core/configmaps/autoscaler.yaml@98e5ef90 (defaults and their meaning); the annotations'
names from Knative's documentation. Not re-read: that a target annotation is multiplied by the utilisation percentage
as containerConcurrency is, and that the percentage applies to requests a second too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from simulator.autoscaling.kpa import KpaSpec
from simulator.scenario.errors import ScenarioError
from simulator.scenario.manifests.kubernetes import (
    FreeForm,
    KubernetesObject,
    NonNegativeInt,
    ObjectMeta,
    load_manifest,
    place_in_manifest,
    refuse,
)
from simulator.scenario.quantities import parse_duration_s
from simulator.units import to_ps

_PREFIX: Final = "autoscaling.knative.dev/"

_CONFIG_DEFAULTS: Final[Mapping[str, str]] = {
    "container-concurrency-target-percentage": "70",
    "container-concurrency-target-default": "100",
    "requests-per-second-target-default": "200",
    "target-burst-capacity": "211",
    "stable-window": "60s",
    "panic-window-percentage": "10.0",
    "panic-threshold-percentage": "200.0",
    "max-scale-up-rate": "1000.0",
    "max-scale-down-rate": "2.0",
    "enable-scale-to-zero": "true",
    "scale-to-zero-grace-period": "30s",
    "scale-to-zero-pod-retention-period": "0s",
    "scale-down-delay": "0s",
    "activation-scale": "1",
    "min-scale": "0",
    "max-scale": "0",
    "initial-scale": "1",
    "tick-interval": "2s",
}
_IGNORED_CONFIG: Final = frozenset(
    {
        "_example",
        "enable-graceful-scaledown",
        "allow-zero-initial-scale",
        "max-scale-limit",
        "pod-autoscaler-class",
    }
)
_ANNOTATIONS: Final = frozenset(
    {
        "class",
        "metric",
        "target",
        "target-utilization-percentage",
        "min-scale",
        "max-scale",
        "minScale",
        "maxScale",
        "initial-scale",
        "activation-scale",
        "window",
        "panic-window-percentage",
        "panic-threshold-percentage",
        "scale-down-delay",
        "scale-to-zero-pod-retention-period",
        "target-burst-capacity",
    }
)


class ConfigMap(KubernetesObject):
    """A ConfigMap."""

    api_version: Literal["v1"]
    kind: Literal["ConfigMap"]
    metadata: ObjectMeta
    data: dict[str, str] = {}
    binary_data: FreeForm = {}
    immutable: bool | None = None


class RevisionMeta(KubernetesObject):
    """``template.metadata``."""

    name: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class RevisionSpec(KubernetesObject):
    """``template.spec``: what matters here; the containers are not looked into."""

    container_concurrency: NonNegativeInt = 0
    timeout_seconds: NonNegativeInt | None = None
    response_start_timeout_seconds: NonNegativeInt | None = None
    idle_timeout_seconds: NonNegativeInt | None = None
    containers: list[FreeForm] = []
    volumes: list[FreeForm] = []
    node_selector: dict[str, str] = {}
    tolerations: list[FreeForm] = []
    affinity: FreeForm | None = None
    service_account_name: str | None = None
    image_pull_secrets: list[FreeForm] = []
    runtime_class_name: str | None = None
    enable_service_links: bool | None = None


class RevisionTemplate(KubernetesObject):
    """``spec.template``."""

    metadata: RevisionMeta = RevisionMeta()
    spec: RevisionSpec = RevisionSpec()

    @model_validator(mode="after")
    def _annotations_are_known(self) -> Self:
        for key in self.metadata.annotations:
            if key.startswith(_PREFIX) and key.removeprefix(_PREFIX) not in _ANNOTATIONS:
                raise refuse("this annotation is not modelled", "metadata", "annotations", key)
        return self


class ServiceSpec(KubernetesObject):
    """``spec`` of a Service."""

    template: RevisionTemplate
    traffic: list[FreeForm] = []


class KnativeService(KubernetesObject):
    """A serving.knative.dev/v1 Service."""

    api_version: Literal["serving.knative.dev/v1"]
    kind: Literal["Service"]
    metadata: Annotated[ObjectMeta, Field()]
    spec: ServiceSpec
    status: FreeForm | None = None


@dataclass(frozen=True)
class KnativeAutoscaling:
    """A revision's autoscaling.

    Attributes:
        name: of the Service.
        spec: the autoscaler's settings.
        metric: what it scales on.
        initial_scale: pods at the start.
    """

    name: str
    spec: KpaSpec
    metric: Literal["concurrency", "rps"]
    initial_scale: int


def load_knative(path: Path, config_path: Path | None) -> KnativeAutoscaling:
    """The autoscaling of the Service in a file, with the ConfigMap of another.

    Raises:
        ScenarioError: names the file, the key and what was expected.
    """
    service = load_manifest(path, KnativeService, "Service", "serving.knative.dev/v1", {})
    config = dict(_CONFIG_DEFAULTS)
    if config_path is not None:
        data = load_manifest(config_path, ConfigMap, "ConfigMap", "v1", {}).data
        for key in data:
            if key not in _CONFIG_DEFAULTS and key not in _IGNORED_CONFIG:
                file, where = place_in_manifest(config_path, "ConfigMap", ["data", key])
                known = ", ".join(_CONFIG_DEFAULTS)
                raise ScenarioError(f"unknown key; expected one of {known}", file=file, key=where)
        config.update({key: value for key, value in data.items() if key in _CONFIG_DEFAULTS})
    reader = _Values(path, config_path, service.spec.template.metadata.annotations, config)
    return reader.autoscaling(service)


@dataclass(frozen=True)
class _Values:
    """Annotations before the ConfigMap; errors name the one that was read."""

    path: Path
    config_path: Path | None
    annotations: Mapping[str, str]
    config: Mapping[str, str]

    def _text(self, annotation: str, key: str) -> tuple[str, bool]:
        for name in (
            annotation,
            {"min-scale": "minScale", "max-scale": "maxScale"}.get(annotation, annotation),
        ):
            given = self.annotations.get(_PREFIX + name)
            if given is not None:
                return given, True
        return self.config[key], False

    def _refuse(self, reason: str, annotation: str, key: str) -> ScenarioError:
        _, annotated = self._text(annotation, key)
        if annotated:
            steps = ["spec", "template", "metadata", "annotations", _PREFIX + annotation]
            file, where = place_in_manifest(self.path, "Service", steps)
        elif self.config_path is not None:
            file, where = place_in_manifest(self.config_path, "ConfigMap", ["data", key])
        else:
            file, where = str(self.path), key
        return ScenarioError(reason, file=file, key=where)

    def number(self, annotation: str, key: str, least: float = 0.0) -> float:
        text, _ = self._text(annotation, key)
        try:
            value = float(text)
        except ValueError:
            raise self._refuse(f"expected a number, got {text!r}", annotation, key) from None
        if value < least:
            raise self._refuse(f"expected at least {least:g}, got {text}", annotation, key)
        return value

    def seconds(self, annotation: str, key: str) -> float:
        text, _ = self._text(annotation, key)
        try:
            return parse_duration_s(text)
        except ValueError as error:
            raise self._refuse(str(error), annotation, key) from None

    def autoscaling(self, service: KnativeService) -> KnativeAutoscaling:
        template = service.spec.template
        if (
            self.annotations.get(_PREFIX + "class", "kpa.autoscaling.knative.dev")
            != "kpa.autoscaling.knative.dev"
        ):
            raise self._refuse(
                "only the class kpa.autoscaling.knative.dev is Knative's own", "class", "class"
            )
        metric = self.annotations.get(_PREFIX + "metric", "concurrency")
        if metric not in ("concurrency", "rps"):
            raise self._refuse(f"expected concurrency or rps, got {metric!r}", "metric", "metric")
        percentage = self.number(
            "target-utilization-percentage", "container-concurrency-target-percentage", least=1e-9
        )
        fraction = percentage / 100 if percentage > 1 else percentage
        concurrency = template.spec.container_concurrency
        if _PREFIX + "target" in self.annotations:
            total = self.number("target", "container-concurrency-target-default", least=1e-9)
            target = total * fraction
            if concurrency and metric == "concurrency":
                total = float(concurrency)
                target = min(target, total * fraction)
        elif metric == "concurrency" and concurrency:
            total, target = float(concurrency), concurrency * fraction
        else:
            key = (
                "container-concurrency-target-default"
                if metric == "concurrency"
                else "requests-per-second-target-default"
            )
            total = self.number("target", key, least=1e-9)
            target = total * fraction if metric == "rps" else total
        stable_s = self.seconds("window", "stable-window")
        panic_share = self.number("panic-window-percentage", "panic-window-percentage", least=1.0) / 100
        up = self.number("max-scale-up-rate", "max-scale-up-rate", least=1.0)
        down = self.number("max-scale-down-rate", "max-scale-down-rate", least=1.0)
        zero = self.config["enable-scale-to-zero"].lower() == "true"
        min_scale = int(self.number("min-scale", "min-scale"))
        initial = max(int(self.number("initial-scale", "initial-scale")), min_scale)
        spec = KpaSpec(
            target=target,
            total=total,
            initial_scale=initial,
            min_scale=min_scale,
            max_scale=int(self.number("max-scale", "max-scale")),
            activation_scale=int(self.number("activation-scale", "activation-scale", least=1)),
            stable_window_ps=to_ps(stable_s),
            panic_window_ps=to_ps(max(1.0, float(round(stable_s * panic_share)))),
            panic_threshold=self.number(
                "panic-threshold-percentage", "panic-threshold-percentage", least=110.0
            )
            / 100,
            max_scale_up_rate=up,
            max_scale_down_rate=down,
            scale_down_delay_ps=to_ps(self.seconds("scale-down-delay", "scale-down-delay")),
            scale_to_zero=zero,
            grace_ps=to_ps(self.seconds("scale-to-zero-grace-period", "scale-to-zero-grace-period")),
            pod_retention_ps=to_ps(
                self.seconds("scale-to-zero-pod-retention-period", "scale-to-zero-pod-retention-period")
            ),
            target_burst_capacity=self.number("target-burst-capacity", "target-burst-capacity", least=-1.0),
            tick_ps=to_ps(self.seconds("tick-interval", "tick-interval")),
        )
        if spec.max_scale and spec.max_scale < spec.min_scale:
            raise self._refuse(f"expected at least min-scale ({spec.min_scale})", "max-scale", "max-scale")
        return KnativeAutoscaling(
            service.metadata.name, spec, "rps" if metric == "rps" else "concurrency", initial
        )

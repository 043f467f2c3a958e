"""The ScaledObject manifest (keda.sh/v1alpha1), read as KEDA's admission accepts it.

Source: kedacore/keda@8b4f083c, apis/keda/v1alpha1/scaledobject_types.go, pkg/scalers/prometheus_scaler.go and
cron_scaler.go for the triggers' metadata. Triggers other than ``prometheus`` and ``cron``, and scaling modifiers, are
refused: nothing in a simulation would feed them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from simulator.autoscaling import hpa_spec
from simulator.autoscaling.cron import CronSchedule
from simulator.autoscaling.keda import Fallback, KedaSpec, Pause, Trigger
from simulator.autoscaling.query import Query, parse_query
from simulator.scenario.manifests.hpa import HpaBehavior
from simulator.scenario.manifests.kubernetes import (
    Bool,
    FreeForm,
    KubernetesObject,
    NonNegativeInt,
    ObjectMeta,
    PositiveInt,
    load_manifest,
    refuse,
)
from simulator.units import PS_PER_S

DEFAULT_MAX_REPLICAS = 100


@dataclass(frozen=True)
class TriggerSource:
    """Where a trigger's value comes from: a query or a schedule.

    Attributes:
        query: of a prometheus trigger.
        schedule: of a cron trigger.
        ignore_null_values: whether no result, infinity and NaN are 0 and not errors.
        use_cached_metrics: whether the HPA gets the last poll's value.
    """

    query: Query | None = None
    schedule: CronSchedule | None = None
    ignore_null_values: bool = True
    use_cached_metrics: bool = False


class ScaleTargetRef(KubernetesObject):
    """What is scaled."""

    name: Annotated[str, Field(min_length=1)]
    api_version: str | None = None
    kind: str | None = None
    env_source_container_name: str | None = None


def _number(metadata: dict[str, str], key: str, default: float | None = None) -> float:
    text = metadata.get(key)
    if text is None:
        if default is None:
            raise refuse("this key is required", "metadata", key)
        return default
    try:
        return float(text)
    except ValueError:
        raise refuse(f"expected a number in quotes, got {text!r}", "metadata", key) from None


def _boolean(metadata: dict[str, str], key: str, default: bool) -> bool:
    text = metadata.get(key)
    if text is None:
        return default
    if text.lower() not in ("true", "false"):
        raise refuse(f'expected "true" or "false", got {text!r}', "metadata", key)
    return text.lower() == "true"


class TriggerManifest(KubernetesObject):
    """One of ``spec.triggers``."""

    type: Annotated[str, Field(min_length=1)]
    name: str | None = None
    metadata: dict[str, str] = {}
    metric_type: Literal["AverageValue", "Value"] = "AverageValue"
    use_cached_metrics: Bool = False
    authentication_ref: FreeForm | None = None

    @model_validator(mode="after")
    def _is_understood(self) -> Self:
        self.source()
        self.threshold()
        return self

    def threshold(self) -> float:
        """Target of the HPA's metric."""
        if self.type == "cron":
            return 1.0
        threshold = _number(self.metadata, "threshold")
        if threshold <= 0:
            raise refuse(f"expected a number above 0, got {threshold:g}", "metadata", "threshold")
        return threshold

    def activation_threshold(self) -> float:
        return 0.0 if self.type == "cron" else _number(self.metadata, "activationThreshold", 0.0)

    def source(self) -> TriggerSource:
        """Where its value comes from."""
        if self.type == "prometheus":
            self._knows(
                "serverAddress",
                "query",
                "queryParameters",
                "threshold",
                "activationThreshold",
                "namespace",
                "customHeaders",
                "ignoreNullValues",
                "unsafeSsl",
                "awsRegion",
                "timeout",
                "authModes",
                "identityOwner",
                "metricName",
            )
            _number(self.metadata, "activationThreshold", 0.0)
            try:
                query = parse_query(self._text("query"))
            except ValueError as error:
                raise refuse(str(error), "metadata", "query") from None
            ignore = _boolean(self.metadata, "ignoreNullValues", True)
            return TriggerSource(query, None, ignore, self.use_cached_metrics)
        if self.type == "cron":
            self._knows("timezone", "start", "end", "desiredReplicas")
            replicas = _number(self.metadata, "desiredReplicas")
            if replicas < 1 or replicas != int(replicas):
                raise refuse("expected a whole number above 0", "metadata", "desiredReplicas")
            try:
                schedule = CronSchedule(
                    self._text("start"), self._text("end"), self._text("timezone"), int(replicas)
                )
            except ValueError as error:
                raise refuse(str(error), "metadata") from None
            return TriggerSource(None, schedule, True, self.use_cached_metrics)
        raise refuse(f"triggers of type {self.type!r} are not modelled; prometheus and cron are", "type")

    def _text(self, key: str) -> str:
        text = self.metadata.get(key, "")
        if not text:
            raise refuse("this key is required", "metadata", key)
        return text

    def _knows(self, *keys: str) -> None:
        for key in self.metadata:
            if key not in keys:
                raise refuse(f"unknown key; expected one of {', '.join(keys)}", "metadata", key)


class FallbackManifest(KubernetesObject):
    """``spec.fallback``."""

    failure_threshold: NonNegativeInt
    replicas: NonNegativeInt
    behavior: Literal["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"] = (
        "static"
    )


class HpaConfig(KubernetesObject):
    """``advanced.horizontalPodAutoscalerConfig``."""

    behavior: HpaBehavior | None = None
    name: str | None = None


class Advanced(KubernetesObject):
    """``spec.advanced``."""

    horizontal_pod_autoscaler_config: HpaConfig | None = None
    restore_to_original_replica_count: Bool = False
    scaling_modifiers: FreeForm | None = None

    @model_validator(mode="after")
    def _no_modifiers(self) -> Self:
        if self.scaling_modifiers:
            raise refuse("scaling modifiers are not modelled", "scalingModifiers")
        return self


class ScaledObjectSpec(KubernetesObject):
    """``spec`` of a ScaledObject."""

    scale_target_ref: ScaleTargetRef
    polling_interval: PositiveInt = 30
    initial_cooldown_period: NonNegativeInt = 0
    cooldown_period: NonNegativeInt = 300
    idle_replica_count: NonNegativeInt | None = None
    min_replica_count: NonNegativeInt = 0
    max_replica_count: PositiveInt = DEFAULT_MAX_REPLICAS
    advanced: Advanced | None = None
    triggers: Annotated[tuple[TriggerManifest, ...], Field(min_length=1)]
    fallback: FallbackManifest | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.min_replica_count > self.max_replica_count:
            raise refuse(
                f"expected at least minReplicaCount ({self.min_replica_count}), not {self.max_replica_count}",
                "maxReplicaCount",
            )
        if self.idle_replica_count is not None and self.idle_replica_count >= self.min_replica_count:
            raise refuse(
                f"expected less than minReplicaCount ({self.min_replica_count}), not {self.idle_replica_count}",
                "idleReplicaCount",
            )
        if self.fallback is not None and all(trigger.type == "cron" for trigger in self.triggers):
            raise refuse("a cron trigger cannot fail: fallback has no effect", "fallback")
        return self


_ANNOTATION = "autoscaling.keda.sh/"
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


class ScaledObjectManifest(KubernetesObject):
    """A ScaledObject manifest."""

    api_version: Literal["keda.sh/v1alpha1"]
    kind: Literal["ScaledObject"]
    metadata: ObjectMeta
    spec: ScaledObjectSpec
    status: FreeForm | None = None

    def sources(self) -> tuple[TriggerSource, ...]:
        return tuple(trigger.source() for trigger in self.spec.triggers)

    @model_validator(mode="after")
    def _paused_at_a_number(self) -> Self:
        key = f"{_ANNOTATION}paused-replicas"
        text = self.metadata.annotations.get(key)
        if text is not None and not text.isdecimal():
            raise refuse(f"expected a whole number in quotes, got {text!r}", "metadata", "annotations", key)
        return self

    def _annotated(self, name: str) -> bool:
        """A Boolean annotation; what is no Boolean counts as true, as in KEDA."""
        text = self.metadata.annotations.get(_ANNOTATION + name)
        return text is not None and text not in _FALSE

    def pause(self) -> Pause:
        """What the annotations pause or force."""
        replicas = self.metadata.annotations.get(f"{_ANNOTATION}paused-replicas")
        return Pause(
            paused=replicas is not None or self._annotated("paused"),
            replicas=None if replicas is None else int(replicas),
            scale_in=self._annotated("paused-scale-in"),
            scale_out=self._annotated("paused-scale-out"),
            force_activation=self._annotated("force-activation"),
        )

    def keda_spec(self) -> KedaSpec:
        """As the decision functions want it."""
        spec = self.spec
        config = spec.advanced.horizontal_pod_autoscaler_config if spec.advanced is not None else None
        behavior = config.behavior if config is not None else None
        return KedaSpec(
            triggers=tuple(
                Trigger(
                    f"s{index}-{trigger.type}",
                    round(trigger.threshold() * 1000),
                    trigger.activation_threshold(),
                    trigger.metric_type,
                )
                for index, trigger in enumerate(spec.triggers)
            ),
            min_replicas=spec.min_replica_count,
            max_replicas=spec.max_replica_count,
            idle_replicas=spec.idle_replica_count,
            polling_interval_ps=spec.polling_interval * PS_PER_S,
            cooldown_ps=spec.cooldown_period * PS_PER_S,
            initial_cooldown_ps=spec.initial_cooldown_period * PS_PER_S,
            fallback=None
            if spec.fallback is None
            else Fallback(spec.fallback.failure_threshold, spec.fallback.replicas, spec.fallback.behavior),
            behavior=None if behavior is None else hpa_spec.behavior_of(behavior),
            pause=self.pause(),
        )

    def lint(self) -> tuple[str, ...]:
        """What will go wrong with its queries."""
        return tuple(
            f"ScaledObject {self.metadata.name}: spec.triggers[{index}].metadata.query may return several elements "
            f"({source.query.several}), and KEDA fails on more than one: wrap it in sum()"
            for index, source in enumerate(self.sources())
            if source.query is not None and source.query.several
        )


def load_scaled_object(path: str | Path) -> ScaledObjectManifest:
    """The ScaledObject in a YAML file.

    Raises:
        ScenarioError: names the file, the key and what was expected.
    """
    hint = {"keda.k8s.io/v1alpha1": "KEDA 1 is gone; the keys are the same under keda.sh/v1alpha1"}
    return load_manifest(path, ScaledObjectManifest, "ScaledObject", "keda.sh/v1alpha1", hint)

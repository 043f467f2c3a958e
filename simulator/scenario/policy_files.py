"""The files that autoscaling policies name, each read by its own reader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from pydantic import BaseModel

from simulator.autoscaling.forecast import Curve
from simulator.autoscaling.wva import SaturationConfig
from simulator.scenario.application_auto_scaling import ScalableTarget, load_scalable_target
from simulator.scenario.autoscaling import AutoscalerPolicy, HpaPolicy
from simulator.scenario.autoscaling_kinds import (
    DynamoPolicy,
    ForecastPolicy,
    KedaPolicy,
    KnativePolicy,
    RayServePolicy,
    SageMakerPolicy,
    WvaPolicy,
)
from simulator.scenario.dynamo_config import PlannerConfig, load_planner_config
from simulator.scenario.errors import ScenarioError
from simulator.scenario.manifests.hpa import HpaManifest, load_hpa
from simulator.scenario.manifests.keda import ScaledObjectManifest, load_scaled_object
from simulator.scenario.manifests.knative import KnativeAutoscaling, load_knative
from simulator.scenario.manifests.kubernetes import place_in_manifest
from simulator.scenario.manifests.wva import load_saturation_config, load_scale_to_zero
from simulator.scenario.rate_history import load_rate_history
from simulator.scenario.ray_serve_config import RayServeDeployment, load_ray_serve
from simulator.units import to_ps

WVA_METRICS: Final = ("wva_desired_replicas", "inferno_desired_replicas")
"""Names under which the workload variant autoscaler publishes, newest first."""


@dataclass(frozen=True)
class WvaFiles:
    """The HPA that follows, and the thresholds."""

    hpa: HpaManifest
    config: SaturationConfig


PolicyFile: TypeAlias = (
    HpaManifest
    | ScaledObjectManifest
    | KnativeAutoscaling
    | RayServeDeployment
    | ScalableTarget
    | WvaFiles
    | PlannerConfig
    | Curve
)


@dataclass(frozen=True)
class LoadedPolicy:
    """An autoscaling policy with what it names.

    Attributes:
        policy: the scenario's entry.
        key: where the scenario has it.
        content: what its file says, or None for a kind that names none.
        path: the (first) file, or None.
    """

    policy: AutoscalerPolicy
    key: tuple[str | int, ...]
    content: PolicyFile | None = None
    path: Path | None = None

    @property
    def min_replicas(self) -> int | None:
        """The least size that the file names; None if it names none."""
        match self.content:
            case HpaManifest():
                return self.content.spec.min_replicas
            case WvaFiles():
                return self.content.hpa.spec.min_replicas
            case ScaledObjectManifest():
                return max(self.content.spec.min_replica_count, 1)
            case KnativeAutoscaling():
                return self.content.initial_scale
            case RayServeDeployment():
                return self.content.initial_replicas
            case ScalableTarget():
                return self.content.min_capacity
            case PlannerConfig():
                return self.content.spec.min_endpoint
        return None

    @property
    def deployment(self) -> str | None:
        """Name of the Deployment that the file scales; None if it names none."""
        match self.content:
            case HpaManifest():
                reference = self.content.spec.scale_target_ref
            case WvaFiles():
                reference = self.content.hpa.spec.scale_target_ref
            case ScaledObjectManifest():
                target = self.content.spec.scale_target_ref
                return target.name if target.kind in (None, "Deployment") else None
            case _:
                return None
        return reference.name if reference.kind == "Deployment" else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the results should know of the file."""
        return self.content.lint() if isinstance(self.content, ScaledObjectManifest) else ()

    def data(self) -> Any:
        """The file's content as plain data."""
        if isinstance(self.content, BaseModel):
            return self.content.model_dump(mode="json")
        if isinstance(self.content, WvaFiles):
            return [self.content.hpa.model_dump(mode="json"), asdict(self.content.config)]
        return None if self.content is None else asdict(self.content)


Find = Callable[..., Path]
"""A file by its name and the key (below the policy) that names it."""


def load_policy(policy: AutoscalerPolicy, key: tuple[str | int, ...], find: Find) -> LoadedPolicy:
    """Read the files of a policy.

    Raises:
        ScenarioError: names the file, the key and what was expected.
    """
    content: PolicyFile
    match policy:
        case HpaPolicy():
            path = find(policy.manifest, "manifest")
            content = load_hpa(path)
        case KedaPolicy():
            path = find(policy.manifest, "manifest")
            content = load_scaled_object(path)
            _needs_start(policy, content, path)
        case KnativePolicy():
            path = find(policy.manifest, "manifest")
            loaded = load_knative(path, None if policy.config is None else find(policy.config, "config"))
            content = replace(loaded, spec=replace(loaded.spec, activator_ps=to_ps(policy.activator)))
        case RayServePolicy():
            path = find(policy.config, "config")
            content = load_ray_serve(path, policy.deployment)
        case SageMakerPolicy():
            path = find(policy.target, "target")
            content = load_scalable_target(
                path,
                [find(name, "policies", i) for i, name in enumerate(policy.policies)],
                [find(name, "alarms", i) for i, name in enumerate(policy.alarms)],
            )
        case WvaPolicy():
            path = find(policy.manifest, "manifest")
            config = (
                SaturationConfig()
                if policy.config is None
                else load_saturation_config(find(policy.config, "config"))
            )
            if policy.scale_to_zero is not None:
                config = load_scale_to_zero(find(policy.scale_to_zero, "scale_to_zero"), config)
            hpa = load_hpa(path)
            _follows_wva(hpa, path)
            content = WvaFiles(hpa, replace(config, interval_ps=to_ps(policy.interval)))
        case DynamoPolicy():
            path = find(policy.config, "config")
            content = load_planner_config(path)
        case ForecastPolicy():
            path = find(policy.history, "history")
            content = load_rate_history(path, policy.period)
        case _:
            return LoadedPolicy(policy, key)
    return LoadedPolicy(policy, key, content, path)


def _needs_start(policy: KedaPolicy, manifest: ScaledObjectManifest, path: Path) -> None:
    if policy.starts_at is not None:
        return
    for index, trigger in enumerate(manifest.spec.triggers):
        if trigger.type == "cron":
            file, key = place_in_manifest(path, "ScaledObject", ["spec", "triggers", index])
            raise ScenarioError(
                "a cron trigger needs the wall-clock time of the run's start: give starts_at with the policy",
                file=file,
                key=key,
            )


def _follows_wva(hpa: HpaManifest, path: Path) -> None:
    for metric in hpa.spec.metrics:
        if metric.external is not None and metric.external.metric.name in WVA_METRICS:
            return
    file, key = place_in_manifest(path, "HorizontalPodAutoscaler", ["spec", "metrics"])
    raise ScenarioError(f"expected an External metric {' or '.join(WVA_METRICS)}", file=file, key=key)

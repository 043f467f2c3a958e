"""``autoscaling_config`` of a deployment in a Ray Serve config file.

Source: ray-project/ray@00590c45, python/ray/serve/config.py (AutoscalingConfig); what ``num_replicas: auto`` sets
(target 2, at most 100 replicas) from its documentation, not re-read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from simulator.autoscaling.ray_serve import RayServeSpec
from simulator.scenario.errors import ScenarioError
from simulator.scenario.validation import validate
from simulator.scenario.yaml_source import YamlSource

_AUTO_MAX = 100
_Positive = Annotated[float, Field(gt=0)]
_AtLeast0 = Annotated[float, Field(ge=0)]


class AutoscalingConfig(BaseModel):
    """``autoscaling_config``, keys as Ray has them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_replicas: Annotated[int, Field(ge=0)] = 1
    initial_replicas: Annotated[int, Field(ge=0)] | None = None
    max_replicas: Annotated[int, Field(ge=1)] = 1
    target_ongoing_requests: _Positive = 2.0
    metrics_interval_s: _Positive = 10.0
    look_back_period_s: _Positive = 30.0
    smoothing_factor: _Positive = 1.0
    upscale_smoothing_factor: _Positive | None = None
    downscale_smoothing_factor: _Positive | None = None
    upscaling_factor: _Positive | None = None
    downscaling_factor: _Positive | None = None
    upscale_delay_s: _AtLeast0 = 30.0
    downscale_delay_s: _AtLeast0 = 600.0
    downscale_to_zero_delay_s: _AtLeast0 | None = None
    aggregation_function: str = "mean"

    @model_validator(mode="after")
    def _limits(self) -> Self:
        low, high = self.min_replicas, self.max_replicas
        if high < low:
            raise ValueError(f"max_replicas ({high}) is below min_replicas ({low})")
        if self.initial_replicas is not None and not low <= self.initial_replicas <= high:
            raise ValueError(f"initial_replicas ({self.initial_replicas}) is not within {low} to {high}")
        if self.aggregation_function != "mean":
            raise ValueError("only the aggregation_function mean is modelled")
        return self

    def spec(self) -> RayServeSpec:
        """As the policy wants it."""
        return RayServeSpec(
            min_replicas=self.min_replicas,
            max_replicas=self.max_replicas,
            target_ongoing_requests=self.target_ongoing_requests,
            metrics_interval_s=self.metrics_interval_s,
            look_back_period_s=self.look_back_period_s,
            upscale_delay_s=self.upscale_delay_s,
            downscale_delay_s=self.downscale_delay_s,
            downscale_to_zero_delay_s=self.downscale_to_zero_delay_s,
            upscaling_factor=self.upscaling_factor or self.upscale_smoothing_factor or self.smoothing_factor,
            downscaling_factor=self.downscaling_factor
            or self.downscale_smoothing_factor
            or self.smoothing_factor,
        )


class _Deployment(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    num_replicas: int | str | None = None
    autoscaling_config: AutoscalingConfig | None = None


class _Application(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = "default"
    deployments: list[_Deployment] = []


class _ServeConfig(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)

    applications: Annotated[list[_Application], Field(min_length=1)]


@dataclass(frozen=True)
class RayServeDeployment:
    """The deployment that scales: its name, its settings, and replicas at the start."""

    name: str
    spec: RayServeSpec
    initial_replicas: int


def load_ray_serve(path: Path, deployment: str | None) -> RayServeDeployment:
    """The autoscaling of a deployment in a Serve config file.

    Args:
        path: the file.
        deployment: its name; None for the only one that scales.

    Raises:
        ScenarioError: names the file, the key and what was expected.
    """
    source = YamlSource(path)
    config = validate(_ServeConfig, source.data, source)
    found: list[tuple[list[Any], _Deployment]] = [
        (["applications", a, "deployments", d], item)
        for a, application in enumerate(config.applications)
        for d, item in enumerate(application.deployments)
        if item.autoscaling_config is not None or item.num_replicas == "auto"
    ]
    chosen = [(place, item) for place, item in found if deployment in (None, item.name)]
    if len(chosen) != 1:
        names = ", ".join(item.name for _, item in found) or "none"
        wanted = "one deployment that scales" if deployment is None else f"the deployment {deployment!r}"
        raise ScenarioError(
            f"expected {wanted}; with an autoscaling_config there are: {names}",
            file=source.where(["applications"]),
            key="applications",
        )
    place, item = chosen[0]
    settings = item.autoscaling_config or AutoscalingConfig(max_replicas=_AUTO_MAX)
    if isinstance(item.num_replicas, int):
        raise ScenarioError(
            "num_replicas and autoscaling_config exclude each other",
            file=source.where([*place, "num_replicas"]),
            key=".".join(map(str, [*place, "num_replicas"])),
        )
    if item.num_replicas == "auto" and (
        item.autoscaling_config is None or "max_replicas" not in item.autoscaling_config.model_fields_set
    ):
        settings = settings.model_copy(update={"max_replicas": _AUTO_MAX})
    initial = settings.min_replicas if settings.initial_replicas is None else settings.initial_replicas
    return RayServeDeployment(item.name, settings.spec(), initial)

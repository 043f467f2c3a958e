"""The Deployment manifest (apps/v1), read as the API server accepts it, with its defaults."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from simulator.scenario.manifests.kubernetes import (
    Bool,
    FreeForm,
    KubernetesObject,
    LabelSelector,
    NonNegativeInt,
    ObjectMeta,
    load_manifest,
    refuse,
)
from simulator.scenario.manifests.pod_template import PodSpec, PodTemplate


def _int_or_percent(value: int | str) -> int | str:
    if isinstance(value, str) and not re.fullmatch(r"\d+%", value):
        raise ValueError(f"expected a number of pods or a percentage such as 25%, not {value!r}")
    if isinstance(value, int) and value < 0:
        raise ValueError(f"expected at least 0, not {value}")
    return value


IntOrPercent = Annotated[
    Annotated[int, Field(strict=True)] | Annotated[str, Field(strict=True)], AfterValidator(_int_or_percent)
]
"""A number of pods, or a percentage of the replicas such as ``25%``."""


class RollingUpdate(KubernetesObject):
    """How far a rollout may go above and below the wanted size."""

    max_surge: IntOrPercent = "25%"
    max_unavailable: IntOrPercent = "25%"

    @model_validator(mode="after")
    def _can_move(self) -> Self:
        if self.max_surge in (0, "0%") and self.max_unavailable in (0, "0%"):
            raise refuse("may not be 0 when maxSurge is 0", "maxUnavailable")
        return self


class DeploymentStrategy(KubernetesObject):
    """How pods are replaced; ``rolling_update`` is None for Recreate."""

    type: Literal["RollingUpdate", "Recreate"] = "RollingUpdate"
    rolling_update: RollingUpdate | None = None

    @model_validator(mode="before")
    @classmethod
    def _default(cls, given: object) -> object:
        if isinstance(given, dict) and given.get("type", "RollingUpdate") == "RollingUpdate":
            return {**given, "rollingUpdate": given.get("rollingUpdate") or {}}
        return given

    @model_validator(mode="after")
    def _recreate_has_no_rolling_update(self) -> Self:
        if self.type == "Recreate" and self.rolling_update is not None:
            raise refuse("not allowed with type Recreate", "rollingUpdate")
        return self


class DeploymentSpec(KubernetesObject):
    """``spec`` of a Deployment."""

    replicas: NonNegativeInt = 1
    selector: LabelSelector
    template: PodTemplate
    strategy: DeploymentStrategy = DeploymentStrategy(rollingUpdate=RollingUpdate())
    min_ready_seconds: NonNegativeInt = 0
    revision_history_limit: NonNegativeInt = 10
    progress_deadline_seconds: NonNegativeInt = 600
    paused: Bool = False

    @model_validator(mode="after")
    def _selects_its_pods(self) -> Self:
        if not self.selector.match_labels and not self.selector.match_expressions:
            raise refuse("expected matchLabels or matchExpressions", "selector")
        labels = self.template.metadata.labels
        for key, value in self.selector.match_labels.items():
            if labels.get(key) != value:
                raise refuse(f"the selector wants {key}: {value}", "template", "metadata", "labels")
        return self


class DeploymentManifest(KubernetesObject):
    """A Deployment manifest."""

    api_version: Literal["apps/v1"]
    kind: Literal["Deployment"]
    metadata: ObjectMeta
    spec: DeploymentSpec
    status: FreeForm | None = None

    @property
    def pod(self) -> PodSpec:
        return self.spec.template.spec

    @property
    def gpus(self) -> int:
        """GPUs that one replica takes."""
        return self.pod.gpus


def load_deployment(path: str | Path) -> DeploymentManifest:
    """The Deployment in a YAML file.

    Raises:
        ScenarioError: names the file, the key and what was expected.
    """
    old = "gone since Kubernetes 1.16; its spec is nearly that of apps/v1, where selector is required"
    hint = dict.fromkeys(("extensions/v1beta1", "apps/v1beta1", "apps/v1beta2"), old)
    return load_manifest(path, DeploymentManifest, "Deployment", "apps/v1", hint)

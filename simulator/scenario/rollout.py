"""New versions of the Deployment: what differs in them, and how they are brought out."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from simulator.scenario.lifecycle import PodCount
from simulator.scenario.quantities import DurationS, Fraction, PositiveDurationS, Section


class Version(Section):
    """A version, by what differs from the one that runs at the start."""

    name: str
    vllm: dict[str, Any] = {}
    """Keys of the vLLM configuration that change, such as ``enforce-eager: true`` or ``model``."""
    new_image: bool = True
    """Whether it has an image of its own, which nodes must pull."""
    slowdown: Annotated[float, Field(ge=1, le=1000)] = 1.0
    """GPU time of a step, over what it should be: a regression."""
    crash_after: DurationS | None = None
    """Its containers end so long after their start: a release that crashes."""


class Analysis(Section):
    """When a version is called back: its share of good attempts, looked at time and again."""

    interval: PositiveDurationS = 60.0
    """Span of each look."""
    min_good: Fraction = 0.95
    """Least share of attempts within the scenario's ``slo`` (broken, refused and given-up ones are not)."""
    min_attempts: Annotated[int, Field(ge=1)] = 20
    """With fewer than this in a span nothing is concluded."""


class CanaryStep(Section):
    """A share of the traffic, for a while."""

    weight: Annotated[float, Field(gt=0, lt=1)]
    """Share of requests that go to the new version; as large a share of the replicas, rounded up, runs it."""
    hold: DurationS
    """How long, from when these replicas are ready."""


class Rollout(Section):
    """One new version. Without ``canary`` by the Deployment's rolling update."""

    at: DurationS
    """When it begins."""
    version: Version
    max_surge: PodCount | None = None
    """maxSurge; the manifest's, or 25%, unless given. A percentage is rounded up."""
    max_unavailable: PodCount | None = None
    """maxUnavailable; the manifest's, or 25%, unless given. A percentage is rounded down."""
    min_ready: DurationS | None = None
    """minReadySeconds; the manifest's, or 0s, unless given."""
    canary: list[CanaryStep] = []
    """Steps of a canary (or of an A/B test) beside the old version, which keeps its size. After the last one the new
    version gets all replicas, then all traffic, and the old one goes."""
    rollback: Analysis | None = None
    """Call the version back if it is bad; without it nobody does."""

    @model_validator(mode="after")
    def _rises(self) -> Rollout:
        weights = [step.weight for step in self.canary]
        if weights != sorted(weights):
            raise ValueError("weights of canary steps must rise")
        if self.canary and (self.max_surge is not None or self.max_unavailable is not None):
            raise ValueError("max_surge and max_unavailable are for rolling updates, not for a canary")
        return self

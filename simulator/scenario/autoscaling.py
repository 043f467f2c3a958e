"""Who sets the number of replicas, and how metrics get to them.

Several policies may act on one Deployment. A *scaler* (``hpa``, ``keda``, ...) writes its size; the last write
stands, as in a cluster. A *floor* does not write a size: it raises the minimum of every scaler, the way a CronJob that
patches ``minReplicas`` does. Without a scaler the size is ``fleet.replicas`` or the floor, whichever is larger.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from simulator.scenario.autoscaling_kinds import (
    DynamoPolicy,
    ForecastPolicy,
    HpaController,
    KedaPolicy,
    KnativePolicy,
    PerfectPolicy,
    RayServePolicy,
    SageMakerPolicy,
    StandbyPolicy,
    WvaPolicy,
)
from simulator.scenario.quantities import DurationS, PositiveDurationS, Section

_METRICS: Final = {
    "gpu_utilization": "DCGM_FI_DEV_GPU_UTIL",
    "request_queue_depth": "vllm:num_requests_waiting",
}


class Scrape(Section):
    """How metrics get to the autoscalers: scraped, kept for a while, queried late."""

    interval: PositiveDurationS = 15.0
    """Prometheus scrape interval; each target has its own offset in it."""
    adapter_delay: DurationS = 1.0
    """Query and adapter time between a stored sample and what the autoscaler reads."""
    staleness: PositiveDurationS = 300.0
    """Prometheus forgets a series that was not scraped for this long."""
    metrics: Annotated[dict[str, str], AfterValidator(lambda given: {**_METRICS, **given})] = _METRICS
    """Names that manifests use, mapped to what targets export; added to gpu_utilization and request_queue_depth."""


class HpaPolicy(HpaController):
    """A HorizontalPodAutoscaler and the kube-controller-manager that runs it."""

    kind: Literal["hpa"]
    name: str | None = None
    """Name in events; the manifest's unless given."""
    manifest: str
    """Path of an autoscaling/v2 HorizontalPodAutoscaler manifest, relative to the scenario."""


class CronEntry(Section):
    """A floor for a part of each period."""

    start: DurationS
    """From when, in seconds of the period."""
    end: PositiveDurationS
    """Until when; before ``start`` it means that of the next period."""
    replicas: Annotated[int, Field(ge=0)]
    """The floor meanwhile."""


class CronFloorPolicy(Section):
    """A floor by the clock: what a CronJob that patches ``minReplicas`` does."""

    kind: Literal["cron-floor"]
    name: str | None = None
    """Name in events; the kind unless given."""
    period: PositiveDurationS = 86400.0
    """After which the schedule repeats."""
    offset: DurationS = 0.0
    """Time of the period at which the run starts: 8h begins the day at eight."""
    schedule: Annotated[list[CronEntry], Field(min_length=1)]
    """Where entries overlap the largest holds; elsewhere there is no floor."""

    @model_validator(mode="after")
    def _within_the_period(self) -> CronFloorPolicy:
        for entry in self.schedule:
            if max(entry.start, entry.end) > self.period:
                raise ValueError(
                    f"start and end lie within the period of {self.period:g} s, "
                    f"got {entry.start:g} and {entry.end:g}"
                )
            if entry.start == entry.end:
                raise ValueError(f"start and end are both {entry.start:g} s")
        return self


AutoscalerPolicy = Annotated[
    HpaPolicy
    | KedaPolicy
    | KnativePolicy
    | RayServePolicy
    | SageMakerPolicy
    | WvaPolicy
    | DynamoPolicy
    | PerfectPolicy
    | CronFloorPolicy
    | ForecastPolicy
    | StandbyPolicy,
    Field(discriminator="kind"),
]
"""One autoscaler, told apart by ``kind``."""


class Autoscaling(Section):
    """Who sets the number of replicas; nobody without policies (``replicas`` stays)."""

    policies: list[AutoscalerPolicy] = Field(default_factory=list)
    """What acts on the Deployment. Scalers write its size, floors raise the scalers' minimum."""
    scrape: Scrape = Scrape()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Autoscaling:
        names = [policy.name for policy in self.policies if policy.name is not None]
        if len(set(names)) != len(names):
            raise ValueError(f"policy names must be unique, got {', '.join(names)}")
        return self

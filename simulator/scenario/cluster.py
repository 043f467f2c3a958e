"""Nodes, pods and money: where replicas run, how long they take to start, what takes them away."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from simulator.scenario.capacity import NodePool, Provisioner, Zone
from simulator.scenario.cold_start import ColdStart
from simulator.scenario.lifecycle import DeletionCost, DisruptionBudget
from simulator.scenario.quantities import DurationS, Fraction, PositiveDurationS, Section
from simulator.scenario.spread import Spread, SpreadS


class Cluster(Section):
    """Node pools and start-up times."""

    pools: list[NodePool] = Field(default_factory=lambda: [NodePool(name="on-demand")], min_length=1)
    zones: list[Zone] = []
    """Markets that pools name; each has stock-outs and mass events of its own."""
    provisioner: Provisioner = Provisioner()
    cold_start: ColdStart = ColdStart()
    initial: Literal["ready", "cold"] = "ready"
    """Whether the first replicas are ready at time 0 or start cold then."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Cluster:
        names = [pool.name for pool in self.pools]
        if len(set(names)) != len(names):
            raise ValueError(f"pool names must be unique, got {', '.join(names)}")
        if all(pool.share == 0 and pool.base == 0 for pool in self.pools):
            raise ValueError("at least one pool needs a share or a base above 0")
        return self

    @model_validator(mode="after")
    def _zones_fit(self) -> Cluster:
        zones = {zone.name: zone for zone in self.zones}
        if len(zones) != len(self.zones):
            raise ValueError(f"zone names must be unique, got {', '.join(zone.name for zone in self.zones)}")
        for pool in self.pools:
            if pool.zone is None:
                continue
            if pool.zone not in zones:
                raise ValueError(f"pool {pool.name} is in zone {pool.zone}, which is not one of zones")
            by_chance = {
                "mean_time_between",
                "median_time_between",
                "rebalance",
            } & pool.terms.model_fields_set
            if zones[pool.zone].availability is not None and by_chance:
                raise ValueError(
                    f"pool {pool.name}: {min(by_chance)} does not go with a zone whose availability is replayed"
                )
        return self


_METRICS: Final = {
    "gpu_utilization": "DCGM_FI_DEV_GPU_UTIL",
    "request_queue_depth": "vllm:num_requests_waiting",
}


class Scrape(Section):
    """How metrics get from pods to the autoscaler: scraped, averaged, late."""

    interval: PositiveDurationS = 15.0
    """Prometheus scrape interval; each pod has its own offset in it."""
    adapter_delay: DurationS = 1.0
    """Query and adapter time between a stored sample and what the autoscaler reads."""
    staleness: PositiveDurationS = 300.0
    """Prometheus forgets a series that was not scraped for this long."""
    metrics: Annotated[dict[str, str], AfterValidator(lambda given: {**_METRICS, **given})] = _METRICS
    """Names that manifests use, mapped to what pods export; added to gpu_utilization and request_queue_depth."""


class Autoscaling(Section):
    """Who sets the number of replicas: an HPA manifest, or nobody (``replicas`` stays)."""

    hpa: str | None = None
    """Path of an autoscaling/v2 HorizontalPodAutoscaler manifest, relative to the scenario."""
    sync_period: PositiveDurationS = 15.0
    """kube-controller-manager --horizontal-pod-autoscaler-sync-period."""
    pass_duration: SpreadS = Spread(min=0.01, max=0.05)
    """How long one pass of the controller takes (our estimate). The next begins a sync period after its end, so
    passes drift against 15 s policy periods, as real ones do."""
    tolerance: Fraction = 0.1
    """--horizontal-pod-autoscaler-tolerance."""
    downscale_stabilization: DurationS = 300.0
    """--horizontal-pod-autoscaler-downscale-stabilization."""
    cpu_initialization_period: DurationS = 300.0
    """--horizontal-pod-autoscaler-cpu-initialization-period."""
    initial_readiness_delay: DurationS = 30.0
    """--horizontal-pod-autoscaler-initial-readiness-delay."""
    scrape: Scrape = Scrape()


class Fleet(Section):
    """The Deployment and its autoscaler."""

    deployment: str | None = None
    """Path of an apps/v1 Deployment manifest (resources, probes, grace period, preStop)."""
    replicas: Annotated[int, Field(ge=0)] | None = None
    """Replicas at the start (and for good, without an autoscaler); overrides the manifest's."""
    autoscaling: Autoscaling = Autoscaling()
    disruption_budget: DisruptionBudget | None = None
    """What drains of nodes must leave ready; without one they take all pods of a node at once."""
    deletion_cost: DeletionCost | None = None
    """A controller that annotates pods, so that scale-downs and rollouts hit those with least to do."""

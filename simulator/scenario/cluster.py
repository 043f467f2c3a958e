"""Nodes, pods and money: where replicas run, how long they take to start, what takes them away."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from simulator.scenario.autoscaling import Autoscaling
from simulator.scenario.capacity import NodePool, Provisioner, Zone
from simulator.scenario.cold_start import ColdStart
from simulator.scenario.lifecycle import DeletionCost, DisruptionBudget
from simulator.scenario.quantities import Section
from simulator.scenario.resource_metrics import ResourceMetrics


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


class Fleet(Section):
    """The Deployment and what sets its size."""

    deployment: str | None = None
    """Path of an apps/v1 Deployment manifest (resources, probes, grace period, preStop)."""
    replicas: Annotated[int, Field(ge=0)] | None = None
    """Replicas at the start (and for good, without an autoscaler); overrides the manifest's."""
    autoscaling: Autoscaling = Autoscaling()
    disruption_budget: DisruptionBudget | None = None
    """What drains of nodes must leave ready; without one they take all pods of a node at once."""
    deletion_cost: DeletionCost | None = None
    """A controller that annotates pods, so that scale-downs and rollouts hit those with least to do."""
    resource_metrics: ResourceMetrics = ResourceMetrics()

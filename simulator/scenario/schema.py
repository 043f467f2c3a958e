"""The scenario: one file that reads like the deployment it describes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from simulator.scenario.clients import Clients
from simulator.scenario.cluster import Cluster, Fleet
from simulator.scenario.engine import EngineSection
from simulator.scenario.faults import Fault
from simulator.scenario.gateway import Gateway
from simulator.scenario.quantities import DurationS, PositiveDurationS, Section
from simulator.scenario.rollout import Rollout
from simulator.scenario.slo import Slo
from simulator.scenario.workload import WorkloadConfig


class Scenario(Section):
    """Everything that a run needs, but for the files it names."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Short name; the results folder is called after it."""
    description: str = ""
    """The question that this scenario answers."""
    duration: PositiveDurationS
    """Simulated time during which requests arrive."""
    drain: DurationS = 0.0
    """Longest time after ``duration`` that requests in flight are given to finish; the run ends when none is left."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of every draw; the same seed gives byte-identical results."""
    engine: EngineSection
    fleet: Fleet = Fleet()
    cluster: Cluster = Cluster()
    gateway: Gateway = Gateway()
    clients: Clients = Clients()
    workload: Annotated[list[WorkloadConfig], Field(min_length=1)]
    """Sources of requests; their traffic adds up."""
    rollouts: list[Rollout] = []
    """New versions of the Deployment, in rising order of time. What runs at the start is version ``v1``."""
    faults: list[Fault] = []
    """What breaks, and when."""
    slo: Slo = Slo()
    timeline_interval: PositiveDurationS = 5.0
    """Spacing of the rows of ``timeline.parquet``."""

    @model_validator(mode="after")
    def _faults_hit_pools(self) -> Scenario:
        pools = {pool.name for pool in self.cluster.pools}
        for fault in self.faults:
            if fault.pool is not None and fault.pool not in pools:
                raise ValueError(f"a fault is for pool {fault.pool}, which is not one of cluster.pools")
        return self

    @model_validator(mode="after")
    def _rollouts_follow_each_other(self) -> Scenario:
        times = [rollout.at for rollout in self.rollouts]
        if times != sorted(times):
            raise ValueError("rollouts must be in rising order of time")
        names = ["v1", *(rollout.version.name for rollout in self.rollouts)]
        if len(set(names)) != len(names):
            raise ValueError(
                f"versions must have different names, got {', '.join(names)} (v1 runs at the start)"
            )
        return self

    @model_validator(mode="after")
    def _workload_names_are_unique(self) -> Scenario:
        names = [workload.name for workload in self.workload]
        if len(set(names)) != len(names):
            raise ValueError(f"workload names must be unique, got {', '.join(names)}")
        return self

"""The wiring: a loaded scenario becomes an engine per pod, a cluster, a gateway and clients on one clock.

    workload ──► client ──► gateway ──► replica (engine) ──► client ──► records
                                          ▲ cluster ◄── autoscaler ◄── scraped metrics

Only this module knows all the parts; each part knows its neighbours by a protocol.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from simulator import __version__
from simulator.autoscaling.loop import HpaLoop
from simulator.autoscaling.scrape import MetricStore
from simulator.clients.client import Client
from simulator.clock import LAST, Clock
from simulator.cluster.cluster import Cluster
from simulator.cluster.replica import Replica
from simulator.deployment import ResolvedDeployment
from simulator.draws import Draws
from simulator.engines.vllm.plain import PlainEngine
from simulator.gateway.gateway import Gateway
from simulator.metrics.facts import RunFacts, StepTimeTrust
from simulator.metrics.summary import summarise
from simulator.scenario.slo import Slo
from simulator.timeline import TimelineSampler
from simulator.units import to_ps, to_s
from simulator.workload import WorkloadSource

if TYPE_CHECKING:
    from typing import Any

    from simpy import Event

    from simulator.attempts import Attempt
    from simulator.records.recorder import Recorder
    from simulator.scenario.load import LoadedScenario

PROGRESS_STEPS: Final = 400


@dataclass(frozen=True)
class Progress:
    """How far a run is, for a progress bar."""

    now_s: float
    end_s: float
    arrivals: int
    in_flight: int


class Simulation:
    """One replication of a scenario, ready to run once.

    Args:
        loaded: the scenario with its files.
        recorder: takes the records; workload names as in the scenario.
        seed: of every draw; the scenario's own if None.
        replication: index of the replication; each has draws of its own.

    Raises:
        ScenarioError: the parts of the scenario do not fit together.
    """

    def __init__(
        self, loaded: LoadedScenario, recorder: Recorder, *, seed: int | None = None, replication: int = 0
    ) -> None:
        scenario = loaded.scenario
        self.loaded = loaded
        self.recorder = recorder
        self.seed = scenario.seed if seed is None else seed
        self.replication = replication
        self.resolved = ResolvedDeployment.of(loaded)
        self.clock = Clock()
        self.duration_ps = to_ps(scenario.duration)
        self.end_ps = self.duration_ps + to_ps(scenario.drain)
        draws = Draws(self.seed, replication)
        self._build(draws)

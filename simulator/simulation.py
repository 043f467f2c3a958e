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

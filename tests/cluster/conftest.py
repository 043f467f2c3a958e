"""A small cluster with stub engines and a stub gateway, whose times can be added up by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from simulator.attempts import Attempt
from simulator.billing import PoolRates
from simulator.clock import Clock
from simulator.cluster.cluster import Cluster
from simulator.cluster.pods import PodSpec
from simulator.cluster.replica import Replica
from simulator.draws import Draws
from simulator.engines.protocol import (
    Delivery,
    DeliveryKind,
    EngineCounters,
    EngineRequest,
    EngineSnapshot,
    Finish,
)
from simulator.scenario.cluster import Cluster as ClusterSection
from simulator.scenario.cold_start import ColdStart
from simulator.units import PS_PER_S, to_ps, to_s

COLD = {
    "image_cached": 1,
    "image_pull": 100,
    "process_start": 20,
    "weights": 10,
    "compile_cached": 15,
    "compile": 45,
    "graph_capture": 14,
    "profiling_eager": 5,
    "endpoint_propagation": 2,
}
"""From a bound pod to a server that listens: 1 + 20 + 10 + 15 + 14 = 60 s."""


class StubEngine:
    """Each request takes one second per output token, whatever else runs."""

    def __init__(self):
        self.due = {}
        self.counters = EngineCounters()

    def submit(self, request, now):
        self.due[request.request_id] = now + request.output_tokens * PS_PER_S

    def abort(self, request_id, now):
        del self.due[request_id]
        return 7

    def next_time(self):
        return min(self.due.values(), default=None)

    def advance(self, t):
        done = sorted((due, key) for key, due in self.due.items() if due <= t)
        for _, key in done:
            del self.due[key]
        finish = Finish("stop", 1, 0, 0, 0, 0, 0)
        return [Delivery(due, DeliveryKind.FINISHED, key, finish) for due, key in done]

    def peek(self, t):
        return EngineSnapshot(t, len(self.due), 0, 0, 100, self.counters)


class StubGateway:
    """Writes down what it hears."""

    def __init__(self, clock):
        self.clock = clock
        self.log = []
        self.endpoints = {}

    def add_endpoint(self, replica):
        self.log.append((to_s(self.clock.now), "add", replica.name))
        self.endpoints[replica.name] = replica

    def remove_endpoint(self, replica):
        self.log.append((to_s(self.clock.now), "remove", replica.name))
        self.endpoints.pop(replica.name, None)


class World:
    """A run in the making."""

    def __init__(
        self,
        pools=None,
        spec=None,
        cold=None,
        initial="cold",
        seed=1,
        zones=(),
        provisioner=None,
        availability=None,
        budget=None,
    ):
        self.clock = Clock()
        self.events = []
        self.gateway = StubGateway(self.clock)
        self.ended = []  # (seconds, attempt id, "finished" or cause, lost tokens)
        self.draws = Draws(seed)
        section = ClusterSection(
            pools=pools
            or [{"name": "od", "usd_per_gpu_hour": 3.6, "provisioning": 50, "empty_node_ttl": 60}],
            cold_start=ColdStart(**{**COLD, **(cold or {})}),
            initial=initial,
            zones=list(zones),
            provisioner=provisioner or {},
        )
        listener = SimpleNamespace(
            first_token=lambda *_: None,
            finished=lambda a, seen, _: self.ended.append((to_s(seen), a.attempt_id, "finished", 0)),
            failed=lambda a, seen, cause, n: self.ended.append((to_s(seen), a.attempt_id, str(cause), n)),
        )
        self.cluster = Cluster(
            self.clock,
            section,
            spec or PodSpec(),
            draws=self.draws,
            sink=self,
            gateway=self.gateway,
            make_replica=lambda pod: Replica(self.clock, pod.name, StubEngine(), listener),
            rates={pool.name: PoolRates.of(pool, pool.usd_per_gpu_hour or 0.0) for pool in section.pools},
            availability=availability,
            budget=budget,
        )

    def event(self, t_ps, kind, subject, reason, message, value=None):
        assert message.endswith(".")
        self.events.append((to_s(t_ps), kind, subject, reason, value))

    def run(self, until_s):
        self.clock.run(until=to_ps(until_s))

    def at(self, t_s, action):
        self.clock.call_at(to_ps(t_s), lambda _: action())

    def scale(self, replicas):
        self.cluster.set_replicas(replicas, self.clock.now, "test")

    def scale_at(self, t_s, replicas):
        self.at(t_s, lambda: self.scale(replicas))

    def send_at(self, t_s, attempt_id, pod, tokens):
        """At a time, send straight to a replica that the gateway has, or has had, a request of so many seconds."""

        def send():
            request = EngineRequest(attempt_id, 1, tokens, tokens)
            replica = next(p.replica for p in self.cluster.pods() if p.name == pod)
            replica.submit(Attempt(attempt_id, 0, request, self.clock.now, None))

        self.at(t_s, send)

    def told(self, *reasons):
        """(seconds, subject, reason) of events with these reasons."""
        return [(t, subject, reason) for t, _, subject, reason, _ in self.events if reason in reasons]

    def times(self, reason):
        return [t for t, _, _, told, _ in self.events if told == reason]


@pytest.fixture
def world():
    return World


def spot_pool(**reclaim):
    return {
        "name": "spot",
        "capacity": "spot",
        "usd_per_gpu_hour": 1.0,
        "provisioning": 50,
        "empty_node_ttl": 60,
        "reclaim": {"mean_time_between": 1000, **reclaim},
    }


@pytest.fixture
def spot():
    return spot_pool

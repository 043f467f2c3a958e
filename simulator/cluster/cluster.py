"""The cluster of a run: nodes, pods and money behind one object."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from simulator.billing import FleetPeak
from simulator.cluster.back_off import RefusalBackOff
from simulator.cluster.deployment import Deployment
from simulator.cluster.endpoints import Endpoints
from simulator.cluster.eviction import Evictor
from simulator.cluster.kubelet import Kubelet
from simulator.cluster.nodes import Node, Pool
from simulator.cluster.scheduler import Scheduler
from simulator.cluster.spot import SpotMarket
from simulator.cluster.termination import Terminator
from simulator.cluster.zones import Zones
from simulator.outcomes import Cause
from simulator.scenario.errors import ScenarioError
from simulator.units import to_ps

if TYPE_CHECKING:
    from simpy import Event

    from simulator.attempts import GatewayPort
    from simulator.billing import Phase, PoolRates, Statement
    from simulator.clock import Clock
    from simulator.cluster.availability import Availability
    from simulator.cluster.pods import Pod, PodSpec
    from simulator.cluster.replica import Replica
    from simulator.draws import Draws
    from simulator.records.sink import RecordSink
    from simulator.scenario.capacity import Provisioner
    from simulator.scenario.cluster import Cluster as ClusterSection
    from simulator.scenario.lifecycle import DisruptionBudget


@dataclass(frozen=True, slots=True)
class Counts:
    """Sizes at an instant.

    Attributes:
        desired: the Deployment's spec.replicas.
        provisioned: pods that exist and neither end nor have failed (status.replicas).
        ready: of these ready.
        terminating: pods that are being deleted.
        nodes_on_demand: nodes that are paid for, on-demand pools.
        nodes_spot: nodes that are paid for, spot pools.
        restarts: of containers, since the start.
        slowdown_max: how much longer than they should steps take on the slowest ready pod; 1 without one.
        temperature_max_c: of the hottest GPU, while a fault makes it matter; else None.
    """

    desired: int
    provisioned: int
    ready: int
    terminating: int
    nodes_on_demand: int
    nodes_spot: int
    restarts: int
    slowdown_max: float
    temperature_max_c: float | None


class Cluster:
    """Nodes, pods and what they cost.

    Args:
        env: the run's clock.
        config: the scenario's cluster.
        spec: what every pod asks for.
        draws: the run's draws.
        sink: gets the events.
        gateway: hears of replicas that come and go.
        make_replica: makes the replica of a pod, at the instant when its server starts to listen.
        rates: what nodes cost, by pool name.
        deployment: name of the Deployment.
        availability: spot capacity over time by zone, where it is replayed.
        budget: the PodDisruptionBudget, if there is one.
        deletion_cost_interval_s: how often pods are annotated with their requests in flight; None for never.

    Raises:
        ScenarioError: a pod does not fit on a pool's nodes.
    """

    def __init__(
        self,
        env: Clock,
        config: ClusterSection,
        spec: PodSpec,
        *,
        draws: Draws,
        sink: RecordSink,
        gateway: GatewayPort,
        make_replica: Callable[[Pod], Replica],
        rates: Mapping[str, PoolRates],
        deployment: str = "vllm",
        availability: Mapping[str, Availability] | None = None,
        budget: DisruptionBudget | None = None,
        deletion_cost_interval_s: float | None = None,
    ) -> None:
        self.env = env
        self._config = config
        self._spec = spec
        self._grace_ps = to_ps(spec.termination_grace_period_s)
        self._watchers: list[Callable[[Pod], None]] = []
        self._finished_ps: int | None = None
        self.pools = _pools(env, config, spec, draws, sink, rates)
        self._peak = FleetPeak([pool.meter for pool in self.pools])
        endpoints = Endpoints(env, config.cold_start, draws, gateway)
        self._kubelet = Kubelet(env, config.cold_start, draws, sink, endpoints, make_replica)
        self._scheduler = Scheduler(env, self.pools, draws, sink, self._bound, config.provisioner)
        self._terminator = Terminator(env, sink, endpoints, self._scheduler.forget, self._gone)
        self.deployment = Deployment(env, deployment, spec, draws, sink, self._created, self._delete)
        self._kubelet.on_ready = self.deployment.pod_changed
        evictor = Evictor(env, budget, self.deployment, self._terminator, sink)
        spot = SpotMarket(
            env, spec, draws, sink, self._scheduler, self._terminator, evictor, self.deployment.reconcile
        )
        self._zones = Zones(env, config.zones, availability or {}, draws, sink)
        self._zones.take_back = spot.take_back
        for pool in self.pools:
            pool.zone = self._zones.of(pool)
            pool.on_created = spot.watch
        self._starting = False
        if deletion_cost_interval_s is not None:
            env.process(self._annotate(to_ps(deletion_cost_interval_s)))

    # --- what a run does ------------------------------------------------------------------------------------

    def on_pod(self, callback: Callable[[Pod], None]) -> None:
        """Have each new pod told, at its creation."""
        self._watchers.append(callback)

    def on_container(self, callback: Callable[[Pod], None]) -> None:
        """Have each pod told whose container starts."""
        self._kubelet.on_container = callback

    def start(self, replicas: int) -> None:
        """Bring up the first replicas and the warm nodes, at time 0."""
        ready = self._config.initial == "ready"
        self._zones.start()
        for pool in self.pools:
            pool.starting = True
            pool.keep_warm()
            pool.starting = ready
        self._starting = ready
        self.deployment.scale(replicas, "the scenario")
        self._starting = False
        for pool in self.pools:
            pool.starting = False
            for node in pool.nodes:
                pool.settle(node)

    def set_replicas(self, replicas: int, now: int, by: str) -> None:
        """Write the Deployment's spec.replicas.

        Args:
            replicas: the new size.
            now: the present instant, picoseconds.
            by: who does it, for the record.

        Raises:
            ValueError: ``now`` is not the clock's time, or the size is negative.
        """
        if now != self.env.now:
            raise ValueError(f"cannot scale at {now} ps, the clock shows {self.env.now} ps")
        if replicas < 0:
            raise ValueError(f"replicas cannot be negative, got {replicas}")
        self.deployment.scale(replicas, by)

    def crash(self, pod: Pod, cause: Cause, reason: str) -> int:
        """The container of a pod ends by itself, and is started again; returns the streams that broke."""
        return self._kubelet.crash(pod, cause, reason)

    def finish(self, now: int) -> None:
        """The run ends: from now on costs stand still. What is in flight stays so."""
        self._finished_ps = now

    # --- what others look at ----------------------------------------------------------------------------------

    def version_of(self, pod: str) -> str:
        """The version that a pod runs, by its name; an empty one for a pod that has gone."""
        found = self.deployment.pods.get(int(pod.rsplit("-", 1)[1]))
        return "" if found is None else found.spec.version

    def pods(self) -> tuple[Pod, ...]:
        """All pod objects that exist, oldest first: also terminating ones, and failed ones not yet collected."""
        return tuple(self.deployment.pods.values())

    def serving(self) -> list[Replica]:
        """Replicas whose process lives and listens, also while they drain; oldest pod first."""
        return [
            pod.replica
            for pod in self.deployment.pods.values()
            if pod.replica is not None and pod.replica.alive and pod.replica.listening
        ]

    def nodes(self) -> list[Node]:
        """Nodes that are paid for, pool by pool, oldest first."""
        return [node for pool in self.pools for node in pool.nodes]

    def counts(self) -> Counts:
        """Sizes now."""
        nodes = {"on-demand": 0, "spot": 0}
        for pool in self.pools:
            nodes[pool.config.capacity] += len(pool.nodes)
        provisioned = ready = terminating = 0
        slowdown_max: Fraction | None = None
        temperature_max_c: float | None = None
        for pod in self.deployment.pods.values():
            if pod.active:
                provisioned += 1
                ready += pod.ready
            terminating += pod.terminating
            # Healthy pods share one fraction; to compare fractions is slow.
            if pod.ready and pod.slowdown is not slowdown_max:
                slowdown_max = pod.slowdown if slowdown_max is None else max(slowdown_max, pod.slowdown)
            hot_c = pod.gpu_temperature_c
            if hot_c is not None and (temperature_max_c is None or hot_c > temperature_max_c):
                temperature_max_c = hot_c
        return Counts(
            desired=self.deployment.spec_replicas,
            provisioned=provisioned,
            ready=ready,
            terminating=terminating,
            nodes_on_demand=nodes["on-demand"],
            nodes_spot=nodes["spot"],
            restarts=self._kubelet.restarts,
            slowdown_max=1.0 if slowdown_max is None else float(slowdown_max),
            temperature_max_c=temperature_max_c,
        )

    def statements(self, now: int) -> dict[str, Statement]:
        """What nodes cost up to an instant that is not before their last change, by pool."""
        until = self._until(now)
        return {pool.name: pool.meter.statement(until) for pool in self.pools}

    def gpu_ps(self, now: int) -> dict[str, dict[Phase, int]]:
        """GPU-picoseconds paid for up to an instant, by pool and what the GPUs did; as for `statements`."""
        until = self._until(now)
        return {pool.name: pool.meter.gpu_ps(until) for pool in self.pools}

    def micro_usd(self, now: int) -> int:
        """Micro-dollars for nodes up to an instant; as for `statements`."""
        return sum(statement.total for statement in self.statements(now).values())

    def peak_provisioned_micro_usd(self, now: int) -> int:
        """What the most GPUs that ever served at once would have cost from the start to an instant."""
        return self._peak.standing(self._until(now))

    def _until(self, now: int) -> int:
        return now if self._finished_ps is None else min(now, self._finished_ps)

    # --- between the parts --------------------------------------------------------------------------------------

    def _annotate(self, interval_ps: int) -> Generator[Event, None, None]:
        """Writes what pods have in flight into their deletion cost."""
        while True:
            yield self.env.timeout(interval_ps)
            for pod in self.deployment.pods.values():
                pod.deletion_cost = 0 if pod.replica is None else pod.replica.in_flight

    def _created(self, pod: Pod) -> None:
        for watcher in self._watchers:
            watcher(pod)
        self._scheduler.place(pod, at_start=self._starting)

    def _bound(self, pod: Pod) -> None:
        if self._starting:
            self._kubelet.adopt(pod)
        else:
            self._kubelet.run(pod)

    def _delete(self, pod: Pod) -> None:
        self._terminator.delete(pod, self._grace_ps, Cause.CUT_TERMINATION)

    def _gone(self, pod: Pod) -> None:
        del self.deployment.pods[pod.ordinal]


def _pools(
    env: Clock,
    config: ClusterSection,
    spec: PodSpec,
    draws: Draws,
    sink: RecordSink,
    rates: Mapping[str, PoolRates],
) -> list[Pool]:
    pools = []
    for index, pool in enumerate(config.pools):
        if pool.gpus_per_node < spec.gpus:
            raise ScenarioError(
                f"a replica needs {spec.gpus} GPUs, but a node of pool {pool.name} has {pool.gpus_per_node}",
                key=f"cluster.pools.{index}.gpus_per_node",
            )
        pools.append(
            Pool(
                env,
                pool,
                rates[pool.name],
                slots=pool.gpus_per_node // spec.gpus,
                gpus_per_pod=spec.gpus,
                prepulled=frozenset({spec.image} if config.cold_start.prepulled else ()),
                draws=draws,
                sink=sink,
                back_off=_back_off(config.provisioner),
            )
        )
    return pools


def _back_off(config: Provisioner) -> RefusalBackOff:
    first_ps = to_ps(config.back_off_s)
    longest_ps = to_ps(config.max_back_off) if config.kind == "cluster-autoscaler" else first_ps
    return RefusalBackOff(first_ps, max(first_ps, longest_ps), to_ps(config.back_off_reset))

"""Nodes and pools: provisioning, warm spares, release of empty nodes, and what it all costs.

A node is paid for from the moment that the request for it is granted until it is released or taken away. A request
that the zone refuses is not repeated before the provisioner's back-off is over. An empty node is given back after the
pool's ``empty_node_ttl`` unless it is one of the ``warm_nodes`` spares (the job of Karpenter's consolidation or the
cluster autoscaler's scale-down).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from enum import Enum
from typing import TYPE_CHECKING

from simulator.billing import PoolMeter, PoolRates, Use
from simulator.cluster.cold_start import warm_provisioning_ps
from simulator.units import to_ps, to_s

if TYPE_CHECKING:
    from simpy import Event, Process

    from simulator.clock import Clock
    from simulator.cluster.back_off import RefusalBackOff
    from simulator.cluster.link import Link
    from simulator.cluster.pods import Pod
    from simulator.cluster.zones import Zone
    from simulator.draws import Draws
    from simulator.records.sink import RecordSink
    from simulator.scenario.capacity import NodePool


class NodeState(Enum):
    """Where a node is in its life."""

    PROVISIONING = "provisioning"
    READY = "ready"
    GONE = "gone"


class Node:
    """A node. Times are picoseconds.

    Attributes:
        name: pool and ordinal.
        ordinal: how many nodes the pool had before it; the entity of its reclaim draw.
        slots: pods that fit.
        pods: pods bound to it or waiting for it, by ordinal.
        cordoned: whether new pods are kept off.
        claimed: whether the cloud takes it back, from its notice on.
        leaving: whether it is given back as soon as its pods have gone.
        ready_ps: since when it has been ready, or None.
        images: on its disk, by version.
        pulls: image pulls in progress; each fires when it ends or breaks off.
        weights: models whose weights it has read: they are in its page cache.
        compiled: what its compile cache holds.
        storage: what weights come over; None before the first read.
        memory: the same from its page cache.
        empty_since_ps: since when it has been ready without a pod, or None.
    """

    def __init__(self, pool: Pool, ordinal: int, slots: int, created_ps: int, images: set[str]) -> None:
        self.name = f"{pool.name}-{ordinal}"
        self.pool = pool
        self.ordinal = ordinal
        self.slots = slots
        self.created_ps = created_ps
        self.gone_ps: int | None = None
        self.state = NodeState.PROVISIONING
        self.cordoned = False
        self.claimed = False
        self.leaving = False
        self.ready_ps: int | None = None
        self.images = images
        self.pulls: dict[str, Event] = {}
        self.weights: set[str] = set()
        self.compiled: set[str] = set()
        self.storage: Link | None = None
        self.memory: Link | None = None
        self.pods: dict[int, Pod] = {}
        self.empty_since_ps: int | None = None
        self.reclaim: Process | None = None

    @property
    def has_room(self) -> bool:
        """Whether a new pod can be placed on it, now or when it is ready."""
        return not self.cordoned and self.state is not NodeState.GONE and len(self.pods) < self.slots

    @property
    def use(self) -> Use:
        """What its GPUs do: serve, start, idle, end."""
        gpus = self.pool.config.gpus_per_node
        if self.state is NodeState.PROVISIONING:
            return 0, gpus, 0, 0
        serving = starting = terminating = 0
        for pod in self.pods.values():
            if pod.deletion_ps is not None:
                terminating += pod.spec.gpus
            elif pod.ready:
                serving += pod.spec.gpus
            else:
                starting += pod.spec.gpus
        return serving, starting, gpus - serving - starting - terminating, terminating

    def account(self) -> None:
        """What its GPUs do may have changed."""
        if self.state is not NodeState.GONE:
            self.pool.meter.change(self.ordinal, self.pool.env.now, self.use)

    @property
    def spare(self) -> bool:
        """Whether it is there, or coming, for no pod."""
        return not self.cordoned and self.state is not NodeState.GONE and not self.pods

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.state.value}{' cordoned' if self.cordoned else ''}>"


class Pool:
    """The nodes of one kind.

    Args:
        env: the run's clock.
        config: the scenario's pool.
        rates: what its nodes cost.
        slots: pods that fit on one node.
        gpus_per_pod: GPUs of each.
        prepulled: images that nodes come with.
        draws: the run's draws.
        sink: gets the events.
        back_off: the provisioner's memory of refusals.

    Attributes:
        zone: the market that it buys on; None for one that never refuses.
        on_retry: called when a back-off is over.
    """

    def __init__(
        self,
        env: Clock,
        config: NodePool,
        rates: PoolRates,
        *,
        slots: int,
        gpus_per_pod: int,
        prepulled: frozenset[str],
        draws: Draws,
        sink: RecordSink,
        back_off: RefusalBackOff,
    ) -> None:
        self.env = env
        self.config = config
        self.name = config.name
        self.zone: Zone | None = None
        self.replaceable = True
        self.reclaimed = 0
        self.starting = False  # spares are there at once
        self.nodes: list[Node] = []  # that have not gone, oldest first
        self.on_created: Callable[[Node], None] = lambda _node: None
        self.on_ready: Callable[[Node], None] = lambda _node: None
        self.on_retry: Callable[[], None] = lambda: None
        self.meter = PoolMeter(rates, slots * gpus_per_pod)
        self._back_off = back_off
        self._slots = slots
        self._prepulled = prepulled
        self._draws = draws
        self._sink = sink
        self._created = 0
        self._ttl_ps = to_ps(config.empty_node_ttl)

    # --- growing ------------------------------------------------------------------------------------------

    @property
    def can_grow(self) -> bool:
        """Whether to ask for one more node. Nodes that are being taken away still count towards the limit."""
        return (
            self.replaceable
            and len(self.nodes) < self.config.max_nodes
            and not self._back_off.holds(self.env.now)
        )

    def granted(self) -> bool:
        """Ask the cloud for one more node, if there is a point in asking; a refusal starts the back-off."""
        if not self.can_grow:
            return False
        now = self.env.now
        refusal = None if self.zone is None else self.zone.refusal(self.config.capacity, now)
        if refusal is None:
            return True
        pause_ps = self._back_off.refused(now)
        self._sink.event(
            now,
            "node",
            self.name,
            "InsufficientCapacity",
            f"No node was granted: {refusal}; asked again in {to_s(pause_ps):g} s.",
            to_s(pause_ps),
        )
        self.env.call_at(now + pause_ps, lambda _: self._retry())
        return False

    def _retry(self) -> None:
        self.keep_warm()
        self.on_retry()

    @property
    def created(self) -> int:
        """Nodes that were ever granted."""
        return self._created

    def request(self, provisioning_ps: int) -> Node:
        """A node that the cloud has granted; it is ready after this long."""
        node = self._new_node()
        self._sink.event(
            self.env.now, "node", node.name, "NodeRequested", f"A {self.config.capacity} node was requested."
        )
        self.env.process(self._provision(node, provisioning_ps))
        self.on_created(node)
        return node

    def add_ready(self) -> Node:
        """A node that is ready now: for what is there at the start of a run."""
        node = self._new_node()
        node.state = NodeState.READY
        node.ready_ps = self.env.now
        node.account()
        self._sink.event(
            self.env.now, "node", node.name, "NodeReady", f"A {self.config.capacity} node is ready.", 0.0
        )
        self.on_created(node)
        return node

    def _new_node(self) -> Node:
        node = Node(self, self._created, self._slots, self.env.now, set(self._prepulled))
        self._created += 1
        self.nodes.append(node)
        self.meter.open(node.ordinal, self.env.now, node.use)
        return node

    def _provision(self, node: Node, delay_ps: int) -> Generator[Event, None, None]:
        yield self.env.timeout(delay_ps)
        if node.state is NodeState.GONE:
            return  # taken away while it was being provisioned
        node.state = NodeState.READY
        node.ready_ps = self.env.now
        node.account()
        took_s = to_s(self.env.now - node.created_ps)
        self._sink.event(
            self.env.now,
            "node",
            node.name,
            "NodeReady",
            f"The node was provisioned in {took_s:.1f} s; its GPUs are allocatable.",
            took_s,
        )
        self.on_ready(node)
        self.settle(node)

    def keep_warm(self) -> None:
        """Ask for nodes until as many are spare, or coming without a pod, as the pool keeps warm."""
        spares = sum(node.spare for node in self.nodes)
        while spares < self.config.warm_nodes and self.granted():
            if self.starting:
                self.add_ready()
            else:
                self.request(warm_provisioning_ps(self.config, self._draws, self._created))
            spares += 1

    # --- placement ----------------------------------------------------------------------------------------

    def room(self, *, ready_only: bool = False) -> Node | None:
        """The node for a new pod: a ready one first, then the fullest, then the oldest."""
        best: Node | None = None
        for node in self.nodes:
            if not node.has_room or (ready_only and node.state is not NodeState.READY):
                continue
            rank = (node.state is NodeState.READY, len(node.pods))
            if best is None or rank > (best.state is NodeState.READY, len(best.pods)):
                best = node
        return best

    def active_pods(self) -> int:
        """Pods placed here, bound or waiting for a node, that are not being deleted."""
        return sum(pod.active for node in self.nodes for pod in node.pods.values())

    def take(self, node: Node, pod: Pod) -> None:
        """Give the pod a slot of the node."""
        node.pods[pod.ordinal] = pod
        node.empty_since_ps = None
        node.account()
        self.keep_warm()

    def leave(self, node: Node, pod: Pod) -> None:
        """The pod gives up its slot."""
        del node.pods[pod.ordinal]
        node.account()
        if node.leaving and not node.claimed and not node.pods:
            self.release(node, "The node was drained and is given back.")
        self.settle(node)

    # --- shrinking ----------------------------------------------------------------------------------------

    def settle(self, node: Node) -> None:
        """Start the clock of a ready node that is empty."""
        if node.state is not NodeState.READY or node.cordoned or node.pods or node.empty_since_ps is not None:
            return
        since = node.empty_since_ps = self.env.now
        self.env.call_at(since + self._ttl_ps, lambda _: self._release_if_empty(node, since))

    def _release_if_empty(self, node: Node, since_ps: int) -> None:
        if node.state is NodeState.GONE or node.cordoned or node.empty_since_ps != since_ps:
            return
        if sum(other.spare for other in self.nodes) <= self.config.warm_nodes:
            return
        self.release(node, f"The node was empty for {self.config.empty_node_ttl:g} s and is given back.")

    def release(self, node: Node, why: str) -> None:
        """Give a node back that has no pods."""
        self._sink.event(
            self.env.now, "node", node.name, "NodeReleased", why, to_s(self.env.now - node.created_ps)
        )
        self.remove(node)

    def remove(self, node: Node) -> None:
        """The node has gone and is no longer paid for."""
        now = self.env.now
        node.state = NodeState.GONE
        node.gone_ps = now
        self.nodes.remove(node)
        self.meter.close(node.ordinal, now)
        reclaim = node.reclaim
        if reclaim is not None and reclaim.is_alive and reclaim is not self.env.active_process:
            reclaim.interrupt("node has gone")
        self.keep_warm()

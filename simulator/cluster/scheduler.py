"""Which node a pod gets: a pool by its share, then a node in it.

Pools that have fewer pods than their base come first, then the pool furthest below its share of the pods that are
placed (what a topology spread over capacity types does), last those without a share. If a pool has no room and gets
no node, the next one is tried. Within a pool a ready node with room comes first, then one that is being provisioned,
then a new one. New nodes are asked for when the provisioner says so: until then a pod takes room wherever it is. Pods
that fit nowhere wait, and are tried again in the order of their creation whenever a node comes, goes or gets room. A
pod that waits for a node in provisioning moves to a ready node of its pool as soon as one has room, as kube-scheduler
would have it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from simulator.cluster.cold_start import provisioning_ps
from simulator.cluster.nodes import Node, NodeState, Pool
from simulator.cluster.provisioner import Provisioner

if TYPE_CHECKING:
    from simulator.clock import Clock
    from simulator.cluster.pods import Pod
    from simulator.draws import Draws
    from simulator.records.sink import RecordSink
    from simulator.scenario.capacity import Provisioner as ProvisionerSection


class Scheduler:
    """Places pods.

    Args:
        env: the run's clock.
        pools: all pools, in the scenario's order.
        draws: the run's draws.
        sink: gets the events.
        on_bound: called with a pod that has just been bound to a ready node.
        provisioner: the scenario's provisioner.
    """

    def __init__(
        self,
        env: Clock,
        pools: Sequence[Pool],
        draws: Draws,
        sink: RecordSink,
        on_bound: Callable[[Pod], None],
        provisioner: ProvisionerSection,
    ) -> None:
        self._env = env
        self._pools = pools
        self._draws = draws
        self._sink = sink
        self._on_bound = on_bound
        self._waiting: list[Pod] = []  # fits nowhere, oldest first
        self._provisioner = Provisioner(env, provisioner, self.provision)
        for pool in pools:
            pool.on_ready = self.node_ready
            pool.on_retry = self._wake

    @property
    def unschedulable(self) -> Sequence[Pod]:
        """Pods for which there is no node and none on the way, oldest first."""
        return self._waiting

    def place(self, pod: Pod, *, at_start: bool = False) -> None:
        """Bind the pod, or make it wait for a node.

        Args:
            pod: a pod that is neither bound nor waiting.
            at_start: a node that is needed is there at once.
        """
        if not self._try(pod, grow=at_start or self._provisioner.at_once, at_start=at_start):
            self._waiting.append(pod)
            self._sink.event(
                self._env.now,
                "pod",
                pod.name,
                "FailedScheduling",
                "No node has room for the pod; it waits.",
            )
            if not self._provisioner.at_once:
                self._provisioner.wake()

    def forget(self, pod: Pod) -> None:
        """The pod has gone, or its process has: give up its slot or its place in the queue."""
        node = pod.node or pod.reserved
        pod.reserved = None
        if node is not None and pod.ordinal in node.pods:
            node.pool.leave(node, pod)
        elif pod in self._waiting:
            self._waiting.remove(pod)
        self.retry()

    def node_ready(self, node: Node) -> None:
        """Bind the pods that waited for this node."""
        for pod in list(node.pods.values()):
            if pod.reserved is node:
                self._bind(pod, node)
        self.retry()

    def cordon(self, node: Node) -> list[Pod]:
        """Keep new pods off; those that waited for it are placed anew. Returns the pods bound to it."""
        node.cordoned = True
        waiting = [pod for pod in node.pods.values() if pod.reserved is node]
        for pod in waiting:
            pod.reserved = None
            del node.pods[pod.ordinal]
        for pod in waiting:
            self.place(pod)
        node.pool.keep_warm()
        return list(node.pods.values())

    def provision(self) -> None:
        """Ask for nodes for the pods that wait."""
        self._try_waiting(grow=True)

    def _wake(self) -> None:
        if self._waiting:
            self._provisioner.wake()

    def _try_waiting(self, *, grow: bool) -> None:
        waiting, self._waiting = self._waiting, []
        self._waiting = [pod for pod in waiting if not self._try(pod, grow=grow)]

    def retry(self) -> None:
        """Room may have come: try the pods that wait."""
        self._try_waiting(grow=self._provisioner.at_once)
        for pool in self._pools:
            for node in list(pool.nodes):
                if node.state is NodeState.PROVISIONING:
                    self._move_to_ready(pool, node)

    def _move_to_ready(self, pool: Pool, node: Node) -> None:
        for pod in list(node.pods.values()):
            better = pool.room(ready_only=True)
            if better is None:
                return
            pod.reserved = None
            del node.pods[pod.ordinal]
            pool.take(better, pod)
            self._bind(pod, better)

    def _try(self, pod: Pod, *, grow: bool, at_start: bool = False) -> bool:
        for pool in self._in_order():
            node = pool.room()
            if node is None and grow and pool.granted():
                node = pool.add_ready() if at_start else self._new_node(pool, pod)
            if node is not None:
                pool.take(node, pod)
                if node.state is NodeState.READY:
                    self._bind(pod, node)
                else:
                    pod.reserved = node
                return True
        return False

    def _new_node(self, pool: Pool, pod: Pod) -> Node:
        delay_ps = provisioning_ps(pool.config, self._draws, pod.ordinal, pod.nodes_requested)
        pod.nodes_requested += 1
        return pool.request(delay_ps)

    def _in_order(self) -> list[Pool]:
        placed = [pool.active_pods() for pool in self._pools]
        shared = (
            sum(max(0, count - pool.config.base) for pool, count in zip(self._pools, placed, strict=True)) + 1
        )
        total_share = sum(pool.config.share for pool in self._pools) or 1.0

        def rank(index: int) -> tuple[int, float]:
            config, count = self._pools[index].config, placed[index]
            if count < config.base:
                return 0, 0.0
            if config.share == 0:
                return 2, 0.0
            return 1, count - config.base - config.share / total_share * shared

        return [self._pools[index] for index in sorted(range(len(self._pools)), key=rank)]  # ties in order

    def _bind(self, pod: Pod, node: Node) -> None:
        now = self._env.now
        pod.reserved = None
        pod.node = node
        pod.start_ps = now
        pod.set_ready(False, now)
        self._sink.event(now, "pod", pod.name, "Scheduled", f"Assigned to node {node.name}.")
        self._on_bound(pod)

"""Which node a pod gets: a pool by its share, then a node in it.

The pool furthest below its share of the pods that are placed comes first (what a topology spread over capacity
types does); if it has no room and cannot grow, the next one. Within a pool a ready node with room comes first,
then one that is being provisioned, then a new one. Pods that fit nowhere wait, and are tried again in the order of
their creation whenever a node comes, goes or gets room. A pod that waits for a node in provisioning moves to a
ready node of its pool as soon as one has room, as kube-scheduler would have it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from simulator.cluster.cold_start import provisioning_ps
from simulator.cluster.nodes import Node, NodeState, Pool

if TYPE_CHECKING:
    from simulator.clock import Clock
    from simulator.cluster.pods import Pod
    from simulator.draws import Draws
    from simulator.records.sink import RecordSink


class Scheduler:
    """Places pods.

    Args:
        env: the run's clock.
        pools: all pools, in the scenario's order.
        draws: the run's draws.
        sink: gets the events.
        on_bound: called with a pod that has just been bound to a ready node.
    """

    def __init__(
        self,
        env: Clock,
        pools: Sequence[Pool],
        draws: Draws,
        sink: RecordSink,
        on_bound: Callable[[Pod], None],
    ) -> None:
        self._env = env
        self._pools = pools
        self._draws = draws
        self._sink = sink
        self._on_bound = on_bound
        self._waiting: list[Pod] = []  # fits nowhere, oldest first
        for pool in pools:
            pool.on_ready = self.node_ready

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
        if not self._try(pod, at_start=at_start):
            self._waiting.append(pod)
            self._sink.event(
                self._env.now,
                "pod",
                pod.name,
                "FailedScheduling",
                "No node has room and no pool can grow; the pod waits.",
            )

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

    def retry(self) -> None:
        """Room may have come: try the pods that wait."""
        waiting, self._waiting = self._waiting, []
        self._waiting = [pod for pod in waiting if not self._try(pod)]
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

    def _try(self, pod: Pod, *, at_start: bool = False) -> bool:
        for pool in self._by_deficit():
            node = pool.room()
            if node is None and pool.can_grow:
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

    def _by_deficit(self) -> list[Pool]:
        placed = [pool.active_pods() for pool in self._pools]
        total_share = sum(pool.config.share for pool in self._pools)
        deficits = [
            pool.config.share / total_share * (sum(placed) + 1) - count
            for pool, count in zip(self._pools, placed, strict=True)
        ]
        order = sorted(range(len(self._pools)), key=lambda index: -deficits[index])  # stable: ties in order
        return [self._pools[index] for index in order]

    def _bind(self, pod: Pod, node: Node) -> None:
        now = self._env.now
        pod.reserved = None
        pod.node = node
        pod.start_ps = now
        pod.set_ready(False, now)
        self._sink.event(now, "pod", pod.name, "Scheduled", f"Assigned to node {node.name}.")
        self._on_bound(pod)

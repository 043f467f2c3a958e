"""The spot market: when a node is taken away, and what its pods get to know of it.

    t          the cloud's notice
    t + d      the control plane has seen it: cordon, pods deleted with grace min(G, notice - d), replacements
    t + notice the node is gone, with all that still runs on it

If the control plane has not seen it by then, or there is no notice, the node just vanishes: its streams break,
requests that still reach it fail, and only at t + d (the node controller's grace period) its pods fail and are
replaced.

Times between reclaims are exponential, one draw per node by its ordinal in the pool. Real lifetimes have a heavier
tail, and reclaims of one zone come together more often than independent draws do (SkyPilot's spot traces, "Can't
Be Late", NSDI 2024: with 16 nodes 12 to 46 % of losses take all nodes at once).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from simpy import Interrupt

from simulator.outcomes import Cause
from simulator.scenario.cluster import Reclaim
from simulator.units import to_ps, to_s

if TYPE_CHECKING:
    from simpy import Event

    from simulator.clock import Clock
    from simulator.cluster.nodes import Node
    from simulator.cluster.pods import Pod, PodSpec
    from simulator.cluster.scheduler import Scheduler
    from simulator.cluster.termination import Terminator
    from simulator.draws import Draws
    from simulator.records.sink import RecordSink


class SpotMarket:
    """Takes spot nodes back.

    Args:
        env: the run's clock.
        spec: what every pod asks for (its grace period).
        draws: the run's draws.
        sink: gets the events.
        scheduler: is told to keep pods off a node.
        terminator: ends the pods.
        reconcile: lets the ReplicaSet controller replace them.
    """

    def __init__(
        self,
        env: Clock,
        spec: PodSpec,
        draws: Draws,
        sink: RecordSink,
        scheduler: Scheduler,
        terminator: Terminator,
        reconcile: Callable[[], None],
    ) -> None:
        self._env = env
        self._spec = spec
        self._draws = draws
        self._sink = sink
        self._scheduler = scheduler
        self._terminator = terminator
        self._reconcile = reconcile

    def watch(self, node: Node) -> None:
        """A node has been granted; if it is a spot node its clock runs from now."""
        if node.pool.config.capacity == "spot":
            reclaim = node.pool.config.reclaim or Reclaim()
            mean_units = self._draws.exponential(f"reclaim/{node.pool.name}", node.ordinal)
            node.reclaim = self._env.process(
                self._life(node, reclaim, to_ps(mean_units * reclaim.mean_time_between))
            )

    def _life(self, node: Node, reclaim: Reclaim, lifetime_ps: int) -> Generator[Event, None, None]:
        env = self._env
        notice_ps, detection_ps = to_ps(reclaim.notice), to_ps(reclaim.detection_s)
        warned = detection_ps < notice_ps
        try:
            yield env.timeout(lifetime_ps)
            if notice_ps:
                message = f"The cloud takes the node back in {reclaim.notice:g} s."
                self._sink.event(env.now, "reclaim", node.name, "SpotReclaimNotice", message, reclaim.notice)
            node.pool.replaceable = node.pool.replaceable and reclaim.replacement
            if warned:
                yield env.timeout(detection_ps)
                self._drain(node, reclaim, notice_ps - detection_ps)
                yield env.timeout(notice_ps - detection_ps)
            else:
                yield env.timeout(notice_ps)
        except Interrupt:
            return  # released while it was still ours
        lost = self._take(node)
        if not warned:
            yield env.timeout(detection_ps - notice_ps)
        for pod in lost:
            self._terminator.failed(pod)
        self._reconcile()

    def _drain(self, node: Node, reclaim: Reclaim, left_ps: int) -> None:
        grace_ps = min(to_ps(self._spec.termination_grace_period_s), left_ps)
        if reclaim.pod_grace is not None:
            grace_ps = min(grace_ps, to_ps(reclaim.pod_grace))
        for pod in self._scheduler.cordon(node):
            self._terminator.delete(pod, grace_ps, Cause.CUT_SPOT_RECLAIM)
        self._reconcile()

    def _take(self, node: Node) -> list[Pod]:
        """The node goes now. Returns the pods that the API still believes to run on it."""
        self._scheduler.cordon(node)
        node.pool.remove(node)
        node.pool.reclaimed += 1
        self._scheduler.retry()
        held_s = to_s(self._env.now - node.created_ps)
        message = f"The spot node was taken away after {held_s / 3600:.2f} h."
        self._sink.event(self._env.now, "reclaim", node.name, "NodeReclaimed", message, held_s)
        bound = list(node.pods.values())
        for pod in bound:
            self._terminator.process_lost(pod, Cause.CUT_SPOT_RECLAIM)
        return [pod for pod in bound if pod.gone_ps is None]

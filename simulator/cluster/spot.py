"""The spot market: when a node is taken away, and what its pods get to know of it.

    t - lead   perhaps the cloud's rebalance recommendation: nothing, a drain, or a replacement and then a drain
    t          the cloud's notice
    t + d      the control plane has seen it: cordon, pods evicted with grace min(G, notice - d), replacements
    t + notice the node is gone, with all that still runs on it

If the control plane has not seen it by then, or there is no notice, the node just vanishes: its streams break,
requests that still reach it fail, and only at t + d (the node controller's grace period) its pods fail and are
replaced.

A node is taken for one of two reasons: its own time is up (exponential or lognormal, one draw per node by its ordinal
in the pool), or its zone loses capacity (`simulator.cluster.zones`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from simpy import Interrupt

from simulator.cluster.cold_start import warm_provisioning_ps
from simulator.outcomes import Cause
from simulator.units import to_ps, to_s

if TYPE_CHECKING:
    from simpy import Event

    from simulator.clock import Clock
    from simulator.cluster.eviction import Evictor
    from simulator.cluster.nodes import Node
    from simulator.cluster.pods import Pod, PodSpec
    from simulator.cluster.scheduler import Scheduler
    from simulator.cluster.termination import Terminator
    from simulator.draws import Draws
    from simulator.records.sink import RecordSink
    from simulator.scenario.capacity import NodePool, Reclaim


def lifetime_s(reclaim: Reclaim, draws: Draws, pool: str, ordinal: int) -> float:
    """How long after its request a node's own notice comes."""
    mean, median = reclaim.mean_time_between, reclaim.median_time_between
    if median is None:
        return draws.exponential(f"reclaim/{pool}", ordinal) * mean
    sigma = math.sqrt(2 * math.log(mean / median))
    return median * math.exp(sigma * draws.normal(f"reclaim/{pool}", ordinal))


class SpotMarket:
    """Takes spot nodes back.

    Args:
        env: the run's clock.
        spec: what every pod asks for (its grace period).
        draws: the run's draws.
        sink: gets the events.
        scheduler: is told to keep pods off a node.
        terminator: ends pods whose node has gone.
        evictor: drains nodes.
        reconcile: lets the ReplicaSet controller replace pods.
    """

    def __init__(
        self,
        env: Clock,
        spec: PodSpec,
        draws: Draws,
        sink: RecordSink,
        scheduler: Scheduler,
        terminator: Terminator,
        evictor: Evictor,
        reconcile: Callable[[], None],
    ) -> None:
        self._env = env
        self._grace_ps = to_ps(spec.termination_grace_period_s)
        self._draws = draws
        self._sink = sink
        self._scheduler = scheduler
        self._terminator = terminator
        self._evictor = evictor
        self._reconcile = reconcile

    def watch(self, node: Node) -> None:
        """A node has been granted; if it is a spot node its clock runs from now."""
        pool = node.pool
        replayed = pool.zone is not None and pool.zone.availability is not None
        if pool.config.capacity == "spot" and not replayed:
            life_ps = to_ps(lifetime_s(pool.config.terms, self._draws, pool.name, node.ordinal))
            node.reclaim = self._env.process(self._life(node, life_ps))

    def take_back(self, node: Node) -> None:
        """The cloud claims a node now; one that is claimed already goes as it would."""
        if node.claimed or node.gone_ps is not None:
            return
        if node.reclaim is not None and node.reclaim.is_alive:
            node.reclaim.interrupt()
        node.reclaim = self._env.process(self._claim(node))
        node.claimed = True

    def _life(self, node: Node, life_ps: int) -> Generator[Event, None, None]:
        env, rebalance = self._env, node.pool.config.terms.rebalance
        address = f"rebalance/{node.pool.name}"
        try:
            if rebalance is not None and self._draws.uniform(address, node.ordinal) < rebalance.share:
                lead_ps = to_ps(rebalance.lead.quantile_s(self._draws.uniform(address, node.ordinal, word=1)))
                lead_ps = min(lead_ps, life_ps)
                yield env.timeout(life_ps - lead_ps)
                self._recommend(node, rebalance.action)
                if node.gone_ps is not None:
                    return  # it was empty, and was given back at once
                yield env.timeout(lead_ps)
            else:
                yield env.timeout(life_ps)
        except Interrupt:
            return  # released, or claimed by its zone
        yield from self._claim(node)

    def _claim(self, node: Node) -> Generator[Event, None, None]:
        env, config = self._env, node.pool.config
        notice_ps, detection_ps = to_ps(config.notice_s), to_ps(config.detection_s)
        warned = detection_ps < notice_ps
        node.claimed = True
        try:
            if notice_ps:
                message = f"The cloud takes the node back in {config.notice_s:g} s."
                self._sink.event(env.now, "reclaim", node.name, "SpotReclaimNotice", message, config.notice_s)
            node.pool.replaceable = node.pool.replaceable and config.terms.replacement
            if warned:
                yield env.timeout(detection_ps)
                self._drain(node, config, env.now + notice_ps - detection_ps)
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

    def _drain(self, node: Node, config: NodePool, gone_ps: int) -> None:
        limit_ps = self._grace_ps
        if config.pod_grace_s is not None:
            limit_ps = min(limit_ps, to_ps(config.pod_grace_s))
        pods = self._scheduler.cordon(node)
        self._evictor.evict(pods, lambda: min(limit_ps, gone_ps - self._env.now), Cause.CUT_SPOT_RECLAIM)

    # --- rebalance recommendations ------------------------------------------------------------------------

    def _recommend(self, node: Node, action: str) -> None:
        message = f"The node is at elevated risk of being taken back; action: {action}."
        self._sink.event(self._env.now, "reclaim", node.name, "RebalanceRecommendation", message)
        if action == "drain":
            self._leave(node)
        elif action == "replace":
            self._env.process(self._replace(node))

    def _replace(self, node: Node) -> Generator[Event, None, None]:
        pool = node.pool
        if not pool.granted():
            return  # no luck: the node stays until its notice
        delay_ps = warm_provisioning_ps(pool.config, self._draws, pool.created)
        pool.request(delay_ps)
        yield self._env.timeout(delay_ps)
        if not node.claimed and node.gone_ps is None:
            self._leave(node)

    def _leave(self, node: Node) -> None:
        """Drain it in peace: pods get all their grace, and the node is given back when they have gone."""
        pods = self._scheduler.cordon(node)
        node.leaving = True
        if not pods:
            node.pool.release(node, "The node was empty when it was drained, and is given back.")
            self._scheduler.retry()
            return
        self._evictor.evict(pods, lambda: self._grace_ps, Cause.CUT_TERMINATION)

    def _take(self, node: Node) -> list[Pod]:
        """The node goes now. Returns the pods that the API still believes to run on it."""
        self._scheduler.cordon(node)
        node.pool.remove(node)
        node.pool.reclaimed += 1
        self._scheduler.retry()
        held_s = to_s(self._env.now - node.created_ps)
        message = f"The spot node was taken away after {held_s / 3600:.2f} h."
        self._sink.event(self._env.now, "reclaim", node.name, "NodeReclaimed", message, held_s)
        pods = list(node.pods.values())
        for pod in pods:
            self._terminator.process_lost(pod, Cause.CUT_SPOT_RECLAIM)
        return [pod for pod in pods if pod.gone_ps is None]

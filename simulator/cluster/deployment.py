"""The ReplicaSet controller: as many pods as the spec asks for, and whom a scale-down hits.

Ranking of victims, from pkg/controller/controller_utils.go (ActivePodsWithRanks): not assigned to a node, Pending,
not ready, more pods of the set on the same node, ready for a shorter time (on a scale of powers of two, ties by
UID: gate LogarithmicScaleDown), more restarts, created later (likewise). The controller knows nothing of load.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cmp_to_key
from typing import TYPE_CHECKING

from simulator.cluster.pods import Pod, PodSpec
from simulator.units import PS_PER_S

if TYPE_CHECKING:
    from simulator.clock import Clock
    from simulator.draws import Draws
    from simulator.records.sink import RecordSink


def _log_age(since_ps: int, now: int) -> int:
    """Go's ``int64(math.Log2(float64(nanoseconds)))``; times in the API have whole seconds. -1 for no age."""
    age_ns = (now - since_ps // PS_PER_S * PS_PER_S) // 1000
    return int(math.log2(age_ns)) if age_ns > 0 else -1


def _by_age(a_ps: int, b_ps: int, a: Pod, b: Pod, now: int) -> float:
    if a_ps // PS_PER_S == b_ps // PS_PER_S:
        return 0
    rank = _log_age(a_ps, now) - _log_age(b_ps, now)
    return rank if rank else a.uid - b.uid


def _compare(a: Pod, b: Pod, on_node: Mapping[str, int], now: int) -> float:
    def crowd(pod: Pod) -> int:
        return on_node[pod.node.name] if pod.node is not None else 0

    for first, second in (
        (a.node is not None, b.node is not None),
        (a.phase == "Running", b.phase == "Running"),
        (a.ready, b.ready),
        (crowd(b), crowd(a)),
    ):
        if first != second:
            return first - second
    if a.ready:
        assert a.ready_transition_ps is not None
        assert b.ready_transition_ps is not None
        by_readiness = _by_age(a.ready_transition_ps, b.ready_transition_ps, a, b, now)
        if by_readiness:
            return by_readiness
    if a.restarts != b.restarts:
        return b.restarts - a.restarts
    return _by_age(a.created_ps, b.created_ps, a, b, now) or a.uid - b.uid


def victims(pods: Sequence[Pod], count: int, now: int) -> list[Pod]:
    """The pods that a scale-down deletes.

    Args:
        pods: the active pods of the set.
        count: how many go.
        now: time in picoseconds.
    """
    on_node: dict[str, int] = {}
    for pod in pods:
        if pod.node is not None:
            on_node[pod.node.name] = on_node.get(pod.node.name, 0) + 1

    def order(a: Pod, b: Pod) -> int:
        difference = _compare(a, b, on_node, now)
        return (difference > 0) - (difference < 0)

    return sorted(pods, key=cmp_to_key(order))[:count]


class Deployment:
    """One ReplicaSet and its pods.

    Args:
        env: the run's clock.
        name: of the Deployment; pods are named after it.
        spec: what its pods ask for.
        draws: the run's draws.
        sink: gets the events.
        on_created: called with each new pod.
        delete: asks for a pod's deletion.
    """

    def __init__(
        self,
        env: Clock,
        name: str,
        spec: PodSpec,
        draws: Draws,
        sink: RecordSink,
        on_created: Callable[[Pod], None],
        delete: Callable[[Pod], None],
    ) -> None:
        self.name = name
        self._spec = spec
        self.spec_replicas = 0
        self.created = 0
        self.pods: dict[int, Pod] = {}  # objects that exist, by ordinal
        self._env = env
        self._draws = draws
        self._sink = sink
        self._on_created = on_created
        self._delete = delete

    def active(self) -> list[Pod]:
        """Pods that count as replicas (status.replicas)."""
        return [pod for pod in self.pods.values() if pod.active]

    def scale(self, replicas: int, by: str) -> None:
        """Set spec.replicas."""
        old, self.spec_replicas = self.spec_replicas, replicas
        if replicas != old:
            way = "up" if replicas > old else "down"
            self._sink.event(
                self._env.now,
                "scale",
                self.name,
                "ScalingReplicaSet",
                f"Scaled {way} from {old} to {replicas} by {by}.",
                float(replicas),
            )
        self.reconcile()

    def reconcile(self) -> None:
        """Create or delete pods until as many are active as the spec asks for."""
        active = self.active()
        surplus = len(active) - self.spec_replicas
        for pod in victims(active, surplus, self._env.now) if surplus > 0 else ():
            self._delete(pod)
        for _ in range(-surplus):
            ordinal = self.created
            self.created += 1
            uid = self._draws.uniform("pod-uid", ordinal)
            pod = Pod(f"{self.name}-{ordinal}", ordinal, uid, self._env.now, self._spec)
            self.pods[ordinal] = pod
            self._on_created(pod)

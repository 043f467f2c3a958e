"""The ReplicaSet controller: as many pods as the spec asks for, and whom a scale-down hits.

Ranking of victims, from pkg/controller/controller_utils.go (ActivePodsWithRanks): not assigned to a node, Pending,
not ready, lower pod-deletion-cost, more pods of the Deployment on the same node, ready for a shorter time (on a scale
of powers of two, ties by UID: gate LogarithmicScaleDown), more restarts, created later (likewise). The controller knows
nothing of load, unless somebody writes it into the cost.

A Deployment has one ReplicaSet for each version; between two versions it moves by `simulator.cluster.rolling`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from typing import TYPE_CHECKING

from simulator.cluster.pods import Pod, PodSpec
from simulator.cluster.rolling import Bounds, proportional, step
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
        (a.deletion_cost, b.deletion_cost),
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


def victims(pods: Sequence[Pod], count: int, now: int, related: Sequence[Pod] | None = None) -> list[Pod]:
    """The pods that a scale-down deletes.

    Args:
        pods: the active pods of the set.
        count: how many go.
        now: time in picoseconds.
        related: the active pods of all sets of the Deployment; without it those of this set.
    """
    on_node: dict[str, int] = {}
    for pod in pods if related is None else related:
        if pod.node is not None:
            on_node[pod.node.name] = on_node.get(pod.node.name, 0) + 1

    def order(a: Pod, b: Pod) -> int:
        difference = _compare(a, b, on_node, now)
        return (difference > 0) - (difference < 0)

    return sorted(pods, key=cmp_to_key(order))[:count]


@dataclass(slots=True, eq=False)
class ReplicaSet:
    """The pods of one version.

    Attributes:
        spec: what they ask for.
        replicas: how many there are to be.
    """

    spec: PodSpec
    replicas: int = 0


class Deployment:
    """ReplicaSets and their pods.

    Args:
        env: the run's clock.
        name: of the Deployment; pods are named after it.
        spec: what its pods ask for at the start.
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
        self.spec_replicas = 0
        self.created = 0
        self.pods: dict[int, Pod] = {}  # objects that exist, by ordinal
        self.rolling = False
        self._env = env
        self._draws = draws
        self._sink = sink
        self._on_created = on_created
        self._delete = delete
        self._new = ReplicaSet(spec)
        self._old: list[ReplicaSet] = []  # oldest first
        self._bounds = Bounds()
        self._min_ready_ps = 0
        self._canary_weight: float | None = None
        self._busy = False
        self._again = False

    @property
    def version(self) -> str:
        """What the Deployment's template asks for; in a canary the version under test."""
        return self._new.spec.version

    def active(self, version: str | None = None) -> list[Pod]:
        """Pods that count as replicas (status.replicas), of all versions or one."""
        return [
            pod
            for pod in self.pods.values()
            if pod.active and (version is None or pod.spec.version == version)
        ]

    def available(self, version: str) -> int:
        """Pods of a version that have been ready for minReadySeconds."""
        since_ps = self._env.now - self._min_ready_ps
        return sum(
            pod.ready and pod.ready_transition_ps is not None and pod.ready_transition_ps <= since_ps
            for pod in self.active(version)
        )

    def wanted(self, version: str) -> int:
        """Replicas that a version is to have now."""
        return sum(rs.replicas for rs in (*self._old, self._new) if rs.spec.version == version)

    def scale(self, replicas: int, by: str) -> None:
        """Set spec.replicas."""
        old, self.spec_replicas = self.spec_replicas, replicas
        if replicas != old:
            way = "up" if replicas > old else "down"
            self._tell(
                "ScalingReplicaSet", f"Scaled {way} from {old} to {replicas} by {by}.", float(replicas)
            )
            self._resize(old)
        self.reconcile()

    # --- versions -----------------------------------------------------------------------------------------

    def roll_out(self, spec: PodSpec, bounds: Bounds, min_ready_ps: int) -> None:
        """Begin a rolling update to a version, also back to one that is on its way out."""
        self._take_for_new(spec)
        self._bounds, self._min_ready_ps, self._canary_weight = bounds, min_ready_ps, None
        self.rolling = True
        self._tell("RolloutStarted", f"Rolling update to {spec.version}.")
        self.reconcile()

    def canary(self, spec: PodSpec, weight: float, min_ready_ps: int) -> None:
        """Run a version beside the old one, which keeps its size, on a share of the replicas, rounded up."""
        if self._canary_weight is None:
            self._take_for_new(spec)
        self._canary_weight, self._min_ready_ps = weight, min_ready_ps
        self._tell(
            "CanaryWeight", f"{spec.version} gets {weight:.0%} of the replicas and of the traffic.", weight
        )
        self._resize(self.spec_replicas)
        self.reconcile()

    def end_canary(self, *, promote: bool) -> None:
        """Keep the version under test and let the old one go, or the other way round."""
        if not promote:
            self._take_for_new(self._old[-1].spec)
        self._canary_weight = None
        self._new.replicas = self.spec_replicas
        for rs in self._old:
            rs.replicas = 0
        self.reconcile()

    def pod_changed(self) -> None:
        """A pod has turned ready: a rollout may go on."""
        if self.rolling:
            self.reconcile()
            if self._min_ready_ps:
                self._env.call_at(self._env.now + self._min_ready_ps, lambda _: self.reconcile())

    def _take_for_new(self, spec: PodSpec) -> None:
        found = next((rs for rs in self._old if rs.spec.version == spec.version), None)
        if found is None:
            found = ReplicaSet(spec)
        else:
            self._old.remove(found)
        self._old.append(self._new)
        self._new = found

    def _resize(self, before: int) -> None:
        """Sizes of the ReplicaSets after a change of spec.replicas, or of a canary's weight."""
        if self._canary_weight is not None:
            self._old[-1].replicas = self.spec_replicas
            self._new.replicas = math.ceil(self.spec_replicas * self._canary_weight)
            return
        old = [rs for rs in self._old if rs.replicas]
        if not old:
            self._new.replicas = self.spec_replicas
            return
        sets = [*old, self._new]
        old_max = before + self._bounds.resolve(before)[0]
        new_max = (
            self.spec_replicas + self._bounds.resolve(self.spec_replicas)[0] if self.spec_replicas else 0
        )
        for rs, size in zip(sets, proportional([rs.replicas for rs in sets], old_max, new_max), strict=True):
            rs.replicas = size

    # --- pods ---------------------------------------------------------------------------------------------

    def reconcile(self) -> None:
        """Create or delete pods until as many are active as the spec asks for."""
        self._again = True
        if self._busy:
            return  # a pod that was created or deleted below calls back: once more when it is done
        self._busy = True
        while self._again:
            self._again = False
            if self.rolling:
                self._roll()
            for rs in (*self._old, self._new):
                self._sync(rs)
        self._busy = False
        self._old = [rs for rs in self._old if rs.replicas or self._canary_weight is not None]

    def _roll(self) -> None:
        new, old = self._new, self._old
        size, sizes = step(
            self.spec_replicas,
            self._bounds,
            (new.replicas, min(new.replicas, self.available(new.spec.version))),
            # Not more than there are to be: those above are about to be deleted.
            [(rs.replicas, min(rs.replicas, self.available(rs.spec.version))) for rs in old],
        )
        changed = (size, *sizes) != (new.replicas, *(rs.replicas for rs in old))
        new.replicas = size
        for rs, count in zip(old, sizes, strict=True):
            rs.replicas = count
        self._again = self._again or changed
        if not changed and size == self.spec_replicas == self.available(new.spec.version) and not any(sizes):
            self.rolling = False
            self._tell("RolloutComplete", f"All replicas run {new.spec.version}.", float(size))

    def _sync(self, rs: ReplicaSet) -> None:
        active = self.active(rs.spec.version)
        surplus = len(active) - rs.replicas
        for pod in victims(active, surplus, self._env.now, self.active()) if surplus > 0 else ():
            self._delete(pod)
        for _ in range(-surplus):
            ordinal = self.created
            self.created += 1
            uid = self._draws.uniform("pod-uid", ordinal)
            pod = Pod(f"{self.name}-{ordinal}", ordinal, uid, self._env.now, rs.spec)
            self.pods[ordinal] = pod
            self._on_created(pod)

    def _tell(self, reason: str, message: str, value: float | None = None) -> None:
        self._sink.event(self._env.now, "scale", self.name, reason, message, value)

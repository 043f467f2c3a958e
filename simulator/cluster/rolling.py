"""The Deployment controller's arithmetic of a rolling update, as functions of sizes.

Source: kubernetes pkg/controller/deployment/rolling.go (reconcileNewReplicaSet, reconcileOldReplicaSets,
cleanupUnhealthyReplicas, scaleDownOldReplicaSetsForRollingUpdate), sync.go (scale) and util/deployment_util.go
(NewRSNewReplicas, GetReplicaSetProportion, ResolveFenceposts).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simulator.scenario.lifecycle import pods_of


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far a rolling update may go above and below the wanted size.

    Attributes:
        max_surge: pods, or a percentage such as ``25%``, rounded up.
        max_unavailable: the same, rounded down.
    """

    max_surge: int | str = "25%"
    max_unavailable: int | str = "25%"

    def resolve(self, replicas: int) -> tuple[int, int]:
        """(surge, unavailable) in pods; both being 0 makes the second 1."""
        surge = pods_of(self.max_surge, replicas)
        unavailable = pods_of(self.max_unavailable, replicas, round_up=False)
        if surge == 0 and unavailable == 0:
            unavailable = 1
        return surge, min(unavailable, replicas)


def step(
    replicas: int, bounds: Bounds, new: tuple[int, int], old: Sequence[tuple[int, int]]
) -> tuple[int, list[int]]:
    """One pass of the controller.

    Args:
        replicas: the Deployment's size.
        bounds: of the update.
        new: (size, available pods) of the new ReplicaSet.
        old: the same of the old ones, oldest first.

    Returns:
        The new sizes: of the new ReplicaSet, and of the old ones. The same as before when nothing is to be done now.
    """
    surge, unavailable = bounds.resolve(replicas)
    size, available = new
    sizes = [count for count, _ in old]
    total = size + sum(sizes)
    if size > replicas:
        return replicas, sizes
    if size < replicas and total < replicas + surge:
        return size + min(replicas + surge - total, replicas - size), sizes
    least = replicas - unavailable
    may_go = total - least - (size - available)
    if may_go <= 0:
        return size, sizes
    # Pods of old ReplicaSets that are not available go first: they serve nobody.
    cleaned = 0
    for index, (count, count_available) in enumerate(old):
        unhealthy = min(may_go - cleaned, max(0, count - count_available))
        sizes[index] -= unhealthy
        cleaned += unhealthy
    spare = available + sum(count for _, count in old) - least
    for index in range(len(sizes)):
        taken = min(max(0, spare), sizes[index])
        sizes[index] -= taken
        spare -= taken
    return size, sizes


def proportional(sizes: Sequence[int], old_max: int, new_max: int) -> list[int]:
    """Sizes of the ReplicaSets of a Deployment that is scaled in the midst of a rollout.

    Args:
        sizes: of all of them, oldest first.
        old_max: replicas plus surge before.
        new_max: the same now; 0 for a Deployment that is scaled to none.
    """
    to_add = new_max - sum(sizes)
    # Largest first; of equal ones the newer when growing, the older when shrinking.
    order = sorted(range(len(sizes)), key=lambda i: (-sizes[i], -i if to_add > 0 else i))
    result = list(sizes)
    added = 0
    for index in order:
        if to_add == 0:
            break
        part = -sizes[index] if new_max == 0 else _round(sizes[index] * new_max, old_max) - sizes[index]
        allowed = to_add - added
        part = min(part, allowed) if to_add > 0 else max(part, allowed)
        result[index] += part
        added += part
    if order:
        result[order[0]] = max(0, result[order[0]] + to_add - added)
    return result


def _round(numerator: int, denominator: int) -> int:
    """Half away from zero, as Go's math.Round."""
    return (2 * numerator + denominator) // (2 * denominator)

"""A warm standby pool: some ready replicas more than the load needs. Pure.

need = ceil(sum of the load metric / target per replica); floor = need + standby. The load metric must not fall when
replicas are added (running and waiting requests do not, a utilisation does). Falls are followed late: the largest
floor of the stabilisation window holds, as an HPA's scale-down does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from simulator.autoscaling.decision import Decision
from simulator.units import PS_PER_S


@dataclass(frozen=True, slots=True)
class StandbySpec:
    """The pool.

    Attributes:
        target: load that one replica takes.
        standby: ready replicas to have beyond the need.
        max_replicas: upper limit of the floor.
        stabilization_ps: how long a larger floor holds.
    """

    target: float
    standby: int
    max_replicas: int = 1000
    stabilization_ps: int = 300 * PS_PER_S


@dataclass(frozen=True, slots=True)
class StandbyState:
    """``recent`` has (time, floor) within the stabilisation window."""

    recent: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class StandbySnapshot:
    """What a look sees: the settings, and the load summed over replicas; None without data."""

    spec: StandbySpec
    load: float | None


def decide(state: StandbyState, snapshot: StandbySnapshot, now: int) -> tuple[StandbyState, Decision]:
    """The floor to set.

    Args:
        state: floors of the last looks.
        snapshot: what this one sees.
        now: time in picoseconds.
    """
    spec = snapshot.spec
    if snapshot.load is None:
        return state, Decision(None, "NoData", "no load metric: the floor stays")
    need = math.ceil(snapshot.load / spec.target)
    floor = min(need + spec.standby, spec.max_replicas)
    recent = (*(e for e in state.recent if e[0] + spec.stabilization_ps > now), (now, floor))
    held = max(size for _, size in recent)
    # Only what can still be the largest is kept.
    kept: list[tuple[int, int]] = []
    for entry in reversed(recent):
        if not kept or entry[1] > kept[-1][1]:
            kept.append(entry)
    text = (
        f"load {snapshot.load:g} needs {need} at {spec.target:g} each, with {spec.standby} on standby {floor}"
    )
    if held > floor:
        text += f"; {held} was wanted within {spec.stabilization_ps / PS_PER_S:g} s"
    return StandbyState(tuple(reversed(kept))), Decision(held, "Standby", text)

"""The perfect autoscaler: it knows every arrival and the cold start, and orders just in time. Pure.

Definition. Time is cut into windows of length W. A window with A arrivals needs ceil(A / (c × W)) ready replicas, c
being the requests a second that one replica serves within the SLO. A replica must be ordered one lead before it is
needed; it is paid for from its order. Between two times at which it is needed it is released if the gap is longer than
the lead plus the tail (what is paid for after a release: drain, empty node), else kept: either way whatever is cheaper.
Each replica's gaps are its own affair, so this is the cheapest schedule of all that

- have capacity for the arrivals of every window within that window, by the fixed rate c, and
- pay from order to release, with that lead and tail.

Against these it is a lower bound on dollars at no SLO miss from want of capacity. It is none against a policy that lets
requests wait longer than a window, or for replicas that serve a burst faster than c. Run through the simulator it has
the misses that chance within a window causes; they are measured, not assumed away.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from simulator.autoscaling.decision import Decision
from simulator.units import PS_PER_S


@dataclass(frozen=True, slots=True)
class PerfectSpec:
    """What it knows beside the arrivals.

    Attributes:
        rate_per_replica: requests a second that one replica serves within the SLO (c).
        lead_ps: from an order to a ready replica.
        window_ps: length of a window (W).
        tail_ps: what is paid for after a release.
        min_replicas: lower limit.
        max_replicas: upper limit.
    """

    rate_per_replica: float
    lead_ps: int
    window_ps: int
    tail_ps: int = 0
    min_replicas: int = 1
    max_replicas: int = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes to ask for: ``replicas[i]`` from ``times_ps[i]`` on; the first time is 0."""

    times_ps: tuple[int, ...]
    replicas: tuple[int, ...]

    def at(self, now: int) -> int:
        return self.replicas[bisect_right(self.times_ps, now) - 1]


def needs(arrivals_ps: Iterable[int], spec: PerfectSpec) -> list[int]:
    """Ready replicas that each window needs, from time 0 to the last arrival."""
    counts: list[int] = []
    for arrival in arrivals_ps:
        index = arrival // spec.window_ps
        if index >= len(counts):
            counts.extend([0] * (index + 1 - len(counts)))
        counts[index] += 1
    per_window = spec.rate_per_replica * spec.window_ps / PS_PER_S
    return [max(spec.min_replicas, min(spec.max_replicas, math.ceil(count / per_window))) for count in counts]


def plan(arrivals_ps: Iterable[int], spec: PerfectSpec) -> Plan:
    """The schedule of orders and releases.

    Args:
        arrivals_ps: when requests come, in any order, picoseconds.
        spec: the rest.

    Raises:
        ValueError: a rate, lead or window that cannot be.
    """
    if spec.rate_per_replica <= 0 or spec.window_ps <= 0 or spec.lead_ps < 0 or spec.tail_ps < 0:
        raise ValueError("rate and window must be above 0, lead and tail at least 0")
    windows = needs(arrivals_ps, spec)
    bridge = spec.lead_ps + spec.tail_ps
    changes: dict[int, int] = {0: spec.min_replicas}
    for level in range(spec.min_replicas + 1, max(windows, default=0) + 1):
        for start, end in _intervals(windows, level, spec.window_ps, bridge):
            ordered = max(0, start - spec.lead_ps)
            changes[ordered] = changes.get(ordered, 0) + 1
            changes[end] = changes.get(end, 0) - 1
    times: list[int] = []
    sizes: list[int] = []
    size = 0
    for time in sorted(changes):
        if changes[time] or not times:
            size += changes[time]
            times.append(time)
            sizes.append(size)
    return Plan(tuple(times), tuple(sizes))


def _intervals(windows: list[int], level: int, window_ps: int, bridge_ps: int) -> list[tuple[int, int]]:
    """When the replica of a level must be ready, gaps up to ``bridge_ps`` closed."""
    intervals: list[tuple[int, int]] = []
    for index, need in enumerate(windows):
        if need < level:
            continue
        start, end = index * window_ps, (index + 1) * window_ps
        if intervals and start - intervals[-1][1] <= bridge_ps:
            intervals[-1] = (intervals[-1][0], end)
        else:
            intervals.append((start, end))
    return intervals


@dataclass(frozen=True, slots=True)
class PerfectState:
    """Nothing is remembered."""


def decide(state: PerfectState, snapshot: Plan, now: int) -> tuple[PerfectState, Decision]:
    """The size of the plan.

    Args:
        state: nothing.
        snapshot: the plan.
        now: time in picoseconds.
    """
    size = snapshot.at(now)
    return state, Decision(size, "Plan", f"the plan has {size} replicas from here")

"""All traffic of a run: the scenario's entries, merged in time order."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Protocol

from simulator.draws import Draws
from simulator.scenario.arrivals import ClosedLoopArrivals, TraceArrivals
from simulator.scenario.errors import ScenarioError
from simulator.scenario.workload import WorkloadConfig
from simulator.units import PS_PER_S, to_ps
from simulator.workload.arrivals import expected_curve, processes_of
from simulator.workload.closed_loop import ClosedLoop
from simulator.workload.entry import Entry
from simulator.workload.open_loop import OpenLoop, OpenLoopSessions
from simulator.workload.rate_curve import RateCurve
from simulator.workload.request import RequestSpec
from simulator.workload.sampling import length_sampler, mean_count
from simulator.workload.traces import TraceReplay


class _Generator(Protocol):
    def arrivals(self) -> Iterator[RequestSpec]: ...

    def after(self, spec: RequestSpec, end_ps: int, succeeded: bool) -> RequestSpec | None: ...


class WorkloadSource:
    """The requests of a run, made as they are needed.

    What a request is (lengths, content, think times) depends on the seed, the name of its entry and its index
    there, never on what happened to other requests or on other entries.

    Args:
        workloads: entries of the scenario.
        draws: the run's draws; purposes begin with ``workload/<name>/``.
        duration_ps: end of the run; nothing arrives at or after it.
        base_dir: folder that files in the scenario are relative to.

    Raises:
        ScenarioError: spikes that cannot have their mean, or a file of lengths that cannot be read.
    """

    def __init__(
        self, workloads: Sequence[WorkloadConfig], draws: Draws, duration_ps: int, base_dir: Path
    ) -> None:
        self._generators = [
            _generator(Entry(config, index, draws, *_window_ps(config, duration_ps)), base_dir)
            for index, config in enumerate(workloads)
        ]

    def arrivals(self) -> Iterator[RequestSpec]:
        """Everything that does not wait for an answer, in time order; ties go to the earlier entry.

        These are open-loop requests, first turns of sessions and the first requests of closed-loop users.
        To be iterated once.

        Raises:
            ScenarioError: a malformed row of a trace, when the replay gets there.
        """
        streams = [generator.arrivals() for generator in self._generators]
        if len(streams) == 1:
            return streams[0]
        return heapq.merge(*streams, key=attrgetter("arrival_ps"))

    def may_follow(self, workload: int) -> bool:
        """Whether requests of this entry may bring others: sessions and closed loops do."""
        return isinstance(self._generators[workload], ClosedLoop | OpenLoopSessions)

    def after(self, spec: RequestSpec, end_ps: int, succeeded: bool) -> RequestSpec | None:
        """What follows from the end of a request: the session's next turn or the user's next request.

        To be called once for each request of an entry of which others `may_follow`, when it has finally succeeded
        or failed. A failure ends its session; a closed-loop user goes on with a new one.

        Returns:
            The next request (its arrival is at or after ``end_ps``), or None.
        """
        return self._generators[spec.workload].after(spec, end_ps, succeeded)


def _window_ps(config: WorkloadConfig, duration_ps: int) -> tuple[int, int]:
    start_ps = to_ps(config.start)
    end_ps = duration_ps if config.duration is None else min(duration_ps, start_ps + to_ps(config.duration))
    return start_ps, end_ps


def _generator(entry: Entry, base_dir: Path) -> _Generator:
    config, arrivals = entry.config, entry.config.arrivals
    if entry.start_ps >= entry.end_ps:
        raise ScenarioError("is at or after the end of the run", key=f"{entry.key}.start")
    if isinstance(arrivals, TraceArrivals):
        return TraceReplay(entry, arrivals, base_dir)
    if config.lengths is None:
        raise ScenarioError("is missing: only a trace brings its own", key=f"{entry.key}.lengths")
    lengths = length_sampler(config.lengths, base_dir, f"{entry.key}.lengths")
    if isinstance(arrivals, ClosedLoopArrivals):
        return ClosedLoop(entry, arrivals, lengths)
    processes = processes_of(arrivals, entry.end_ps - entry.start_ps, f"{entry.key}.arrivals")
    if config.sessions is None:
        return OpenLoop(entry, processes, lengths)
    return OpenLoopSessions(entry, config.sessions, processes, lengths)


def expected_rate(config: WorkloadConfig, duration_ps: int) -> RateCurve | None:
    """Expected arrivals per second over the run, for reports and plots; None for closed loops and traces.

    With sessions these are session starts: when later turns come depends on the answers.
    """
    start_ps, end_ps = _window_ps(config, duration_ps)
    if start_ps >= end_ps:
        return RateCurve.flat(0.0, duration_ps)
    curve = expected_curve(config.arrivals, end_ps - start_ps)
    if curve is None or (start_ps == 0 and end_ps == duration_ps):
        return curve
    points = [(0.0, 0.0)]
    knots = ((curve.knots_ps + start_ps) / PS_PER_S).tolist()
    points.append((knots[0], 0.0))
    for left, right, begin, end in zip(knots, knots[1:], curve.start_rate, curve.end_rate, strict=False):
        points += [(left, float(begin)), (right, float(end))]
    points.append((knots[-1], 0.0))
    return RateCurve.through(points, duration_ps)


def expected_mean_rate(config: WorkloadConfig, duration_ps: int) -> float | None:
    """Expected requests per second averaged over the run; None for closed loops and traces.

    Sessions count with their mean number of turns, as if all of them took place.
    """
    curve = expected_rate(config, duration_ps)
    if curve is None:
        return None
    turns = 1.0 if config.sessions is None else mean_count(config.sessions.turns)
    return curve.mean_rate * turns

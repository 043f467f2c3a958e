"""Compare the event-skipping engine with the plain one: every delivery, gap, counter and snapshot.

    python -m validation.engines --schedules 2000 --seed 0

draws random configurations and workloads (`validation.schedules`) and drives both engines through each as a
replica would: arrivals, aborts, changes of step times, looks at random times. Of every step of the plain engine it
compares the state just after it (running, waiting, blocks in use, all counters); of every request its deliveries; at
the end the pooled inter-token latencies. It prints what the schedules covered and those that differ.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import zip_longest
from random import Random

from simulator.engines.protocol import Delivery, DeliveryKind, Engine, EngineRequest
from simulator.engines.vllm.factory import needs_every_step
from simulator.engines.vllm.plain import PlainEngine, StepRecord
from simulator.engines.vllm.skipping import SkippingEngine
from simulator.step_time.slowed import SlowedStepTime
from validation.schedules import Schedule, draw_schedule


class PooledGaps:
    """Inter-token latencies, counted one by one; an ``ItlSink``."""

    def __init__(self) -> None:
        self.weight: Counter[tuple[int, int]] = Counter()

    def add(self, workload: int, first_gap_ps: int, increment_ps: int, count: int, weight: int) -> None:
        assert count > 0 < weight
        for k in range(count):
            self.weight[workload, first_gap_ps + k * increment_ps] += weight


@dataclass
class Coverage:
    """What the schedules made the engines do."""

    schedules: int = 0
    steps: int = 0
    preemptions: int = 0
    prefix_hits: int = 0
    aborts: int = 0
    looks: int = 0
    retimings: int = 0
    skipped_steps: int = 0
    differing: list[tuple[int, str]] = field(default_factory=list)


class EnginesDifferError(AssertionError):
    """The two engines disagree; the message says in what."""


class Comparison:
    """One schedule through both engines.

    Args:
        schedule: what arrives and is aborted, and when.
        rng: draws when somebody looks, or advances the engines though they have nothing to do.
        advances: how often that is, of all events.
        slowings: how often step times change, of all events.
    """

    def __init__(self, schedule: Schedule, rng: Random, advances: float = 0.1, slowings: float = 0.0) -> None:
        self.steps: list[StepRecord] = []
        self.gaps = PooledGaps(), PooledGaps()
        self.plain = PlainEngine(schedule.config, schedule.step_time, self.gaps[0], self.steps.append)
        self.skipping = SkippingEngine(schedule.config, schedule.step_time, self.gaps[1])
        self.retimings = 0
        self.deliveries: tuple[list[Delivery], list[Delivery]] = ([], [])
        self.looks = 0
        self.wakes = 0
        self._schedule = schedule
        self._rng = rng
        self._advances = advances
        self._slowings = slowings
        self._alive: set[int] = set()
        self._aborted: set[int] = set()

    def run(self) -> None:
        """Compare.

        Raises:
            EnginesDifferError: at the first difference.
        """
        schedule = self._schedule
        events: list[tuple[int, EngineRequest | int]] = [*schedule.arrivals, *schedule.aborts]
        for now, what in sorted(events, key=lambda event: (event[0], isinstance(event[1], int))):
            self._advance_before(now)
            if self._slowings and self._rng.random() < self._slowings:
                self._retime(now)
            if self._rng.random() < 0.3:
                self._look(now)
            if not isinstance(what, int):
                answers = [engine.submit(what, now) for engine in (self.plain, self.skipping)]
                self._check("submit", *answers)
                if answers[0] is None:
                    self._alive.add(what.request_id)
            elif what in self._alive:
                self._alive.discard(what)
                self._aborted.add(what)
                self._check(f"abort {what}", self.plain.abort(what, now), self.skipping.abort(what, now))
            if self._rng.random() < 0.3:
                self._look(now)
            if self._rng.random() < self._advances:
                self._advance_to(now)
                self._step(self.skipping, now, 1)
        self._advance_before(None)
        self._check("idle", self.plain.next_time(), self.skipping.next_time())
        self._check("gaps", self.gaps[0].weight, self.gaps[1].weight)

    def _retime(self, now: int) -> None:
        """Steps from now on take other times, in both engines."""
        self.retimings += 1
        factor = Fraction(self._rng.choice((10, 10, 13, 25, 70)), 10)
        step_time = SlowedStepTime(self._schedule.step_time, factor)
        self.plain.retime(step_time, now)
        self.skipping.retime(step_time, now)

    def _advance_before(self, t: int | None) -> None:
        while (due := self.plain.next_time()) is not None and (t is None or due < t):
            self._advance_to(due)
        while (due := self.skipping.next_time()) is not None and (t is None or due < t):
            self._step(self.skipping, due, 1)
            raise EnginesDifferError(
                f"the skipping engine has something to do at {due}, the plain one has not"
            )

    def _advance_to(self, t: int) -> None:
        """Both engines, each as often as it asks for it; then compare their states."""
        self._step(self.plain, t, 0)
        while (due := self.skipping.next_time()) is not None and due <= t:
            self._step(self.skipping, due, 1)
            self.wakes += 1
        if self.deliveries[0] != self.deliveries[1]:
            both = zip_longest(*self.deliveries)
            self._check("delivery", *next((a, b) for a, b in both if a != b))
        for look_at in (t + 1, t + self._rng.randrange(1, 10**9)):
            if all((due := e.next_time()) is None or look_at <= due for e in (self.plain, self.skipping)):
                self._look(look_at)
        if self._rng.random() < 0.02:
            self._step(self.skipping, t, 1)

    def _step(self, engine: Engine, t: int, side: int) -> None:
        delivered = engine.advance(t)
        self.deliveries[side].extend(delivered)
        if side == 0:
            self._alive.difference_update(d.request_id for d in delivered if d.kind == DeliveryKind.FINISHED)

    def _look(self, t: int) -> None:
        self.looks += 1
        self._check(f"state at {t}", self.plain.peek(t), self.skipping.peek(t))

    @staticmethod
    def _check(what: str, plain: object, skipping: object) -> None:
        if plain != skipping:
            raise EnginesDifferError(f"{what}: plain {plain!r}, skipping {skipping!r}")


def draw_skippable(seed: int, max_requests: int) -> Schedule:
    """A random schedule, without what only the plain engine runs."""
    schedule = draw_schedule(seed, max_requests)
    if needs_every_step(schedule.config) is None:
        return schedule
    config = replace(schedule.config, num_speculative_tokens=0, max_loras=None)
    return replace(schedule, config=config)


def compare(seed: int, coverage: Coverage, max_requests: int = 60) -> None:
    """Draw a schedule, run it and count what it did; a difference is noted in ``coverage``."""
    rng = Random(f"engines {seed}")
    schedule = draw_skippable(seed, max_requests)
    if rng.random() < 0.1:
        schedule = replace(schedule, config=replace(schedule.config, max_num_queued_reqs=rng.randint(1, 30)))
    if rng.random() < 0.1:
        tokens = rng.randint(1, 4 * schedule.config.max_model_len)
        schedule = replace(schedule, config=replace(schedule.config, max_num_queued_tokens=tokens))
    comparison = Comparison(schedule, rng, slowings=rng.choice((0.0, 0.0, 0.1, 0.5)))
    try:
        comparison.run()
    except (AssertionError, KeyError, ValueError, IndexError) as error:
        coverage.differing.append((seed, f"{type(error).__name__}: {error}"))
    counters = comparison.plain.peek(0).counters
    coverage.schedules += 1
    coverage.steps += counters.steps
    coverage.preemptions += counters.num_preemptions
    coverage.prefix_hits += counters.prefix_cache_hits // schedule.config.block_size
    coverage.aborts += counters.requests_aborted
    coverage.looks += comparison.looks
    coverage.retimings += comparison.retimings
    coverage.skipped_steps += max(0, counters.steps - comparison.wakes)


def main() -> int:
    """Command line; the exit code is 1 if anything differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-requests", type=int, default=60)
    arguments = parser.parse_args()
    coverage = Coverage()
    start = time.process_time()
    for seed in range(arguments.seed, arguments.seed + arguments.schedules):
        compare(seed, coverage, arguments.max_requests)
    print(
        f"{coverage.schedules} schedules, {coverage.steps} steps ({coverage.skipped_steps} skipped),"
        f" {coverage.preemptions} preemptions, {coverage.prefix_hits} blocks hit, {coverage.aborts} aborts,"
        f" {coverage.looks} looks, {coverage.retimings} changes of step times,"
        f" {len(coverage.differing)} schedules differ,"
        f" {time.process_time() - start:.1f} s of CPU"
    )
    for seed, difference in coverage.differing[:10]:
        print(f"seed {seed}: {difference[:2000]}")
    return 1 if coverage.differing else 0


if __name__ == "__main__":
    sys.exit(main())

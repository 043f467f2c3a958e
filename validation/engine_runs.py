"""Runs a schedule through our engines, driven as a replica drives them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from simulator.engines.protocol import DeliveryKind, Engine
from simulator.engines.vllm.config import EngineConfig
from simulator.engines.vllm.factory import needs_every_step
from simulator.engines.vllm.plain import PlainEngine
from simulator.engines.vllm.skipping import SkippingEngine
from validation.decisions import Course, Decisions
from validation.schedules import Schedule


def is_skippable(config: EngineConfig) -> bool:
    """Whether the event-skipping engine runs this; what decides something in every step is the plain engine's."""
    return needs_every_step(config) is None


class _Gaps:
    def __init__(self) -> None:
        self.tokens: Counter[tuple[int, int]] = Counter()

    def add(self, workload: int, first_gap_ps: int, increment_ps: int, count: int, weight: int) -> None:
        for index in range(count):
            self.tokens[workload, first_gap_ps + index * increment_ps] += weight


def run_plain(schedule: Schedule) -> tuple[Decisions, Course]:
    """The schedule through the plain engine; every step is observed."""
    decisions = Decisions()
    gaps = _Gaps()
    engine = PlainEngine(
        schedule.config, schedule.step_time, gaps, decisions.steps.append, schedule.make_acceptance()
    )
    return decisions, _drive(engine, schedule, decisions, gaps)


def run_skipping(schedule: Schedule) -> tuple[Decisions, Course]:
    """The schedule, which must be skippable, through the event-skipping engine. It has no steps to show."""
    decisions = Decisions()
    gaps = _Gaps()
    engine = SkippingEngine(schedule.config, schedule.step_time, gaps)
    return decisions, _drive(engine, schedule, decisions, gaps)


def _drive(engine: Engine, schedule: Schedule, decisions: Decisions, gaps: _Gaps) -> Course:
    course = Course(gaps=gaps.tokens)
    events: list[tuple[int, Any]] = sorted(
        [*schedule.arrivals, *schedule.aborts], key=lambda event: (event[0], isinstance(event[1], int))
    )
    alive: set[int] = set()

    def advance_to(t: int) -> None:
        deliveries = engine.advance(t)
        course.deliveries += deliveries
        if deliveries:
            look = engine.peek(t)
            course.looks.append((t, look.running, look.waiting, look.kv_blocks_used))
        for delivery in deliveries:
            if delivery.kind == DeliveryKind.FIRST_TOKEN:
                decisions.outputs.append((delivery.time_ps, delivery.request_id, "first"))
            elif delivery.detail is not None:
                decisions.outputs.append((delivery.time_ps, delivery.request_id, delivery.detail.reason))
                alive.discard(delivery.request_id)

    now = 0
    for now, what in events:
        while (t := engine.next_time()) is not None and t < now:
            advance_to(t)
        if not isinstance(what, int):
            refused = engine.submit(what, now)
            if refused is None:
                alive.add(what.request_id)
            else:
                decisions.refused.append((now, what.request_id, refused))
        elif what in alive:
            engine.abort(what, now)
            alive.discard(what)
    while (t := engine.next_time()) is not None:
        now = t
        advance_to(t)
    assert not alive, f"requests without an end: {sorted(alive)}"
    course.counters = engine.peek(now).counters
    decisions.prefix_cache = (course.counters.prefix_cache_queries, course.counters.prefix_cache_hits)
    return course

"""The skipping engine gives what the plain one gives: deliveries, gaps, and its state at any time."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engines.protocol import DeliveryKind, EngineRequest
from simulator.engines.vllm.config import EngineConfig
from simulator.engines.vllm.plain import PlainEngine
from simulator.engines.vllm.skipping import SkippingEngine
from simulator.units import PS_PER_MS
from validation.engines import Comparison, Coverage, PooledGaps, compare, draw_skippable
from validation.schedules import LinearStepTime

MS = PS_PER_MS
CONFIG = EngineConfig(num_gpu_blocks=1001, max_model_len=4000, max_num_seqs=8, max_num_batched_tokens=512)
STEP_TIME = LinearStepTime(10 * MS, 0, 1000, 1 * MS, 500)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**9))
def test_equals_the_plain_engine(seed: int) -> None:
    coverage = Coverage()
    compare(seed, coverage, max_requests=40)
    assert coverage.differing == []


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**9))
def test_looking_does_not_change_a_byte(seed: int) -> None:
    schedule = draw_skippable(seed, max_requests=25)
    runs = [Comparison(schedule, Random(k), advances=0.0) for k in (1, 2)]
    for run in runs:
        run.run()
    assert runs[0].looks > 0
    assert runs[0].deliveries == runs[1].deliveries
    assert runs[0].gaps[1].weight == runs[1].gaps[1].weight


@pytest.mark.parametrize("async_scheduling", [False, True])
@pytest.mark.parametrize("policy", ["fcfs", "priority"])
@pytest.mark.parametrize("enable_prefix_caching", [False, True])
def test_when_blocks_run_dry(async_scheduling: bool, policy: str, enable_prefix_caching: bool) -> None:
    preempted = 0
    for seed in range(15):
        schedule = draw_skippable(seed, max_requests=30)
        config = replace(
            schedule.config,
            async_scheduling=async_scheduling,
            policy=policy,  # type: ignore[arg-type]
            enable_prefix_caching=enable_prefix_caching,
            num_gpu_blocks=2 + -(-schedule.config.max_model_len // schedule.config.block_size),
        )
        comparison = Comparison(replace(schedule, config=config), Random(seed))
        comparison.run()
        preempted += comparison.plain.counters.num_preemptions
    assert preempted > 0


def test_a_lone_request_costs_a_handful_of_wake_ups() -> None:
    engine = SkippingEngine(CONFIG, STEP_TIME, PooledGaps())
    engine.submit(EngineRequest(0, prompt_tokens=100, output_tokens=2000, max_tokens=3000), 0)
    wakes = 0
    while (due := engine.next_time()) is not None:
        engine.advance(due)
        wakes += 1
    assert engine.counters.generation_tokens == 2000
    assert wakes < 8


def test_an_arrival_behind_a_full_batch_does_not_end_the_stretch() -> None:
    engine = SkippingEngine(replace(CONFIG, max_num_seqs=1), STEP_TIME, PooledGaps())
    engine.submit(EngineRequest(0, prompt_tokens=100, output_tokens=500, max_tokens=1000), 0)
    while engine.peek(engine.next_time() or 0).counters.generation_tokens < 1:
        engine.advance(engine.next_time() or 0)
    due = engine.next_time()
    assert due is not None
    engine.submit(EngineRequest(1, prompt_tokens=100, output_tokens=500, max_tokens=1000), 1000 * MS)
    assert engine.next_time() == due
    assert engine.peek(1000 * MS).waiting == 1


def test_an_arrival_ends_the_stretch_at_the_next_schedule() -> None:
    engines = [make(CONFIG, STEP_TIME, PooledGaps()) for make in (PlainEngine, SkippingEngine)]
    arrival = 1234 * MS + 567
    scheduled = []
    for engine in engines:
        engine.submit(EngineRequest(0, prompt_tokens=100, output_tokens=500, max_tokens=1000), 0)
        deliveries = []
        while (due := engine.next_time()) is not None and due < arrival:
            deliveries += engine.advance(due)
        engine.submit(EngineRequest(1, prompt_tokens=100, output_tokens=5, max_tokens=1000), arrival)
        while (due := engine.next_time()) is not None:
            deliveries += engine.advance(due)
        scheduled += [d.time_ps for d in deliveries if d.request_id == 1 and d.kind == DeliveryKind.SCHEDULED]
    assert scheduled[0] == scheduled[1]
    assert arrival <= scheduled[0] < arrival + 11 * MS


def test_advancing_in_mid_stretch_does_what_is_due() -> None:
    engine = SkippingEngine(CONFIG, STEP_TIME, gaps := PooledGaps())
    engine.submit(EngineRequest(0, prompt_tokens=100, output_tokens=500, max_tokens=1000), 0)
    while (due := engine.next_time()) is not None and due < 1000 * MS:
        engine.advance(due)
    assert engine.advance(1000 * MS) == []
    state = engine.peek(1000 * MS)
    assert state.counters.generation_tokens == engine.counters.generation_tokens > 80
    assert sum(gaps.weight.values()) == engine.counters.generation_tokens - 1


@pytest.mark.parametrize("make", [PlainEngine, SkippingEngine])
def test_an_answer_that_has_ended_has_all_its_gaps_counted(make: type[PlainEngine | SkippingEngine]) -> None:
    """Its process may end with it, and is not asked again: a pod that drains, say."""
    engine = make(CONFIG, STEP_TIME, gaps := PooledGaps())
    engine.submit(EngineRequest(0, prompt_tokens=100, output_tokens=50, max_tokens=1000), 0)
    while not any(d.kind == DeliveryKind.FINISHED for d in engine.advance(engine.next_time() or 0)):
        pass
    assert engine.next_time() is not None  # the step that was launched before the stop was seen
    assert sum(gaps.weight.values()) == 49

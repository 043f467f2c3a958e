"""Hand-computed timelines: a step takes 10 ms and 1 ms for each token, the host 2 ms."""

from collections import Counter
from typing import Any

import pytest

from simulator.engines.protocol import Delivery, DeliveryKind, EngineRequest
from simulator.engines.vllm.config import EngineConfig
from simulator.engines.vllm.plain import PlainEngine, StepRecord
from simulator.units import PS_PER_MS
from validation.schedules import LinearStepTime

SCHEDULED, FIRST, FINISHED, PREEMPTED = DeliveryKind


class Gaps:
    def __init__(self) -> None:
        self.count: Counter[tuple[int, float]] = Counter()

    def add(self, workload: int, first_gap_ps: int, increment_ps: int, count: int, weight: int) -> None:
        for k in range(count):
            self.count[workload, (first_gap_ps + k * increment_ps) / PS_PER_MS] += weight


class Bench:
    """An engine whose times are in milliseconds."""

    def __init__(self, **config: Any) -> None:
        defaults = {"num_gpu_blocks": 1000, "max_model_len": 1000, "enable_prefix_caching": False}
        self.gaps = Gaps()
        self.steps: list[StepRecord] = []
        times = LinearStepTime(10 * PS_PER_MS, PS_PER_MS, 0, 2 * PS_PER_MS)
        acceptance = config.pop("acceptance", None)
        self.engine = PlainEngine(
            EngineConfig(**{**defaults, **config}), times, self.gaps, self.steps.append, acceptance
        )
        self.deliveries: list[Delivery] = []

    def submit(self, at_ms: float, request_id: int, prompt: int, output: int, **fields: Any) -> str | None:
        self.run(at_ms, inclusive=False)
        request = EngineRequest(request_id, prompt, output, fields.pop("max_tokens", output), **fields)
        return self.engine.submit(request, round(at_ms * PS_PER_MS))

    def abort(self, at_ms: float, request_id: int) -> int:
        self.run(at_ms, inclusive=False)
        return self.engine.abort(request_id, round(at_ms * PS_PER_MS))

    def run(self, until_ms: float | None = None, inclusive: bool = True) -> None:
        while (t := self.engine.next_time()) is not None:
            if until_ms is not None and t > until_ms * PS_PER_MS - (not inclusive):
                return
            self.deliveries += self.engine.advance(t)

    def times(self, kind: DeliveryKind) -> dict[int, float]:
        return {d.request_id: d.time_ps / PS_PER_MS for d in self.deliveries if d.kind == kind}

    def finish(self, request_id: int) -> Any:
        (detail,) = [d.detail for d in self.deliveries if d.kind == FINISHED and d.request_id == request_id]
        return detail

    def schedule_times(self) -> list[float]:
        return [step.time_ps / PS_PER_MS for step in self.steps]


def test_synchronous_steps_take_gpu_time_plus_host_time() -> None:
    bench = Bench(async_scheduling=False)
    bench.submit(0, 0, prompt=5, output=3)
    bench.run()
    assert bench.times(SCHEDULED) == {0: 0}
    assert bench.times(FIRST) == {0: 17}  # 10 + 5 + 2
    assert bench.times(FINISHED) == {0: 43}  # and twice 10 + 1 + 2
    assert bench.gaps.count == {(0, 13): 2}
    finish = bench.finish(0)
    assert (finish.reason, finish.output_tokens, finish.max_gap_ps) == ("length", 3, 13 * PS_PER_MS)


def test_asynchronous_steps_overlap_the_host_with_the_gpu() -> None:
    bench = Bench()
    bench.submit(0, 0, prompt=5, output=3)
    bench.run()
    assert bench.times(FIRST) == {0: 17}  # nothing to overlap with on an idle GPU
    assert bench.times(FINISHED) == {0: 39}  # and twice 10 + 1
    assert bench.gaps.count == {(0, 11): 2}


def test_from_idle_two_schedules_happen_at_once() -> None:
    bench = Bench()
    bench.submit(0, 0, prompt=5, output=3)
    bench.run()
    # The fourth is empty: the token in flight is the last that max_tokens allows. The loop then sleeps for
    # 1 ms and clears up.
    assert bench.schedule_times() == [0, 0, 17, 28, 40]
    assert [len(step.scheduled) for step in bench.steps] == [1, 1, 1, 0, 0]


def test_a_new_request_waits_for_the_running_step_and_for_the_launched_one() -> None:
    bench = Bench()
    bench.submit(0, 0, prompt=5, output=100)
    bench.submit(18, 1, prompt=5, output=2)  # batch 2 runs until 28, batch 3 is launched and runs until 39
    bench.run(60)
    assert bench.times(SCHEDULED)[1] == 28
    assert bench.times(FIRST)[1] == 55  # 39 + 10 + 5 + 1


def test_synchronously_a_new_request_waits_for_the_running_step_only() -> None:
    bench = Bench(async_scheduling=False)
    bench.submit(0, 0, prompt=5, output=100)
    bench.submit(18, 1, prompt=5, output=2)  # the step runs until 30
    bench.run(60)
    assert bench.times(SCHEDULED)[1] == 30
    assert bench.times(FIRST)[1] == 48  # 30 + 10 + 5 + 1 + 2


def test_a_stop_by_itself_costs_a_ghost_step_and_one_by_max_tokens_does_not() -> None:
    foreseen = Bench()
    foreseen.submit(0, 0, prompt=5, output=3)
    foreseen.run()
    assert foreseen.engine.counters.steps == 3
    ghost = Bench()
    ghost.submit(0, 0, prompt=5, output=3, max_tokens=10)
    ghost.submit(40, 1, prompt=5, output=1)
    ghost.run()
    assert ghost.times(FINISHED)[0] == 39
    assert ghost.finish(0).reason == "stop"
    assert ghost.times(SCHEDULED)[1] == 50  # the ghost step runs from 39 to 50
    assert ghost.engine.counters.steps == 5
    assert ghost.engine.counters.generation_tokens == 4


def test_blocks_of_a_finished_request_come_back_one_schedule_later() -> None:
    frees = {}
    for asynchronous in (False, True):
        bench = Bench(async_scheduling=asynchronous, block_size=4, num_gpu_blocks=11)
        bench.submit(0, 0, prompt=4, output=2)
        bench.submit(0, 1, prompt=4, output=50)
        bench.run(100)
        first_free = next(i for i, s in enumerate(bench.steps) if 0 not in s.running)
        frees[asynchronous] = first_free
    assert frees == {False: 2, True: 3}


def test_an_arrival_at_the_end_of_a_step_is_seen_by_the_schedule_at_that_instant() -> None:
    bench = Bench(async_scheduling=False)
    bench.submit(0, 0, prompt=5, output=100)
    bench.submit(17, 1, prompt=5, output=2)
    bench.run(60)
    assert bench.times(SCHEDULED)[1] == 17


def test_a_long_prompt_is_computed_in_chunks_beside_decodes() -> None:
    bench = Bench(async_scheduling=False, max_num_batched_tokens=8, max_num_seqs=4)
    bench.submit(0, 0, prompt=2, output=50)
    bench.submit(1, 1, prompt=20, output=2)
    bench.run(200)
    of_1 = [(n, c) for s in bench.steps for i, n, c in s.scheduled if i == 1]
    assert of_1[:4] == [(7, 0), (7, 7), (6, 14), (1, 20)]


def test_the_last_of_the_batch_is_preempted_and_recomputes() -> None:
    bench = Bench(async_scheduling=False, block_size=4, num_gpu_blocks=5)  # 16 tokens
    bench.submit(0, 0, prompt=4, output=9)
    bench.submit(0, 1, prompt=4, output=8)
    bench.run()
    # Each has two blocks until its eighth token is computed; for the ninth the first preempts the second.
    preemption = next(s for s in bench.steps if s.preempted)
    assert preemption.preempted == [1]
    assert preemption.scheduled == [(0, 1, 8)]
    assert preemption.admitted == []
    assert bench.finish(1).preemptions == 1
    resumed = next(s for s in bench.steps if s.admitted and s.time_ps > preemption.time_ps)
    assert resumed.scheduled == [(1, 9, 0)]
    assert bench.engine.counters.num_preemptions == 1
    assert bench.finish(0).output_tokens == 9
    assert bench.finish(1).output_tokens == 8


def test_the_least_urgent_is_preempted_under_the_priority_policy() -> None:
    bench = Bench(async_scheduling=False, block_size=4, num_gpu_blocks=5, policy="priority")
    bench.submit(0, 0, prompt=4, output=9, priority=1)
    bench.submit(0, 1, prompt=4, output=9, priority=0)
    bench.run()
    assert [s.preempted for s in bench.steps if s.preempted] == [[0]]


def test_a_prefix_that_another_request_computed_is_not_computed_again() -> None:
    bench = Bench(async_scheduling=False, block_size=4, enable_prefix_caching=True)
    bench.submit(0, 0, prompt=10, output=1, segments=((1, 8),))
    bench.submit(1, 1, prompt=10, output=1, segments=((1, 8),))
    bench.run()
    assert bench.finish(0).cached_tokens == 0
    assert bench.finish(1).cached_tokens == 8
    counters = bench.engine.peek(10**12).counters
    assert (counters.prefix_cache_queries, counters.prefix_cache_hits) == (20, 8)


def test_the_next_turn_hits_the_tokens_of_the_last_answer() -> None:
    bench = Bench(async_scheduling=False, block_size=4, enable_prefix_caching=True)
    bench.submit(0, 0, prompt=6, output=7, segments=((1, 13),))
    bench.run()
    bench.submit(1000, 1, prompt=20, output=1, segments=((1, 13), (2, 21)))
    bench.run()
    assert bench.finish(1).cached_tokens == 12  # the thirteenth token's block was not full


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_request_that_never_fits_blocks_the_queue_and_the_engine_rests(asynchronous: bool) -> None:
    bench = Bench(async_scheduling=asynchronous, block_size=4, num_gpu_blocks=5)
    bench.submit(0, 0, prompt=17, output=2)
    bench.submit(0, 1, prompt=4, output=2)
    bench.run()
    assert bench.engine.next_time() is None
    assert bench.engine.peek(PS_PER_MS).waiting == 2
    bench.submit(5, 2, prompt=4, output=2)
    bench.run()
    assert bench.engine.peek(5 * PS_PER_MS).waiting == 3
    bench.abort(10, 0)
    bench.run()
    assert set(bench.times(FINISHED)) == {1, 2}
    assert bench.times(SCHEDULED)[1] == 10


def test_aborts_work_in_every_state() -> None:
    bench = Bench(max_num_seqs=2)
    bench.submit(0, 0, prompt=5, output=50)
    assert bench.abort(0, 0) == 0  # not yet taken from the input queue
    bench.submit(0, 1, prompt=5, output=50)
    bench.submit(0, 2, prompt=5, output=50)
    bench.submit(0, 3, prompt=5, output=50)
    assert bench.abort(5, 3) == 0  # waiting
    assert bench.abort(6, 1) == 0  # in flight, before its first token
    assert bench.abort(100, 2) > 3  # decoding
    with pytest.raises(KeyError):
        bench.engine.abort(2, 100 * PS_PER_MS)
    bench.run()
    assert bench.engine.next_time() is None
    assert bench.times(FINISHED) == {}
    snapshot = bench.engine.peek(10**12)
    assert (snapshot.running, snapshot.waiting, snapshot.kv_blocks_used) == (0, 0, 0)
    assert snapshot.counters.requests_aborted == 4


def test_an_abort_at_the_end_of_a_step_comes_before_its_output() -> None:
    bench = Bench(async_scheduling=False)
    bench.submit(0, 0, prompt=5, output=1)
    assert bench.abort(17, 0) == 0
    bench.run()
    assert bench.times(FIRST) == {}


def test_the_front_end_refuses_what_is_too_long_or_too_much() -> None:
    bench = Bench(max_model_len=100, max_num_queued_reqs=2, max_num_queued_tokens=50)
    assert bench.submit(0, 0, prompt=90, output=1, max_tokens=11) == "context_length"
    assert bench.submit(0, 1, prompt=60, output=40) is None
    assert bench.submit(0, 2, prompt=10, output=1) == "queue_full"  # 60 prompt tokens wait for a first token
    bench.run(200)
    assert bench.submit(201, 3, prompt=10, output=1) is None
    assert bench.submit(201, 4, prompt=10, output=1) == "queue_full"  # 2 requests unfinished
    assert bench.engine.counters.requests_rejected == 3


def test_peek_tells_the_busy_time_of_a_running_step() -> None:
    bench = Bench(async_scheduling=False)
    bench.submit(0, 0, prompt=5, output=2)
    bench.run(0)
    assert bench.engine.peek(4 * PS_PER_MS).counters.busy_ps == 4 * PS_PER_MS
    assert bench.engine.peek(16 * PS_PER_MS).counters.busy_ps == 15 * PS_PER_MS  # then the host works
    snapshot = bench.engine.peek(16 * PS_PER_MS)
    assert (snapshot.running, snapshot.kv_blocks_used, snapshot.kv_blocks_total) == (1, 1, 999)
    assert snapshot.kv_cache_usage == pytest.approx(1 / 999)
    bench.run()
    assert bench.engine.counters.busy_ps == 26 * PS_PER_MS


def test_gaps_are_counted_by_workload_and_the_largest_is_kept() -> None:
    bench = Bench(async_scheduling=False)
    bench.submit(0, 0, prompt=5, output=6, workload=0)
    bench.submit(31, 1, prompt=20, output=3, workload=1)
    bench.run()
    # Request 0: 17, then 30, 43; a step with the prompt of 20 (10 + 20 + 1 + 2) until 76; then steps of 14.
    assert bench.gaps.count == {(0, 13): 2, (0, 33): 1, (0, 14): 2, (1, 14): 2}
    assert bench.finish(0).max_gap_ps == 33 * PS_PER_MS
    assert bench.finish(1).max_gap_ps == 14 * PS_PER_MS


class AlternatingAcceptance:
    """All drafts are accepted where an odd number of tokens is there, else none."""

    def accepted(self, request_id: int, output_tokens: int, drafts: int) -> int:
        return drafts if output_tokens % 2 else 0


def test_accepted_drafts_come_with_the_token_before_them() -> None:
    bench = Bench(async_scheduling=False, num_speculative_tokens=2, acceptance=AlternatingAcceptance())
    bench.submit(0, 0, prompt=5, output=8)
    bench.run()
    # The prompt gives 1 token; then steps of 3 tokens, 10 + 3 + 2 ms each: 3 are new (1 to 4), 1 (to 5),
    # 3 (to 8), the last.
    assert [step.scheduled for step in bench.steps if step.scheduled] == [
        [(0, 5, 0)],
        [(0, 3, 5)],
        [(0, 3, 8)],
        [(0, 3, 9)],
    ]
    assert bench.times(FIRST) == {0: 17}
    assert bench.times(FINISHED) == {0: 62}
    assert bench.gaps.count == {(0, 15): 3}  # one for each output, however many tokens it has
    counters = bench.engine.counters
    assert counters.generation_tokens == 8
    assert (counters.spec_decode_draft_tokens, counters.spec_decode_accepted_tokens) == (6, 4)


def test_drafts_need_an_acceptance() -> None:
    with pytest.raises(ValueError, match=r"^num_speculative_tokens: drafts need an acceptance"):
        Bench(num_speculative_tokens=2)


def test_an_adapter_over_max_loras_waits_and_others_pass_it() -> None:
    bench = Bench(async_scheduling=False, max_loras=1)
    for request_id, lora in enumerate((1, 2, 1, None)):
        bench.submit(0, request_id, prompt=5, output=3, lora=lora)
    bench.run()
    assert bench.steps[0].running == [0, 2, 3]
    assert bench.times(SCHEDULED)[1] == bench.times(FINISHED)[0]

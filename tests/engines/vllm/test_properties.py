"""Invariants of the plain engine on random configurations and workloads."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engines.protocol import DeliveryKind, EngineRequest
from simulator.engines.vllm.plain import PlainEngine, StepRecord
from simulator.engines.vllm.rules import CHECKED_VERSIONS
from validation.schedules import draw_schedule

seeds = st.integers(0, 10**6)


class Gaps:
    def __init__(self) -> None:
        self.weight: Counter[tuple[int, int]] = Counter()

    def add(self, workload: int, first_gap_ps: int, increment_ps: int, count: int, weight: int) -> None:
        assert weight > 0
        for k in range(count):
            self.weight[workload, first_gap_ps + k * increment_ps] += weight


class Run:
    """A random schedule through the engine; ``peeks`` looks at it between the events."""

    def __init__(self, seed: int, peeks: bool = False, check: bool = False) -> None:
        self.schedule = draw_schedule(seed, 25, CHECKED_VERSIONS[seed % len(CHECKED_VERSIONS)])
        self.steps: list[StepRecord] = []
        self.deliveries: list[object] = []
        self.gaps = Gaps()
        self.peeks = peeks
        self.check = check
        self.engine = PlainEngine(
            self.schedule.config,
            self.schedule.step_time,
            self.gaps,
            self.steps.append,
            self.schedule.make_acceptance(),
        )
        self.requests = {r.request_id: r for _, r in self.schedule.arrivals}
        self.ends: Counter[int] = Counter()
        self.refused: set[int] = set()
        self.aborted_tokens = 0
        self.finished_tokens = 0
        self._run()

    def _run(self) -> None:
        events: list[tuple[int, EngineRequest | int]] = [*self.schedule.arrivals, *self.schedule.aborts]
        now = 0
        for t, what in sorted(events, key=lambda e: (e[0], isinstance(e[1], int))):
            while (next_ps := self.engine.next_time()) is not None and next_ps < t:
                self._advance(next_ps)
            if self.peeks:
                self.engine.peek(t)
            if isinstance(what, EngineRequest):
                if self.engine.submit(what, t) is not None:
                    self.refused.add(what.request_id)
                    self.ends[what.request_id] += 1
            elif self.ends[what] == 0:
                self.aborted_tokens += self.engine.abort(what, t)
                self.ends[what] += 1
            now = t
        while (next_ps := self.engine.next_time()) is not None:
            assert next_ps >= now
            self._advance(next_ps)

    def _advance(self, t: int) -> None:
        if self.peeks:
            assert self.engine.peek(t - 1).counters.steps == self.engine.counters.steps
        for delivery in self.engine.advance(t):
            self.deliveries.append(delivery)
            assert delivery.time_ps == t
            if delivery.kind == DeliveryKind.FINISHED:
                assert delivery.detail is not None
                self.ends[delivery.request_id] += 1
                self.finished_tokens += delivery.detail.output_tokens
                request = self.requests[delivery.request_id]
                assert delivery.detail.output_tokens == min(request.output_tokens, request.max_tokens)
        if self.check:
            scheduler = self.engine.scheduler
            scheduler.kv.pool.check(r.blocks for r in [*scheduler.running, *scheduler.waiting])
            assert len(scheduler.running) <= self.schedule.config.max_num_seqs
            for request in scheduler.running:
                assert request.num_computed_tokens <= len(request.blocks) * self.schedule.config.block_size


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_blocks_are_conserved_at_every_change(seed: int) -> None:
    run = Run(seed, check=True)
    assert run.engine.scheduler.kv.pool.num_free_blocks == run.schedule.config.num_gpu_blocks - 1


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_every_request_ends_once(seed: int) -> None:
    run = Run(seed)
    assert run.ends == dict.fromkeys(run.requests, 1)
    counters = run.engine.counters
    assert counters.requests_rejected == len(run.refused)
    assert counters.requests_finished + counters.requests_aborted + len(run.refused) == len(run.requests)


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_tokens_balance(seed: int) -> None:
    run = Run(seed)
    assert run.engine.counters.generation_tokens == run.finished_tokens + run.aborted_tokens
    first_tokens = sum(d.kind == DeliveryKind.FIRST_TOKEN for d in run.deliveries)  # type: ignore[attr-defined]
    chunks = run.engine.counters.generation_tokens - run.engine.counters.spec_decode_accepted_tokens
    assert sum(run.gaps.weight.values()) == chunks - first_tokens
    config = run.schedule.config
    for step in run.steps:
        assert sum(n for _, n, _ in step.scheduled) <= config.max_num_batched_tokens


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_looking_changes_nothing_and_the_same_input_gives_the_same_result(seed: int) -> None:
    plain, again, looked_at = Run(seed), Run(seed), Run(seed, peeks=True)
    for other in (again, looked_at):
        assert other.steps == plain.steps
        assert other.deliveries == plain.deliveries
        assert other.gaps.weight == plain.gaps.weight
        assert other.engine.counters == plain.engine.counters


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_the_quick_decode_step_decides_as_the_general_one(seed: int) -> None:
    quick = Run(seed)

    class General(Run):
        def _advance(self, t: int) -> None:
            self.engine.scheduler._decode_only = False
            super()._advance(t)

    general = General(seed)
    assert general.steps == quick.steps, quick.schedule
    assert general.deliveries == quick.deliveries
    assert general.gaps.weight == quick.gaps.weight
    assert general.engine.peek(0).counters == quick.engine.peek(0).counters

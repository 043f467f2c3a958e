"""Sends requests to one replica and says what became of each: a scenario's client, gateway and replica, on its clock.

What a scenario has around them is left out: one replica that is up from the start, no gateway's latency, clients that
wait for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import pandas as pd

from simulator.attempts import request_id_of
from simulator.clients.client import Client
from simulator.clock import Clock
from simulator.cluster.replica import Replica
from simulator.draws import Draws
from simulator.engines.protocol import Engine, StepTime
from simulator.engines.vllm.config import EngineConfig
from simulator.engines.vllm.factory import make_engine
from simulator.engines.vllm.plain import PlainEngine, StepRecord
from simulator.gateway.gateway import Gateway
from simulator.gateway.policies import routing_policy
from simulator.interrupts import deferred_signals
from simulator.records.recorder import Recorder
from simulator.scenario.clients import Clients
from simulator.scenario.gateway import Gateway as GatewaySection
from simulator.scenario.slo import Slo
from simulator.step_time import ResolvedStepTime
from simulator.units import PS_PER_S, to_ps
from simulator.workload.request import TRACE_BLOCK, RequestSpec, content_id
from validation.requests import RecordedRequest

_NAME: Final = "replay"
_SLICE_PS: Final = 10 * PS_PER_S


class ReplicaModel(Protocol):
    """What a replica is made of: a scenario's `ReplicaPlan`, or a captured engine's."""

    @property
    def engine(self) -> EngineConfig: ...

    @property
    def step_time(self) -> ResolvedStepTime: ...

    @property
    def frontend_in_ps(self) -> int: ...

    @property
    def frontend_in_ps_per_token(self) -> int: ...

    @property
    def frontend_out_ps(self) -> int: ...


@dataclass(frozen=True)
class Replayed:
    """What became of the requests.

    Attributes:
        requests: a row per request, in the order given: arrival_s, ttft_ms, tpot_ms, e2e_ms, queue_ms, preemptions,
            cached_tokens, scheduled_s, outcome and cause. Times at the client, counted from the first arrival;
            missing (NaN) where there is none.
        timeline: running, waiting and kv_usage at each t_s.
        steps: engine steps.
        out_of_range: steps outside the profile's range, by kind.
    """

    requests: pd.DataFrame
    timeline: pd.DataFrame
    steps: int
    out_of_range: dict[str, int]


class _Listed:
    """A `RequestSource` of given requests.

    With a limit on those in flight, a request is sent when it is its turn and one of those before has ended: what a
    load generator with a maximum concurrency does.
    """

    def __init__(
        self, requests: Sequence[RecordedRequest], block_tokens: int, concurrency: int | None
    ) -> None:
        first_s = min((request.arrival_s for request in requests), default=0.0)
        order = sorted(range(len(requests)), key=lambda index: requests[index].arrival_s)
        self._specs = [_spec(index, requests[index], first_s, block_tokens) for index in order]
        self._concurrency = concurrency
        self._sent = 0

    def arrivals(self) -> Iterator[RequestSpec]:
        specs = self._specs
        if self._concurrency is not None:
            specs = [spec._replace(arrival_ps=0) for spec in specs[: self._concurrency]]
        self._sent = len(specs)
        yield from specs

    def may_follow(self, workload: int) -> bool:
        return self._concurrency is not None

    def after(self, spec: Any, end_ps: int, succeeded: bool) -> RequestSpec | None:
        if self._sent == len(self._specs):
            return None
        follower = self._specs[self._sent]
        self._sent += 1
        return follower._replace(arrival_ps=end_ps)


def _spec(index: int, request: RecordedRequest, first_s: float, block_tokens: int) -> RequestSpec:
    last = request.input_tokens
    segments = request.segments or tuple(
        (content_id(0, TRACE_BLOCK, block), min(block_tokens * (place + 1), last))
        for place, block in enumerate(request.block_ids)
    )
    return RequestSpec(
        index,
        0,
        to_ps(request.arrival_s - first_s),
        request.input_tokens,
        request.output_tokens,
        request.output_tokens,  # load generators send the length that they want as max_tokens
        segments,
        request.priority,
        index,
        0,
    )


def replay(
    plan: ReplicaModel,
    requests: Sequence[RecordedRequest],
    *,
    prefix_block_tokens: int = 16,
    concurrency: int | None = None,
    sample_s: float = 1.0,
    skipping: bool = True,
    step_time: StepTime | None = None,
    observer: Callable[[StepRecord], None] | None = None,
) -> Replayed:
    """Send the requests to one replica and wait for all of them.

    Args:
        plan: what the replica is made of.
        requests: in any order.
        prefix_block_tokens: tokens of a block of their ``block_ids``.
        concurrency: at most so many in flight: arrivals then follow from ends, in the order of the arrivals given.
        sample_s: interval of the timeline.
        skipping: whether the event-skipping engine may be used; the result is the same.
        step_time: in place of the plan's.
        observer: called with every scheduling decision; every step is then computed.
    """
    clock = Clock()
    recorder = Recorder([_NAME])
    draws = Draws(0)
    section = GatewaySection(latency=0.0)
    gateway = Gateway(clock, section, routing_policy(section, draws, lambda metric, pod: None))
    times = step_time or plan.step_time.step_time
    engine: Engine
    if observer is None:
        engine = make_engine(plan.engine, times, recorder.itl, skipping=skipping)
    else:
        engine = PlainEngine(plan.engine, times, recorder.itl, observer)
    replica = Replica(
        clock,
        _NAME,
        engine,
        gateway,
        frontend_in_ps=plan.frontend_in_ps,
        frontend_in_ps_per_token=plan.frontend_in_ps_per_token,
        frontend_out_ps=plan.frontend_out_ps,
    )
    gateway.add_endpoint(replica)
    client = Client(
        clock,
        Clients(timeout=None),
        gateway,
        draws,
        recorder,
        [_NAME],
        [Slo()],
        _Listed(requests, prefix_block_tokens, concurrency),
        plan.engine.max_model_len,
    )
    gateway.connect(client)
    client.start()
    samples = _Sampler(clock, engine, replica, client, to_ps(sample_s))
    with deferred_signals() as deliver_signals:
        # An engine that can do nothing more (a request that never fits) leaves the clock without events.
        while not client.idle and (next_ps := clock.next_ps()) is not None:
            clock.run(until=max(clock.now + _SLICE_PS, next_ps + 1))
            deliver_signals()
    replica.catch_up()
    client.finish()
    return Replayed(
        _table(recorder, len(requests)),
        samples.table(),
        engine.peek(clock.now).counters.steps,
        {kind: count for kind, count in plan.step_time.step_time.range_violations.items() if count},
    )


class _Sampler:
    """Looks at the engine at regular instants until all is done."""

    def __init__(self, clock: Clock, engine: Engine, replica: Replica, client: Client, every_ps: int) -> None:
        self._clock = clock
        self._engine = engine
        self._replica = replica
        self._client = client
        self._every_ps = every_ps
        self._rows: list[tuple[float, int, int, float]] = []
        clock.call_at(every_ps, self._look)

    def _look(self, _: object) -> None:
        look = self._replica.peek()
        now = self._clock.now
        self._rows.append((now / PS_PER_S, look.running, look.waiting, look.kv_cache_usage))
        if not self._client.idle and (self._client.in_flight == 0 or self._engine.next_time() is not None):
            self._clock.call_at(now + self._every_ps, self._look)

    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self._rows, columns=["t_s", "running", "waiting", "kv_usage"])


def _table(recorder: Recorder, count: int) -> pd.DataFrame:
    tables = recorder.tables()
    attempts = tables.attempts.copy()
    attempts.index = pd.Index([request_id_of(identifier) for identifier in attempts["attempt_id"]])
    rows = tables.requests.set_index("request_id").join(attempts[["scheduled_s"]])
    rows = rows.reindex(range(count))
    return pd.DataFrame(
        {
            "arrival_s": rows["arrival_s"],
            "ttft_ms": rows["ttft_s"] * 1e3,
            "tpot_ms": rows["tpot_s"] * 1e3,
            "e2e_ms": rows["e2e_s"] * 1e3,
            "queue_ms": rows["queue_s"] * 1e3,
            "preemptions": rows["preemptions"],
            "cached_tokens": rows["cached_tokens"],
            "scheduled_s": rows["scheduled_s"],
            "outcome": rows["outcome"].astype(str),
            "cause": rows["cause"].astype(str).replace("nan", ""),
        }
    ).replace({None: np.nan})

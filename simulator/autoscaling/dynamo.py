"""NVIDIA Dynamo's planner, throughput-based: forecast the next interval's load, divide by what an engine can do. Pure.

Aggregated engines (prefill and decode in one), as fleets here are: replicas = ceil(requests a second / what one engine
serves within the TTFT and ITL targets), at most eight more or fewer than are ready, at least ``min_endpoint``, within
the GPU budget. The formulas for separate prefill and decode pools of release 0.9 (`prefill_replicas`,
`decode_replicas`) are here too; no fleet of one pool uses them.

Source: ai-dynamo 1.6.1 (PyPI), dynamo/planner: core/throughput_scaling.py, plugins/builtins/local_planner.py (what the
predictors are fed); for release 0.9 ai-dynamo/dynamo, docs/design_docs/planner_design.md@0a84cbe4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from simulator.autoscaling.decision import Decision
from simulator.autoscaling.dynamo_plan import Candidate, DynamoSpec, Inventory, guard, project
from simulator.autoscaling.dynamo_predictors import Forecast, PredictorSpec, observe, predict_again
from simulator.units import PS_PER_S

EngineRate = Callable[[float, float], float]
"""Requests a second that one engine serves within the targets, by mean input and output tokens."""


@dataclass(frozen=True, slots=True)
class DynamoState:
    """What the planner remembers.

    Attributes:
        requests: predictor of the request count.
        input_tokens: predictor of their mean input.
        output_tokens: predictor of their mean output.
        shape: the last mean input and output seen; NaN before.
        candidate: a reduction that the last passes wanted while replicas start.
    """

    requests: Forecast = field(default_factory=Forecast)
    input_tokens: Forecast = field(default_factory=Forecast)
    output_tokens: Forecast = field(default_factory=Forecast)
    shape: tuple[float, float] = (math.nan, math.nan)
    candidate: Candidate | None = None


@dataclass(frozen=True, slots=True)
class DynamoSnapshot:
    """What a pass sees of the last interval.

    Attributes:
        spec: the planner's configuration.
        engine_rate: what one engine can do.
        requests: how many came; NaN without data.
        input_tokens: their mean input; NaN without requests.
        output_tokens: their mean output; likewise.
        inventory: the replicas.
    """

    spec: DynamoSpec
    engine_rate: EngineRate
    requests: float
    input_tokens: float
    output_tokens: float
    inventory: Inventory


def _feed(forecast: Forecast, value: float, spec: PredictorSpec) -> tuple[Forecast, float | None]:
    """A mean length; one that is unknown is not taken in."""
    if math.isfinite(value):
        return observe(forecast, value, spec)
    return forecast, predict_again(forecast, spec)


def decide(state: DynamoState, snapshot: DynamoSnapshot, now: int) -> tuple[DynamoState, Decision]:
    """One pass of throughput-based scaling.

    Args:
        state: the predictors and a pending reduction.
        snapshot: the last interval.
        now: time in picoseconds.
    """
    predictor = snapshot.spec.predictor
    requests, next_requests = observe(state.requests, snapshot.requests, predictor)
    # Lengths of an idle interval are undefined: the last ones stand for them.
    idle = snapshot.requests == 0
    isl, osl = state.shape if idle else (snapshot.input_tokens, snapshot.output_tokens)
    input_tokens, next_isl = _feed(state.input_tokens, isl, predictor)
    output_tokens, next_osl = _feed(state.output_tokens, osl, predictor)
    shape = tuple(
        new if math.isfinite(new) else old for new, old in zip((isl, osl), state.shape, strict=True)
    )
    state = DynamoState(requests, input_tokens, output_tokens, (shape[0], shape[1]), state.candidate)
    if next_requests is None or next_isl is None or next_osl is None:
        proposal = Decision(None, "PredictionFailed", "predicting failed: nothing is proposed")
    else:
        proposal = _propose(snapshot, next_requests, next_isl, next_osl)
    candidate, decision = project(state.candidate, proposal, snapshot.inventory, snapshot.spec, now)
    return replace(state, candidate=candidate), decision


def _propose(snapshot: DynamoSnapshot, requests: float, isl: float, osl: float) -> Decision:
    spec, ready = snapshot.spec, snapshot.inventory.ready
    demand = requests / (spec.adjustment_interval_ps / PS_PER_S)
    rate = snapshot.engine_rate(math.ceil(isl), math.ceil(osl)) if isl > 0 and osl > 0 else 0.0
    if rate > 0:
        wanted = max(math.ceil(demand / rate), spec.min_endpoint)
        reason = "Throughput"
        text = (
            f"predicts {requests:.3g} requests of {isl:.0f} + {osl:.0f} tokens, {demand:.3g}/s; "
            f"one engine serves {rate:.3g}/s: {wanted} replicas"
        )
    else:
        wanted = ready
        reason = "ModelNotReady"
        text = (
            "nothing is known of the load"
            if isl <= 0 or osl <= 0
            else "one engine serves nothing within the targets"
        )
    size = min(max(wanted, ready - spec.max_change, 0), ready + spec.max_change)
    if size != wanted:
        text += f", {size} of them in one pass"
    size = max(size, spec.min_endpoint)
    requested = size
    size = guard(replace(spec, min_gpu_budget=-1), ready, size)
    if snapshot.inventory.pending and (rate <= 0 or requested > ready):
        return Decision(None, reason, text)
    size = guard(spec, ready, size)
    if size < requested:
        text += f", {size} within the GPU budget"
    if size == ready and not snapshot.inventory.pending:
        return Decision(None, reason, text)
    return Decision(size, reason, text)


def prefill_replicas(
    requests: float,
    input_tokens: float,
    interval_s: float,
    throughput_per_gpu: float,
    gpus_per_engine: int,
    correction: float = 1.0,
) -> int:
    """Prefill engines for the next interval, release 0.9.

    Args:
        requests: predicted number.
        input_tokens: predicted mean.
        interval_s: length of the interval.
        throughput_per_gpu: prefill tokens a second at that input length, from profiling.
        gpus_per_engine: of one prefill engine.
        correction: observed over expected TTFT; it can only lower the number.
    """
    tokens_per_s = requests * input_tokens / interval_s * min(1.0, correction)
    return math.ceil(tokens_per_s / throughput_per_gpu / gpus_per_engine)


def decode_replicas(
    requests: float,
    output_tokens: float,
    interval_s: float,
    throughput_per_gpu: Callable[[float], float],
    itl_s: float,
    gpus_per_engine: int,
    correction: float = 1.0,
) -> int:
    """Decode engines for the next interval, release 0.9.

    Args:
        requests: predicted number.
        output_tokens: predicted mean.
        interval_s: length of the interval.
        throughput_per_gpu: best decode tokens a second within an ITL, from profiling.
        itl_s: the target.
        gpus_per_engine: of one decode engine.
        correction: observed over expected ITL; the target is divided by it.
    """
    best = throughput_per_gpu(itl_s / correction)
    return math.ceil(requests * output_tokens / interval_s / best / gpus_per_engine)

"""NVIDIA Dynamo's planner, throughput-based: forecast the next interval's load, divide by what an engine can do. Pure.

Aggregated engines (prefill and decode in one), as fleets here are: replicas = ceil(requests a second / what one engine
serves within the TTFT and ITL targets), at least ``min_endpoint``, within the GPU budget. The formulas for separate
prefill and decode pools of release 0.9 (`prefill_replicas`, `decode_replicas`) are here too; no fleet of one pool uses
them.

Source: ai-dynamo/dynamo, docs/design_docs/planner_design.md@0a84cbe4 (corrections, disaggregated formulas),
components/src/dynamo/planner/core/throughput_scaling.py@0c9050c9 (aggregated), core/load/predictors.py@260b6ae9
(constant and Kalman), defaults.py@01127723. The ARIMA (pmdarima's automatic search, Dynamo's default) and Prophet
predictors are not modelled, nor is load-based scaling.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from simulator.autoscaling.decision import Decision
from simulator.units import PS_PER_S

EngineRate = Callable[[float, float], float]
"""Requests a second that one engine serves within the targets, by mean input and output tokens."""


@dataclass(frozen=True, slots=True)
class KalmanParameters:
    """The filter of a local linear trend: noise of level and trend, of the observation, and when to trust it."""

    q_level: float = 1.0
    q_trend: float = 0.1
    r: float = 10.0


@dataclass(frozen=True, slots=True)
class DynamoSpec:
    """The planner's configuration.

    Attributes:
        predictor: of the next interval's load.
        adjustment_interval_ps: between passes.
        min_endpoint: least replicas.
        max_gpu_budget: most GPUs; below 0 no limit.
        gpus_per_engine: of one replica.
        kalman: the Kalman predictor's noise.
        log1p: predict in log(1 + x).
    """

    predictor: Literal["constant", "kalman"] = "constant"
    adjustment_interval_ps: int = 180 * PS_PER_S
    min_endpoint: int = 1
    max_gpu_budget: int = 8
    gpus_per_engine: int = 1
    kalman: KalmanParameters = KalmanParameters()
    log1p: bool = False


_PRIOR: Final = 1000.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """One series' predictor.

    Attributes:
        last: the last value; None before the first that is not 0.
        level: of the Kalman filter, in its own (perhaps logarithmic) space.
        trend: likewise, per interval.
        covariance: of level and trend: (level, both, trend).
    """

    last: float | None = None
    level: float = 0.0
    trend: float = 0.0
    covariance: tuple[float, float, float] = (_PRIOR, 0.0, _PRIOR)


def observe(forecast: Forecast, value: float, spec: DynamoSpec) -> tuple[Forecast, float]:
    """Take in a value and predict the next: the filter's update, then its prediction.

    Leading zeros are skipped: an idle time after the start says nothing. The filter has predicted once between two
    observations, so the forecast kept here is already one step ahead.
    """
    value = value if math.isfinite(value) else 0.0
    if forecast.last is None and value == 0:
        return forecast, 0.0
    if spec.predictor == "constant":
        return Forecast(last=value), value
    z = math.log1p(max(0.0, value)) if spec.log1p else value
    a, b, c = forecast.covariance
    if forecast.last is None:
        level, trend = z, 0.0
    else:
        gain_level, gain_trend = a / (a + spec.kalman.r), b / (a + spec.kalman.r)
        level = forecast.level + gain_level * (z - forecast.level)
        trend = forecast.trend + gain_trend * (z - forecast.level)
        a, b, c = (1 - gain_level) * a, (1 - gain_level) * b, c - gain_trend * b
    level, a, b, c = (
        level + trend,
        a + 2 * b + c + spec.kalman.q_level,
        b + c,
        c + spec.kalman.q_trend,
    )
    predicted = max(0.0, math.expm1(level)) if spec.log1p else level
    return Forecast(value, level, trend, (a, b, c)), predicted


@dataclass(frozen=True, slots=True)
class DynamoState:
    """The predictors of request count, input and output tokens."""

    requests: Forecast = Forecast()
    input_tokens: Forecast = Forecast()
    output_tokens: Forecast = Forecast()


@dataclass(frozen=True, slots=True)
class DynamoSnapshot:
    """What a pass sees of the last interval.

    Attributes:
        spec: the planner's configuration.
        engine_rate: what one engine can do.
        requests: how many came; NaN without data.
        input_tokens: their mean input; NaN without requests.
        output_tokens: their mean output; likewise.
        replicas: replicas asked for at present.
    """

    spec: DynamoSpec
    engine_rate: EngineRate
    requests: float
    input_tokens: float
    output_tokens: float
    replicas: int


def decide(state: DynamoState, snapshot: DynamoSnapshot, now: int) -> tuple[DynamoState, Decision]:
    """One pass of the planner.

    Args:
        state: the predictors.
        snapshot: the last interval.
        now: time in picoseconds; no rule needs it.
    """
    del now
    spec = snapshot.spec
    requests, next_requests = observe(state.requests, snapshot.requests, spec)
    isl, next_isl = observe(state.input_tokens, snapshot.input_tokens, spec)
    osl, next_osl = observe(state.output_tokens, snapshot.output_tokens, spec)
    state = DynamoState(requests, isl, osl)
    if requests.last is None:
        return state, Decision(None, "NoTraffic", "no request yet: nothing to predict from")
    demand = max(0.0, next_requests) / (spec.adjustment_interval_ps / PS_PER_S)
    rate = snapshot.engine_rate(max(1.0, next_isl), max(1.0, next_osl))
    if rate <= 0:
        return state, Decision(None, "ModelNotReady", "one engine serves nothing within the targets")
    wanted = max(math.ceil(demand / rate), spec.min_endpoint)
    size = wanted
    if spec.max_gpu_budget >= 0:
        # Below the minimum's own need the planner gives 0; at least the minimum fits in a budget that it accepts.
        size = min(wanted, max(spec.min_endpoint, spec.max_gpu_budget // spec.gpus_per_engine))
    text = (
        f"predicts {next_requests:.3g} requests of {next_isl:.0f} + {next_osl:.0f} tokens, {demand:.3g}/s; "
        f"one engine serves {rate:.3g}/s: {size} replicas"
    )
    if size < wanted:
        text += f", {wanted} without the GPU budget"
    return state, Decision(size, "Throughput", text)


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

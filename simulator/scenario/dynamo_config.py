"""A PlannerConfig of NVIDIA Dynamo's planner, YAML or JSON.

Source: ai-dynamo 1.6.1 (PyPI), dynamo/planner/config/planner_config.py and defaults.py. Keys that say where the planner
finds its metrics, what its performance model is made of or how it reports are accepted and not used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from simulator.autoscaling.dynamo_plan import DynamoSpec
from simulator.autoscaling.dynamo_predictors import KalmanParameters, PredictorSpec, require
from simulator.scenario.errors import ScenarioError
from simulator.scenario.validation import validate
from simulator.scenario.yaml_source import YamlSource
from simulator.units import to_ps

_Positive = Annotated[float, Field(gt=0)]
_Share = Annotated[float, Field(ge=0, le=100)]


def _also(*names: str) -> AliasChoices:
    return AliasChoices(*names)


class _Planner(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    mode: Literal["agg", "disagg", "prefill", "decode"] = "disagg"
    optimization_target: Literal["throughput", "latency", "load", "sla"] = "throughput"
    enable_throughput_scaling: bool = True
    enable_load_scaling: bool = False
    adjustment_interval: Annotated[
        float,
        Field(
            gt=0,
            validation_alias=_also(
                "throughput_adjustment_interval_seconds",
                "throughput_adjustment_interval",
                "adjustment_interval",
            ),
        ),
    ] = 180.0
    load_adjustment_interval: Annotated[
        float,
        Field(gt=0, validation_alias=_also("load_adjustment_interval_seconds", "load_adjustment_interval")),
    ] = 5.0
    max_throughput_scaling_replicas: Annotated[int, Field(gt=0)] = 8
    min_endpoint: Annotated[int, Field(ge=0)] = 1
    decode_min_endpoint: Annotated[int, Field(ge=1)] | None = None
    min_gpu_budget: int = -1
    max_gpu_budget: int = 8
    decode_engine_num_gpu: Annotated[int, Field(ge=1)] | None = None
    ttft: Annotated[float, Field(gt=0, validation_alias=_also("ttft", "ttft_ms"))] = 500.0
    itl: Annotated[float, Field(gt=0, validation_alias=_also("itl", "itl_ms"))] = 50.0
    decode_scale_up_kv_rate: _Share | None = None
    decode_scale_down_kv_rate: _Share | None = None
    load_predictor: Literal["constant", "arima", "kalman", "prophet"] = "arima"
    load_predictor_log1p: bool = False
    load_predictor_warmup_trace: str | None = None
    prophet_window_size: Annotated[int, Field(gt=0)] = 50
    kalman_q_level: _Positive = 1.0
    kalman_q_trend: _Positive = 0.1
    kalman_r: _Positive = 10.0
    kalman_min_points: int = 5
    advisory: bool = False

    no_correction: bool = False
    namespace: str | None = None
    environment: str | None = None
    backend: str | None = None
    model_name: str | None = None
    profile_results_dir: str | None = None
    pre_deployment_sweeping_mode: str | None = None
    aic_interpolation: Any = None
    ais_perf_model: Any = None
    prefill_engine_num_gpu: int | None = None
    prefill_min_endpoint: int | None = None
    prefill_scale_up_queue_tokens: int | None = None
    prefill_scale_down_queue_tokens: int | None = None
    load_scaling_down_sensitivity: int | None = None
    load_min_observations: int | None = None
    max_num_fpm_samples: int | None = None
    fpm_sample_bucket_size: int | None = None
    throughput_metrics_source: str | None = None
    control_api_port: int | None = None
    metric_pulling_prometheus_endpoint: str | None = None
    metric_reporting_prometheus_port: int | None = None
    log_dir: str | None = None
    isl: Any = None
    osl: Any = None


@dataclass(frozen=True)
class PlannerConfig:
    """What matters of it: the planner's settings and its targets.

    Attributes:
        spec: the settings; GPUs of one engine are the fleet's unless given.
        gpus_given: whether the file gives them.
        ttft_s: target.
        itl_s: target.
    """

    spec: DynamoSpec
    gpus_given: bool
    ttft_s: float
    itl_s: float


def load_planner_config(path: Path) -> PlannerConfig:
    """The planner's configuration in a file.

    Raises:
        ScenarioError: names the file, the key and what was expected.
    """
    source = YamlSource(path)
    data = validate(_Planner, source.data, source)

    def refuse(key: str, reason: str) -> ScenarioError:
        return ScenarioError(reason, file=source.where([key]), key=key)

    if data.mode != "agg":
        raise refuse("mode", f"mode {data.mode} needs separate prefill and decode pools; agg is modelled")
    if data.advisory:
        raise refuse("advisory", "an advisory planner writes nothing: leave the policy out")
    if data.load_predictor_warmup_trace is not None:
        raise refuse("load_predictor_warmup_trace", "warming the predictors with a trace is not modelled")
    up, down = data.decode_scale_up_kv_rate, data.decode_scale_down_kv_rate
    if data.optimization_target == "sla":
        _sla(data, refuse)
    elif data.optimization_target == "load":
        if up is None or down is None:
            key = "decode_scale_up_kv_rate" if up is None else "decode_scale_down_kv_rate"
            raise refuse("optimization_target", f"optimization_target load needs {key}")
        if up <= down:
            raise refuse("decode_scale_up_kv_rate", f"expected more than decode_scale_down_kv_rate, {down:g}")
    spec = DynamoSpec(
        target=data.optimization_target,
        predictor=PredictorSpec(
            predictor=data.load_predictor,
            log1p=data.load_predictor_log1p,
            interval_ps=to_ps(data.adjustment_interval),
            kalman=KalmanParameters(
                data.kalman_q_level, data.kalman_q_trend, data.kalman_r, data.kalman_min_points
            ),
            prophet_window=data.prophet_window_size,
        ),
        adjustment_interval_ps=to_ps(data.adjustment_interval),
        load_interval_ps=to_ps(data.load_adjustment_interval),
        min_endpoint=data.min_endpoint if data.decode_min_endpoint is None else data.decode_min_endpoint,
        min_gpu_budget=data.min_gpu_budget,
        max_gpu_budget=data.max_gpu_budget,
        gpus_per_engine=data.decode_engine_num_gpu or 1,
        max_change=data.max_throughput_scaling_replicas,
        scale_up_kv=1.0 if up is None else up / 100.0,
        scale_down_kv=0.6 if down is None else down / 100.0,
    )
    return PlannerConfig(spec, data.decode_engine_num_gpu is not None, data.ttft / 1000.0, data.itl / 1000.0)


def _sla(data: _Planner, refuse: Callable[[str, str], ScenarioError]) -> None:
    """What the sla target needs."""
    if data.enable_load_scaling or not data.enable_throughput_scaling:
        key = "enable_load_scaling" if data.enable_load_scaling else "enable_throughput_scaling"
        raise refuse(
            key,
            "load-based scaling to the sla target compares estimates of a native performance model whose rules its "
            "source does not state: throughput-based scaling is modelled, and load-based scaling to the targets "
            "throughput, latency and load",
        )
    try:
        require(data.load_predictor)
    except ValueError as error:
        raise refuse("load_predictor", str(error)) from error

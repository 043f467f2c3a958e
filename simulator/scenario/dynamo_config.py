"""A PlannerConfig of NVIDIA Dynamo's planner, YAML or JSON.

Source: ai-dynamo/dynamo, components/src/dynamo/planner/defaults.py@01127723 and its documentation. Keys that say where
the planner finds its metrics or how it reports are accepted and not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from simulator.autoscaling.dynamo import DynamoSpec, KalmanParameters
from simulator.scenario.errors import ScenarioError
from simulator.scenario.validation import validate
from simulator.scenario.yaml_source import YamlSource
from simulator.units import to_ps

_Positive = Annotated[float, Field(gt=0)]


class _Planner(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    mode: Literal["agg", "disagg", "prefill", "decode"] = "disagg"
    optimization_target: Literal["throughput", "latency", "load", "sla"] = "sla"
    enable_throughput_scaling: bool = True
    enable_load_scaling: bool = False
    adjustment_interval: Annotated[
        float,
        Field(gt=0, validation_alias=AliasChoices("throughput_adjustment_interval", "adjustment_interval")),
    ] = 180.0
    min_endpoint: Annotated[int, Field(ge=1)] = 1
    max_gpu_budget: int = 8
    decode_engine_num_gpu: Annotated[int, Field(ge=1)] | None = None
    ttft: Annotated[float, Field(gt=0, validation_alias=AliasChoices("ttft", "ttft_ms"))] = 500.0
    itl: Annotated[float, Field(gt=0, validation_alias=AliasChoices("itl", "itl_ms"))] = 50.0
    load_predictor: Literal["constant", "arima", "kalman", "prophet"] = "arima"
    load_predictor_log1p: bool = False
    kalman_q_level: _Positive = 1.0
    kalman_q_trend: _Positive = 0.1
    kalman_r: _Positive = 10.0
    kalman_min_points: Annotated[int, Field(ge=1)] = 5
    no_correction: bool = False
    namespace: str | None = None
    environment: str | None = None
    backend: str | None = None
    model_name: str | None = None
    profile_results_dir: str | None = None
    prefill_engine_num_gpu: int | None = None
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
    if data.optimization_target != "sla":
        raise refuse("optimization_target", "only the sla target (throughput-based scaling) is modelled")
    if data.enable_load_scaling or not data.enable_throughput_scaling:
        key = "enable_load_scaling" if data.enable_load_scaling else "enable_throughput_scaling"
        raise refuse(key, "load-based scaling is not modelled; throughput-based scaling is")
    if data.load_predictor in ("arima", "prophet"):
        raise refuse(
            "load_predictor",
            f"{data.load_predictor} is not modelled (arima is Dynamo's default); give constant or kalman",
        )
    spec = DynamoSpec(
        predictor="kalman" if data.load_predictor == "kalman" else "constant",
        adjustment_interval_ps=to_ps(data.adjustment_interval),
        min_endpoint=data.min_endpoint,
        max_gpu_budget=data.max_gpu_budget,
        gpus_per_engine=data.decode_engine_num_gpu or 1,
        kalman=KalmanParameters(data.kalman_q_level, data.kalman_q_trend, data.kalman_r),
        log1p=data.load_predictor_log1p,
    )
    return PlannerConfig(spec, data.decode_engine_num_gpu is not None, data.ttft / 1000.0, data.itl / 1000.0)

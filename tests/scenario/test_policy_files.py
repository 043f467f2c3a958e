"""Users' own files of every autoscaler: what they become, and errors that name file, line and key."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from simulator.autoscaling import dynamo_predictors
from simulator.autoscaling.dynamo_plan import DynamoSpec
from simulator.autoscaling.dynamo_predictors import PredictorSpec
from simulator.autoscaling.forecast import Curve
from simulator.autoscaling.keda import Fallback, Pause
from simulator.autoscaling.kpa import KpaSpec
from simulator.autoscaling.sagemaker import Alarm, StepScaling, TargetTracking
from simulator.autoscaling.wva import SaturationConfig
from simulator.scenario.application_auto_scaling import load_scalable_target
from simulator.scenario.dynamo_config import load_planner_config
from simulator.scenario.errors import ScenarioError
from simulator.scenario.load import load_scenario
from simulator.scenario.manifests.keda import load_scaled_object
from simulator.scenario.manifests.knative import load_knative
from simulator.scenario.manifests.wva import load_saturation_config, load_scale_to_zero
from simulator.scenario.rate_history import load_rate_history
from simulator.scenario.ray_serve_config import load_ray_serve
from simulator.units import PS_PER_S as S
from tests import small
from tests.autoscaling import policy_files as files

Change = Callable[[dict[str, Any]], None]


def changed(base: dict[str, Any], change: Change) -> dict[str, Any]:
    data = copy.deepcopy(base)
    change(data)
    return data


def put(*path: str | int, value: Any) -> Change:
    """Set a value deep in a document; None takes the key away."""

    def change(data: Any) -> None:
        for step in path[:-1]:
            data = data.setdefault(step, {}) if isinstance(data, dict) else data[step]
        if value is None:
            del data[path[-1]]
        else:
            data[path[-1]] = value

    return change


def written(folder: Path, data: dict[str, Any], name: str = "file.yaml") -> Path:
    path = folder / name
    path.write_text(json.dumps(data, indent=1) if name.endswith("json") else yaml.safe_dump(data))
    return path


# --- KEDA ---------------------------------------------------------------------------------------------------

TRIGGER = ("spec", "triggers", 0)


def test_scaled_object_defaults(tmp_path: Path) -> None:
    data = changed(files.SCALED_OBJECT, put("spec", "minReplicaCount", value=None))
    for key in ("maxReplicaCount", "pollingInterval"):
        del data["spec"][key]
    spec = load_scaled_object(written(tmp_path, data)).keda_spec()
    assert (spec.min_replicas, spec.max_replicas, spec.idle_replicas) == (0, 100, None)
    assert (spec.polling_interval_ps, spec.cooldown_ps, spec.initial_cooldown_ps) == (30 * S, 300 * S, 0)
    assert (spec.triggers[0].threshold_milli, spec.triggers[0].activation_threshold) == (3000, 0.0)
    assert spec.behavior is None


def test_scaled_object_in_full(tmp_path: Path) -> None:
    data = copy.deepcopy(files.SCALED_OBJECT)
    data["spec"] |= {
        "idleReplicaCount": 0,
        "minReplicaCount": 2,
        "fallback": {"failureThreshold": 3, "replicas": 5, "behavior": "currentReplicasIfHigher"},
        "advanced": {
            "horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}
        },
    }
    data["spec"]["triggers"].append(
        {
            "type": "cron",
            "metadata": {
                "timezone": "Europe/Berlin",
                "start": "0 8 * * *",
                "end": "0 18 * * *",
                "desiredReplicas": "6",
            },
        }
    )
    manifest = load_scaled_object(written(tmp_path, data))
    spec = manifest.keda_spec()
    assert spec.fallback == Fallback(3, 5, "currentReplicasIfHigher")
    assert spec.behavior is not None
    assert spec.behavior.scale_down is not None
    assert spec.behavior.scale_down.stabilization_window_s == 60
    assert spec.triggers[1].threshold_milli == 1000
    schedule = manifest.sources()[1].schedule
    assert schedule is not None
    assert schedule.replicas == 6


def test_the_lint_says_that_a_query_lacks_sum(tmp_path: Path) -> None:
    bare = put(*TRIGGER, "metadata", "query", value="vllm:num_requests_waiting")
    manifest = load_scaled_object(written(tmp_path, changed(files.SCALED_OBJECT, bare)))
    assert "wrap it in sum()" in manifest.lint()[0]
    assert load_scaled_object(written(tmp_path, files.SCALED_OBJECT)).lint() == ()


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        (put(*TRIGGER, "metadata", "threshold", value=None), "threshold", "this key is required"),
        (put(*TRIGGER, "metadata", "threshold", value="many"), "threshold", "expected a number in quotes"),
        (put(*TRIGGER, "metadata", "query", value="sum("), "query", "not PromQL"),
        (put(*TRIGGER, "metadata", "treshold", value="3"), "treshold", "unknown key"),
        (put(*TRIGGER, "type", value="kafka"), "type", "not modelled"),
        (put("spec", "maxReplicaCount", value=0), "maxReplicaCount", "greater than or equal to 1"),
        (put("spec", "minReplicaCount", value=9), "maxReplicaCount", "at least minReplicaCount"),
        (put("spec", "idleReplicaCount", value=1), "idleReplicaCount", "less than minReplicaCount"),
        (put("spec", "coolDownPeriod", value=1), "coolDownPeriod", "did you mean cooldownPeriod"),
        (
            put("spec", "advanced", "scalingModifiers", value={"formula": "a"}),
            "scalingModifiers",
            "not modelled",
        ),
    ],
)
def test_what_a_scaled_object_is_refused_for(tmp_path: Path, change: Change, key: str, reason: str) -> None:
    path = written(tmp_path, changed(files.SCALED_OBJECT, change))
    with pytest.raises(ScenarioError) as error:
        load_scaled_object(path)
    assert reason in error.value.reason
    assert error.value.key is not None
    assert error.value.key.endswith(key)
    assert (error.value.file or "").startswith(f"{path}:")


def test_a_query_of_what_nothing_exports_names_the_manifest(tmp_path: Path) -> None:
    files.write_files(tmp_path)
    other = put(*TRIGGER, "metadata", "query", value="sum(http_requests)")
    written(tmp_path, changed(files.SCALED_OBJECT, other), "keda.yaml")
    path = small.write(tmp_path, files.scenario_with({"kind": "keda", "manifest": "keda.yaml"}))
    from simulator.runs import run

    with pytest.raises(ScenarioError, match="nothing exports 'http_requests'") as error:
        run(path)
    assert "keda.yaml:" in (error.value.file or "")


def test_a_cron_trigger_needs_the_time_of_the_start(tmp_path: Path) -> None:
    cron = {"timezone": "UTC", "start": "0 8 * * *", "end": "0 18 * * *", "desiredReplicas": "6"}
    data = changed(files.SCALED_OBJECT, put(*TRIGGER, value={"type": "cron", "metadata": cron}))
    written(tmp_path, data, "keda.yaml")
    policy = {"kind": "keda", "manifest": "keda.yaml"}
    with pytest.raises(ScenarioError, match="give starts_at"):
        load_scenario(small.write(tmp_path, files.scenario_with(policy)))
    policy["starts_at"] = "2026-01-05T07:00:00Z"
    load_scenario(small.write(tmp_path, files.scenario_with(policy)))


# --- Knative ------------------------------------------------------------------------------------------------

ANNOTATION = ("spec", "template", "metadata", "annotations")
PREFIX = "autoscaling.knative.dev/"


def test_knative_defaults(tmp_path: Path) -> None:
    data = changed(files.KNATIVE, put(*ANNOTATION, value={}))
    loaded = load_knative(written(tmp_path, data), None)
    assert loaded.spec == KpaSpec(target=100.0, total=100.0)
    assert (loaded.metric, loaded.initial_scale) == ("concurrency", 1)


def test_knative_container_concurrency_takes_the_percentage(tmp_path: Path) -> None:
    data = changed(files.KNATIVE, put(*ANNOTATION, value={}))
    data["spec"]["template"]["spec"]["containerConcurrency"] = 10
    spec = load_knative(written(tmp_path, data), None).spec
    assert (spec.target, spec.total) == (7.0, 10.0)


def test_knative_config_map_and_annotations(tmp_path: Path) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "config-autoscaler"},
        "data": {"stable-window": "30s", "container-concurrency-target-percentage": "0.5", "max-scale": "9"},
    }
    spec = load_knative(written(tmp_path, files.KNATIVE), written(tmp_path, config, "config.yaml")).spec
    assert (spec.target, spec.max_scale) == (2.0, 4)  # the annotation is stronger
    assert (spec.stable_window_ps, spec.panic_window_ps) == (30 * S, 3 * S)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("target", "lots", "expected a number"),
        ("window", "soon", "expected a duration"),
        ("minimum", "3", "not modelled"),
        ("max-scale", "0.5", "at least min-scale"),
        ("metric", "cpu", "concurrency or rps"),
    ],
)
def test_what_knative_annotations_are_refused_for(tmp_path: Path, key: str, value: str, reason: str) -> None:
    data = changed(files.KNATIVE, put(*ANNOTATION, PREFIX + key, value=value))
    if key == "max-scale":
        data["spec"]["template"]["metadata"]["annotations"][PREFIX + key] = "1"
        data["spec"]["template"]["metadata"]["annotations"][PREFIX + "min-scale"] = "2"
    path = written(tmp_path, data)
    with pytest.raises(ScenarioError, match=reason) as error:
        load_knative(path, None)
    assert (error.value.file or "").startswith(str(path))


# --- Ray Serve ----------------------------------------------------------------------------------------------

SERVE = ("applications", 0, "deployments", 0)


def test_ray_serve_settings(tmp_path: Path) -> None:
    loaded = load_ray_serve(written(tmp_path, files.RAY_SERVE), None)
    assert (loaded.name, loaded.initial_replicas) == ("VLLM", 1)
    assert (loaded.spec.target_ongoing_requests, loaded.spec.upscale_delay_s) == (3.0, 5.0)
    assert (loaded.spec.downscale_delay_s, loaded.spec.look_back_period_s) == (600.0, 30.0)


def test_ray_serve_auto_and_old_factors(tmp_path: Path) -> None:
    data = changed(files.RAY_SERVE, put(*SERVE, "num_replicas", value="auto"))
    del data["applications"][0]["deployments"][0]["autoscaling_config"]
    spec = load_ray_serve(written(tmp_path, data), None).spec
    assert (spec.max_replicas, spec.target_ongoing_requests) == (100, 2.0)
    old = put(*SERVE, "autoscaling_config", "upscale_smoothing_factor", value=0.5)
    spec = load_ray_serve(written(tmp_path, changed(files.RAY_SERVE, old)), None).spec
    assert (spec.upscaling_factor, spec.downscaling_factor) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (put(*SERVE, "autoscaling_config", "max_replicas", value=0), "greater than or equal to 1"),
        (put(*SERVE, "autoscaling_config", "min_replicas", value=9), "below min_replicas"),
        (put(*SERVE, "autoscaling_config", "max_replica", value=3), "did you mean max_replicas"),
        (put(*SERVE, "autoscaling_config", value=None), "expected one deployment that scales"),
        (put(*SERVE, "num_replicas", value=3), "exclude each other"),
    ],
)
def test_what_ray_serve_is_refused_for(tmp_path: Path, change: Change, reason: str) -> None:
    path = written(tmp_path, changed(files.RAY_SERVE, change))
    with pytest.raises(ScenarioError, match=reason) as error:
        load_ray_serve(path, None)
    assert (error.value.file or "").startswith(f"{path}:")


# --- SageMaker ----------------------------------------------------------------------------------------------


def test_sagemaker_settings(tmp_path: Path) -> None:
    target = load_scalable_target(
        written(tmp_path, files.TARGET, "target.json"),
        [written(tmp_path, files.TRACKING, "tracking.json"), written(tmp_path, files.STEP, "step.json")],
        [written(tmp_path, files.ALARM, "alarm.json")],
    )
    assert (target.min_capacity, target.max_capacity) == (1, 4)
    tracking, step = target.policies
    assert isinstance(tracking.policy, TargetTracking)
    assert (tracking.metric, tracking.period_s) == ("concurrency-per-instance", 10)
    assert tracking.policy.scale_out_cooldown_ps == 300 * S
    assert isinstance(step.policy, StepScaling)
    assert step.policy.alarm == Alarm(2.0, "GreaterThanThreshold", 1, 1, "missing")
    assert step.policy.cooldown_ps == 60 * S


def test_sagemaker_one_minute_metric(tmp_path: Path) -> None:
    kind = put(
        "TargetTrackingScalingPolicyConfiguration",
        "PredefinedMetricSpecification",
        "PredefinedMetricType",
        value="SageMakerVariantInvocationsPerInstance",
    )
    target = load_scalable_target(
        written(tmp_path, files.TARGET, "t.json"),
        [written(tmp_path, changed(files.TRACKING, kind), "p.json")],
        [],
    )
    sourced = target.policies[0]
    assert (sourced.metric, sourced.period_s) == ("invocations-per-instance", 60)
    assert isinstance(sourced.policy, TargetTracking)
    assert (sourced.policy.periods_high, sourced.policy.periods_low) == (3, 15)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (put("ResourceId", value="endpoint/other/variant/all"), "expected the scalable target's"),
        (put("PolicyType", value="StepScaling"), "takes StepScalingPolicyConfiguration alone"),
        (
            put(
                "TargetTrackingScalingPolicyConfiguration",
                "PredefinedMetricSpecification",
                "PredefinedMetricType",
                value="SageMakerVariantCPU",
            ),
            "is not modelled",
        ),
        (put("TargetTrackingScalingPolicyConfiguration", "TargetValue", value=0), "greater than 0"),
        (put("PolicyNam", value="x"), "did you mean PolicyName"),
    ],
)
def test_what_a_scaling_policy_is_refused_for(tmp_path: Path, change: Change, reason: str) -> None:
    target = written(tmp_path, files.TARGET, "target.json")
    path = written(tmp_path, changed(files.TRACKING, change), "policy.json")
    with pytest.raises(ScenarioError, match=reason) as error:
        load_scalable_target(target, [path], [])
    assert (error.value.file or "").startswith(str(path))


def test_a_step_policy_needs_its_alarm(tmp_path: Path) -> None:
    target = written(tmp_path, files.TARGET, "target.json")
    with pytest.raises(ScenarioError, match="1 step policies need as many alarms, 0 are named"):
        load_scalable_target(target, [written(tmp_path, files.STEP, "step.json")], [])


def test_pause_annotations(tmp_path: Path) -> None:
    def pause(**annotations: str) -> Pause:
        given = {f"autoscaling.keda.sh/{key.replace('_', '-')}": text for key, text in annotations.items()}
        data = changed(files.SCALED_OBJECT, put("metadata", "annotations", value=given))
        return load_scaled_object(written(tmp_path, data)).pause()

    assert pause() == Pause()
    assert pause(paused="true", paused_scale_in="yes") == Pause(paused=True, scale_in=True)
    assert pause(paused="false", paused_scale_out="1") == Pause(scale_out=True)
    assert pause(paused_replicas="3") == Pause(paused=True, replicas=3)
    with pytest.raises(ScenarioError, match="expected a whole number in quotes, got '-1'"):
        pause(paused_replicas="-1")


# --- WVA, Dynamo, forecast ----------------------------------------------------------------------------------


def test_saturation_config_thresholds(tmp_path: Path) -> None:
    config = load_saturation_config(written(tmp_path, files.WVA_CONFIG))
    assert config == SaturationConfig(kv_cache_threshold=0.10)
    wrong = changed(files.WVA_CONFIG, put("data", "default", value="kvCacheThreshold: 80\n"))
    with pytest.raises(ScenarioError, match="less than or equal to 1") as error:
        load_saturation_config(written(tmp_path, wrong))
    assert error.value.key == "data.default.kvCacheThreshold"


def test_saturation_config_by_tokens(tmp_path: Path) -> None:
    text = "analyzerName: saturation\nscaleUpThreshold: 0.9\n"
    data = changed(files.WVA_CONFIG, put("data", "default", value=text))
    config = load_saturation_config(written(tmp_path, data))
    assert config == SaturationConfig(by_tokens=True, scale_up_threshold=0.9)
    wrong = changed(files.WVA_CONFIG, put("data", "default", value=text + "scaleDownBoundary: 0.95\n"))
    with pytest.raises(ScenarioError, match=r"expected more than scaleDownBoundary, 0.95") as error:
        load_saturation_config(written(tmp_path, wrong))
    assert error.value.key == "data.default.scaleUpThreshold"


def test_scale_to_zero_config(tmp_path: Path) -> None:
    text = "enable_scale_to_zero: true\nretention_period: 15m\n"
    path = written(tmp_path, changed(files.WVA_CONFIG, put("data", "default", value=text)))
    config = load_scale_to_zero(path, SaturationConfig(kv_cache_threshold=0.5))
    assert config == SaturationConfig(kv_cache_threshold=0.5, scale_to_zero=True, retention_ps=900 * S)


def test_wva_needs_an_hpa_that_follows(tmp_path: Path) -> None:
    files.write_files(tmp_path)
    (tmp_path / "wva-hpa.yaml").write_text(small.hpa_text())
    path = small.write(tmp_path, files.scenario_with({"kind": "wva", "manifest": "wva-hpa.yaml"}))
    with pytest.raises(ScenarioError, match="expected an External metric wva_desired_replicas") as error:
        load_scenario(path)
    assert "wva-hpa.yaml:" in (error.value.file or "")


def test_planner_config(tmp_path: Path) -> None:
    config = load_planner_config(written(tmp_path, files.PLANNER))
    assert config.spec == DynamoSpec(
        "sla", PredictorSpec("kalman", interval_ps=20 * S), 20 * S, max_gpu_budget=4
    )
    assert (config.ttft_s, config.itl_s, config.gpus_given) == (1.0, 0.05, False)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (put("mode", value="disagg"), "mode"),
        (put("advisory", value=True), "advisory"),
        (put("load_predictor_warmup_trace", value="trace.jsonl"), "load_predictor_warmup_trace"),
        (put("enable_load_scaling", value=True), "enable_load_scaling"),
        (put("enable_throughput_scaling", value=False), "enable_throughput_scaling"),
        (put("optimization_target", value="load"), "optimization_target"),
        (put("ittl", value=3), "ittl"),
    ],
)
def test_what_a_planner_config_is_refused_for(tmp_path: Path, change: Change, key: str) -> None:
    path = written(tmp_path, changed(files.PLANNER, change))
    with pytest.raises(ScenarioError) as error:
        load_planner_config(path)
    assert error.value.key == key


def test_a_planner_config_by_load(tmp_path: Path) -> None:
    data = {"mode": "agg", "optimization_target": "load", "decode_scale_up_kv_rate": 70}
    path = written(tmp_path, data | {"decode_scale_down_kv_rate": 20, "load_adjustment_interval_seconds": 10})
    spec = load_planner_config(path).spec
    assert (spec.scale_up_kv, spec.scale_down_kv, spec.load_interval_ps) == (0.7, 0.2, 10 * S)
    with pytest.raises(ScenarioError, match="expected more than decode_scale_down_kv_rate, 70"):
        load_planner_config(written(tmp_path, data | {"decode_scale_down_kv_rate": 70}))
    assert load_planner_config(written(tmp_path, {"mode": "agg"})).spec.target == "throughput"


def test_a_predictor_without_its_library_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(dynamo_predictors, "import_module", missing)
    path = written(tmp_path, {"mode": "agg", "optimization_target": "sla"})
    with pytest.raises(ScenarioError, match=r"\[planner\]") as error:
        load_planner_config(path)
    assert error.value.key == "load_predictor"


def test_rate_history(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text("t_s,rate_per_s\n0,1.5\n60,3\n")
    assert load_rate_history(path, 120.0) == Curve((0, 60 * S), (1.5, 3.0), 120 * S)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("time,rate\n", 1, "expected the header"),
        ("t_s,rate_per_s\n0,1\n0,2\n", 3, "times begin at 0 and rise"),
        ("t_s,rate_per_s\n5,1\n", 2, "times begin at 0 and rise"),
        ("t_s,rate_per_s\n0,-1\n", 2, "a rate of at least 0"),
        ("t_s,rate_per_s\n0,many\n", 2, "expected two numbers"),
    ],
)
def test_what_a_rate_history_is_refused_for(tmp_path: Path, text: str, line: int, reason: str) -> None:
    path = tmp_path / "curve.csv"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=reason) as error:
        load_rate_history(path, 3600.0)
    assert error.value.file == f"{path}:{line}"

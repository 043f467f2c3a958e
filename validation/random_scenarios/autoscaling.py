"""Who sets the size: every kind of policy, alone and combined, each with manifests of its own kind."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

from validation.random_scenarios.manifests import hpa, knative, ray_serve, sagemaker, scaled_object, wva

Policy = dict[str, Any]
_KNOWS_THE_ARRIVALS: Final = "perfect"


def draw_autoscaling(rng: Random, files: dict[str, Any], workload: list[dict[str, Any]]) -> dict[str, Any]:
    """The scenario's ``fleet.autoscaling``; the files that its policies name are added to ``files``."""
    foreseeable = all(
        entry["arrivals"]["kind"] != "closed-loop" and "sessions" not in entry for entry in workload
    )
    scalers = [kind for kind in _SCALERS if foreseeable or kind != _KNOWS_THE_ARRIVALS]
    count = rng.choice((0, 1, 1, 1, 1, 2))
    kinds = rng.sample(scalers, count) + rng.sample(list(_FLOORS), rng.choice((0, 0, 1, 2, 3)))
    return {
        "policies": [
            {"kind": kind, "name": f"{kind}-{index}", **{**_SCALERS, **_FLOORS}[kind](rng, files)}
            for index, kind in enumerate(kinds)
        ],
        "scrape": {
            "interval": rng.choice(("1s", "5s")),
            "adapter_delay": rng.choice(("0s", "1s")),
            "staleness": rng.choice(("10s", "5m")),
        },
    }


def _controller(rng: Random) -> Policy:
    """The kube-controller-manager that runs an HPA."""
    one = rng.choice
    return {
        "version": one(("1.37", "1.37", "1.30", "1.23")),
        "sync_period": one(("2s", "5s")),
        "downscale_stabilization": one(("0s", "20s")),
        "cpu_initialization_period": one(("10s", "5m")),
        "initial_readiness_delay": one(("1s", "30s")),
        "scale_to_zero": one((None, True)),
    }


def _hpa(rng: Random, files: dict[str, Any]) -> Policy:
    files["hpa.yaml"] = hpa(rng)
    return {"manifest": "hpa.yaml", **_controller(rng)}


def _keda(rng: Random, files: dict[str, Any]) -> Policy:
    files["keda.yaml"] = scaled_object(rng)
    return {"manifest": "keda.yaml", "starts_at": "2026-01-05T07:59:30+01:00", "hpa": _controller(rng)}


def _knative(rng: Random, files: dict[str, Any]) -> Policy:
    files["knative.yaml"], files["config-autoscaler.yaml"] = knative(rng)
    return {
        "manifest": "knative.yaml",
        "config": "config-autoscaler.yaml",
        "activator": rng.choice(("0s", "2s")),
    }


def _ray_serve(rng: Random, files: dict[str, Any]) -> Policy:
    files["serve.yaml"] = ray_serve(rng)
    return {"config": "serve.yaml"}


def _sagemaker(rng: Random, files: dict[str, Any]) -> Policy:
    documents = sagemaker(rng)
    files.update(documents)
    return {
        "target": "target.json",
        "policies": [name for name in documents if name.startswith("policy")],
        "alarms": [name for name in documents if name.startswith("alarm")],
        "delivery": rng.choice(("1s", "30s")),
        "delivery_high_resolution": "1s",
    }


def _wva(rng: Random, files: dict[str, Any]) -> Policy:
    files["wva-hpa.yaml"], files["wva.yaml"], files["wva-zero.yaml"] = wva(rng)
    return {
        "manifest": "wva-hpa.yaml",
        "config": "wva.yaml",
        "scale_to_zero": rng.choice((None, "wva-zero.yaml")),
        "interval": rng.choice(("5s", "20s")),
        "metric_delay": rng.choice(("0s", "5s")),
        "hpa": _controller(rng),
    }


def _dynamo(rng: Random, files: dict[str, Any]) -> Policy:
    one = rng.choice
    target = one(("sla", "sla", "throughput", "latency", "load"))
    rates = {"decode_scale_up_kv_rate": 0.3, "decode_scale_down_kv_rate": 0.1} if target == "load" else {}
    files["planner.yaml"] = {
        "mode": "agg",
        "optimization_target": target,
        **rates,
        "load_adjustment_interval": one((2, 5)),
        "max_throughput_scaling_replicas": one((1, 8)),
        "load_predictor": one(("kalman", "constant")),
        "load_predictor_log1p": one((True, False)),
        "adjustment_interval": one((7, 20)),
        "min_endpoint": one((1, 2)),
        "max_gpu_budget": one((4, 8, -1)),
        "ttft": one((200, 1000)),
        "itl": one((20, 50)),
    }
    return {"config": "planner.yaml"}


def _perfect(rng: Random, files: dict[str, Any]) -> Policy:
    one = rng.choice
    policy: Policy = {
        "lead": one(("5s", "25s")),
        "window": one(("1s", "5s")),
        "tail": one(("0s", "10s")),
        "min_replicas": one((0, 1)),
        "max_replicas": one((3, 8)),
    }
    rate = one((None, "1/s", "4/s"))
    return policy if rate is None else {**policy, "rate_per_replica": rate}


def _cron_floor(rng: Random, files: dict[str, Any]) -> Policy:
    one = rng.choice
    return {
        "period": "100s",
        "offset": one(("0s", "30s")),
        "schedule": [
            {"start": "20s", "end": "60s", "replicas": one((0, 3))},
            {"start": "90s", "end": "10s", "replicas": one((1, 5))},
        ],
    }


def _forecast(rng: Random, files: dict[str, Any]) -> Policy:
    one = rng.choice
    files["curve.csv"] = "t_s,rate_per_s\n0,1\n30,6\n60,0\n80,2\n"
    return {
        "history": "curve.csv",
        "period": "100s",
        "offset": one(("0s", "25s")),
        "lead": one(("5s", "20s")),
        "rate_per_replica": one(("1/s", "3/s")),
        "margin": one((0.0, 0.5)),
        "interval": one(("1s", "15s")),
        "min_replicas": one((0, 1)),
        "max_replicas": 6,
    }


def _standby(rng: Random, files: dict[str, Any]) -> Policy:
    one = rng.choice
    return {
        "standby": one((0, 1, 3)),
        "target": one((1, 8)),
        "interval": one(("2s", "10s")),
        "stabilization": one(("0s", "30s")),
        "max_replicas": 6,
        "query": one(
            (
                "sum(vllm:num_requests_running) + sum(vllm:num_requests_waiting)",
                "sum(rate(vllm:request_success_total[20s]))",
                "inference_objective_running_requests",
            )
        ),
    }


_SCALERS: Final[dict[str, Callable[[Random, dict[str, Any]], Policy]]] = {
    "hpa": _hpa,
    "keda": _keda,
    "knative": _knative,
    "ray-serve": _ray_serve,
    "sagemaker": _sagemaker,
    "wva": _wva,
    "dynamo": _dynamo,
    _KNOWS_THE_ARRIVALS: _perfect,
}
_FLOORS: Final[dict[str, Callable[[Random, dict[str, Any]], Policy]]] = {
    "cron-floor": _cron_floor,
    "forecast": _forecast,
    "standby": _standby,
}

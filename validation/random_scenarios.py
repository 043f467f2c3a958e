"""Random scenarios over the whole schema, as plain data: small, short and under every stress at once."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import yaml


def draw_scenario(seed: int) -> dict[str, Any]:
    """The scenario of a seed; manifests that it names are under ``manifests`` by file name."""
    rng = Random(f"scenario {seed}")
    one = rng.choice
    zones = [_zone(rng, name) for name in ("a", "b")[: rng.randint(1, 2)]]
    pools = [
        _pool(rng, f"pool-{index}", zones, spot=one((True, True, False)))
        for index in range(rng.randint(1, 3))
    ]
    if all(pool["share"] == 0 and pool["base"] == 0 for pool in pools):
        pools[0]["share"] = 1
    scenario: dict[str, Any] = {
        "name": f"random-{seed}",
        "seed": seed,
        "duration": one(("60s", "120s")),
        "drain": one(("0s", "20s", "10m")),
        "timeline_interval": one(("1s", "7s")),
        "engine": {
            "gpu": "H100-SXM",
            "vllm": _vllm(rng),
            "engine_impl": one(("skipping", "skipping", "plain")),
        },
        "fleet": {
            "replicas": rng.randint(0, 4),
            "disruption_budget": one((None, {"min_available": 1}, {"max_unavailable": "50%"})),
            "deletion_cost": one((None, {"interval": "5s"})),
        },
        "cluster": {
            "pools": pools,
            "zones": zones,
            "provisioner": one(
                (
                    {"kind": "direct", "back_off": "5s"},
                    {"kind": "karpenter", "back_off": "10s"},
                    {
                        "kind": "cluster-autoscaler",
                        "scan_interval": "5s",
                        "back_off": "5s",
                        "max_back_off": "20s",
                    },
                )
            ),
            "cold_start": _cold_start(rng),
            "initial": one(("ready", "cold")),
        },
        "gateway": {
            "routing": one(
                (
                    "round-robin",
                    "least-outstanding",
                    "least-kv",
                    "prefix-hash",
                    "prefix-match",
                    "random-of-two",
                )
            ),
            "latency": one(("0s", "2ms", "100ms")),
            "max_outstanding_per_replica": one((None, 1, 8)),
            "max_queue": one((0, 5, 1000)),
            "queue_timeout": one(("2s", "60s")),
        },
        "clients": _clients(rng),
        "workload": _workload(rng),
        "slo": {"ttft": "1s", "tpot": "50ms"},
        "faults": [_fault(rng, kind) for kind in ("crash", "crash-loop", "slow", "thermal", "partition")],
        "rollouts": _rollouts(rng),
        "manifests": {"deployment.yaml": _deployment(rng)},
    }
    scenario["fleet"]["deployment"] = "deployment.yaml"
    if rng.random() < 0.5:
        scenario["manifests"]["hpa.yaml"] = _hpa(rng)
        scenario["fleet"]["autoscaling"] = {"policies": [{"kind": "hpa", "manifest": "hpa.yaml"}]}
    for zone in zones:
        if zone.get("availability"):
            scenario["manifests"][zone["availability"]] = _trace(rng, zone["name"])
    return scenario


def write_scenario(scenario: dict[str, Any], folder: Path) -> Path:
    """Write a drawn scenario and its files into a folder; returns the scenario's path."""
    scenario = dict(scenario)
    for name, content in scenario.pop("manifests").items():
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        (folder / name).write_text(text, encoding="utf-8")
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(scenario, sort_keys=False), encoding="utf-8")
    return path


def _vllm(rng: Random) -> dict[str, Any]:
    one = rng.choice
    return {
        "model": "meta-llama/Llama-3.1-8B",
        "max-model-len": 2048,
        "num-gpu-blocks-override": one((129, 200, 1000)),
        "max-num-seqs": one((2, 16)),
        "max-num-batched-tokens": one((256, 2048)),
        "scheduling-policy": one(("fcfs", "priority")),
        "enable-prefix-caching": one((True, False)),
        "async-scheduling": one((True, False)),
        "shutdown-timeout": one((0, 10)),
        "enforce-eager": one((True, False)),
    }


def _zone(rng: Random, name: str) -> dict[str, Any]:
    zone: dict[str, Any] = {"name": name, "region": rng.choice((None, "r"))}
    if rng.random() < 0.3:
        zone["availability"] = f"{name}.csv"
        zone["availability_start"] = rng.choice((0, 10))
    elif rng.random() < 0.7:
        zone["mass_events"] = {
            "mean_time_between": rng.choice((30, 90)),
            "take_all": rng.choice((0.0, 0.5, 1.0)),
            "region_share": rng.choice((0.0, 0.5, 1.0)),
            "outage": rng.choice((0, 5, {"median": 10, "sigma": 1.0})),
        }
    if rng.random() < 0.5:
        zone["stock_outs"] = [
            {
                "capacity": rng.choice(("spot", "on-demand", "any")),
                "mean_time_between": rng.choice((None, 40)),
                "duration": rng.choice((10, {"median": 10, "sigma": 0.5})),
                "intervals": rng.choice(([], [{"start": 0, "end": 5}, {"start": 30, "end": 50}])),
            }
        ]
    return zone


def _trace(rng: Random, zone: str) -> str:
    rows = [f"{t},{zone},{rng.randint(0, 5)}" for t in range(0, 200, rng.choice((7, 20)))]
    return "\n".join(["t_s,zone,nodes_available", *rows]) + "\n"


def _pool(rng: Random, name: str, zones: list[dict[str, Any]], *, spot: bool) -> dict[str, Any]:
    one = rng.choice
    zone = one((None, *zones))
    pool: dict[str, Any] = {
        "name": name,
        "zone": None if zone is None else zone["name"],
        "capacity": "spot" if spot else "on-demand",
        "gpu": one((None, None, "A100-80GB-SXM")),
        "gpus_per_node": one((1, 2, 4)),
        "share": one((0, 1, 3)),
        "base": one((0, 0, 2)),
        "max_nodes": one((1, 3, 10)),
        "warm_nodes": one((0, 0, 1)),
        "usd_per_gpu_hour": one((0.0, 1.0, 2.5)),
        "price_changes": one(
            ([], [{"at": 20, "usd_per_gpu_hour": 9}, {"at": 45.5, "usd_per_gpu_hour": 0.3}])
        ),
        "cloud": one((None, "aws", "gcp")),
        "provisioning": one(("5s", {"median": "8s", "sigma": 0.5})),
        "empty_node_ttl": one(("0s", "10s")),
    }
    if spot:
        reclaim: dict[str, Any] = {
            "notice": one((None, "0s", "5s", "30s")),
            "detection": one((None, "1s", "10s")),
            "replacement": one((True, True, False)),
        }
        if zone is None or not zone.get("availability"):
            reclaim["mean_time_between"] = one(("20s", "60s", "10m"))
            reclaim["median_time_between"] = one((None, "5s"))
            reclaim["rebalance"] = one(
                (
                    None,
                    {"lead": "10s", "action": "ignore", "share": 0.5},
                    {"lead": {"median": 10, "sigma": 1.0}, "action": "drain"},
                    {"lead": "20s", "action": "replace"},
                )
            )
        pool["reclaim"] = reclaim
    return pool


def _cold_start(rng: Random) -> dict[str, Any]:
    one = rng.choice
    cold: dict[str, Any] = {
        "prepulled": one((True, False)),
        "image_pull": "5s",
        "layer_reuse": one((0.0, 0.8)),
        "start": one(("fresh", "fresh", "snapshot", "sleep-1", "sleep-2")),
        "snapshot": "3s",
        "process_start": one(("1s", {"median": 3, "sigma": 0.5})),
        "compile": "6s",
        "compile_cached": "2s",
        "compile_cache": one(("cold", "warm", "node", "shared")),
        "graph_capture": {"min": "1s", "max": "4s"},
        "profiling_eager": "1s",
        "endpoint_propagation": one(("1s", {"min": 0, "max": 3})),
    }
    if rng.random() < 0.5:
        cold["weights"] = "2s"
    else:
        cold["weights_gb_per_s"] = one((4, 16))
        cold["weights_node_gb_per_s"] = one((6, 20))
        cold["page_cache"] = one((True, False))
    return cold


def _clients(rng: Random) -> dict[str, Any]:
    one = rng.choice
    return {
        "timeout": one((None, "5s", "60s")),
        "attempt_timeout": one((None, "3s", "20s")),
        "ttft_timeout": one((None, "1s", "10s")),
        "retry": one(
            (
                None,
                {"on": ["429", "503", "cut", "timeout"], "budget": None, "max_attempts": 4},
                {"budget": 0.1, "budget_burst": 2, "jitter": "none", "initial_backoff": "0s"},
            )
        ),
        "fallback": one(
            (
                None,
                {
                    "usd_per_million_input_tokens": 1,
                    "usd_per_million_output_tokens": 5,
                    "error_rate": one((0.0, 0.3)),
                    "ttft": "200ms",
                },
            )
        ),
    }


def _workload(rng: Random) -> list[dict[str, Any]]:
    one = rng.choice
    arrivals = one(
        (
            {"kind": "poisson", "rate": 3},
            {"kind": "gamma", "rate": 3, "burstiness": 0.3},
            {"kind": "closed-loop", "users": 15, "think_time": {"kind": "exponential", "mean": "1s"}},
            {"kind": "spikes", "mean_rate": 3, "peak_factor": 6, "ramp": "2s", "hold": "3s", "every": "45s"},
        )
    )
    first: dict[str, Any] = {
        "name": "a",
        "arrivals": arrivals,
        "lengths": {
            "kind": "lognormal",
            "input": {"median": one((50, 400)), "sigma": 1.0, "max": one((900, 1500))},
            "output": {"median": one((5, 100)), "sigma": 0.7, "max": 500},
        },
        "max_tokens": one((None, 200, "output")),
        "priority": one((0, 3)),
    }
    if arrivals["kind"] != "closed-loop" and rng.random() < 0.4:
        first["sessions"] = {
            "turns": {"kind": "geometric", "mean": 3},
            "system_prompt_tokens": 100,
            "think_time": 1,
        }
    second = {
        "name": "b",
        "arrivals": {"kind": "constant", "rate": 1},
        "lengths": {"kind": "fixed", "input": 64, "output": 1},
    }
    return [first, second]


def _fault(rng: Random, kind: str) -> dict[str, Any]:
    one = rng.choice
    fault: dict[str, Any] = {"kind": kind, "pods": one((1, 2, "50%", "100%"))}
    if rng.random() < 0.5:
        fault["mean_time_between"] = one((15, 60))
    else:
        fault["at"] = sorted(round(rng.uniform(0, 100), 3) for _ in range(rng.randint(1, 3)))
    if kind != "crash":
        fault["duration"] = one(("3s", "25s"))
    match kind:
        case "crash-loop":
            fault["after"] = one(("0s", "2s", "8s"))
        case "slow":
            fault["factor"] = one((1.5, 4, 20))
        case "thermal":
            fault.update(rise=60, time_constant=one((2, 10)), sample=one((0.7, 3)), factor=one((2, 5)))
        case "partition":
            fault["connect_timeout"] = one(("0s", "1s", "5s"))
    return fault


def _rollouts(rng: Random) -> list[dict[str, Any]]:
    one = rng.choice
    rollouts = []
    for index in range(rng.choice((0, 1, 1, 2))):
        rollout: dict[str, Any] = {
            "at": 10 + 30 * index,
            "version": {
                "name": f"v{index + 2}",
                "new_image": one((True, False)),
                "slowdown": one((1, 1, 10)),
                "crash_after": one((None, None, "0s", "3s")),
                "vllm": one(({}, {}, {"enforce-eager": True, "max-num-seqs": 4})),
            },
            "min_ready": one((None, "2s")),
            "rollback": one((None, {"interval": "5s", "min_attempts": 3})),
        }
        if rng.random() < 0.5:
            rollout["canary"] = [{"weight": 0.2, "hold": "5s"}, {"weight": 0.6, "hold": "10s"}][
                : rng.randint(1, 2)
            ]
        else:
            rollout["max_surge"] = one((None, 1, "100%"))
            rollout["max_unavailable"] = one((None, 0, 1))
        rollouts.append(rollout)
    return rollouts


def _deployment(rng: Random) -> dict[str, Any]:
    one = rng.choice
    get = {"httpGet": {"path": "/health", "port": 8000}}
    container: dict[str, Any] = {
        "name": "vllm",
        "image": "vllm/vllm-openai",
        "resources": {"limits": {"nvidia.com/gpu": 1}},
    }
    if rng.random() < 0.8:
        container["readinessProbe"] = {**get, "periodSeconds": one((1, 5))}
    if rng.random() < 0.4:
        container["startupProbe"] = {**get, "periodSeconds": 2, "failureThreshold": one((2, 6, 60))}
    if rng.random() < 0.4:
        container["livenessProbe"] = {**get, "periodSeconds": 3, "initialDelaySeconds": one((0, 20))}
    if rng.random() < 0.5:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": one((1, 8))}}}
    labels = {"app": "vllm"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "vllm"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "strategy": one(({"type": "Recreate"}, {"type": "RollingUpdate"})),
            "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": one((1, 10, 60)), "containers": [container]},
            },
        },
    }


def _hpa(rng: Random) -> dict[str, Any]:
    metric = rng.choice(("vllm:num_requests_running", "vllm:num_requests_waiting", "DCGM_FI_DEV_GPU_TEMP"))
    target = {"type": "AverageValue", "averageValue": rng.choice(("1", "3", "50"))}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "hpa"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "vllm"},
            "minReplicas": 1,
            "maxReplicas": rng.choice((2, 6)),
            "metrics": [{"type": "Pods", "pods": {"metric": {"name": metric}, "target": target}}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": rng.choice((0, 15))}},
        },
    }

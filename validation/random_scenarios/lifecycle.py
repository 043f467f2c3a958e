"""How pods come and go: the Deployment with its probes and grace periods, the fleet's guards, the cold start."""

from __future__ import annotations

from random import Random
from typing import Any


def draw_fleet(rng: Random) -> dict[str, Any]:
    """The scenario's ``fleet``, but for the manifest and the autoscaling."""
    one = rng.choice
    return {
        "replicas": one((None, 0, 1, 2, 3, 4)),
        "disruption_budget": one((None, {"min_available": 1}, {"max_unavailable": "50%"})),
        "deletion_cost": one((None, {"interval": "5s"})),
        "resource_metrics": {"resolution": one(("5s", "15s")), "window": one(("5s", "30s"))},
    }


def draw_cold_start(rng: Random) -> dict[str, Any]:
    """The scenario's ``cluster.cold_start``: seconds where real ones take minutes."""
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
        "endpoint_propagation": one(("0s", "1s", {"min": 0, "max": 3})),
    }
    if rng.random() < 0.5:
        cold["weights"] = "2s"
    else:
        cold["weights_from"] = one(("disk", "network-disk", "object-store"))
        cold["weights_gb_per_s"] = one((4, 16))
        cold["weights_node_gb_per_s"] = one((6, 20))
        cold["page_cache"] = one((True, False))
    return cold


def draw_deployment(rng: Random, gpus: int) -> dict[str, Any]:
    """An apps/v1 Deployment. Its probes may kill pods that still load."""
    one = rng.choice
    get = {"httpGet": {"path": "/health", "port": 8000}}
    container: dict[str, Any] = {
        "name": "vllm",
        "image": "vllm/vllm-openai",
        "resources": {
            "requests": {"cpu": one(("1", "4")), "memory": "16Gi"},
            "limits": {"nvidia.com/gpu": gpus},
        },
    }
    if rng.random() < 0.8:
        container["readinessProbe"] = {
            **get,
            "periodSeconds": one((1, 5)),
            "successThreshold": one((1, 1, 2)),
        }
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
            "minReadySeconds": one((0, 0, 3)),
            "selector": {"matchLabels": labels},
            "strategy": one(({"type": "Recreate"}, {"type": "RollingUpdate"})),
            "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": one((1, 10, 60)), "containers": [container]},
            },
        },
    }

"""Small scenarios that run in a fraction of a second, as plain data and as files."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from simulator.records.results import Results
from simulator.runs import run

SCENARIO: dict[str, Any] = {
    "name": "small",
    "duration": "60s",
    "drain": "2m",
    "seed": 7,
    "engine": {
        "vllm": {
            "model": "meta-llama/Llama-3.1-8B",
            "max-model-len": 2048,
            "max-num-seqs": 8,
            "max-num-batched-tokens": 512,
            "num-gpu-blocks-override": 400,
        },
        "gpu": "H100-SXM",
    },
    "cluster": {"pools": [{"name": "on-demand", "usd_per_gpu_hour": 3.0}]},
    "workload": [
        {
            "name": "chat",
            "arrivals": {"kind": "poisson", "rate": "2/s"},
            "lengths": {
                "kind": "uniform",
                "input": {"min": 1, "max": 600},
                "output": {"min": 1, "max": 60},
            },
        }
    ],
    "slo": {"ttft": "1s", "tpot": "50ms"},
}

HPA: dict[str, Any] = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "hpa"},
    "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "vllm"},
        "minReplicas": 1,
        "maxReplicas": 4,
        "metrics": [
            {
                "type": "Pods",
                "pods": {
                    "metric": {"name": "vllm:num_requests_running"},
                    "target": {"type": "AverageValue", "averageValue": "3"},
                },
            }
        ],
        "behavior": {
            "scaleDown": {
                "stabilizationWindowSeconds": 15,
                "policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}],
            }
        },
    },
}

FAST_START: dict[str, Any] = {
    "process_start": "3s",
    "weights": "2s",
    "compile_cached": "2s",
    "graph_capture": {"min": "1s", "max": "4s"},
}


def merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """A copy of ``base`` with ``change`` put in, mapping by mapping."""
    result = copy.deepcopy(base)
    for key, value in change.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def hpa_text(change: dict[str, Any] | None = None) -> str:
    """`HPA`, changed, as a manifest."""
    return yaml.safe_dump(merged(HPA, change or {}))


def write(folder: Path, change: dict[str, Any] | None = None, *, hpa: dict[str, Any] | None = None) -> Path:
    """Write the small scenario, changed, into a folder; with an autoscaler if ``hpa`` changes `HPA`."""
    data = merged(SCENARIO, change or {})
    if hpa is not None:
        (folder / "hpa.yaml").write_text(hpa_text(hpa))
        data = merged(
            data, {"fleet": {"autoscaling": {"policies": [{"kind": "hpa", "manifest": "hpa.yaml"}]}}}
        )
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def results(folder: Path, change: dict[str, Any] | None = None, **kwargs: Any) -> Results:
    """Run the small scenario, changed."""
    hpa = kwargs.pop("hpa", None)
    return run(write(folder, change, hpa=hpa), **kwargs)

"""A policy of every kind with its files, for the small scenario."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import yaml

from tests import small

SCALED_OBJECT: Final[dict[str, Any]] = {
    "apiVersion": "keda.sh/v1alpha1",
    "kind": "ScaledObject",
    "metadata": {"name": "scaled"},
    "spec": {
        "scaleTargetRef": {"name": "vllm"},
        "minReplicaCount": 1,
        "maxReplicaCount": 4,
        "pollingInterval": 15,
        "triggers": [
            {
                "type": "prometheus",
                "metadata": {
                    "serverAddress": "http://prometheus:9090",
                    "query": "sum(vllm:num_requests_running) + sum(vllm:num_requests_waiting)",
                    "threshold": "3",
                },
            }
        ],
    },
}
KNATIVE: Final[dict[str, Any]] = {
    "apiVersion": "serving.knative.dev/v1",
    "kind": "Service",
    "metadata": {"name": "llm"},
    "spec": {
        "template": {
            "metadata": {
                "annotations": {
                    "autoscaling.knative.dev/target": "4",
                    "autoscaling.knative.dev/min-scale": "1",
                    "autoscaling.knative.dev/max-scale": "4",
                }
            },
            "spec": {"containers": [{"image": "vllm"}]},
        }
    },
}
RAY_SERVE: Final[dict[str, Any]] = {
    "applications": [
        {
            "name": "llm",
            "import_path": "app:app",
            "deployments": [
                {
                    "name": "VLLM",
                    "autoscaling_config": {
                        "min_replicas": 1,
                        "max_replicas": 4,
                        "target_ongoing_requests": 3,
                        "upscale_delay_s": 5,
                    },
                }
            ],
        }
    ]
}
_ENDPOINT: Final = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/llm/variant/all",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}
TARGET: Final = {**_ENDPOINT, "MinCapacity": 1, "MaxCapacity": 4}
TRACKING: Final = {
    **_ENDPOINT,
    "PolicyName": "track",
    "PolicyType": "TargetTrackingScaling",
    "TargetTrackingScalingPolicyConfiguration": {
        "TargetValue": 2.0,
        "PredefinedMetricSpecification": {
            "PredefinedMetricType": "SageMakerVariantConcurrentRequestsPerModelHighResolution"
        },
    },
}
STEP: Final = {
    **_ENDPOINT,
    "PolicyName": "step",
    "PolicyType": "StepScaling",
    "StepScalingPolicyConfiguration": {
        "AdjustmentType": "ChangeInCapacity",
        "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 2}],
        "Cooldown": 60,
    },
}
ALARM: Final = {
    "AlarmName": "busy",
    "MetricName": "ConcurrentRequestsPerModel",
    "Threshold": 2.0,
    "ComparisonOperator": "GreaterThanThreshold",
    "Period": 10,
    "EvaluationPeriods": 1,
}
WVA_CONFIG: Final = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "saturation-scaling-config"},
    "data": {"default": "kvCacheThreshold: 0.10\nqueueLengthThreshold: 5\n"},
}
WVA_METRIC: Final = {
    "type": "External",
    "external": {
        "metric": {"name": "wva_desired_replicas"},
        "target": {"type": "AverageValue", "averageValue": "1"},
    },
}
PLANNER: Final = {
    "mode": "agg",
    "optimization_target": "sla",
    "load_predictor": "kalman",
    "adjustment_interval": 20,
    "ttft": 1000,
    "itl": 50,
    "max_gpu_budget": 4,
}

POLICIES: Final[dict[str, dict[str, Any]]] = {
    "keda": {"manifest": "keda.yaml"},
    "knative": {"manifest": "knative.yaml"},
    "ray-serve": {"config": "serve.yaml"},
    "sagemaker": {
        "target": "target.json",
        "policies": ["tracking.json", "step.json"],
        "alarms": ["alarm.json"],
    },
    "wva": {"manifest": "wva-hpa.yaml", "config": "wva.yaml", "interval": "20s"},
    "dynamo": {"config": "planner.yaml"},
    "forecast": {"history": "curve.csv", "period": "1h", "lead": "20s", "rate_per_replica": "1/s"},
    "standby": {"standby": 2, "target": 4},
    "perfect": {"lead": "30s", "rate_per_replica": "1/s"},
}


def write_files(folder: Path) -> None:
    """All files that `POLICIES` name."""
    for name, data in {
        "keda.yaml": SCALED_OBJECT,
        "knative.yaml": KNATIVE,
        "serve.yaml": RAY_SERVE,
        "wva.yaml": WVA_CONFIG,
        "planner.yaml": PLANNER,
    }.items():
        (folder / name).write_text(yaml.safe_dump(data))
    for name, document in {
        "target.json": TARGET,
        "tracking.json": TRACKING,
        "step.json": STEP,
        "alarm.json": ALARM,
    }.items():
        (folder / name).write_text(json.dumps(document, indent=2))
    (folder / "wva-hpa.yaml").write_text(small.hpa_text({"spec": {"metrics": [WVA_METRIC]}}))
    (folder / "curve.csv").write_text("t_s,rate_per_s\n0,1\n40,3\n90,0.5\n")


def scenario_with(*policies: dict[str, Any]) -> dict[str, Any]:
    """The change of the small scenario that brings these policies, with a start that takes seconds."""
    return {
        "duration": "3m",
        "fleet": {"autoscaling": {"policies": list(policies), "scrape": {"interval": "5s"}}},
        "cluster": {
            "pools": [{"name": "on-demand", "usd_per_gpu_hour": 3.0, "provisioning": "5s"}],
            "cold_start": small.FAST_START,
        },
        "workload": [
            {
                "name": "chat",
                "arrivals": {
                    "kind": "spikes",
                    "mean_rate": "4/s",
                    "peak_factor": 4,
                    "ramp": "5s",
                    "hold": "40s",
                    "times": ["60s"],
                },
                "lengths": {
                    "kind": "uniform",
                    "input": {"min": 1, "max": 600},
                    "output": {"min": 100, "max": 300},
                },
            }
        ],
    }

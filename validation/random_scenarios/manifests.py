"""Manifests and JSON of the autoscalers, as plain data."""

from __future__ import annotations

from random import Random
from typing import Any, Final

_TARGET_REF: Final = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "vllm"}
_QUEUE: Final = "inference_extension_flow_control_queue_size"


def hpa(rng: Random) -> dict[str, Any]:
    """A HorizontalPodAutoscaler on one to three metrics of any type."""
    metrics = [_hpa_metric(rng) for _ in range(rng.randint(1, 3))]
    to_zero = any(metric["type"] in ("Object", "External") for metric in metrics)
    return _hpa_manifest(rng, metrics, rng.choice((0, 1)) if to_zero else 1)


def _hpa_manifest(rng: Random, metrics: list[dict[str, Any]], least: int) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "scaleTargetRef": _TARGET_REF,
        "minReplicas": least,
        "maxReplicas": rng.choice((2, 6)),
        "metrics": metrics,
    }
    behavior = _behavior(rng)
    if behavior is not None:
        spec["behavior"] = behavior
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "hpa"},
        "spec": spec,
    }


def _hpa_metric(rng: Random) -> dict[str, Any]:
    one = rng.choice
    kind = one(("Pods", "Pods", "Resource", "ContainerResource", "Object", "External"))
    average = {"type": "AverageValue", "averageValue": one(("1", "3", "50"))}
    match kind:
        case "Pods":
            name = one(
                (
                    "vllm:num_requests_running",
                    "request_queue_depth",
                    "DCGM_FI_DEV_GPU_TEMP",
                    "DCGM_FI_DEV_SM_CLOCK",
                    "DCGM_FI_DEV_CLOCKS_EVENT_REASONS",
                    "kube_pod_container_status_restarts_total",
                    "gpu_utilization",
                )
            )
            return {"type": kind, "pods": {"metric": {"name": name}, "target": average}}
        case "Resource":
            target = {"type": "Utilization", "averageUtilization": one((30, 90))}
            return {"type": kind, "resource": {"name": "cpu", "target": target}}
        case "ContainerResource":
            target = {"type": "AverageValue", "averageValue": one(("2Gi", "20Gi"))}
            return {
                "type": kind,
                "containerResource": {"name": "memory", "container": "vllm", "target": target},
            }
        case "Object":
            source = {
                "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "gateway"},
                "metric": {"name": "inference_objective_running_requests"},
                "target": one((average, {"type": "Value", "value": "4"})),
            }
            return {"type": kind, "object": source}
        case _:
            source = {
                "metric": {"name": _QUEUE},
                "target": one((average, {"type": "Value", "value": "2"})),
            }
            return {"type": kind, "external": source}


def _behavior(rng: Random) -> dict[str, Any] | None:
    one = rng.choice
    policies: list[dict[str, Any]] = [
        {"type": one(("Pods", "Percent")), "value": one((1, 100)), "periodSeconds": one((5, 15))}
    ]
    return one(
        (
            None,
            {"scaleDown": {"stabilizationWindowSeconds": one((0, 15))}},
            {
                "scaleUp": {"stabilizationWindowSeconds": one((0, 5)), "policies": policies},
                "scaleDown": {
                    "stabilizationWindowSeconds": 0,
                    "selectPolicy": one(("Max", "Min", "Disabled")),
                    "policies": policies,
                },
            },
        )
    )


def scaled_object(rng: Random) -> dict[str, Any]:
    """A ScaledObject with prometheus and cron triggers, to zero and back; one query in part of them fails."""
    one = rng.choice
    queries = (
        "sum(vllm:num_requests_running) + sum(vllm:num_requests_waiting)",
        "sum(rate(vllm:generation_tokens_total[20s])) / 50",
        "histogram_quantile(0.9, sum by (le) (rate(vllm:time_to_first_token_seconds_bucket[20s])))",
        "vllm:num_requests_waiting",
        _QUEUE,
    )
    triggers: list[dict[str, Any]] = [
        {
            "type": "prometheus",
            "metricType": one(("AverageValue", "Value")),
            "useCachedMetrics": one((True, False)),
            "metadata": {
                "serverAddress": "http://prometheus:9090",
                "query": query,
                "threshold": one(("1", "4")),
                "activationThreshold": one(("0", "2")),
                "ignoreNullValues": one(("true", "false")),
            },
        }
        for query in rng.sample(queries, rng.randint(1, 2))
    ]
    if rng.random() < 0.3:
        triggers.append(
            {
                "type": "cron",
                "metadata": {
                    "timezone": "Europe/Berlin",
                    "start": "0 8 * * *",
                    "end": "1 8 * * *",
                    "desiredReplicas": "3",
                },
            }
        )
    least = one((0, 0, 1, 2))
    spec: dict[str, Any] = {
        "scaleTargetRef": {"name": "vllm"},
        "minReplicaCount": least,
        "maxReplicaCount": one((2, 5)),
        "pollingInterval": one((2, 10)),
        "cooldownPeriod": one((5, 30)),
        "triggers": triggers,
    }
    if least == 2 and rng.random() < 0.5:
        spec["idleReplicaCount"] = one((0, 1))
    if rng.random() < 0.5:
        spec["fallback"] = {
            "failureThreshold": one((1, 3)),
            "replicas": one((0, 3)),
            "behavior": one(
                ("static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower")
            ),
        }
    behavior = _behavior(rng)
    if behavior is not None:
        spec["advanced"] = {"horizontalPodAutoscalerConfig": {"behavior": behavior}}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "scaled", "annotations": _pause(rng)},
        "spec": spec,
    }


def _pause(rng: Random) -> dict[str, str]:
    """What an operator's annotations pause or force, in a fifth of the ScaledObjects."""
    if rng.random() < 0.8:
        return {}
    key, value = rng.choice(
        (
            ("paused", "true"),
            ("paused-replicas", "2"),
            ("paused-scale-in", "true"),
            ("paused-scale-out", "true"),
            ("force-activation", "true"),
        )
    )
    return {f"autoscaling.keda.sh/{key}": value}


def knative(rng: Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """A Knative Service, and config-autoscaler."""
    one = rng.choice
    annotations = {
        "metric": one(("concurrency", "rps")),
        "target": one(("2", "8")),
        "min-scale": one(("0", "0", "1")),
        "max-scale": one(("0", "5")),
        "window": one(("10s", "60s")),
        "scale-down-delay": one(("0s", "10s")),
        "activation-scale": one(("1", "2")),
        "initial-scale": one(("0", "1", "3")),
    }
    service = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "llm"},
        "spec": {
            "template": {
                "metadata": {
                    "annotations": {
                        f"autoscaling.knative.dev/{key}": value for key, value in annotations.items()
                    }
                },
                "spec": {"containerConcurrency": one((0, 10)), "containers": [{"image": "vllm"}]},
            }
        },
    }
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "config-autoscaler"},
        "data": {
            "scale-to-zero-grace-period": one(("6s", "30s")),
            "scale-to-zero-pod-retention-period": one(("0s", "10s")),
            "enable-scale-to-zero": one(("true", "true", "false")),
            "panic-threshold-percentage": one(("120.0", "200.0")),
            "max-scale-up-rate": one(("2.0", "1000.0")),
            "allow-zero-initial-scale": "true",
        },
    }
    return service, config


def ray_serve(rng: Random) -> dict[str, Any]:
    """A Serve config file."""
    one = rng.choice
    settings: dict[str, Any] = {
        "min_replicas": one((0, 1, 2)),
        "max_replicas": one((2, 6)),
        "target_ongoing_requests": one((1, 4)),
        "metrics_interval_s": one((1, 5)),
        "look_back_period_s": one((5, 15)),
        "upscale_delay_s": one((0, 5)),
        "downscale_delay_s": one((0, 15)),
        "downscale_to_zero_delay_s": one((None, 5)),
        "upscaling_factor": one((None, 0.5)),
    }
    deployment = {"name": "VLLM", "autoscaling_config": settings}
    return {"applications": [{"name": "llm", "import_path": "app:app", "deployments": [deployment]}]}


def sagemaker(rng: Random) -> dict[str, dict[str, Any]]:
    """Documents of a scalable target with target tracking, step scaling or both, by file name."""
    one = rng.choice
    of = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": "endpoint/llm/variant/all",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    documents: dict[str, dict[str, Any]] = {
        "target.json": {**of, "MinCapacity": one((0, 1)), "MaxCapacity": one((2, 6))}
    }
    cooldown = one((0, 20))
    steps = rng.random() < 0.6
    if not steps or rng.random() < 0.5:
        metric = one(
            (
                "SageMakerVariantConcurrentRequestsPerModelHighResolution",
                "SageMakerVariantInvocationsPerInstance",
            )
        )
        documents["policy-track.json"] = {
            **of,
            "PolicyName": "track",
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingScalingPolicyConfiguration": {
                "TargetValue": one((1.0, 5.0)),
                "PredefinedMetricSpecification": {"PredefinedMetricType": metric},
                "ScaleOutCooldown": cooldown,
                "ScaleInCooldown": cooldown,
                "DisableScaleIn": one((True, False)),
            },
        }
    if steps:
        above = {"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": one((1, 2, -1))}
        documents["policy-step.json"] = {
            **of,
            "PolicyName": "step",
            "PolicyType": "StepScaling",
            "StepScalingPolicyConfiguration": {
                "AdjustmentType": one(("ChangeInCapacity", "PercentChangeInCapacity", "ExactCapacity")),
                "StepAdjustments": [above],
                "Cooldown": cooldown,
            },
        }
        documents["alarm.json"] = {
            "AlarmName": "busy",
            "MetricName": one(("ConcurrentRequestsPerModel", "NoCapacityInvocationFailures")),
            "Threshold": one((0.0, 2.0)),
            "ComparisonOperator": one(("GreaterThanThreshold", "LessThanOrEqualToThreshold")),
            "Period": 10,
            "EvaluationPeriods": one((1, 2)),
            "TreatMissingData": one(("missing", "breaching", "notBreaching", "ignore")),
        }
    return documents


def wva(rng: Random) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The HPA that follows llm-d's variant autoscaler, its thresholds, and its scaling to zero."""
    one = rng.choice
    metric = {
        "type": "External",
        "external": {
            "metric": {"name": one(("wva_desired_replicas", "inferno_desired_replicas"))},
            "target": {"type": "AverageValue", "averageValue": "1"},
        },
    }
    thresholds = f"kvCacheThreshold: {one((0.1, 0.8))}\nqueueLengthThreshold: {one((1, 5))}\n"
    if rng.random() < 0.4:
        thresholds += (
            f"analyzerName: saturation\nscaleUpThreshold: {one((0.3, 0.85))}\nscaleDownBoundary: 0.2\n"
        )
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "saturation-scaling-config"},
        "data": {"default": thresholds},
    }
    zero = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "model-scale-to-zero-config"},
        "data": {"default": f"enable_scale_to_zero: true\nretention_period: {one(('10s', '30s'))}"},
    }
    return _hpa_manifest(rng, [metric], one((0, 1))), config, zero

"""Application Auto Scaling's JSON: a scalable target, its policies, and the alarms of step policies.

The documents are what ``aws application-autoscaling register-scalable-target``, ``put-scaling-policy`` and ``aws
cloudwatch put-metric-alarm`` take with ``--cli-input-json``. Source: AWS, API references of Application Auto Scaling
and CloudWatch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_pascal

from simulator.autoscaling.sagemaker import Alarm, Policy, StepAdjustment, StepScaling, TargetTracking
from simulator.scenario.errors import ScenarioError
from simulator.scenario.validation import validate
from simulator.scenario.yaml_source import YamlSource
from simulator.units import PS_PER_S

Metric = Literal["invocations-per-instance", "concurrency-per-instance", "no-capacity-failures"]
"""What can be computed: one-minute invocations or 10 s concurrent requests, each per instance; requests that come while
no instance is there."""

_PREDEFINED: Final[dict[str, Metric]] = {
    "SageMakerVariantInvocationsPerInstance": "invocations-per-instance",
    "SageMakerInferenceComponentInvocationsPerCopy": "invocations-per-instance",
    "SageMakerVariantConcurrentRequestsPerModelHighResolution": "concurrency-per-instance",
    "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution": "concurrency-per-instance",
}
_CLOUDWATCH: Final[dict[str, Metric]] = {
    "InvocationsPerInstance": "invocations-per-instance",
    "InvocationsPerCopy": "invocations-per-instance",
    "ConcurrentRequestsPerModel": "concurrency-per-instance",
    "ConcurrentRequestsPerCopy": "concurrency-per-instance",
    "NoCapacityInvocationFailures": "no-capacity-failures",
}
_HIGH_RESOLUTION_S: Final = 10


class _Document(BaseModel):
    model_config = ConfigDict(alias_generator=to_pascal, extra="forbid", frozen=True)


class _Target(_Document):
    service_namespace: Literal["sagemaker"]
    resource_id: str
    scalable_dimension: Literal[
        "sagemaker:variant:DesiredInstanceCount", "sagemaker:inference-component:DesiredCopyCount"
    ]
    min_capacity: Annotated[int, Field(ge=0)]
    max_capacity: Annotated[int, Field(ge=1)]
    role_arn: Annotated[str | None, Field(alias="RoleARN")] = None
    suspended_state: dict[str, Any] | None = None
    tags: Any = None

    @model_validator(mode="after")
    def _limits(self) -> Self:
        if self.max_capacity < self.min_capacity:
            raise ValueError(f"MaxCapacity ({self.max_capacity}) is below MinCapacity ({self.min_capacity})")
        return self


class _PredefinedMetric(_Document):
    predefined_metric_type: str
    resource_label: str | None = None


class _CustomizedMetric(_Document):
    metric_name: str
    namespace: str | None = None
    dimensions: list[dict[str, str]] = []
    statistic: str | None = None
    unit: str | None = None


class _TargetTracking(_Document):
    target_value: Annotated[float, Field(gt=0)]
    predefined_metric_specification: _PredefinedMetric | None = None
    customized_metric_specification: _CustomizedMetric | None = None
    scale_out_cooldown: Annotated[int, Field(ge=0)] = 300
    scale_in_cooldown: Annotated[int, Field(ge=0)] = 300
    disable_scale_in: bool = False

    @model_validator(mode="after")
    def _one_metric(self) -> Self:
        if (self.predefined_metric_specification is None) == (self.customized_metric_specification is None):
            raise ValueError("give one of PredefinedMetricSpecification and CustomizedMetricSpecification")
        return self


class _Step(_Document):
    scaling_adjustment: int
    metric_interval_lower_bound: float | None = None
    metric_interval_upper_bound: float | None = None


class _StepScaling(_Document):
    adjustment_type: Literal["ChangeInCapacity", "PercentChangeInCapacity", "ExactCapacity"]
    step_adjustments: Annotated[list[_Step], Field(min_length=1)]
    min_adjustment_magnitude: Annotated[int, Field(ge=0)] = 0
    cooldown: Annotated[int, Field(ge=0)] = 300
    metric_aggregation_type: Literal["Average", "Minimum", "Maximum"] = "Average"


class _PolicyDocument(_Document):
    policy_name: str
    service_namespace: Literal["sagemaker"]
    resource_id: str
    scalable_dimension: str
    policy_type: Literal["TargetTrackingScaling", "StepScaling"]
    target_tracking_scaling_policy_configuration: _TargetTracking | None = None
    step_scaling_policy_configuration: _StepScaling | None = None

    @model_validator(mode="after")
    def _has_its_configuration(self) -> Self:
        tracks = self.policy_type == "TargetTrackingScaling"
        tracking = self.target_tracking_scaling_policy_configuration is not None
        stepping = self.step_scaling_policy_configuration is not None
        if tracking != tracks or stepping == tracks:
            raise ValueError(f"a {self.policy_type} policy takes {self.policy_type}PolicyConfiguration alone")
        return self


class _AlarmDocument(BaseModel):
    model_config = ConfigDict(alias_generator=to_pascal, extra="ignore", frozen=True)

    alarm_name: str
    metric_name: str
    threshold: float
    comparison_operator: Literal[
        "GreaterThanThreshold",
        "GreaterThanOrEqualToThreshold",
        "LessThanThreshold",
        "LessThanOrEqualToThreshold",
    ]
    period: Literal[10, 60]
    evaluation_periods: Annotated[int, Field(ge=1)]
    datapoints_to_alarm: Annotated[int, Field(ge=1)] | None = None
    treat_missing_data: Literal["missing", "breaching", "notBreaching", "ignore"] = "missing"

    @model_validator(mode="after")
    def _counts(self) -> Self:
        if self.datapoints_to_alarm is not None and self.datapoints_to_alarm > self.evaluation_periods:
            raise ValueError("DatapointsToAlarm is above EvaluationPeriods")
        return self


@dataclass(frozen=True)
class SourcedPolicy:
    """A policy, what its alarms read, and over which periods."""

    policy: Policy
    metric: Metric
    period_s: int


@dataclass(frozen=True)
class ScalableTarget:
    """An endpoint variant (or inference component) that scales."""

    resource_id: str
    min_capacity: int
    max_capacity: int
    policies: tuple[SourcedPolicy, ...]


D = TypeVar("D", bound=BaseModel)


def _read(path: Path, model: type[D]) -> tuple[D, YamlSource]:
    source = YamlSource(path)  # JSON is YAML, and this knows the lines
    return validate(model, source.data, source), source


def _metric(name: str, known: dict[str, Metric], source: YamlSource, *key: str) -> Metric:
    if name not in known:
        raise ScenarioError(
            f"the metric {name!r} is not modelled; {', '.join(known)} are",
            file=source.where(key),
            key=".".join(key),
        )
    return known[name]


def load_scalable_target(path: Path, policies: Sequence[Path], alarms: Sequence[Path]) -> ScalableTarget:
    """A scalable target with its policies.

    Args:
        path: the target's document.
        policies: the policies' documents.
        alarms: the step policies' alarms, in their order.

    Raises:
        ScenarioError: names the file, the key and what was expected.
    """
    target, _ = _read(path, _Target)
    documents = [_read(policy, _PolicyDocument) for policy in policies]
    steps = [document for document, _ in documents if document.policy_type == "StepScaling"]
    if len(alarms) != len(steps):
        raise ScenarioError(
            f"{len(steps)} step policies need as many alarms, {len(alarms)} are named", file=str(path)
        )
    remaining = list(alarms)
    sourced = []
    for document, source in documents:
        if document.resource_id != target.resource_id:
            raise ScenarioError(
                f"expected the scalable target's {target.resource_id!r}, got {document.resource_id!r}",
                file=source.where(["ResourceId"]),
                key="ResourceId",
            )
        sourced.append(_sourced(document, source, remaining))
    return ScalableTarget(target.resource_id, target.min_capacity, target.max_capacity, tuple(sourced))


def _sourced(document: _PolicyDocument, source: YamlSource, alarms: list[Path]) -> SourcedPolicy:
    tracking = document.target_tracking_scaling_policy_configuration
    if tracking is not None:
        section = "TargetTrackingScalingPolicyConfiguration"
        predefined, customized = (
            tracking.predefined_metric_specification,
            tracking.customized_metric_specification,
        )
        if predefined is not None:
            place = (section, "PredefinedMetricSpecification", "PredefinedMetricType")
            metric = _metric(predefined.predefined_metric_type, _PREDEFINED, source, *place)
        else:
            assert customized is not None
            place = (section, "CustomizedMetricSpecification", "MetricName")
            metric = _metric(customized.metric_name, _CLOUDWATCH, source, *place)
        policy = TargetTracking(
            document.policy_name,
            tracking.target_value,
            tracking.scale_out_cooldown * PS_PER_S,
            tracking.scale_in_cooldown * PS_PER_S,
            tracking.disable_scale_in,
        )
        high_resolution = metric == "concurrency-per-instance"
        if high_resolution:
            # The alarms of high-resolution metrics are not published; the same number of 10 s periods for scale-out,
            # the same 15 minutes for scale-in.
            policy = replace(policy, periods_low=90)
        return SourcedPolicy(policy, metric, _HIGH_RESOLUTION_S if high_resolution else 60)
    stepping = document.step_scaling_policy_configuration
    assert stepping is not None
    alarm, alarm_source = _read(alarms.pop(0), _AlarmDocument)
    metric = _metric(alarm.metric_name, _CLOUDWATCH, alarm_source, "MetricName")
    return SourcedPolicy(
        StepScaling(
            document.policy_name,
            Alarm(
                alarm.threshold,
                alarm.comparison_operator,
                alarm.evaluation_periods,
                alarm.datapoints_to_alarm or alarm.evaluation_periods,
                alarm.treat_missing_data,
            ),
            tuple(
                StepAdjustment(
                    s.scaling_adjustment, s.metric_interval_lower_bound, s.metric_interval_upper_bound
                )
                for s in stepping.step_adjustments
            ),
            stepping.adjustment_type,
            stepping.min_adjustment_magnitude,
            stepping.cooldown * PS_PER_S,
        ),
        metric,
        alarm.period,
    )

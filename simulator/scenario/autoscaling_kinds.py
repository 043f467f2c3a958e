"""The autoscalers beside the plain HPA, each with the file that its users have; and those that have none.

What a file does not say, since it belongs to the system around it, is said here, with that system's defaults.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from simulator.scenario.quantities import DurationS, Fraction, PositiveDurationS, PositiveRatePerS, Section
from simulator.scenario.spread import Spread, SpreadS


def _with_zone(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError("expected a time with its zone, such as 2026-01-05T08:00:00+01:00")
    return at


class HpaController(Section):
    """The kube-controller-manager that runs a HorizontalPodAutoscaler."""

    version: str = "1.37"
    """Kubernetes release whose controller decides, 1.23 to 1.37."""
    sync_period: PositiveDurationS = 15.0
    """--horizontal-pod-autoscaler-sync-period."""
    pass_duration: SpreadS = Spread(min=0.01, max=0.05)
    """How long one pass of the controller takes (our estimate). The next begins a sync period after its end, so
    passes drift against 15 s policy periods, as real ones do."""
    tolerance: Fraction = 0.1
    """--horizontal-pod-autoscaler-tolerance."""
    downscale_stabilization: DurationS = 300.0
    """--horizontal-pod-autoscaler-downscale-stabilization."""
    cpu_initialization_period: DurationS = 300.0
    """--horizontal-pod-autoscaler-cpu-initialization-period."""
    initial_readiness_delay: DurationS = 30.0
    """--horizontal-pod-autoscaler-initial-readiness-delay."""
    scale_to_zero: bool | None = None
    """Feature gate HPAScaleToZero; unless given, as in the release (on from 1.37)."""
    configurable_tolerance: bool | None = None
    """Feature gate HPAConfigurableTolerance; unless given, as in the release (on from 1.35)."""


class KedaPolicy(Section):
    """A KEDA ScaledObject: the operator between 0 and 1, and the HPA that it creates above."""

    kind: Literal["keda"]
    name: str | None = None
    """Name in events; the manifest's unless given."""
    manifest: str
    """Path of a keda.sh/v1alpha1 ScaledObject manifest, relative to the scenario."""
    starts_at: Annotated[datetime, AfterValidator(_with_zone)] | None = None
    """Wall-clock time at the run's start, with its zone; needed by cron triggers."""
    hpa: HpaController = HpaController()


class KnativePolicy(Section):
    """Knative's pod autoscaler (KPA)."""

    kind: Literal["knative"]
    name: str | None = None
    """Name in events; the manifest's unless given."""
    manifest: str
    """Path of a serving.knative.dev/v1 Service with its autoscaling annotations, relative to the scenario."""
    config: str | None = None
    """Path of the ConfigMap config-autoscaler; its defaults without one."""
    activator: DurationS = 0.0
    """From an inactive revision until the activator answers for it; the last pod stays so long at least (our
    assumption: at once)."""


class RayServePolicy(Section):
    """Ray Serve's autoscaling of one deployment."""

    kind: Literal["ray-serve"]
    name: str | None = None
    """Name in events; the deployment's unless given."""
    config: str
    """Path of a Serve config file (YAML), relative to the scenario."""
    deployment: str | None = None
    """Which deployment of it; may be left out where only one has an autoscaling_config."""


class SageMakerPolicy(Section):
    """Application Auto Scaling of a SageMaker endpoint variant or inference component."""

    kind: Literal["sagemaker"]
    name: str | None = None
    """Name in events; the first policy's unless given."""
    target: str
    """Path of the JSON given to ``register-scalable-target``, relative to the scenario."""
    policies: Annotated[list[str], Field(min_length=1)]
    """Paths of the JSON given to ``put-scaling-policy``; a step policy's alarm is a ``put-metric-alarm`` document."""
    alarms: list[str] = Field(default_factory=list)
    """Paths of the alarms' JSON, for step policies: one each, in the order of the step policies."""
    delivery: DurationS = 60.0
    """From the end of a period until its value can be evaluated, one-minute metrics (users see about a minute)."""
    delivery_high_resolution: DurationS = 10.0
    """The same for the 10 s metrics (our assumption)."""


class WvaPolicy(Section):
    """llm-d's workload variant autoscaler in saturation mode, and the HPA that follows what it publishes."""

    kind: Literal["wva"]
    name: str | None = None
    """Name in events; the HPA manifest's unless given."""
    manifest: str
    """Path of the HPA manifest, with an External metric wva_desired_replicas (or inferno_desired_replicas)."""
    config: str | None = None
    """Path of the saturation-scaling ConfigMap; its defaults without one."""
    scale_to_zero: str | None = None
    """Path of the model-scale-to-zero ConfigMap; without one an idle model keeps a replica."""
    interval: PositiveDurationS = 30.0
    """Between passes of the saturation engine."""
    metric_delay: DurationS = 15.0
    """From a published number until the HPA can read it: a scrape and the adapter."""
    hpa: HpaController = HpaController()


class DynamoPolicy(Section):
    """NVIDIA Dynamo's planner for aggregated engines: by predicted throughput, or by the engines' KV load."""

    kind: Literal["dynamo"]
    name: str | None = None
    """Name in events; the kind unless given."""
    config: str
    """Path of the PlannerConfig (YAML or JSON), relative to the scenario."""


class ForecastPolicy(Section):
    """A floor from last period's curve, looked up one cold start ahead."""

    kind: Literal["forecast"]
    name: str | None = None
    """Name in events; the kind unless given."""
    history: str
    """Path of a CSV file with the columns ``t_s,rate_per_s``: the curve, a step function, from 0 on."""
    period: PositiveDurationS = 604800.0
    """After which the curve repeats; a week unless given."""
    offset: DurationS = 0.0
    """Place of the run's start in the period."""
    lead: DurationS
    """How far to look ahead: from an order to a ready replica."""
    rate_per_replica: PositiveRatePerS
    """What one replica serves within the SLO."""
    margin: Annotated[float, Field(ge=0)] = 0.0
    """Added share of the rate."""
    interval: PositiveDurationS = 15.0
    """Between looks."""
    min_replicas: Annotated[int, Field(ge=0)] = 0
    """Least floor."""
    max_replicas: Annotated[int, Field(ge=1)] = 1000
    """Largest floor."""


class StandbyPolicy(Section):
    """A floor of some ready replicas more than the load needs: a warm standby pool."""

    kind: Literal["standby"]
    name: str | None = None
    """Name in events; the kind unless given."""
    standby: Annotated[int, Field(ge=0)]
    """Replicas beyond the need."""
    query: str = "sum(vllm:num_requests_running) + sum(vllm:num_requests_waiting)"
    """PromQL of the load; adding replicas must not lower it."""
    target: Annotated[float, Field(gt=0)]
    """Load that one replica takes."""
    interval: PositiveDurationS = 15.0
    """Between looks."""
    stabilization: DurationS = 300.0
    """How long a larger floor holds."""
    max_replicas: Annotated[int, Field(ge=1)] = 1000
    """Largest floor."""


class PerfectPolicy(Section):
    """The perfect autoscaler, which knows every arrival and the cold start: what others are measured against."""

    kind: Literal["perfect"]
    name: str | None = None
    """Name in events; the kind unless given."""
    lead: DurationS
    """From an order to a ready replica: the cold start, as long as it may take."""
    window: PositiveDurationS = 5.0
    """Capacity must suffice for the arrivals of every window of this length."""
    rate_per_replica: PositiveRatePerS | None = None
    """What one replica serves within the SLO; unless given, from the step times at the workload's mean lengths and
    the SLO's TTFT and TPOT, at full load, which leaves no room for chance."""
    tail: DurationS = 0.0
    """What is paid for after a release: preStop, drain, empty node."""
    min_replicas: Annotated[int, Field(ge=0)] = 1
    """Lower limit."""
    max_replicas: Annotated[int, Field(ge=1)] = 1000
    """Upper limit."""

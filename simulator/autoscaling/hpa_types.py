"""What the HorizontalPodAutoscaler's controller sees, remembers and answers. All values are frozen.

Times are integer picoseconds; metric values and requests are integer milli-units, as the controller holds them.
The API keeps pod times to the second: who fills a snapshot should round `Pod.start_ps` and
`ReadyCondition.last_transition_ps` down to whole seconds to be as blind as the real controller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from simulator.autoscaling.hpa_controller import HpaController
from simulator.autoscaling.hpa_spec import HpaSpec

PodPhase = Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"]


@dataclass(frozen=True, slots=True)
class ReadyCondition:
    """A pod's Ready condition: ``status`` is ``True``, ``False`` or ``Unknown``."""

    status: Literal["True", "False", "Unknown"]
    last_transition_ps: int = 0


@dataclass(frozen=True, slots=True)
class Container:
    """A container's resource requests in milli-units, by resource name."""

    name: str
    requests_milli: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that the target's selector matches.

    Attributes:
        name: unique among the pods of the target.
        phase: the pod's phase.
        deletion_ps: deletionTimestamp; None while nobody has asked for its deletion.
        start_ps: status.startTime; None until the kubelet has accepted the pod.
        ready: the Ready condition; None until there is one.
        containers: the pod's containers.
        sidecars: init containers with restartPolicy Always; their requests count.
        pod_requests_milli: requests at the pod level (spec.resources); None if not set.
    """

    name: str
    phase: PodPhase = "Running"
    deletion_ps: int | None = None
    start_ps: int | None = None
    ready: ReadyCondition | None = None
    containers: tuple[Container, ...] = ()
    sidecars: tuple[Container, ...] = ()
    pod_requests_milli: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One pod's value of one metric.

    Attributes:
        value_milli: the value in milli-units.
        timestamp_ps: when the window ended.
        window_ps: how long the value was averaged over.
    """

    value_milli: int
    timestamp_ps: int = 0
    window_ps: int = 0


@dataclass(frozen=True, slots=True)
class PodSamples:
    """Reading of a Pods metric, or of a (Container)Resource metric already summed; by pod name."""

    samples: Mapping[str, Sample]


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    """One pod's entry in the resource metrics API: usage by container name, then by resource, in milli-units."""

    containers: Mapping[str, Mapping[str, int]]
    timestamp_ps: int = 0
    window_ps: int = 0


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """Reading of a Resource or ContainerResource metric as the resource metrics API has it; by pod name."""

    pods: Mapping[str, ContainerUsage]


@dataclass(frozen=True, slots=True)
class ObjectValue:
    """Reading of an Object metric."""

    value_milli: int


@dataclass(frozen=True, slots=True)
class ExternalValues:
    """Reading of an External metric: one value for each series returned."""

    values_milli: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MetricError:
    """The metrics API, or the metric's own selector, failed."""

    message: str


Reading: TypeAlias = PodSamples | ResourceUsage | ObjectValue | ExternalValues | MetricError


@dataclass(frozen=True, slots=True)
class Scale:
    """The target's scale subresource.

    Attributes:
        spec_replicas: what the target is asked to have.
        status_replicas: what it has.
        selector_problem: why its pods cannot be told; None if they can.
        selector_message: the problem in words.
    """

    spec_replicas: int
    status_replicas: int
    selector_problem: Literal["missing", "unparsable", "ambiguous"] | None = None
    selector_message: str = ""


@dataclass(frozen=True, slots=True)
class ScaleError:
    """The scale subresource could not be read."""

    message: str


@dataclass(frozen=True, slots=True)
class HpaSnapshot:
    """All that one pass looks at.

    Attributes:
        spec: the autoscaler.
        scale: the target's scale, or why it could not be read.
        pods: the pods that the target's selector matches.
        readings: one for each entry of ``spec.metrics``, in its order.
        controller: who decides.
    """

    spec: HpaSpec
    scale: Scale | ScaleError
    pods: tuple[Pod, ...] = ()
    readings: tuple[Reading, ...] = ()
    controller: HpaController = field(default_factory=HpaController)


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A raw proposal and when it was made."""

    replicas: int
    timestamp_ps: int


@dataclass(frozen=True, slots=True)
class ScaleEvent:
    """A change of size that the controller made: how many replicas, always positive."""

    change: int
    timestamp_ps: int
    outdated: bool = False


ConditionType = Literal["AbleToScale", "ScalingActive", "ScalingLimited", "ScaledToZero"]


@dataclass(frozen=True, slots=True)
class Condition:
    """A status condition; ``last_transition_ps`` moves only when ``status`` changes."""

    type: ConditionType
    status: bool
    reason: str
    message: str
    last_transition_ps: int


def with_condition(
    conditions: tuple[Condition, ...], kind: ConditionType, status: bool, reason: str, message: str, now: int
) -> tuple[Condition, ...]:
    """The conditions with one set: in its place if it was there, else at the end."""
    for index, old in enumerate(conditions):
        if old.type == kind:
            if old.status == status and old.reason == reason and old.message == message:
                return conditions
            since = old.last_transition_ps if old.status == status else now
            new = Condition(kind, status, reason, message, since)
            return (*conditions[:index], new, *conditions[index + 1 :])
    return (*conditions, Condition(kind, status, reason, message, now))


@dataclass(frozen=True, slots=True)
class MetricStatus:
    """An entry of status.currentMetrics; what does not apply is None.

    Attributes:
        type: as in the spec.
        name: as in the spec.
        value_milli: the current value.
        average_value_milli: the current value per pod.
        average_utilization_percent: the current usage in per cent of the requests.
    """

    type: str
    name: str
    value_milli: int | None = None
    average_value_milli: int | None = None
    average_utilization_percent: int | None = None


@dataclass(frozen=True, slots=True)
class MetricProposal:
    """What one metric asks for: ``replicas``, or None and the ``error`` with the condition ``reason``."""

    type: str
    name: str
    description: str
    replicas: int | None
    status: MetricStatus | None = None
    error: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class HpaEvent:
    """An event as ``kubectl describe`` shows it."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class HpaState:
    """What the controller remembers between passes, in memory and in the object's status.

    Attributes:
        recommendations: the log of raw proposals, in slot order; None before the first pass and after a restart.
        scale_up_events: increases that the controller made, in slot order.
        scale_down_events: decreases, likewise.
        conditions: status.conditions, in the order in which they were first set.
        current_replicas: status.currentReplicas.
        desired_replicas: status.desiredReplicas.
        last_scale_ps: status.lastScaleTime; no decision reads it.
        current_metrics: status.currentMetrics.
    """

    recommendations: tuple[Recommendation, ...] | None = None
    scale_up_events: tuple[ScaleEvent, ...] = ()
    scale_down_events: tuple[ScaleEvent, ...] = ()
    conditions: tuple[Condition, ...] = ()
    current_replicas: int = 0
    desired_replicas: int = 0
    last_scale_ps: int | None = None
    current_metrics: tuple[MetricStatus, ...] = ()

    def condition(self, kind: ConditionType) -> Condition | None:
        return next((c for c in self.conditions if c.type == kind), None)


@dataclass(frozen=True, slots=True)
class HpaDecision:
    """The outcome of a pass, before the new size is written.

    Attributes:
        desired_replicas: the size that the target should have; None if the pass was abandoned.
        current_replicas: scale.spec.replicas; None if the scale could not be read.
        rescale: whether to write `desired_replicas`; then hand the outcome to `record_write`.
        reason: why the size changes, in the controller's words; empty if it does not.
        proposals: one for each metric that was evaluated, in the spec's order.
        proposed_replicas: the largest proposal, before stabilisation; None if no metrics were used.
        stabilized_replicas: after stabilisation, before limits; likewise.
        stabilized_by: ``ScaleUpStabilized`` or ``ScaleDownStabilized`` if stabilisation changed the proposal.
        limited_by: ``TooManyReplicas``, ``TooFewReplicas``, ``ScaleUpLimit`` or ``ScaleDownLimit`` if a limit did.
        current_metrics: what the metrics read, for the status.
        conditions: the conditions after the decision.
        events: warnings that the pass raised.
        text: one line for a person.
    """

    desired_replicas: int | None
    current_replicas: int | None
    rescale: bool
    reason: str = ""
    proposals: tuple[MetricProposal, ...] = ()
    proposed_replicas: int | None = None
    stabilized_replicas: int | None = None
    stabilized_by: str = ""
    limited_by: str = ""
    current_metrics: tuple[MetricStatus, ...] = ()
    conditions: tuple[Condition, ...] = ()
    events: tuple[HpaEvent, ...] = ()
    text: str = ""

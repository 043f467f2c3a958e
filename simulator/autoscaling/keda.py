"""KEDA's part of a ScaledObject: the operator loop between 0 and 1, and the metrics that its HPA reads.

`decide` is one poll of the operator, which only activates and deactivates the target; between 1 and N the HPA that
KEDA creates (`hpa_spec_of`) decides, by `simulator.autoscaling.hpa`. `read_trigger` is what KEDA's metrics server
answers that HPA, fallback included.

Source: kedacore/keda@8b4f083c, pkg/scaling/executor/scale_scaledobjects.go (operator), pkg/fallback/fallback.go
(fallback), controllers/keda/hpa.go (the HPA), controllers/keda/scaledobject_controller.go (pausing),
apis/keda/v1alpha1/scaledobject_types.go (fields).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from simulator.autoscaling.decision import Decision
from simulator.autoscaling.hpa_spec import Behavior, HpaSpec, MetricSpec, MetricTarget, ScalingRules
from simulator.autoscaling.hpa_types import ExternalValues, MetricError
from simulator.units import PS_PER_S

FallbackBehavior = Literal["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"]


@dataclass(frozen=True, slots=True)
class Trigger:
    """One entry of ``spec.triggers``.

    Attributes:
        name: of the metric, as the HPA sees it (``s0-prometheus``).
        threshold_milli: target of the HPA's metric, milli-units.
        activation_threshold: the trigger is active above this.
        metric_type: how the HPA compares: per pod, or as a whole.
    """

    name: str
    threshold_milli: int
    activation_threshold: float = 0.0
    metric_type: Literal["AverageValue", "Value"] = "AverageValue"


@dataclass(frozen=True, slots=True)
class Fallback:
    """``spec.fallback``: what is reported after more than ``failure_threshold`` failed reads in a row."""

    failure_threshold: int
    replicas: int
    behavior: FallbackBehavior = "static"


@dataclass(frozen=True, slots=True)
class Pause:
    """The annotations autoscaling.keda.sh/….

    Attributes:
        paused: no polls and no HPA (``paused``, or ``paused-replicas``).
        replicas: the size that it is set to first (``paused-replicas``); None leaves it.
        scale_in: nothing gets smaller (``paused-scale-in``).
        scale_out: nothing gets larger (``paused-scale-out``).
        force_activation: taken for active whatever the triggers say (``force-activation``).
    """

    paused: bool = False
    replicas: int | None = None
    scale_in: bool = False
    scale_out: bool = False
    force_activation: bool = False


@dataclass(frozen=True, slots=True)
class KedaSpec:
    """A ScaledObject.

    Attributes:
        triggers: at least one.
        min_replicas: minReplicaCount.
        max_replicas: maxReplicaCount.
        idle_replicas: idleReplicaCount; None if not set.
        polling_interval_ps: between polls of the operator.
        cooldown_ps: cooldownPeriod, from the last active poll to 0 (or idle).
        initial_cooldown_ps: initialCooldownPeriod, from creation, while the target was never active.
        fallback: None if not set.
        behavior: advanced.horizontalPodAutoscalerConfig.behavior.
        pause: the annotations that pause it.
    """

    triggers: tuple[Trigger, ...]
    min_replicas: int = 0
    max_replicas: int = 100
    idle_replicas: int | None = None
    polling_interval_ps: int = 30 * PS_PER_S
    cooldown_ps: int = 300 * PS_PER_S
    initial_cooldown_ps: int = 0
    fallback: Fallback | None = None
    behavior: Behavior | None = None
    pause: Pause = field(default_factory=Pause)


@dataclass(frozen=True, slots=True)
class KedaState:
    """What KEDA keeps in the ScaledObject's status.

    Attributes:
        created_ps: creation of the ScaledObject.
        last_active_ps: lastActiveTime; None while it was never active.
        failures: failed reads in a row, by trigger; empty before the first read.
    """

    created_ps: int = 0
    last_active_ps: int | None = None
    failures: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class KedaSnapshot:
    """What a poll sees.

    Attributes:
        spec: the ScaledObject.
        values: the triggers' values, in their order; None for a trigger in error.
        replicas: spec.replicas of the target.
    """

    spec: KedaSpec
    values: tuple[float | None, ...]
    replicas: int


def decide(state: KedaState, snapshot: KedaSnapshot, now: int) -> tuple[KedaState, Decision]:
    """One poll of the operator.

    Args:
        state: what the last poll left.
        snapshot: what this one sees.
        now: time in picoseconds.

    Raises:
        ValueError: as many values as triggers are needed.
    """
    spec, current = snapshot.spec, snapshot.replicas
    if len(snapshot.values) != len(spec.triggers):
        raise ValueError(f"{len(snapshot.values)} values for {len(spec.triggers)} triggers")
    pause = spec.pause
    if pause.paused:
        return state, _paused(spec, current)
    error = any(value is None for value in snapshot.values)
    active = [
        f"{trigger.name} {value:g} > {trigger.activation_threshold:g}"
        for trigger, value in zip(spec.triggers, snapshot.values, strict=True)
        if value is not None and value > trigger.activation_threshold
    ]
    if pause.force_activation:
        active.append("forced by its annotation")
    if active:
        seen = f"active: {', '.join(active)}"
        if current == 0 or (spec.idle_replicas is not None and current < spec.min_replicas):
            if pause.scale_out:
                return state, Decision(None, "PausedScaleOut", f"{seen}; paused-scale-out holds {current}")
            size = max(spec.min_replicas, 1)
            state = replace(state, last_active_ps=now)
            return state, Decision(size, "KEDAScaleTargetActivated", f"from {current} to {size}; {seen}")
        if error:
            return state, Decision(None, "PartialTriggerError", f"{seen}; another trigger is in error")
        return replace(state, last_active_ps=now), Decision(None, "ScalerActive", f"{seen}; the HPA decides")
    if error and spec.fallback is None:
        return state, Decision(None, "TriggerError", "triggers are in error; nothing is done")
    if error and spec.fallback is not None and spec.fallback.replicas != 0:
        return state, Decision(
            None, "TriggerError", "triggers are in error; left to fallback.replicas through the HPA"
        )
    idle = spec.idle_replicas
    if (idle is not None and current > idle) or (current > 0 and spec.min_replicas == 0):
        return state, _deactivate(state, spec, current, now)
    if idle is None and current < spec.min_replicas:
        return state, Decision(
            spec.min_replicas,
            "BelowMinReplicaCount",
            f"from {current} to minReplicaCount {spec.min_replicas}",
        )
    return state, Decision(None, "ScalerNotActive", f"not active, {current} replicas; nothing to do")


def _paused(spec: KedaSpec, current: int) -> Decision:
    if spec.pause.replicas is None or spec.pause.replicas == current:
        return Decision(None, "ScaledObjectPaused", f"paused at {current} replicas")
    size = spec.pause.replicas
    return Decision(size, "ScaledObjectPaused", f"paused at {size} replicas, from {current}")


def _deactivate(state: KedaState, spec: KedaSpec, current: int, now: int) -> Decision:
    if spec.pause.scale_in:
        return Decision(None, "PausedScaleIn", f"not active; paused-scale-in holds {current}")
    if state.last_active_ps is None:
        due, what = state.created_ps + spec.initial_cooldown_ps, "initialCooldownPeriod"
    else:
        due, what = state.last_active_ps + spec.cooldown_ps, "cooldownPeriod"
    if due >= now:
        return Decision(None, "ScalerCooldown", f"not active; {what} ends in {(due - now) / PS_PER_S:g} s")
    size = spec.idle_replicas if spec.idle_replicas is not None else spec.min_replicas
    return Decision(size, "KEDAScaleTargetDeactivated", f"from {current} to {size}; {what} is over")


def read_trigger(
    state: KedaState, spec: KedaSpec, index: int, value: float | None, replicas: int, ready: int
) -> tuple[KedaState, ExternalValues | MetricError]:
    """What KEDA's metrics server answers the HPA for one trigger.

    Failures count on the HPA's reads and on the operator's polls alike, so more often than once a polling interval.

    Args:
        state: the state.
        spec: the ScaledObject.
        index: which trigger.
        value: the trigger's value; None if the query failed.
        replicas: spec.replicas of the target.
        ready: its ready replicas.
    """
    trigger, fallback = spec.triggers[index], spec.fallback
    if value is not None:
        return _with_failures(state, spec, index, 0), ExternalValues((round(value * 1000),))
    failures = (state.failures[index] if state.failures else 0) + 1
    state = _with_failures(state, spec, index, failures)
    if fallback is None or failures <= fallback.failure_threshold:
        return state, MetricError(f"unable to get external metric {trigger.name}")
    size = {
        "static": fallback.replicas,
        "currentReplicas": replicas,
        "currentReplicasIfHigher": max(replicas, fallback.replicas),
        "currentReplicasIfLower": min(replicas, fallback.replicas),
    }[fallback.behavior]
    if trigger.metric_type == "AverageValue":
        return state, ExternalValues((trigger.threshold_milli * size,))
    if not ready:
        return state, MetricError("error performing fallback: status.readyReplicas is 0 in scaleTargetRef")
    return state, ExternalValues((trigger.threshold_milli * size // ready,))


def _with_failures(state: KedaState, spec: KedaSpec, index: int, count: int) -> KedaState:
    failures = list(state.failures or (0,) * len(spec.triggers))
    failures[index] = count
    return replace(state, failures=tuple(failures))


def hpa_spec_of(spec: KedaSpec) -> HpaSpec:
    """The HPA that KEDA creates for a ScaledObject."""
    metrics = []
    for trigger in spec.triggers:
        if trigger.metric_type == "Value":
            target = MetricTarget("Value", value_milli=trigger.threshold_milli)
        else:
            target = MetricTarget("AverageValue", average_value_milli=trigger.threshold_milli)
        metrics.append(MetricSpec("External", trigger.name, target))
    return HpaSpec(
        max_replicas=spec.max_replicas,
        min_replicas=max(spec.min_replicas, 1),
        metrics=tuple(metrics),
        behavior=_behavior(spec),
    )


def _behavior(spec: KedaSpec) -> Behavior | None:
    """The HPA's behavior: a pause of one direction disables its policies."""
    behavior = spec.behavior
    if not (spec.pause.scale_in or spec.pause.scale_out):
        return behavior
    behavior = behavior or Behavior()
    up, down = behavior.scale_up, behavior.scale_down
    if spec.pause.scale_in:
        down = replace(down or ScalingRules(), select_policy="Disabled")
    if spec.pause.scale_out:
        up = replace(up or ScalingRules(), select_policy="Disabled")
    return Behavior(up, down)

"""What becomes of a new size that the autoscaler wanted: the end of a pass that rescales.

Follows kubernetes/kubernetes, pkg/controller/podautoscaler/horizontal.go: the write of the scale subresource,
the scale events, and the ScaledToZero condition of the v1.37 line.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from simulator.autoscaling.hpa_normalize import store_event
from simulator.autoscaling.hpa_spec import defaulted_rules
from simulator.autoscaling.hpa_types import (
    Condition,
    HpaDecision,
    HpaEvent,
    HpaSnapshot,
    HpaState,
    with_condition,
)
from simulator.units import PS_PER_S

WriteOutcome = Literal["written", "conflict", "failed"]
"""What became of a new size: ``conflict`` means that somebody else had changed the scale in between."""


def record_write(
    state: HpaState,
    snapshot: HpaSnapshot,
    decision: HpaDecision,
    now: int,
    outcome: WriteOutcome = "written",
    error: str = "",
) -> tuple[HpaState, HpaEvent]:
    """The end of a pass that rescales: conditions, scale event and status after the write was tried.

    Args:
        state: from `decide`.
        snapshot: given to `decide`.
        decision: from `decide`, with ``rescale`` set.
        now: time in picoseconds.
        outcome: what became of the write. A conflict is retried with a fresh scale, and then succeeds, from v1.34;
            before, it fails.
        error: the API's error, for a failed write.

    Returns:
        The new state and the event to show.

    Raises:
        ValueError: the decision asks for no write.
    """
    current, desired = decision.current_replicas, decision.desired_replicas
    if not decision.rescale or current is None or desired is None:
        raise ValueError("the decision asks for no new size, so there is no write to record")
    controller = snapshot.controller
    if outcome == "conflict" and controller.retries_write_conflicts:
        outcome = "written"
    if outcome != "written":
        message = f"the HPA controller was unable to update the target scale: {error}"
        conditions = with_condition(state.conditions, "AbleToScale", False, "FailedUpdateScale", message, now)
        event = HpaEvent(
            "Warning", "FailedRescale", f"New size: {desired}; reason: {decision.reason}; error: {error}"
        )
        return replace(state, conditions=conditions, current_replicas=current), event

    message = f"the HPA controller was able to update the target scale to {desired}"
    conditions = with_condition(state.conditions, "AbleToScale", True, "SucceededRescale", message, now)
    state = replace(
        state,
        conditions=_remember_zero(conditions, snapshot, current, desired, now),
        current_replicas=current,
        desired_replicas=desired,
        current_metrics=decision.current_metrics,
        last_scale_ps=now,
    )
    behavior = snapshot.spec.behavior
    if behavior is not None:
        up, down = defaulted_rules(behavior, controller.flags.downscale_stabilization_ps // PS_PER_S)
        if desired > current:
            events = store_event(state.scale_up_events, desired - current, up, now)
            state = replace(state, scale_up_events=events)
        else:
            events = store_event(state.scale_down_events, current - desired, down, now)
            state = replace(state, scale_down_events=events)
    return state, HpaEvent("Normal", "SuccessfulRescale", f"New size: {desired}; reason: {decision.reason}")


def _remember_zero(
    conditions: tuple[Condition, ...], snapshot: HpaSnapshot, current: int, desired: int, now: int
) -> tuple[Condition, ...]:
    """The conditions with ScaledToZero after a rescale; it is how v1.37 knows its own zero from a human's."""
    if not snapshot.controller.scale_to_zero or snapshot.controller.line < (1, 37):
        return conditions
    spec = snapshot.spec
    by_controller = (
        current > 0
        and desired == 0
        and spec.effective_min_replicas == 0
        and spec.has_object_or_external_metric
    )
    reason = "ScaledToZero" if by_controller else "NotScaledToZero"
    did = "scaled" if by_controller else "did not scale"
    message = f"the HPA controller {did} the workload to zero"
    return with_condition(conditions, "ScaledToZero", by_controller, reason, message, now)

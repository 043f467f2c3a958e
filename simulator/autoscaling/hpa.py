"""The HorizontalPodAutoscaler's decision, exact and pure: one pass of the controller as a function.

`decide` takes what the controller remembers and what it sees, and gives what it will remember and what it wants.
If it wants another size, the caller writes it to the target and hands the outcome to `record_write`. Neither
touches a clock, a cluster or its arguments. When a pass happens, and how old the metrics in a snapshot are, is
the caller's part; `HpaFlags.sync_period_ps` and `HpaController.first_pass_delay_ps` say when.

Follows kubernetes/kubernetes, pkg/controller/podautoscaler/horizontal.go of the v1.37 line, and the rules of
older lines back to v1.23 where `HpaController.version` names one. The rules by concept: `hpa_pods` (which pods
count), `hpa_replicas` (one metric's count), `hpa_metrics` (several metrics), `hpa_normalize` (stabilisation,
limits, scale events), `hpa_write` (what a write leaves behind).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from simulator.autoscaling.hpa_controller import HpaController, HpaFlags, HpaGates
from simulator.autoscaling.hpa_metrics import combine, propose
from simulator.autoscaling.hpa_normalize import (
    LIMIT_MESSAGES,
    RECENTLY_HIGHER,
    RECENTLY_LOWER,
    limit,
    limit_with_behavior,
    stabilize,
    stabilize_with_behavior,
)
from simulator.autoscaling.hpa_spec import HpaSpec, defaulted_rules, hpa_spec
from simulator.autoscaling.hpa_types import (
    ConditionType,
    HpaDecision,
    HpaEvent,
    HpaSnapshot,
    HpaState,
    MetricProposal,
    Recommendation,
    Scale,
    ScaleError,
    with_condition,
)
from simulator.autoscaling.hpa_write import WriteOutcome, record_write
from simulator.units import PS_PER_S

__all__ = [
    "HpaController",
    "HpaDecision",
    "HpaFlags",
    "HpaGates",
    "HpaSnapshot",
    "HpaSpec",
    "HpaState",
    "WriteOutcome",
    "decide",
    "hpa_spec",
    "record_write",
]

_SELECTOR_REASONS: Final[Mapping[str, tuple[str, str]]] = {
    "missing": ("InvalidSelector", "the HPA target's scale is missing a selector"),
    "unparsable": (
        "InvalidSelector",
        "couldn't convert selector into a corresponding internal selector object",
    ),
    "ambiguous": ("AmbiguousSelector", "pods are selected by more than one HPA"),
}


class _Pass:
    """A pass that has read the scale: what it looks at, and what it has written so far.

    Attributes:
        state: what the pass before left.
        conditions, recommendations: what this one will leave.
    """

    __slots__ = ("conditions", "current", "now", "recommendations", "scale", "snapshot", "spec", "state")

    def __init__(self, snapshot: HpaSnapshot, scale: Scale, state: HpaState, now: int) -> None:
        self.snapshot = snapshot
        self.spec = snapshot.spec
        self.scale = scale
        self.current = scale.spec_replicas
        self.now = now
        self.state = state
        self.conditions = state.conditions
        self.recommendations = state.recommendations

    def set_condition(self, kind: ConditionType, status: bool, reason: str, message: str) -> None:
        self.conditions = with_condition(self.conditions, kind, status, reason, message, self.now)

    def abandoned(
        self, event: HpaEvent, proposals: tuple[MetricProposal, ...] = ()
    ) -> tuple[HpaState, HpaDecision]:
        """The end of a pass that decides nothing: the log and the desired size stay as they were."""
        state = replace(
            self.state,
            conditions=self.conditions,
            recommendations=self.recommendations,
            current_replicas=self.current,
        )
        decision = HpaDecision(
            desired_replicas=None,
            current_replicas=self.current,
            rescale=False,
            proposals=proposals,
            current_metrics=state.current_metrics,
            conditions=state.conditions,
            events=(event,),
            text=f"no decision: {event.message}",
        )
        return state, decision

    def ended(self, decision: HpaDecision, text: str) -> tuple[HpaState, HpaDecision]:
        """The end of a pass with an answer; the status is final unless a write follows."""
        state = self.state
        stays = not decision.rescale
        state = replace(
            state,
            conditions=self.conditions,
            recommendations=self.recommendations,
            current_replicas=self.current if stays else state.current_replicas,
            desired_replicas=self.current if stays else state.desired_replicas,
            current_metrics=decision.current_metrics if stays else state.current_metrics,
        )
        return state, replace(decision, conditions=self.conditions, text=text)


def decide(state: HpaState, snapshot: HpaSnapshot, now: int) -> tuple[HpaState, HpaDecision]:
    """One pass of the controller, up to the write of a new size.

    Args:
        state: what the last pass (or `record_write`) left; `HpaState()` for a new autoscaler. After a restart of
            the controller, the status stays and ``recommendations`` is None, the scale events empty.
        snapshot: what the pass sees.
        now: time in picoseconds.

    Returns:
        The new state and the decision. If ``decision.rescale``, the state's status is complete only after
        `record_write`.

    Raises:
        ValueError: ``snapshot.readings`` does not match ``spec.metrics``.
        TypeError: a reading is not of its metric's kind.
    """
    if isinstance(snapshot.scale, ScaleError):
        message = f"the HPA controller was unable to get the target's current scale: {snapshot.scale.message}"
        conditions = with_condition(state.conditions, "AbleToScale", False, "FailedGetScale", message, now)
        event = HpaEvent("Warning", "FailedGetScale", snapshot.scale.message)
        decision = HpaDecision(
            None, None, False, conditions=conditions, events=(event,), text=f"no decision: {message}"
        )
        return replace(state, conditions=conditions), decision

    this = _Pass(snapshot, snapshot.scale, state, now)
    this.set_condition(
        "AbleToScale",
        True,
        "SucceededGetScale",
        "the HPA controller was able to get the target's current scale",
    )
    if not snapshot.controller.scale_to_zero:
        this.conditions = tuple(c for c in this.conditions if c.type != "ScaledToZero")
    if this.recommendations is None:
        this.recommendations = (Recommendation(this.current, now),)

    spec, current, minimum = this.spec, this.current, this.spec.effective_min_replicas
    if current == 0:
        if not _may_leave_zero(this):
            message = "scaling is disabled since the replica count of the target is zero"
            this.set_condition("ScalingActive", False, "ScalingDisabled", message)
            return this.ended(HpaDecision(0, 0, False), message)
    elif current > spec.max_replicas:
        return _forced(this, spec.max_replicas, "above Spec.MaxReplicas")
    elif current < minimum:
        return _forced(this, minimum, "below Spec.MinReplicas")
    return _from_metrics(this)


def _forced(this: _Pass, desired: int, why: str) -> tuple[HpaState, HpaDecision]:
    reason = f"Current number of replicas {why}"
    decision = HpaDecision(desired, this.current, True, reason=reason)
    return this.ended(decision, f"New size: {desired}; reason: {reason}")


def _scaled_to_zero(this: _Pass) -> bool:
    return any(condition.type == "ScaledToZero" and condition.status for condition in this.conditions)


def _may_leave_zero(this: _Pass) -> bool:
    """Whether metrics are computed for a target of size 0."""
    controller, minimum = this.snapshot.controller, this.spec.effective_min_replicas
    if not controller.scale_to_zero:
        return False
    if controller.line < (1, 37):
        return minimum == 0
    return _scaled_to_zero(this) and (minimum != 0 or this.spec.has_object_or_external_metric)


def _from_metrics(this: _Pass) -> tuple[HpaState, HpaDecision]:
    scale, spec, snapshot = this.scale, this.spec, this.snapshot
    problem = scale.selector_problem
    if problem == "ambiguous" and not snapshot.controller.rejects_ambiguous_selectors:
        problem = None
    if problem is not None:
        reason, message = _SELECTOR_REASONS[problem]
        if scale.selector_message:
            message = f"{message}: {scale.selector_message}"
        this.set_condition("ScalingActive", False, reason, message)
        return this.abandoned(HpaEvent("Warning", reason, message))

    if len(snapshot.readings) != len(spec.metrics):
        raise ValueError(f"{len(snapshot.readings)} readings for {len(spec.metrics)} metrics")
    proposals = tuple(
        propose(metric, reading, snapshot, this.now)
        for metric, reading in zip(spec.metrics, snapshot.readings, strict=True)
    )
    combined = combine(proposals, this.current)
    errors = tuple(HpaEvent("Warning", p.reason, p.error) for p in proposals if p.replicas is None)
    if combined.replicas is None:
        failure = combined.failure
        reason = failure.reason if failure else "InvalidMetricSourceType"
        error = failure.error if failure else "no metrics are given"
        message = f"the HPA was unable to compute the replica count: {error}"
        this.set_condition("ScalingActive", False, reason, message)
        summary = (
            f"invalid metrics ({combined.failed} invalid out of {len(proposals)}), first error is: {error}"
        )
        state, decision = this.abandoned(
            HpaEvent("Warning", "FailedComputeMetricsReplicas", summary), proposals
        )
        return state, replace(decision, events=(*errors, *decision.events))
    message = f"the HPA was able to successfully calculate a replica count from {combined.description}"
    this.set_condition("ScalingActive", True, "ValidMetricFound", message)
    # Metrics can be negative; sizes cannot.
    return _normalize(this, max(combined.replicas, 0), combined.description, proposals, errors)


def _normalize(
    this: _Pass,
    proposal: int,
    description: str,
    proposals: tuple[MetricProposal, ...],
    errors: tuple[HpaEvent, ...],
) -> tuple[HpaState, HpaDecision]:
    spec, flags, now = this.spec, this.snapshot.controller.flags, this.now
    current, minimum = this.current, spec.effective_min_replicas
    log = this.recommendations or ()
    if spec.behavior is None:
        stable = stabilize(proposal, log, flags.downscale_stabilization_ps, now)
        limited = limit(current, stable.replicas, minimum, spec.max_replicas)
    else:
        up, down = defaulted_rules(spec.behavior, flags.downscale_stabilization_ps // PS_PER_S)
        stable = stabilize_with_behavior(
            current,
            proposal,
            log,
            (up.stabilization_window_s or 0) * PS_PER_S,
            (down.stabilization_window_s or 0) * PS_PER_S,
            now,
        )
        limited = limit_with_behavior(
            current,
            stable.replicas,
            minimum,
            spec.max_replicas,
            up,
            down,
            this.state.scale_up_events,
            this.state.scale_down_events,
            now,
        )
    this.recommendations = stable.recommendations
    if stable.reason:
        message = RECENTLY_LOWER if stable.reason == "ScaleUpStabilized" else RECENTLY_HIGHER
        this.set_condition("AbleToScale", True, stable.reason, message)
    else:
        this.set_condition("AbleToScale", True, "ReadyForNewScale", "recommended size matches current size")
    is_limited = limited.replicas != stable.replicas
    this.set_condition("ScalingLimited", is_limited, limited.reason, LIMIT_MESSAGES[limited.reason])

    desired, reason = limited.replicas, ""
    if proposal > current:
        reason = f"{description} above target"
    elif proposal < current:
        reason = "All metrics below target"
    if current == 0 and desired < minimum and _scaled_to_zero(this):
        # The minimum was raised while the target slept; even a rate limit does not hold it below.
        desired = minimum
        reason = reason or "Current number of replicas below Spec.MinReplicas"
    decision = HpaDecision(
        desired_replicas=desired,
        current_replicas=current,
        rescale=desired != current,
        reason=reason if desired != current else "",
        proposals=proposals,
        proposed_replicas=proposal,
        stabilized_replicas=stable.replicas,
        stabilized_by=stable.reason,
        limited_by=limited.reason if is_limited else "",
        current_metrics=tuple(p.status for p in proposals if p.status is not None),
        events=errors,
    )
    return this.ended(decision, _told(decision))


def _told(decision: HpaDecision) -> str:
    """A decision from metrics in one line."""
    wants = ", ".join(
        f"{p.description} wants {p.replicas}" if p.replicas is not None else f"{p.description} failed"
        for p in decision.proposals
    )
    steps = [wants]
    if decision.stabilized_by:
        steps.append(f"{decision.stabilized_by} at {decision.stabilized_replicas}")
    if decision.limited_by:
        steps.append(f"{decision.limited_by} at {decision.desired_replicas}")
    if decision.rescale:
        head = (
            f"New size: {decision.desired_replicas}; reason: {decision.reason or 'recommendation restored'}"
        )
    else:
        head = f"Size stays {decision.current_replicas}"
    return f"{head} ({'; '.join(steps)})"

"""Whole passes of the controller (sections 2, 3, 10, 11, 14), through `decide` and `record_write`."""

import copy
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.autoscaling.hpa import decide, record_write
from simulator.autoscaling.hpa_controller import HpaController, HpaFlags, HpaGates
from simulator.autoscaling.hpa_spec import (
    Behavior,
    HpaSpec,
    MetricSpec,
    MetricTarget,
    ScalingPolicy,
    ScalingRules,
)
from simulator.autoscaling.hpa_types import (
    Condition,
    Container,
    ContainerUsage,
    ExternalValues,
    HpaSnapshot,
    HpaState,
    MetricError,
    MetricStatus,
    ObjectValue,
    Pod,
    PodSamples,
    ReadyCondition,
    Recommendation,
    ResourceUsage,
    Sample,
    Scale,
    ScaleError,
    ScaleEvent,
)
from simulator.units import PS_PER_S

S = PS_PER_S
NOW = 10_000 * S

PODS_METRIC = MetricSpec("Pods", "queue", MetricTarget("AverageValue", average_value_milli=10_000))
EXTERNAL = MetricSpec(
    "External", "lag", MetricTarget("AverageValue", average_value_milli=10_000), selector="a=b"
)
EXTERNAL_VALUE = MetricSpec("External", "lag", MetricTarget("Value", value_milli=10_000))
OBJECT = MetricSpec(
    "Object", "rps", MetricTarget("Value", value_milli=10_000), described_object=("Service", "front")
)
CPU = MetricSpec("Resource", "cpu", MetricTarget("Utilization", average_utilization_percent=50))


def pods(count, **kwargs):
    values = {
        "start_ps": 0,
        "ready": ReadyCondition("True"),
        "containers": (Container("c", {"cpu": 1000}),),
        **kwargs,
    }
    return tuple(Pod(f"p{i}", **values) for i in range(count))


def queue(*values):
    return PodSamples({f"p{i}": Sample(value * 1000, NOW, 0) for i, value in enumerate(values)})


def snapshot(current, readings, metrics=(PODS_METRIC,), *, lo=1, hi=100, behavior=None, **kwargs):
    """A target of ``current`` replicas, all Running and Ready unless ``pods`` says otherwise."""
    scale = kwargs.pop("scale", Scale(current, kwargs.pop("status", current)))
    return HpaSnapshot(
        HpaSpec(hi, lo, tuple(metrics), behavior),
        scale,
        kwargs.pop("pods", pods(current)),
        tuple(readings),
        kwargs.pop("controller", HpaController()),
    )


def conditions(holder):
    return [(c.type, c.status, c.reason) for c in holder.conditions]


def passed(state, snap, now=NOW, **kwargs):
    """A pass with its write."""
    state, decision = decide(state, snap, now)
    if decision.rescale:
        state, _ = record_write(state, snap, decision, now, **kwargs)
    return state, decision


# Section 2


def test_section2_rule_1_failed_scale_get_ends_the_pass():
    before = HpaState(desired_replicas=7, current_replicas=6)
    snap = snapshot(3, [queue(1)], scale=ScaleError("connection refused"))
    state, decision = decide(before, snap, NOW)
    assert decision.desired_replicas is None
    assert not decision.rescale
    assert conditions(state) == [("AbleToScale", False, "FailedGetScale")]
    assert "connection refused" in state.conditions[0].message
    assert dataclasses.replace(state, conditions=()) == before
    assert decision.events[0].reason == "FailedGetScale"


def test_section2_rule_1_successful_scale_get_is_said():
    state, _ = decide(HpaState(), snapshot(0, []), NOW)
    assert state.condition("AbleToScale").reason == "SucceededGetScale"
    assert state.condition("AbleToScale").status


def test_section2_rule_2_current_is_spec_replicas_not_status_nor_ready_pods():
    snap = snapshot(3, [queue(10, 10)], status=9, pods=pods(2))
    _, decision = decide(HpaState(), snap, NOW)
    assert (decision.current_replicas, decision.desired_replicas) == (3, 3)


def test_section2_rule_2_status_replicas_serve_per_pod_averages_only():
    # 40 / (10 * 4 by status) is within tolerance: the proposal is status' 4 though 3 are asked for.
    snap = snapshot(3, [ExternalValues((40_000,))], [EXTERNAL], status=4)
    assert decide(HpaState(), snap, NOW)[1].proposed_replicas == 4
    # With a Value target the status plays no part.
    snap = snapshot(3, [ExternalValues((10_000,))], [EXTERNAL_VALUE], status=4)
    assert decide(HpaState(), snap, NOW)[1].proposed_replicas == 3


def test_section2_rule_3_a_new_log_starts_with_the_current_size():
    state, decision = decide(HpaState(), snapshot(5, [queue(1, 1, 1, 1, 1)]), NOW)
    assert state.recommendations == (Recommendation(5, NOW), Recommendation(1, NOW))
    assert decision.desired_replicas == 5
    assert decision.stabilized_by == "ScaleDownStabilized"


def test_section2_rule_3_a_restart_holds_the_size_for_one_downscale_window():
    state = HpaState(recommendations=(Recommendation(1, NOW - 10 * S),))
    snap = snapshot(5, [queue(1, 1, 1, 1, 1)])
    assert decide(state, snap, NOW)[1].desired_replicas == 1
    state = dataclasses.replace(state, recommendations=None)
    sizes = []
    for tick in range(22):
        state, decision = decide(state, snap, NOW + tick * 15 * S)
        sizes.append(decision.desired_replicas)
    assert sizes == [5] * 21 + [1]  # 300 s and one tick more: the legacy window includes its end


def test_section2_rule_3_an_empty_log_is_not_a_new_one():
    state, _ = decide(HpaState(recommendations=()), snapshot(5, [queue(1, 1, 1, 1, 1)]), NOW)
    assert state.recommendations == (Recommendation(1, NOW),)


@pytest.mark.parametrize(
    ("current", "want", "why"), [(12, 10, "above Spec.MaxReplicas"), (1, 3, "below Spec.MinReplicas")]
)
@pytest.mark.parametrize("behavior", [None, Behavior(scale_up=ScalingRules(select_policy="Disabled"))])
def test_section2_rule_4_outside_min_and_max_moves_at_once_without_metrics(current, want, why, behavior):
    before = HpaState(
        recommendations=(Recommendation(50, NOW - S),),
        conditions=(
            Condition("ScalingActive", False, "X", "x", 3),
            Condition("ScalingLimited", True, "Y", "y", 4),
        ),
    )
    snap = snapshot(current, [], lo=3, hi=10, behavior=behavior)  # not even readings are needed
    state, decision = decide(before, snap, NOW)
    assert (decision.desired_replicas, decision.rescale) == (want, True)
    assert decision.reason == f"Current number of replicas {why}"
    assert decision.proposals == ()
    assert state.recommendations == before.recommendations
    assert state.conditions[:2] == before.conditions
    assert state.condition("AbleToScale").reason == "SucceededGetScale"


def test_section2_rule_4_min_is_one_if_unset():
    snap = snapshot(2, [ExternalValues((0,))], [EXTERNAL], lo=None)
    state = HpaState(recommendations=())
    assert decide(state, snap, NOW)[1].desired_replicas == 1
    assert decide(state, snap, NOW)[1].limited_by == "TooFewReplicas"


def test_section2_rule_4_at_min_and_at_max_metrics_are_read():
    for current in (3, 10):
        snap = snapshot(current, [queue(*[10] * current)], lo=3, hi=10)
        assert decide(HpaState(), snap, NOW)[1].proposed_replicas == current


def test_section2_rule_5_a_successful_write_sets_condition_event_and_time():
    snap = snapshot(2, [queue(20, 20)], behavior=Behavior())
    state, decision = decide(HpaState(), snap, NOW)
    assert decision.desired_replicas == 4
    assert state.condition("AbleToScale").reason == "ReadyForNewScale"
    state, event = record_write(state, snap, decision, NOW)
    assert state.condition("AbleToScale").reason == "SucceededRescale"
    assert state.scale_up_events == (ScaleEvent(2, NOW),)
    assert state.last_scale_ps == NOW
    assert (state.current_replicas, state.desired_replicas) == (2, 4)
    assert event.message == "New size: 4; reason: pods metric queue above target"


def test_section2_rule_5_without_behavior_no_scale_event_is_stored():
    state, _ = passed(HpaState(), snapshot(2, [queue(20, 20)]))
    assert (state.scale_up_events, state.scale_down_events) == ((), ())
    assert state.last_scale_ps == NOW


def test_section2_rule_5_a_failed_write_keeps_desired_and_the_recommendation_and_stores_no_event():
    before = HpaState(
        desired_replicas=2, current_metrics=(MetricStatus("Pods", "queue", average_value_milli=1),)
    )
    snap = snapshot(2, [queue(20, 20)], behavior=Behavior())
    state, decision = decide(before, snap, NOW)
    state, event = record_write(state, snap, decision, NOW, "failed", "no quota")
    assert ("AbleToScale", False, "FailedUpdateScale") in conditions(state)
    assert state.desired_replicas == 2
    assert state.current_metrics == before.current_metrics
    assert state.scale_up_events == ()
    assert state.last_scale_ps is None
    assert state.recommendations[-1] == Recommendation(4, NOW)
    assert (event.type, event.reason) == ("Warning", "FailedRescale")


def test_section2_rule_5_a_write_conflict_is_retried_from_1_34():
    for version, reason in (("1.34", "SucceededRescale"), ("1.33", "FailedUpdateScale")):
        snap = snapshot(2, [queue(20, 20)], controller=HpaController(version))
        state, _ = passed(HpaState(), snap, outcome="conflict")
        assert state.condition("AbleToScale").reason == reason


def test_section2_rule_5_no_write_no_record():
    snap = snapshot(2, [queue(10, 10)])
    state, decision = decide(HpaState(), snap, NOW)
    assert not decision.rescale
    with pytest.raises(ValueError, match="no write to record"):
        record_write(state, snap, decision, NOW)


def test_section2_rule_6_status_of_a_pass_that_holds():
    state, _ = decide(HpaState(desired_replicas=9), snapshot(2, [queue(10, 10)]), NOW)
    assert (state.current_replicas, state.desired_replicas) == (2, 2)
    assert state.current_metrics == (MetricStatus("Pods", "queue", average_value_milli=10_000),)
    assert state.last_scale_ps is None


@given(st.none() | st.integers(0, NOW))
def test_section2_rule_6_last_scale_time_decides_nothing(last):
    snap = snapshot(2, [queue(20, 20)], behavior=Behavior())
    assert decide(HpaState(last_scale_ps=last), snap, NOW)[1] == decide(HpaState(), snap, NOW)[1]


# Section 3

BROKEN = MetricError("the server is currently unable to handle the request")


def test_section3_the_largest_proposal_wins():
    snap = snapshot(
        2, [queue(20, 20), ExternalValues((70_000,)), queue(1, 1)], [PODS_METRIC, EXTERNAL, PODS_METRIC]
    )
    _, decision = decide(HpaState(), snap, NOW)
    assert [p.replicas for p in decision.proposals] == [4, 7, 1]
    assert decision.proposed_replicas == 7
    assert decision.reason == "external metric lag(a=b) above target"


def test_section3_a_first_proposal_of_zero_is_replaced():
    snap = snapshot(2, [ExternalValues((0,)), queue(1, 1)], [EXTERNAL, PODS_METRIC], lo=0)
    state, decision = decide(HpaState(recommendations=()), snap, NOW)
    assert decision.proposed_replicas == 1
    assert state.condition("ScalingActive").message.endswith("from pods metric queue")


def test_section3_of_two_proposals_of_zero_the_later_is_named():
    snap = snapshot(2, [ExternalValues((0,)), queue(0, 0)], [EXTERNAL, PODS_METRIC], lo=0)
    state, decision = decide(HpaState(recommendations=()), snap, NOW)
    assert decision.proposed_replicas == 0
    assert state.condition("ScalingActive").message.endswith("from pods metric queue")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_section3_partial_failure_forbids_scaling_down(order):
    metrics, readings = [EXTERNAL, PODS_METRIC], [BROKEN, queue(5, 5)]
    before = HpaState(
        recommendations=(),
        desired_replicas=2,
        conditions=(Condition("ScalingLimited", True, "TooManyReplicas", "m", 5),),
    )
    snap = snapshot(2, [readings[i] for i in order], [metrics[i] for i in order])
    state, decision = decide(before, snap, NOW)
    assert decision.desired_replicas is None
    assert state.condition("ScalingActive").reason == "FailedGetExternalMetric"
    assert not state.condition("ScalingActive").status
    assert "unable to handle the request" in state.condition("ScalingActive").message
    assert state.recommendations == ()
    assert state.condition("AbleToScale").reason == "SucceededGetScale"
    assert state.condition("ScalingLimited") == before.conditions[0]


@pytest.mark.parametrize(("values", "want"), [((20, 20), 4), ((10, 10), 2)])
def test_section3_partial_failure_allows_scaling_up_and_holding(values, want):
    snap = snapshot(2, [BROKEN, queue(*values)], [EXTERNAL, PODS_METRIC])
    state, decision = decide(HpaState(), snap, NOW)
    assert decision.desired_replicas == want
    assert ("ScalingActive", True, "ValidMetricFound") in conditions(state)
    assert [event.reason for event in decision.events] == ["FailedGetExternalMetric"]


def test_section3_all_failing_abandons_with_the_first_reason():
    snap = snapshot(2, [BROKEN, BROKEN], [OBJECT, PODS_METRIC])
    state, decision = decide(HpaState(desired_replicas=6), snap, NOW)
    assert decision.desired_replicas is None
    assert state.condition("ScalingActive").reason == "FailedGetObjectMetric"
    assert state.desired_replicas == 6
    assert state.recommendations == (Recommendation(2, NOW),)  # the start of the log, not a proposal
    assert [event.reason for event in decision.events] == [
        "FailedGetObjectMetric",
        "FailedGetPodsMetric",
        "FailedComputeMetricsReplicas",
    ]


@pytest.mark.parametrize(
    ("problem", "reason"),
    [("missing", "InvalidSelector"), ("unparsable", "InvalidSelector"), ("ambiguous", "AmbiguousSelector")],
)
def test_section3_selector_problems_abandon_before_any_metric(problem, reason):
    snap = snapshot(2, [queue(20, 20)], scale=Scale(2, 2, problem))
    state, decision = decide(HpaState(), snap, NOW)
    assert decision.desired_replicas is None
    assert decision.proposals == ()
    assert state.condition("ScalingActive").reason == reason


def test_section3_ambiguous_selectors_pass_before_1_27():
    snap = snapshot(2, [queue(20, 20)], scale=Scale(2, 2, "ambiguous"), controller=HpaController("1.26"))
    assert decide(HpaState(), snap, NOW)[1].desired_replicas == 4


def test_section3_a_negative_metric_counts_as_zero():
    snap = snapshot(2, [ExternalValues((-50_000,))], [EXTERNAL])
    _, decision = decide(HpaState(recommendations=()), snap, NOW)
    assert (decision.proposals[0].replicas, decision.proposed_replicas) == (-5, 0)
    assert decision.desired_replicas == 1


# Section 4 in a pass


def test_section4_tolerances_of_the_behavior_decide():
    behavior = Behavior(scale_up=ScalingRules(tolerance=0.05), scale_down=ScalingRules(tolerance=0.5))
    assert decide(HpaState(), snapshot(2, [queue(10.8, 10.8)]), NOW)[1].proposed_replicas == 2
    assert (
        decide(HpaState(), snapshot(2, [queue(10.8, 10.8)], behavior=behavior), NOW)[1].proposed_replicas == 3
    )
    assert decide(HpaState(), snapshot(2, [queue(5, 5)], behavior=behavior), NOW)[1].proposed_replicas == 2


# Sections 6 and 8: dispatch by kind and target


def test_section6_resource_kinds_read_usage_by_container():
    usage = ResourceUsage({f"p{i}": ContainerUsage({"c": {"cpu": 900}}, NOW, 0) for i in range(2)})
    container = dataclasses.replace(CPU, type="ContainerResource", container="c")
    average = MetricSpec("Resource", "cpu", MetricTarget("AverageValue", average_value_milli=300))
    snap = snapshot(2, [usage, usage, usage], [CPU, container, average])
    _, decision = decide(HpaState(), snap, NOW)
    assert [p.replicas for p in decision.proposals] == [4, 4, 6]  # 90 / 50 and 900 / 300 over two pods
    assert [p.description for p in decision.proposals] == [
        "cpu resource utilization (percentage of request)",
        "cpu container resource utilization (percentage of request)",
        "cpu resource",
    ]
    assert decision.current_metrics[0].average_utilization_percent == 90
    assert decision.current_metrics[2].average_utilization_percent is None


def test_section8_average_value_wins_for_resources_if_both_are_given():
    both = MetricTarget("Utilization", average_value_milli=300, average_utilization_percent=50)
    usage = ResourceUsage({f"p{i}": ContainerUsage({"c": {"cpu": 900}}, NOW, 0) for i in range(2)})
    for kind in ("Resource", "ContainerResource"):
        metric = MetricSpec(kind, "cpu", both, container="c" if kind == "ContainerResource" else "")
        assert decide(HpaState(), snapshot(2, [usage], [metric]), NOW)[1].proposed_replicas == 6


def test_section8_object_goes_by_its_target_type():
    both = MetricTarget("Value", value_milli=10_000, average_value_milli=10_000)
    snap = snapshot(2, [ObjectValue(30_000)], [dataclasses.replace(OBJECT, target=both)])
    assert decide(HpaState(), snap, NOW)[1].proposed_replicas == 6
    per_pod = dataclasses.replace(both, type="AverageValue")
    snap = snapshot(2, [ObjectValue(30_000)], [dataclasses.replace(OBJECT, target=per_pod)])
    _, decision = decide(HpaState(), snap, NOW)
    assert decision.proposed_replicas == 3
    assert decision.current_metrics == (MetricStatus("Object", "rps", average_value_milli=15_000),)


@pytest.mark.parametrize(
    ("kind", "reading", "reason"),
    [
        ("Resource", queue(1), "FailedGetResourceMetric"),
        ("ContainerResource", queue(1), "FailedGetContainerResourceMetric"),
        ("Pods", queue(1), "FailedGetPodsMetric"),
        ("Object", ObjectValue(1), "FailedGetObjectMetric"),
        ("External", ExternalValues((1,)), "FailedGetExternalMetric"),
    ],
)
def test_section11_scaling_active_names_the_kind_of_a_metric_without_target(kind, reading, reason):
    metric = MetricSpec(kind, "m", MetricTarget(), container="c")
    state, decision = decide(HpaState(), snapshot(1, [reading], [metric]), NOW)
    assert decision.desired_replicas is None
    assert state.condition("ScalingActive").reason == reason


def test_section11_unknown_metric_types_are_an_invalid_source():
    metric = MetricSpec("Weather", "rain", MetricTarget())
    state, decision = decide(HpaState(), snapshot(1, [BROKEN], [metric]), NOW)
    assert decision.desired_replicas is None
    assert state.condition("ScalingActive").reason == "InvalidMetricSourceType"
    _, decision = decide(HpaState(), snapshot(1, [BROKEN, queue(20)], [metric, PODS_METRIC]), NOW)
    assert decision.desired_replicas == 2


def test_a_reading_of_the_wrong_kind_is_the_callers_mistake():
    with pytest.raises(TypeError, match="cannot be read from ObjectValue"):
        decide(HpaState(), snapshot(1, [ObjectValue(1)]), NOW)
    with pytest.raises(ValueError, match="0 readings for 1 metrics"):
        decide(HpaState(), snapshot(1, []), NOW)


# Section 9 in a pass


def test_section9_forced_moves_store_scale_events_too():
    state, _ = passed(HpaState(), snapshot(12, [], hi=10, behavior=Behavior()))
    assert state.scale_down_events == (ScaleEvent(2, NOW),)
    state, _ = passed(HpaState(), snapshot(1, [], lo=3, behavior=Behavior()))
    assert state.scale_up_events == (ScaleEvent(2, NOW),)


def test_section9_changes_made_by_others_are_not_events():
    up = ScalingRules(0, (ScalingPolicy("Pods", 1, 600),))
    snap = snapshot(2, [queue(90, 90)], behavior=Behavior(scale_up=up))
    state, decision = passed(HpaState(), snap)
    assert decision.desired_replicas == 3
    # Somebody sets 8 by hand: the controller's budget is spent by its own event alone: 8 - 1 + 1 = 8.
    snap = snapshot(8, [queue(*[90] * 8)], behavior=Behavior(scale_up=up))
    assert decide(state, snap, NOW + 15 * S)[1].desired_replicas == 8


def test_section9_a_change_of_direction_is_clamped_by_both_windows():
    # A down proposal at 60 s, then up again: the down proposal holds the growth for the up window.
    behavior = Behavior(scale_up=ScalingRules(60), scale_down=ScalingRules(300))
    state = HpaState(recommendations=(Recommendation(2, NOW - 30 * S),))
    _, decision = decide(state, snapshot(3, [queue(30, 30, 30)], behavior=behavior), NOW)
    assert (decision.desired_replicas, decision.stabilized_by) == (3, "ScaleUpStabilized")


# Section 10

AT_ZERO = (Condition("ScaledToZero", True, "ScaledToZero", "m", 5),)
OLD = HpaController("1.36", gates=HpaGates(scale_to_zero=True))
GATE_OFF = HpaController(gates=HpaGates(scale_to_zero=False))


def at_zero(lo, state, metrics=(EXTERNAL_VALUE,), reading=ExternalValues((25_000,)), **kwargs):  # noqa: B008
    return passed(state, snapshot(0, [reading], metrics, lo=lo, pods=(), **kwargs))


@pytest.mark.parametrize("lo", [None, 1, 3])
@pytest.mark.parametrize("controller", [OLD, HpaController("1.30"), HpaController(), GATE_OFF])
def test_section10_zero_with_a_minimum_disables(lo, controller):
    state, decision = at_zero(lo, HpaState(), controller=controller)
    assert (decision.desired_replicas, decision.rescale) == (0, False)
    assert ("ScalingActive", False, "ScalingDisabled") in conditions(state)
    assert state.desired_replicas == 0


def test_section10_up_to_1_36_zero_with_minimum_zero_and_the_gate_computes():
    _, decision = at_zero(0, HpaState(), controller=OLD)
    assert decision.desired_replicas == 3
    state, _ = at_zero(0, HpaState(), controller=HpaController("1.36"))
    assert state.condition("ScalingActive").reason == "ScalingDisabled"


def test_section10_1_37_a_humans_zero_pauses_the_autoscaler():
    _, decision = at_zero(0, HpaState())
    assert decision.desired_replicas == 0
    not_by_us = (Condition("ScaledToZero", False, "NotScaledToZero", "m", 5),)
    assert at_zero(0, HpaState(conditions=not_by_us))[1].desired_replicas == 0


def test_section10_1_37_its_own_zero_wakes_up_by_ceil_of_the_ratio():
    state, decision = at_zero(0, HpaState(conditions=AT_ZERO))
    assert decision.desired_replicas == 3
    assert not state.condition("ScaledToZero").status
    assert state.condition("ScaledToZero").reason == "NotScaledToZero"


def test_section10_1_37_waking_needs_an_object_or_external_metric_or_a_minimum():
    state = HpaState(conditions=AT_ZERO)
    _, decision = at_zero(0, state, [PODS_METRIC], queue())
    assert decision.desired_replicas == 0
    assert decision.proposals == ()
    _, decision = at_zero(2, state, [PODS_METRIC], queue())
    assert decision.desired_replicas is None  # metrics were computed, and there are no pods to read


def test_section10_1_37_moving_to_zero_is_remembered():
    snap = snapshot(2, [ExternalValues((0,))], [EXTERNAL], lo=0)
    state, decision = passed(HpaState(recommendations=()), snap)
    assert decision.desired_replicas == 0
    assert ("ScaledToZero", True, "ScaledToZero") in conditions(state)


def test_section10_1_37_moving_to_zero_without_object_or_external_metric_is_not_remembered():
    state, decision = passed(HpaState(recommendations=()), snapshot(2, [queue(0, 0)], lo=0))
    assert decision.desired_replicas == 0
    assert ("ScaledToZero", False, "NotScaledToZero") in conditions(state)


def test_section10_1_37_any_other_rescale_says_not_scaled_to_zero():
    state, _ = passed(HpaState(), snapshot(2, [queue(20, 20)]))
    assert ("ScaledToZero", False, "NotScaledToZero") in conditions(state)
    state, _ = passed(HpaState(), snapshot(2, [queue(20, 20)], controller=HpaController("1.36")))
    assert state.condition("ScaledToZero") is None


def test_section10_1_37_a_raised_minimum_lifts_the_result_past_the_rate_limit():
    slow = Behavior(scale_up=ScalingRules(0, (ScalingPolicy("Pods", 1, 60),)))
    _, decision = at_zero(5, HpaState(conditions=AT_ZERO), behavior=slow)
    assert decision.desired_replicas == 5
    _, decision = at_zero(0, HpaState(conditions=AT_ZERO), behavior=slow)
    assert decision.desired_replicas == 1
    _, decision = at_zero(5, HpaState(conditions=AT_ZERO), reading=ExternalValues((0,)))
    assert decision.desired_replicas == 5


def test_section10_1_37_gate_off_removes_the_condition_and_zero_stays():
    state, decision = at_zero(0, HpaState(conditions=AT_ZERO), controller=GATE_OFF)
    assert decision.desired_replicas == 0
    assert state.condition("ScaledToZero") is None


# Section 11


def test_section11_able_to_scale_reasons():
    hold = snapshot(2, [queue(10, 10)])
    assert decide(HpaState(), hold, NOW)[0].condition("AbleToScale").reason == "ReadyForNewScale"
    state = HpaState(recommendations=(Recommendation(9, NOW - S),))
    assert decide(state, hold, NOW)[0].condition("AbleToScale").reason == "ScaleDownStabilized"
    behavior = Behavior(scale_up=ScalingRules(60))
    state = HpaState(recommendations=(Recommendation(2, NOW - S),))
    up = snapshot(2, [queue(20, 20)], behavior=behavior)
    assert decide(state, up, NOW)[0].condition("AbleToScale").reason == "ScaleUpStabilized"


@pytest.mark.parametrize(
    ("value", "hi", "behavior", "limited", "reason"),
    [
        (10, 100, None, False, "DesiredWithinRange"),
        (90, 100, None, True, "ScaleUpLimit"),
        (90, 3, None, True, "TooManyReplicas"),
        (90, 100, Behavior(), True, "ScaleUpLimit"),
        (
            1,
            100,
            Behavior(scale_down=ScalingRules(0, (ScalingPolicy("Pods", 1, 60),))),
            True,
            "ScaleDownLimit",
        ),
    ],
)
def test_section11_scaling_limited_reasons(value, hi, behavior, limited, reason):
    snap = snapshot(3, [queue(value, value, value)], hi=hi, behavior=behavior)
    state, _ = decide(HpaState(recommendations=()), snap, NOW)
    assert ("ScalingLimited", limited, reason) in conditions(state)


def test_section11_transition_time_moves_only_with_the_status():
    first, _ = passed(HpaState(), snapshot(2, [queue(20, 20)]), NOW)
    second, _ = passed(first, snapshot(4, [queue(20, 20, 20, 20)]), NOW + 15 * S)
    assert [c.last_transition_ps for c in second.conditions] == [NOW] * len(second.conditions)
    third, _ = passed(second, snapshot(8, [BROKEN]), NOW + 30 * S)
    assert third.condition("ScalingActive").last_transition_ps == NOW + 30 * S
    assert third.condition("AbleToScale").last_transition_ps == NOW


def test_section11_conditions_stay_in_order_of_first_setting():
    state, _ = decide(HpaState(), snapshot(2, [BROKEN]), NOW)
    assert [c.type for c in state.conditions] == ["AbleToScale", "ScalingActive"]
    state, _ = passed(state, snapshot(2, [queue(20, 20)]))
    assert [c.type for c in state.conditions] == [
        "AbleToScale",
        "ScalingActive",
        "ScalingLimited",
        "ScaledToZero",
    ]


# Section 14


def test_section14_trap_1_nil_behavior_is_not_empty_behavior():
    hot = [queue(99)]
    assert decide(HpaState(), snapshot(1, hot), NOW)[1].desired_replicas == 4
    assert decide(HpaState(), snapshot(1, hot, behavior=Behavior()), NOW)[1].desired_replicas == 5


def test_section14_trap_5_no_kind_scales_by_spec_replicas():
    # Spec 6, status 4, two ready pods that report; twice the target each.
    kinds = [
        (PODS_METRIC, queue(20, 20), 4),
        (EXTERNAL_VALUE, ExternalValues((20_000,)), 4),
        (EXTERNAL, ExternalValues((80_000,)), 8),
    ]
    for metric, reading, want in kinds:
        snap = snapshot(6, [reading], [metric], status=4, pods=pods(2))
        assert decide(HpaState(), snap, NOW)[1].proposed_replicas == want


def test_section14_trap_6_pending_pods_stop_a_pods_metric_and_not_an_external_one():
    waiting = (*pods(2), *(Pod(f"new{i}", "Pending") for i in range(2)))
    snap = snapshot(4, [queue(20, 20), ExternalValues((80_000,))], [PODS_METRIC, EXTERNAL], pods=waiting)
    _, decision = decide(HpaState(), snap, NOW)
    assert [p.replicas for p in decision.proposals] == [4, 8]


def test_section14_trap_8_a_terminating_pod_is_ignored_at_once_except_for_value_targets():
    leaving = (*pods(1), Pod("p1", deletion_ps=NOW, start_ps=0, ready=ReadyCondition("True")))
    snap = snapshot(
        2, [queue(20, 90), ExternalValues((20_000,))], [PODS_METRIC, EXTERNAL_VALUE], pods=leaving
    )
    _, decision = decide(HpaState(), snap, NOW)
    assert [p.replicas for p in decision.proposals] == [2, 4]


# Invariants

VALUES = st.lists(st.integers(0, 100), min_size=1, max_size=8)
BEHAVIORS = st.none() | st.builds(
    Behavior,
    st.none() | st.builds(ScalingRules, st.none() | st.integers(0, 600)),
    st.none() | st.builds(ScalingRules, st.none() | st.integers(0, 600)),
)


@given(VALUES, st.integers(0, 4), st.integers(4, 10), BEHAVIORS, st.integers(0, 3))
def test_invariant_the_result_lies_within_min_and_max(values, lo, hi, behavior, extra):
    snap = snapshot(
        len(values), [queue(*values)], lo=lo, hi=hi, behavior=behavior, pods=pods(len(values) + extra)
    )
    state = HpaState(recommendations=(Recommendation(7, NOW - 20 * S), Recommendation(2, NOW - 10 * S)))
    _, decision = decide(state, snap, NOW)
    assert decision.desired_replicas is not None
    assert max(lo, 0) <= decision.desired_replicas <= hi


@given(VALUES, BEHAVIORS)
def test_invariant_pure_same_input_same_output_and_nothing_changed(values, behavior):
    snap = snapshot(len(values), [queue(*values)], behavior=behavior)
    state = HpaState(recommendations=(Recommendation(3, NOW - 400 * S),), scale_up_events=(ScaleEvent(1, 5),))
    before = copy.deepcopy((state, snap))
    first, again = passed(state, snap), passed(state, snap)
    assert first == again
    assert (state, snap) == before


@given(st.lists(VALUES, min_size=2, max_size=30), BEHAVIORS)
def test_invariant_a_run_of_passes_keeps_its_logs_short(loads, behavior):
    state, size = HpaState(), 1
    controller = HpaController(flags=HpaFlags(downscale_stabilization_ps=60 * S))
    for tick, values in enumerate(loads):
        reading = queue(*(values[i % len(values)] for i in range(size)))
        snap = snapshot(size, [reading], hi=20, behavior=behavior, controller=controller)
        state, decision = passed(state, snap, NOW + tick * 15 * S)
        size = decision.desired_replicas
        assert 1 <= size <= 20
    assert len(state.recommendations) <= 600 // 15 + 2
    assert len(state.scale_up_events) <= 4

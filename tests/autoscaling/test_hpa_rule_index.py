"""The rules of the autoscaler, section by section, and the tests that hold each of them.

The sections are those of the rules' reference: 1 timing and settings, 2 one pass, 3 several metrics, 4 tolerance,
5 sorting the pods, 6 ratio, 7 count from per-pod samples, 8 count from one number, 9a and 9b normalizing,
10 zero, 11 conditions, 12 validation limits, 13 version notes, 14 traps. To tick a rule off, run its tests:
``pytest -k test_section7_rule_b``.
"""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent

RULES = {
    "1: flags and their defaults": "section1_flags",
    "1: first pass of a new autoscaler": "section1_first_pass",
    "1: a sync period after each pass, errors included": "section1_a_period_after_each_pass",
    "1: passes drift by their duration": "section1_passes_drift",
    "1: the metric is itself old": "section1_the_metric_is_itself_old",
    "2.1: reading the scale": "section2_rule_1",
    "2.2: current is spec.replicas; status.replicas for per-pod averages": "section2_rule_2",
    "2.3: the log starts with the current size": "section2_rule_3",
    "2.4: above max, below min, min unset": "section2_rule_4",
    "2.5: write, conflict, failed write": "section2_rule_5",
    "2.6: status; lastScaleTime decides nothing": "section2_rule_6",
    "3: largest proposal": "section3_the_largest",
    "3: a first proposal of 0": "section3_a_first_proposal_of_zero",
    "3: partial failure": "section3_partial_failure",
    "3: all fail": "section3_all_failing",
    "3: selectors": "section3_selector_problems",
    "4: inclusive interval": "section4_both_ends",
    "4: tolerance of the behavior": "section4_behavior_tolerance",
    "4: gate off": "section4_gate_off",
    "4: before v1.33": "section4_before_1_33",
    "4: NaN and infinity": "section4_nan_and_infinity",
    "5.1: ignored": "section5_rule_1",
    "5.2: pending": "section5_rule_2",
    "5.3: missing": "section5_rule_3",
    "5.4: cpu, no condition or start": "section5_rule_4_cpu_without",
    "5.4: cpu, initialization period": "section5_rule_4_cpu_in",
    "5.4: cpu, after it": "section5_rule_4_cpu_after",
    "5.5: ready": "section5_rule_5",
    "5: loading GPU pod": "section5_gpu_pod",
    "5: no samples left": "section5_no_samples",
    "5: no pods": "section5_empty_pod_list",
    "5: samples of unknown names": "section5_samples_of_unknown",
    "6: integer percent": "section6_utilization_is_truncated",
    "6: pods having both": "section6_utilization_sums",
    "6: zero requests": "section6_zero_requests",
    "6: sidecars": "section6_request_sums",
    "6: a request lacking": "section6_a_container_without",
    "6: pod-level requests": "section6_pod_level",
    "6: one container": "section6_container_resource",
    "6: a pod without the container": "section6_container_sample",
    "6: ignored pods asked too": "section6_ignored_pods",
    "6: integer mean": "section6_average_is_truncated",
    "6: sum of containers": "section6_resource_sample",
    "7.a: ratio and reported value": "section7_rule_a",
    "7.b: hold within tolerance": "section7_rule_b_no_boost_no_missing_within_tolerance_holds",
    "7.b: ceil of ratio times ready": "section7_rule_b_outside",
    "7.b: not times current": "section7_rule_b_counts_ready_pods_not_current",
    "7.c: fill below, averages": "section7_rule_c_missing_below_target_are_filled_with_the_target",
    "7.c: fill below, utilization": "section7_rule_c_missing_below_target_are_filled_with_request",
    "7.c: fill above": "section7_rule_c_missing_above",
    "7.c: ratio of one": "section7_rule_c_missing_at",
    "7.c: boost": "section7_rule_c_boost",
    "7.c: unready without boost": "section7_rule_b_unready_pods_without_boost",
    "7.c: within after the fill": "section7_rule_c_within",
    "7.c: direction change": "section7_rule_c_direction_change",
    "7.c: last guard": "section7_rule_c_last_guard",
    "7.c: number of samples": "section7_rule_c_counts_all_samples",
    "8: External adds and saturates": "section8_external_adds",
    "8: External without series": "section8_external_without",
    "8: Value, at zero": "section8_value_at_zero",
    "8: Value, tolerance and ready pods": "section8_value_is",
    "8: Value, ready pods lag": "section8_value_lags",
    "8: int32": "section8_counts_saturate",
    "8: who is ready": "section8_ready_count",
    "8: AverageValue": "section8_average_value_is_total",
    "8: AverageValue within tolerance": "section8_average_value_within",
    "8: AverageValue at zero": "section8_average_value_at_zero",
    "8: targets by kind": "section8_targets_by_kind",
    "8: AverageValue wins": "section8_average_value_wins",
    "9a.1: stabilize": "section9a_rule_1_legacy",
    "9a.1: log": "section9a_rule_1_the_raw_proposal",
    "9a.1: reason": "section9a_rule_1_reason",
    "9a.1: lifts above current": "section9a_rule_1_a_higher",
    "9a.2: limits": "section9a_rule_2",
    "9b: defaults": "section9b_defaults",
    "9b: each field alone": "section9b_each_unset",
    "9b: down window": "section9b_down_window",
    "9b.1: clamp": "section9b_rule_1_current_is_clamped",
    "9b.1: log": "section9b_rule_1_overwrites",
    "9b.1: zero windows": "section9b_rule_1_zero_windows",
    "9b.2: period start": "section9b_rule_2_period_start",
    "9b.2: up": "section9b_rule_2_up_pods",
    "9b.2: down": "section9b_rule_2_down_pods",
    "9b.2: select policy": "section9b_rule_2_select_policy",
    "9b.2: cap": "section9b_rule_2_up_cap",
    "9b.2: floor": "section9b_rule_2_down_floor",
    "9b.2: never against the direction": "section9b_rule_2_the_limit_never",
    "9b.2: disabled": "section9b_rule_2_disabled",
    "9b.2: staying": "section9b_rule_2_staying",
    "9b.3: min and max": "section9b_rule_3",
    "9: events, outdated": "section9_events_the_last_outdated",
    "9: events, exactly as old": "section9_events_one_exactly",
    "9: events of forced moves": "section9_forced_moves",
    "9: others' changes": "section9_changes_made_by_others",
    "10: minimum zero needs a metric": "section12_replica_limits",
    "10: up to v1.36": "section10_up_to_1_36",
    "10: v1.37 remembers": "section10_1_37_moving_to_zero",
    "10: v1.37 other rescales": "section10_1_37_any_other",
    "10: v1.37 wakes": "section10_1_37_its_own_zero",
    "10: v1.37 conditions to wake": "section10_1_37_waking_needs",
    "10: v1.37 a human's zero": "section10_1_37_a_humans_zero",
    "10: v1.37 raised minimum": "section10_1_37_a_raised_minimum",
    "10: v1.37 gate off": "section10_1_37_gate_off",
    "11: AbleToScale": "section11_able_to_scale",
    "11: ScalingActive": "section11_scaling_active",
    "11: invalid source": "section11_unknown_metric_types",
    "11: ScalingLimited": "section11_scaling_limited",
    "11: lastTransitionTime": "section11_transition_time",
    "11: order": "section11_conditions_stay",
    "12: replicas": "section12_replica_limits",
    "12: behavior": "section12_behavior_limits",
    "13: version table": "section13_version_table",
    "13: ambiguous selectors": "section3_ambiguous",
    "13: finished pods": "section13_finished_pods",
    "13: unknown versions": "section13_versions_outside",
    "14.1: nil is not {}": "section14_trap_1",
    "14.2: one tick later": "section14_trap_2",
    "14.3: a hair below the period": "section14_trap_3",
    "14.4: log of raw proposals": "section14_trap_4",
    "14.5: none by spec.replicas": "section14_trap_5",
    "14.6: unready GPU pods": "section14_trap_6",
    "14.7: truncation first": "section7_rule_c_within",
    "14.8: terminating pods": "section14_trap_8",
}


def _test_names():
    names = set()
    for path in (*TESTS.glob("autoscaling/test_hpa*.py"), *TESTS.glob("scenario/test_manifests*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                names.add(node.name)
    return names


NAMES = _test_names()


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_a_test_named_after_it(rule):
    assert any(name.startswith(f"test_{RULES[rule]}") for name in NAMES)


PAGE = TESTS.parent / "docs" / "background" / "horizontal-pod-autoscaler.md"


def rule_table():
    """The page's table of rules."""
    lines = ["| rule | tests |", "| --- | --- |"]
    lines += [f"| {rule} | `test_{test}` |" for rule, test in RULES.items()]
    return "\n".join(lines)


def test_the_page_lists_every_rule():
    """To write the table anew: ``python -m tests.autoscaling.test_hpa_rule_index``."""
    assert rule_table() in PAGE.read_text(encoding="utf-8")


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    start = text.index("| rule | tests |")
    PAGE.write_text(text[:start] + rule_table() + "\n", encoding="utf-8")

"""The rules of every autoscaler and the tests that hold each of them, as the pages about them list them.

A rule names the beginning of its tests' names. The HPA's sections are those of the rules' reference: 1 timing and
settings, 2 one pass, 3 several metrics, 4 tolerance, 5 sorting the pods, 6 ratio, 7 count from per-pod samples, 8 count
from one number, 9a and 9b normalizing, 10 zero, 11 conditions, 12 validation limits, 13 version notes, 14 traps. To
tick a rule off, run its tests: ``pytest -k test_section7_rule_b``.
"""

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
DOCS = TESTS.parent / "docs"
FILES = "scenario/test_policy_files.py"

HPA = {
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

KEDA = {
    "defaults": "scaled_object_defaults",
    "a poll every pollingInterval": "keda_polls_once_an_interval",
    "active strictly above activationThreshold": "activation_is_strictly",
    "from 0 to max(minReplicaCount, 1)": "activation_goes_to_the_minimum",
    "above 0 the HPA decides; lastActive renewed": "above_zero_the_hpa",
    "an active trigger beside one in error": "an_active_trigger_beside",
    "in error, no fallback: nothing": "an_error_never_scales",
    "in error, fallback.replicas": "an_error_with_fallback_replicas",
    "in error, fallback.replicas 0": "an_error_with_fallback_to_zero",
    "cooldownPeriod, from any size straight to 0": "cooldown_goes_from_any",
    "any active poll restarts it": "activity_in_any_poll",
    "initialCooldownPeriod from creation": "initial_cooldown",
    "idleReplicaCount": "idle_count",
    "a minimum without idle count": "with_a_minimum_and_no_idle",
    "the HPA divides by the threshold, minimum 1": "the_hpa_divides",
    "the HPA is disabled at 0": "at_zero_the_hpa",
    "the HPA's reads run the query": "keda_runs_the_query",
    "useCachedMetrics": "keda_answers_with_the_last_poll",
    "fallback after more failures than failureThreshold": "fallback_begins",
    "fallback behaviors": "fallback_behaviors",
    "fallback of a Value metric": "fallback_of_a_value",
    "fallback lands the HPA on its size": "the_hpa_lands",
    "ignoreNullValues": "keda_takes_no_result",
    "several elements are an error": "keda_fails_on_several",
    "lint for a query without sum()": "the_lint_says",
    "lint: which queries return several elements": "lint_finds",
    "paused, paused-replicas": "a_paused_object",
    "paused-scale-in": "paused_scale_in",
    "paused-scale-out": "paused_scale_out",
    "force-activation": "forced_activation",
    "annotations' values": "pause_annotations",
    "cron: inside its interval, in its time zone": "interval_in_its_time_zone",
    "cron: over midnight": "interval_over_midnight",
    "cron: by the run's clock": "value_follows_the_runs_clock",
}

KNATIVE = {
    "defaults": "knative_defaults",
    "target percentage with containerConcurrency": "knative_container_concurrency",
    "annotations before the ConfigMap": "knative_config_map",
    "a tick every 2 s": "knative_ticks",
    "no data": "no_data_decides",
    "stable window": "stable_mode_follows",
    "max-scale-up-rate, max-scale-down-rate": "scale_down_is_limited_by_the_rate",
    "rates count a pod at least": "rates_count",
    "activation-scale": "activation_scale_lifts",
    "panic at the threshold": "panic_begins",
    "panic never shrinks, and its end": "panic_never_shrinks",
    "starts in panic with several ready": "starts_in_panic",
    "scale-down-delay": "scale_down_delay",
    "min-scale, max-scale": "limits",
    "initial-scale until it was ready": "initial_scale_holds",
    "a revision that does not get ready": "a_starting_revision",
    "to zero: a stable window as active": "last_pod_stays_active",
    "to zero: grace period with the activator": "the_activator_must_have_been",
    "to zero: the activator answers": "the_activator_must_answer",
    "to zero: pod retention": "pod_retention",
    "to zero: traffic": "traffic_resets",
    "to zero: off": "scale_to_zero_can_be_off",
    "excess burst capacity": "excess_burst_capacity",
    "burst capacity and the activator": "the_activator_leaves",
}

RAY_SERVE = {
    "settings": "ray_serve_settings",
    "num_replicas auto, old names of the factors": "ray_serve_auto",
    "total over target, limits": "desired_is_total",
    "upscaling_factor, downscaling_factor": "factors_scale",
    "a small factor still steps down": "a_small_factor",
    "upscale_delay_s by ticks": "upscale_waits",
    "ticks of 0.1 s on pushed metrics": "ray_serve_acts_after_every_tick",
    "a contrary tick starts again": "one_contrary_tick",
    "never below 1 but from 1": "downscale_stops_at_one",
    "downscale_to_zero_delay_s": "the_step_to_zero",
    "from zero at once": "from_zero_running",
}

SAGEMAKER = {
    "settings": "sagemaker_settings",
    "one-minute metric, 3 and 15 periods": "sagemaker_one_minute",
    "three periods and a delivery late": "sagemaker_scales_out_three",
    "AlarmHigh, 3 of 3, in proportion": "alarm_high_takes_three",
    "AlarmHigh strictly above": "alarm_high_is_strictly",
    "AlarmLow, 15 of 15 below 90 %": "alarm_low_takes_fifteen",
    "missing data scales nothing in": "missing_data_is_insufficient",
    "no traffic, no action": "sagemaker_does_nothing",
    "TreatMissingData": "treatment_of_missing",
    "DatapointsToAlarm": "m_of_n",
    "scale-out cooldown": "scale_out_cooldown",
    "scale-in cooldown": "scale_in_cooldown",
    "DisableScaleIn": "disable_scale_in",
    "limits": "limits",
    "several policies": "several_policies",
    "steps' bounds": "step_by_breach_size",
    "a breach that no step covers": "step_without_a_matching",
    "step cooldown": "step_cooldown",
    "adjustment types, rounding, MinAdjustmentMagnitude": "adjustment_types",
    "leaving zero": "step_leaves_zero",
}

DYNAMO = {
    "settings": "planner_config",
    "what is refused": "what_a_planner_config",
    "leading zeros": "leading_zeros",
    "the last value below five points": "the_last_value_is_predicted",
    "constant": "constant_predicts",
    "kalman": "kalman_is_the_textbook",
    "kalman not below 0": "kalman_follows_a_ramp",
    "arima: equal values": "arima_of_equal_values",
    "arima: one search, then updates": "arima_searches_once",
    "arima: again in logarithms": "arima_without_ar",
    "arima: fallback to the last value": "arima_falls_back",
    "prophet: window and interval": "prophet_is_fitted",
    "prophet: log1p": "prophet_in_logarithms",
    "a failed prediction": "a_failed_prediction",
    "a missing library": "a_predictor_without_its_library",
    "demand over what one engine serves": "replicas_are_demand",
    "lengths rounded up": "the_lengths_asked_for",
    "an idle interval": "an_idle_interval",
    "nothing known yet": "nothing_is_decided_before",
    "eight replicas a pass": "a_pass_changes_eight",
    "min_endpoint, max_gpu_budget": "limits",
    "the GPU budget's band": "the_budget_band",
    "the nearest size in it": "the_nearest_size",
    "the budget never turns a proposal around": "the_guard_never",
    "below the least, outside the budget": "a_settled_fleet",
    "no growth while replicas start": "a_larger_size_waits",
    "giving up what starts": "a_reduction_during_startup",
    "load: thresholds by target": "thresholds_by_target",
    "load: a planner's file": "a_planner_config_by_load",
    "load: the last replica": "the_last_replica",
    "load: the GPU budget": "the_gpu_budget_holds",
    "load: every ready engine reports": "every_ready_engine",
    "load: while replicas start or end": "nothing_grows_while",
    "load: startup that is not needed": "startup_is_given_up",
    "release 0.9: separate pools": "disaggregated_formulas",
}

WVA = {
    "thresholds": "saturation_config_thresholds",
    "scale-to-zero settings": "scale_to_zero_config",
    "an HPA that follows": "wva_needs_an_hpa",
    "up on little spare KV or queue": "scale_up_on_little",
    "saturated replicas are left out": "saturated_replicas",
    "all saturated": "all_saturated",
    "down if one fewer still has room": "scale_down_is_safe",
    "one at a time": "one_more_or_one_fewer",
    "nothing in transition": "nothing_is_decided_in_transition",
    "transition of one variant": "transition_of_one",
    "no replica reports": "without_metrics",
    "cheapest variant up": "the_cheapest_variant",
    "dearest variant down": "the_dearest_variant",
    "idle for the retention period": "an_idle_model",
    "from zero": "it_wakes",
    "from zero within 0.1 s": "wva_leaves_zero",
    "tokens: the analyzer's name": "the_config_map_chooses",
    "tokens: k1": "k1_is",
    "tokens: k2 observed": "k2_is_what_is_in_use",
    "tokens: k2 from history": "k2_is_the_mean",
    "tokens: output lengths": "findings_are_kept",
    "tokens: k2 from the arguments": "k2_follows_from",
    "tokens: median": "the_median",
    "tokens: up": "up_by_what_is_missing",
    "tokens: down": "down_by_what_is_to_spare",
    "tokens: neither": "between_the_thresholds",
    "tokens: one variant": "one_variant_only",
}

FLOORS = {
    "the largest floor holds": "the_largest_floor",
    "a minimum raised, never above the maximum": "a_floor_never_lowers",
    "under a scaler": "a_floor_under",
    "alone": "a_floor_alone",
    "cron floor: a day": "cron_floor_of_a_day",
    "cron floor: midnight and overlaps": "cron_floor_over_midnight",
    "standby: need and pool": "need_plus_standby",
    "standby: falls after the window": "falls_are_followed",
    "standby: the largest of the window": "the_floor_is_the_maximum",
    "standby: no data": "without_data_the_floor",
    "forecast: a lead and an interval ahead": "orders_one_lead_and",
    "forecast: the period repeats": "wraps_around",
    "forecast: margin, offset, limits": "margin_offset",
    "forecast: the curve's file": "rate_history",
    "sleepers": "sleepers_wait",
}

PERFECT = {
    "arrivals over capacity, by window": "a_window_needs",
    "one lead early": "orders_come_one_lead",
    "not before the start": "an_order_cannot",
    "gaps up to the lead are kept": "gaps_up_to",
    "the tail": "the_tail",
    "no arrivals": "no_arrivals",
    "no other schedule is cheaper": "no_other_schedule",
    "ready before the spike": "the_perfect_autoscaler_is_ready",
}


@dataclass(frozen=True)
class Index:
    """A page's rules, and the test modules (globs below ``tests``) that hold them."""

    rules: dict[str, str]
    modules: tuple[str, ...]


def _guide(name, rules, *modules):
    paths = [f"autoscaling/{module}.py" for module in modules]
    return f"guides/autoscalers/{name}.md", Index(rules, (*paths, FILES))


INDEXES = dict(
    (
        (
            "background/horizontal-pod-autoscaler.md",
            Index(HPA, ("autoscaling/test_hpa*.py", "scenario/test_manifests*.py")),
        ),
        _guide("keda", KEDA, "test_keda", "test_loop_timing", "test_query", "test_cron"),
        _guide("knative", KNATIVE, "test_kpa", "test_loop_timing"),
        _guide("ray-serve", RAY_SERVE, "test_ray_serve", "test_loop_timing"),
        _guide("sagemaker", SAGEMAKER, "test_sagemaker", "test_loop_timing"),
        _guide("dynamo", DYNAMO, "test_dynamo*"),
        _guide("wva", WVA, "test_wva*", "test_policy_loops"),
        (
            "guides/autoscalers/floors.md",
            Index(
                FLOORS,
                (
                    "autoscaling/test_floors.py",
                    "autoscaling/test_standby.py",
                    "autoscaling/test_forecast.py",
                    "cluster/test_kubelet.py",
                    FILES,
                ),
            ),
        ),
        _guide("perfect", PERFECT, "test_perfect", "test_policy_loops"),
    )
)


def _test_names(modules):
    names = set()
    for module in modules:
        for path in TESTS.glob(module):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                    names.add(node.name)
    return names


NAMES = {page: _test_names(index.modules) for page, index in INDEXES.items()}


@pytest.mark.parametrize(
    ("page", "rule"), [(page, rule) for page, index in INDEXES.items() for rule in index.rules]
)
def test_every_rule_has_a_test_named_after_it(page, rule):
    assert any(name.startswith(f"test_{INDEXES[page].rules[rule]}") for name in NAMES[page])


HEADER = "| rule | tests |"


def rule_table(rules):
    """A page's table of rules."""
    lines = [HEADER, "| --- | --- |", *(f"| {rule} | `test_{test}` |" for rule, test in rules.items())]
    return "\n".join(lines)


@pytest.mark.parametrize("page", INDEXES)
def test_the_page_ends_with_its_rules(page):
    """To write the tables anew: ``python -m tests.autoscaling.test_rule_index``."""
    assert (DOCS / page).read_text(encoding="utf-8").endswith(f"\n{rule_table(INDEXES[page].rules)}\n")


if __name__ == "__main__":
    for name, index in INDEXES.items():
        text = (DOCS / name).read_text(encoding="utf-8")
        before = text.partition(HEADER)[0] if HEADER in text else f"{text}\n## Rules and their tests\n\n"
        (DOCS / name).write_text(before + rule_table(index.rules) + "\n", encoding="utf-8")

"""Tolerance, ratios and the count of one metric (sections 4, 6, 7 and 8)."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.autoscaling.hpa_controller import HpaController, HpaFlags, HpaGates
from simulator.autoscaling.hpa_pods import MetricUnavailableError
from simulator.autoscaling.hpa_replicas import (
    MAX_INT32,
    MAX_INT64,
    Tolerance,
    average_replicas,
    average_usage,
    ceil_int32,
    effective_tolerance,
    external_total_milli,
    per_pod_replicas,
    utilization_replicas,
    utilization_usage,
    value_replicas,
)
from simulator.autoscaling.hpa_spec import Behavior, ScalingRules
from simulator.autoscaling.hpa_types import Container, Pod, ReadyCondition, Sample
from simulator.units import PS_PER_S

FLAGS = HpaFlags()
NOW = 10_000 * PS_PER_S
READY = ReadyCondition("True")


def running(name, request=1000):
    return Pod(
        name, start_ps=0, ready=READY, containers=(Container("c", {"cpu": request, "memory": request}),)
    )


def pending(name):
    return Pod(name, "Pending", containers=(Container("c", {"cpu": 1000, "memory": 1000}),))


def mean(current, target, values, pods, tolerance=None):
    """Count of a Pods metric; ``values`` by pod name."""
    samples = {name: Sample(value) for name, value in values.items()}
    return average_replicas(current, target, samples, pods, "", tolerance or Tolerance(), FLAGS, NOW)


def utilization(current, percent, values, pods, resource="memory"):
    samples = {name: Sample(value, NOW, 0) for name, value in values.items()}
    return utilization_replicas(current, percent, samples, pods, resource, Tolerance(), FLAGS, NOW)


# Section 4


@pytest.mark.parametrize(
    ("ratio", "within"),
    [(0.9, True), (1.1, True), (math.nextafter(0.9, 0), False), (math.nextafter(1.1, 2), False), (1.0, True)],
)
def test_section4_both_ends_of_the_interval_are_within(ratio, within):
    assert Tolerance(0.1, 0.1).within(ratio) is within


def test_section4_before_1_33_a_ratio_of_exactly_1_1_is_outside():
    assert Tolerance(0.1, 0.1, interval=True).within(1.1)
    assert not Tolerance(0.1, 0.1, interval=False).within(1.1)
    assert Tolerance(0.1, 0.1, interval=False).within(0.9)


@pytest.mark.parametrize("ratio", [math.nan, math.inf])
@pytest.mark.parametrize("interval", [True, False])
def test_section4_nan_and_infinity_are_never_within(ratio, interval):
    assert not Tolerance(0.1, 0.1, interval).within(ratio)


def test_section4_behavior_tolerance_replaces_the_flag_in_its_direction_only():
    controller = HpaController("1.37", HpaFlags(tolerance=0.2))
    behavior = Behavior(scale_up=ScalingRules(tolerance=0.0), scale_down=ScalingRules(policies=()))
    assert effective_tolerance(behavior, controller) == Tolerance(down=0.2, up=0.0)
    behavior = Behavior(scale_down=ScalingRules(tolerance=0.05))
    assert effective_tolerance(behavior, controller) == Tolerance(down=0.05, up=0.2)
    assert effective_tolerance(None, controller) == Tolerance(0.2, 0.2)


@pytest.mark.parametrize(
    "controller",
    [HpaController("1.34"), HpaController("1.37", gates=HpaGates(configurable_tolerance=False))],
)
def test_section4_gate_off_ignores_behavior_tolerance(controller):
    behavior = Behavior(scale_up=ScalingRules(tolerance=0.5), scale_down=ScalingRules(tolerance=0.5))
    assert effective_tolerance(behavior, controller) == Tolerance(0.1, 0.1)


# Section 5: what is left of the samples


def test_section5_no_samples_left_is_an_error():
    with pytest.raises(MetricUnavailableError, match="did not receive metrics for targeted pods"):
        mean(1, 1000, {"p": 5000}, [pending("p")])
    with pytest.raises(MetricUnavailableError, match="did not receive metrics for targeted pods"):
        utilization(1, 50, {}, [running("p")])


def test_section5_empty_pod_list_is_an_error():
    for call in (lambda: mean(1, 1000, {"p": 1}, []), lambda: utilization(1, 50, {"p": 1}, [])):
        with pytest.raises(MetricUnavailableError, match="no pods returned by selector"):
            call()


def test_section5_samples_of_unknown_pods_count_in_plain_averages_and_not_in_utilization():
    pods = [running("a"), running("b")]
    # (10 + 10 + 40) / 3 = 20 against 10: ratio 2 over 2 ready pods.
    assert mean(2, 10_000, {"a": 10_000, "b": 10_000, "x": 40_000}, pods).replicas == 4
    # 1000 of 2000 milli is 50 % with or without x.
    assert utilization(2, 50, {"a": 500, "b": 500, "x": 90_000}, pods).replicas == 2


def test_section5_samples_of_unknown_pods_count_in_the_number_of_samples():
    pods = [running("a"), running("b")]
    # Mean (40 + 40) / 2 = 40 against 10; b missing is filled with 0: mean of 3 is 26.667, ratio 2.6666,
    # times 3 samples is 7.9998.
    assert mean(2, 10_000, {"a": 40_000, "x": 40_000}, pods).replicas == 8


# Section 6


def test_section6_utilization_is_truncated_to_a_whole_percent():
    usage = utilization_usage({"a": 559}, {"a": 1000}, 50)
    assert (usage.utilization_percent, usage.ratio, usage.average_milli) == (55, 1.1, 559)
    # 55.9 / 50 would be 1.118 and ask for a second pod; 55 / 50 is just within.
    assert utilization(1, 50, {"a": 559}, [running("a")]).replicas == 1
    assert utilization(1, 50, {"a": 560}, [running("a")]).replicas == 2


def test_section6_utilization_sums_over_pods_that_have_both():
    usage = utilization_usage({"a": 100, "b": 300, "x": 7}, {"a": 100, "b": 1000, "y": 5}, 100)
    assert usage.utilization_percent == 36  # 400 / 1100


def test_section6_zero_requests_are_an_error():
    with pytest.raises(MetricUnavailableError, match="no metrics returned matched known pods"):
        utilization_usage({"a": 100}, {"a": 0}, 50)
    with pytest.raises(MetricUnavailableError, match="no metrics returned matched known pods"):
        utilization_usage({"x": 100}, {"a": 10}, 50)


def test_section6_average_is_truncated_to_a_milli_unit():
    usage = average_usage({"a": 10, "b": 10, "c": 12}, 10)
    assert (usage.average_milli, usage.ratio) == (10, 1.0)
    assert average_usage({"a": -10, "b": -1}, 10).average_milli == -5


# Section 7


def test_section7_rule_a_ratio_comes_from_ready_pods_and_is_what_the_status_reports():
    pods = [running("a"), pending("b")]
    count = mean(2, 10_000, {"a": 30_000}, pods)
    assert count.usage_milli == 30_000  # not the 15,000 of the filled second step
    count = utilization(2, 50, {"a": 900}, pods)
    assert (count.utilization_percent, count.usage_milli) == (90, 900)


@pytest.mark.parametrize("value", [9_000, 10_000, 11_000])
def test_section7_rule_b_no_boost_no_missing_within_tolerance_holds(value):
    pods = [running("a"), running("b")]
    assert mean(7, 10_000, {"a": value, "b": value}, pods).replicas == 7


@pytest.mark.parametrize(("value", "want"), [(11_001, 3), (20_000, 4), (8_999, 2), (5_000, 1), (0, 0)])
def test_section7_rule_b_outside_tolerance_is_ceil_of_ratio_times_ready_count(value, want):
    pods = [running("a"), running("b")]
    assert mean(2, 10_000, {"a": value, "b": value}, pods).replicas == want


def test_section7_rule_b_counts_ready_pods_not_current_so_fewer_pods_alone_scale_down():
    # Five are asked for, two exist: ratio 1.5 over 2 pods gives 3, below 5.
    pods = [running("a"), running("b")]
    assert mean(5, 10_000, {"a": 15_000, "b": 15_000}, pods).replicas == 3


def test_section7_rule_b_unready_pods_without_boost_are_left_out_for_good():
    # Ratio 0.5 over one ready pod; the pending one plays no part.
    assert mean(2, 10_000, {"a": 5_000}, [running("a"), pending("b")]).replicas == 1


def test_section7_rule_c_missing_below_target_are_filled_with_the_target_for_averages():
    pods = [running("a"), running("b"), running("c"), running("d")]
    # Mean 2 of a, b; filled: (2 + 2 + 10 + 10) / 4 = 6; ratio 0.6 times 4 = 2.4.
    assert mean(4, 10_000, {"a": 2_000, "b": 2_000}, pods).replicas == 3


@pytest.mark.parametrize(("target", "fill_percent"), [(50, 100), (100, 100), (200, 200)])
def test_section7_rule_c_missing_below_target_are_filled_with_request_or_target_for_utilization(
    target, fill_percent
):
    pods = [running(name) for name in "abcd"]
    values = {"a": 100, "b": 100, "c": 100}  # 10 % each
    filled_percent = (30 + fill_percent) // 4  # 32 or 57
    # 32 / 50 * 4 = 2.56; 32 / 100 * 4 = 1.28; 57 / 200 * 4 = 1.14
    want = {50: 3, 100: 2, 200: 2}[target]
    assert math.ceil(filled_percent / target * 4) == want
    assert utilization(4, target, values, pods).replicas == want


def test_section7_rule_c_fill_of_a_request_is_truncated():
    # 333 * 110 / 100 = 366.3 -> 366 milli; with 0 of 333 used by the other: 366 / 666 = 54 %, 54 / 110 * 2 < 1.
    pods = [running("a", 333), running("b", 333)]
    assert utilization(2, 110, {"a": 0}, pods).replicas == 1


def test_section7_rule_c_missing_above_target_are_filled_with_zero():
    pods = [running("a"), running("b"), running("c"), running("d")]
    # Ratio 4 over a and b; with c and d at 0 it is 2, times 4.
    assert mean(4, 10_000, {"a": 40_000, "b": 40_000}, pods).replicas == 8
    # 200 of 50 % over a and b; 100 % over all four.
    assert utilization(4, 50, {"a": 2_000, "b": 2_000}, pods).replicas == 8


@pytest.mark.parametrize("tolerance", [0.1, 0.0])
def test_section7_rule_c_missing_at_a_ratio_of_one_are_not_added(tolerance):
    pods = [running("a"), running("b"), running("c")]
    assert mean(3, 10_000, {"a": 10_000, "b": 10_000}, pods, Tolerance(tolerance, tolerance)).replicas == 3
    assert utilization(3, 50, {"a": 500, "b": 500}, pods).replicas == 3


def test_section7_rule_c_boost_adds_unready_pods_as_zero():
    pods = [running("a"), running("b"), pending("c"), pending("d")]
    # Ratio 3 over a and b; with c and d at 0 it is 1.5, times 4.
    assert mean(4, 10_000, {"a": 30_000, "b": 30_000}, pods).replicas == 6
    assert utilization(4, 50, {"a": 1500, "b": 1500}, pods).replicas == 6


def test_section7_rule_c_cold_starts_do_not_run_away():
    # One ready pod at twice the target, three still pulling images: 20 / 4 = 5 is below target, so it holds.
    pods = [running("a"), pending("b"), pending("c"), pending("d")]
    assert mean(4, 10_000, {"a": 20_000}, pods).replicas == 4


def test_section7_rule_c_within_tolerance_after_the_fill_holds():
    pods = [running("a"), running("b")]
    assert mean(2, 10_000, {"a": 21_000}, pods).replicas == 2  # filled: 10.5
    assert mean(2, 10_000, {"a": 22_001}, pods).replicas == 2  # filled: 11.0005, truncated to 11.000
    assert mean(2, 10_000, {"a": 22_002}, pods).replicas == 3  # filled: 11.001, times 2 is 2.2002


def test_section7_rule_c_direction_change_holds():
    pods = [running("a"), running("b"), running("c")]
    assert mean(3, 10_000, {"a": 12_000}, pods).replicas == 3  # up before the fill, 0.4 after it
    # Utilization: 40 of 50 % before, (40 + 100 + 100) / 3 = 80 % after it.
    assert utilization(3, 50, {"a": 400}, pods).replicas == 3


@pytest.mark.parametrize("current", [4, 5, 9])
def test_section7_rule_c_last_guard_never_scales_down_on_a_ratio_above_one(current):
    # Two samples of 40 and one missing: ratio' 2.666 over 3 gives 8.
    pods = [running("a"), running("b"), running("c")]
    count = mean(current, 10_000, {"a": 40_000, "b": 40_000}, pods)
    assert count.replicas == max(8, current)


def test_section7_rule_c_last_guard_never_scales_up_on_a_ratio_below_one():
    # Five samples of 5 and one missing: (25 + 10) / 6 = 5.833; 0.5833 * 6 = 3.4998 -> 4 > current 3.
    pods = [running(name) for name in "abcdef"]
    values = dict.fromkeys("abcde", 5_000)
    assert mean(3, 10_000, values, pods).replicas == 3
    assert mean(6, 10_000, values, pods).replicas == 4
    # Utilization: (5 * 250 + 1000) / 6000 = 37 %; 37 / 50 * 6 = 4.44 -> 5.
    values = dict.fromkeys("abcde", 250)
    assert utilization(3, 50, values, pods).replicas == 3
    assert utilization(6, 50, values, pods).replicas == 5


def test_section7_rule_c_counts_all_samples_after_the_fill():
    # 2 ready at 30, 1 missing and 1 pending at 0: mean 15, ratio 1.5 times 4.
    pods = [running("a"), running("b"), running("c"), pending("d")]
    assert mean(4, 10_000, {"a": 30_000, "b": 30_000}, pods).replicas == 6


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=6), st.integers(0, 5), st.integers(0, 50_000))
def test_section7_a_higher_metric_never_asks_for_fewer(values, index, more):
    """Monotonic while all pods report and are as many as wanted; a fill may jump at a ratio of 1."""
    pods = [running(f"p{i}") for i in range(len(values))]
    before = {f"p{i}": value for i, value in enumerate(values)}
    name = f"p{index % len(values)}"
    after = {**before, name: before[name] + more}
    low, high = (mean(len(pods), 10_000, measured, pods) for measured in (before, after))
    assert high.usage_milli >= low.usage_milli
    assert high.replicas >= low.replicas


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 100_000), min_size=1),
    st.integers(0, 3),
    st.integers(1, 12),
)
def test_section7_filling_in_never_turns_the_direction(values, waiting, current):
    """With missing pods the result is on the side of current where the reporting pods point, or current."""
    pods = [*map(running, "abcdefg"), *(pending(f"p{i}") for i in range(waiting))]
    count = mean(current, 10_000, values, pods)
    if count.usage_milli < 10_000:
        assert count.replicas <= current
    elif count.usage_milli > 10_000:
        assert count.replicas >= current
    else:
        assert count.replicas == current


# Section 8


def ready_pods(count):
    return [running(f"p{i}") for i in range(count)]


def test_section8_value_is_ratio_times_ready_pods():
    assert value_replicas(3, 10_000, 20_000, ready_pods(3), Tolerance()).replicas == 6
    assert value_replicas(3, 10_000, 11_000, ready_pods(3), Tolerance()).replicas == 3
    assert value_replicas(3, 10_000, 4_000, ready_pods(3), Tolerance()).replicas == 2


def test_section8_value_lags_while_pods_load():
    assert value_replicas(4, 10_000, 20_000, [running("a"), *map(pending, "bcd")], Tolerance()).replicas == 2


def test_section8_value_at_zero_is_ceil_of_the_ratio_without_tolerance():
    assert value_replicas(0, 10_000, 10_500, [], Tolerance()).replicas == 2
    assert value_replicas(0, 10_000, 1, [], Tolerance()).replicas == 1
    assert value_replicas(0, 10_000, 0, [], Tolerance()).replicas == 0


def test_section8_value_without_pods_is_an_error_only_outside_tolerance():
    assert value_replicas(3, 10_000, 10_000, [], Tolerance()).replicas == 3
    with pytest.raises(MetricUnavailableError, match="unable to calculate ready pods"):
        value_replicas(3, 10_000, 90_000, [], Tolerance())


def test_section8_counts_saturate_at_max_int32():
    assert value_replicas(3, 1, MAX_INT64, ready_pods(3), Tolerance()).replicas == MAX_INT32
    assert value_replicas(0, 1, MAX_INT64, [], Tolerance()).replicas == MAX_INT32
    assert per_pod_replicas(3, 1, MAX_INT64, Tolerance()).replicas == MAX_INT32
    assert ceil_int32(math.inf) == MAX_INT32
    assert ceil_int32(2147483646.5) == MAX_INT32


def test_section8_average_value_is_total_over_target_whatever_is_ready():
    count = per_pod_replicas(3, 10_000, 61_000, Tolerance())
    assert (count.replicas, count.usage_milli) == (7, 20_334)  # 61 / 10 -> 7; 61,000 / 3 rounded up


def test_section8_average_value_within_tolerance_gives_status_replicas():
    assert per_pod_replicas(3, 10_000, 32_000, Tolerance()).replicas == 3
    assert per_pod_replicas(3, 10_000, 33_001, Tolerance()).replicas == 4


@pytest.mark.parametrize(("total", "want"), [(0, 0), (1, 1), (25_000, 3)])
def test_section8_average_value_at_zero_status_replicas(total, want):
    count = per_pod_replicas(0, 10_000, total, Tolerance())
    assert (count.replicas, count.usage_milli) == (want, 0)


def test_section8_external_adds_all_series_and_saturates():
    assert external_total_milli([1_000, 2_500, -500]) == 3_000
    assert external_total_milli([MAX_INT64, 1]) == MAX_INT64
    assert external_total_milli([MAX_INT64 - 5, 10, -100]) == MAX_INT64
    assert per_pod_replicas(2, 10_000, MAX_INT64, Tolerance()).usage_milli == MAX_INT64


def test_section8_external_without_series_is_an_error():
    with pytest.raises(MetricUnavailableError, match="no metrics returned from external metrics API"):
        external_total_milli([])


@given(st.integers(0, 40), st.integers(1, 10**6), st.integers(0, 10**9), st.integers(0, 10**6))
def test_section8_average_value_is_monotonic_without_tolerance(status, target, total, more):
    exact = Tolerance(0.0, 0.0)
    assert (
        per_pod_replicas(status, target, total + more, exact).replicas
        >= per_pod_replicas(status, target, total, exact).replicas
    )

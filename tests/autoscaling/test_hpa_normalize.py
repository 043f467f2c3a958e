"""Stabilisation, limits and scale events (section 9), and the defaults of behaviour."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.autoscaling.hpa_normalize import (
    change_in_period,
    limit,
    limit_with_behavior,
    longest_period_s,
    scale_down_limit_with_rules,
    scale_up_limit,
    scale_up_limit_with_rules,
    stabilize,
    stabilize_with_behavior,
    store_event,
)
from simulator.autoscaling.hpa_spec import Behavior, ScalingPolicy, ScalingRules, defaulted_rules
from simulator.autoscaling.hpa_types import Recommendation, ScaleEvent
from simulator.units import PS_PER_S

S = PS_PER_S
NOW = 10_000 * S


def rec(replicas, age_s):
    return Recommendation(replicas, NOW - age_s * S)


def event(change, age_s, outdated=False):
    return ScaleEvent(change, NOW - age_s * S, outdated)


def rules(*policies, select="Max", window=0):
    return ScalingRules(window, tuple(ScalingPolicy(*policy) for policy in policies), select)


# 9a.1


@pytest.mark.parametrize(
    ("proposal", "log", "want"),
    [
        (3, [], 3),
        (3, [rec(5, 100)], 5),
        (3, [rec(5, 300)], 5),  # the window's end is included
        (3, [rec(5, 301)], 3),
        (3, [rec(2, 10), rec(4, 20), rec(9, 400)], 4),
        (8, [rec(5, 100)], 8),
    ],
)
def test_section9a_rule_1_legacy_takes_the_highest_of_the_window(proposal, log, want):
    assert stabilize(proposal, log, 300 * S, NOW).replicas == want


def test_section9a_rule_1_a_higher_recent_proposal_lifts_the_target_above_current():
    # Ten was proposed and cut to 4 by the rate limit; now 4 is proposed at size 4, and the ten still counts.
    assert stabilize(4, [rec(10, 15)], 300 * S, NOW).replicas == 10


def test_section9a_rule_1_reason_only_if_the_proposal_changed():
    assert stabilize(3, [rec(5, 1)], 300 * S, NOW).reason == "ScaleDownStabilized"
    assert stabilize(5, [rec(5, 1)], 300 * S, NOW).reason == ""


def test_section9a_rule_1_the_raw_proposal_overwrites_the_last_outdated_slot():
    log = [rec(1, 400), rec(2, 10), rec(3, 301), rec(4, 300)]
    stable = stabilize(2, log, 300 * S, NOW)
    assert stable.recommendations == (rec(1, 400), rec(2, 10), Recommendation(2, NOW), rec(4, 300))


def test_section9a_rule_1_else_the_proposal_is_appended():
    assert stabilize(2, [rec(4, 300)], 300 * S, NOW).recommendations == (rec(4, 300), Recommendation(2, NOW))


# 9a.2


@pytest.mark.parametrize(("current", "want"), [(0, 4), (1, 4), (2, 4), (3, 6), (10, 20)])
def test_section9a_rule_2_up_limit_is_double_and_at_least_four(current, want):
    assert scale_up_limit(current) == want


@pytest.mark.parametrize(
    ("current", "desired", "minimum", "maximum", "want", "reason"),
    [
        (3, 1, 2, 10, 2, "TooFewReplicas"),
        (3, 2, 2, 10, 2, "DesiredWithinRange"),
        (3, 7, 2, 10, 6, "ScaleUpLimit"),
        (3, 6, 2, 10, 6, "DesiredWithinRange"),
        (3, 7, 2, 6, 6, "TooManyReplicas"),  # the maximum equals the limit
        (3, 7, 2, 5, 5, "TooManyReplicas"),
        (100, 1, 1, 100, 1, "DesiredWithinRange"),  # there is no down limit
    ],
)
def test_section9a_rule_2_legacy_limits(current, desired, minimum, maximum, want, reason):
    limited = limit(current, desired, minimum, maximum)
    assert (limited.replicas, limited.reason) == (want, reason)


# 9b: defaults


def test_section9b_defaults_of_an_empty_behavior():
    up, down = defaulted_rules(Behavior(), 300)
    assert up == rules(("Pods", 4, 15), ("Percent", 100, 15), window=0)
    assert down == rules(("Percent", 100, 15), window=300)


def test_section9b_down_window_default_is_the_flag():
    assert defaulted_rules(Behavior(), 60)[1].stabilization_window_s == 60
    behavior = Behavior(scale_down=ScalingRules(stabilization_window_s=0))
    assert defaulted_rules(behavior, 60)[1].stabilization_window_s == 0


def test_section9b_each_unset_field_is_defaulted_alone():
    behavior = Behavior(
        scale_up=ScalingRules(policies=(ScalingPolicy("Pods", 2, 60),), tolerance=0.01),
        scale_down=ScalingRules(select_policy="Min"),
    )
    up, down = defaulted_rules(behavior, 300)
    assert up == ScalingRules(0, (ScalingPolicy("Pods", 2, 60),), "Max", 0.01)
    assert down == rules(("Percent", 100, 15), select="Min", window=300)


# 9b.1


@pytest.mark.parametrize(
    ("current", "proposal", "log", "want", "reason"),
    [
        (5, 9, [rec(7, 30)], 7, "ScaleUpStabilized"),  # lo = 7
        (5, 9, [rec(3, 30)], 5, "ScaleUpStabilized"),  # lo = 3, hi = 9: current is inside
        (5, 9, [rec(7, 60)], 9, ""),  # the window's end is excluded
        (5, 9, [rec(7, 59)], 7, "ScaleUpStabilized"),
        (5, 2, [rec(4, 299)], 4, "ScaleDownStabilized"),
        (5, 2, [rec(4, 300)], 2, ""),
        (5, 2, [rec(9, 299)], 5, "ScaleDownStabilized"),  # never above current on the way down
        (5, 5, [rec(9, 30), rec(1, 30)], 5, ""),
        (5, 9, [], 9, ""),
    ],
)
def test_section9b_rule_1_current_is_clamped_between_lowest_and_highest(current, proposal, log, want, reason):
    stable = stabilize_with_behavior(current, proposal, log, 60 * S, 300 * S, NOW)
    assert (stable.replicas, stable.reason) == (want, reason)


def test_section9b_rule_1_raised_first_then_lowered():
    # Only the 8 is within the up window, so lo = 8; hi = 8 as well.
    stable = stabilize_with_behavior(3, 8, [rec(9, 400)], 60 * S, 300 * S, NOW)
    assert stable.replicas == 8


def test_section9b_rule_1_zero_windows_pass_the_proposal_through():
    for proposal in (1, 5, 9):
        assert stabilize_with_behavior(5, proposal, [rec(3, 0), rec(20, 1)], 0, 0, NOW).replicas == proposal


def test_section9b_rule_1_overwrites_only_what_is_strictly_older_than_both_windows():
    log = [rec(1, 301), rec(2, 300), rec(3, 61)]
    stable = stabilize_with_behavior(5, 6, log, 60 * S, 300 * S, NOW)
    assert stable.recommendations == (Recommendation(6, NOW), rec(2, 300), rec(3, 61))
    log = [rec(2, 300), rec(3, 61)]
    stable = stabilize_with_behavior(5, 6, log, 60 * S, 300 * S, NOW)
    assert stable.recommendations == (rec(2, 300), rec(3, 61), Recommendation(6, NOW))
    log = [rec(1, 400), rec(7, 5), rec(2, 399)]
    stable = stabilize_with_behavior(5, 6, log, 300 * S, 60 * S, NOW)
    assert stable.recommendations == (rec(1, 400), rec(7, 5), Recommendation(6, NOW))


# 9b.2


def test_section9b_rule_2_period_start_is_current_less_ups_plus_downs():
    # Start 10 - 3 + 2 = 9 in both directions.
    up, down = [event(3, 10)], [event(2, 20)]
    assert scale_up_limit_with_rules(10, up, down, rules(("Pods", 4, 60)), NOW) == 13
    assert scale_down_limit_with_rules(10, up, down, rules(("Pods", 4, 60)), NOW) == 5


@pytest.mark.parametrize(("age_s", "counts"), [(59, True), (60, False), (61, False)])
def test_section9b_rule_2_an_event_exactly_one_period_old_does_not_count(age_s, counts):
    assert change_in_period([event(3, age_s)], 60, NOW) == (3 if counts else 0)


@pytest.mark.parametrize(
    ("current", "policy", "want"),
    [
        (10, ("Pods", 4, 15), 14),
        (10, ("Percent", 15, 15), 12),
        (1, ("Percent", 10, 15), 2),
        (3, ("Percent", 100, 15), 6),
    ],
)
def test_section9b_rule_2_up_pods_add_and_percent_rounds_up(current, policy, want):
    assert scale_up_limit_with_rules(current, [], [], rules(policy), NOW) == want


@pytest.mark.parametrize(
    ("current", "policy", "want"),
    [
        (10, ("Pods", 4, 15), 6),
        (10, ("Percent", 15, 15), 8),
        (5, ("Percent", 50, 15), 2),
        (3, ("Pods", 5, 15), -2),
    ],
)
def test_section9b_rule_2_down_pods_subtract_and_percent_truncates(current, policy, want):
    assert scale_down_limit_with_rules(current, [], [], rules(policy), NOW) == want


def test_section9b_rule_2_down_percent_truncates_toward_zero():
    # Start 1 - 4 = -3; -3 * 0.5 = -1.5, truncated to -1 and not -2.
    assert scale_down_limit_with_rules(1, [event(4, 1)], [], rules(("Percent", 50, 15)), NOW) == -1


@pytest.mark.parametrize(("select", "up", "down"), [("Max", 20, 0), ("Min", 14, 6), ("Disabled", 10, 10)])
def test_section9b_rule_2_select_policy(select, up, down):
    both = rules(("Pods", 4, 15), ("Percent", 100, 15), select=select)
    assert scale_up_limit_with_rules(10, [], [], both, NOW) == up
    assert scale_down_limit_with_rules(10, [], [], both, NOW) == down


DEFAULT_UP, DEFAULT_DOWN = defaulted_rules(Behavior(), 300)


def bounded(current, desired, up=DEFAULT_UP, down=DEFAULT_DOWN, lo=1, hi=100, ups=(), downs=()):
    limited = limit_with_behavior(current, desired, lo, hi, up, down, ups, downs, NOW)
    return limited.replicas, limited.reason


def test_section9b_rule_2_up_cap_and_reason():
    up = rules(("Pods", 2, 60))
    assert bounded(5, 9, up=up) == (7, "ScaleUpLimit")
    assert bounded(5, 7, up=up) == (7, "DesiredWithinRange")
    assert bounded(5, 9, up=up, hi=6) == (6, "TooManyReplicas")
    assert bounded(5, 9, up=up, hi=7) == (7, "TooManyReplicas")


def test_section9b_rule_2_down_floor_and_reason():
    down = rules(("Pods", 1, 120))
    assert bounded(5, 2, down=down) == (4, "ScaleDownLimit")
    assert bounded(5, 4, down=down) == (4, "DesiredWithinRange")
    assert bounded(5, 2, lo=3) == (3, "TooFewReplicas")
    assert bounded(5, 3, down=down, lo=4) == (4, "TooFewReplicas")


def test_section9b_rule_2_the_limit_never_moves_against_the_direction():
    # Events have used up more than the policy allows: the limit would be 5 + 2 - 6 = 1.
    assert bounded(5, 9, up=rules(("Pods", 2, 60)), ups=[event(6, 5)]) == (5, "ScaleUpLimit")
    assert bounded(5, 1, down=rules(("Pods", 1, 60)), downs=[event(6, 5)]) == (5, "ScaleDownLimit")


def test_section9b_rule_2_disabled_holds_current_in_its_direction():
    disabled = rules(("Pods", 4, 15), select="Disabled")
    assert bounded(5, 9, up=disabled) == (5, "ScaleUpLimit")
    assert bounded(5, 9, up=disabled, hi=5) == (5, "TooManyReplicas")
    assert bounded(5, 4, up=disabled) == (4, "DesiredWithinRange")
    assert bounded(5, 1, down=disabled) == (5, "ScaleDownLimit")
    assert bounded(5, 1, down=disabled, lo=5) == (5, "TooFewReplicas")


def test_section9b_rule_2_staying_is_always_within_range():
    disabled = rules(("Pods", 4, 15), select="Disabled")
    assert bounded(5, 5, up=disabled, down=disabled, ups=[event(50, 1)]) == (5, "DesiredWithinRange")


def test_section9b_rule_3_min_and_max_bind_in_the_direction_of_travel_only():
    # Above the maximum and on the way down: the maximum plays no part; likewise the minimum on the way up.
    assert bounded(10, 9, hi=5) == (9, "DesiredWithinRange")
    assert bounded(2, 3, lo=6) == (3, "DesiredWithinRange")


# Scale events


def test_section9_events_are_appended_while_none_is_outdated():
    stored = store_event((event(1, 10),), 3, rules(("Pods", 1, 60), ("Pods", 1, 15)), NOW)
    assert stored == (event(1, 10), ScaleEvent(3, NOW))


def test_section9_events_the_last_outdated_one_is_overwritten_and_others_flagged():
    before = (event(1, 61), event(2, 10), event(3, 90), event(4, 5))
    stored = store_event(before, 7, rules(("Pods", 1, 60), ("Pods", 1, 15)), NOW)
    assert stored == (event(1, 61, outdated=True), event(2, 10), ScaleEvent(7, NOW), event(4, 5))


def test_section9_events_one_exactly_as_old_as_the_longest_period_is_not_outdated():
    stored = store_event((event(1, 60),), 3, rules(("Pods", 1, 60)), NOW)
    assert stored == (event(1, 60), ScaleEvent(3, NOW))
    assert longest_period_s(rules(("Pods", 1, 60), ("Percent", 1, 90))) == 90


# Section 14


def test_section14_trap_1_behavior_nil_doubles_and_empty_behavior_adds_four_or_doubles():
    legacy, modern, size = [1], [1], 1
    for _ in range(3):
        legacy.append(limit(legacy[-1], 100, 1, 100).replicas)
        size = modern[-1]
        modern.append(bounded(size, 100)[0])
    assert legacy == [1, 4, 8, 16]
    assert modern == [1, 5, 10, 20]


def test_section14_trap_2_legacy_scales_down_one_tick_later_than_behavior():
    def passes_until_down(step):
        log, age = (Recommendation(5, 0),), 0
        while True:
            age += 15
            stable = step(log, age * S)
            log = stable.recommendations
            if stable.replicas == 1:
                return age

    assert passes_until_down(lambda log, now: stabilize(1, log, 300 * S, now)) == 315
    assert passes_until_down(lambda log, now: stabilize_with_behavior(5, 1, log, 0, 300 * S, now)) == 300


def test_section14_trap_3_ticks_a_hair_below_the_period_halve_the_growth():
    up = rules(("Pods", 4, 15))
    exact = limit_with_behavior(5, 99, 1, 99, up, DEFAULT_DOWN, [event(4, 15)], [], NOW)
    hair = [ScaleEvent(4, NOW - 15 * S + 1)]
    assert exact.replicas == 9
    assert limit_with_behavior(5, 99, 1, 99, up, DEFAULT_DOWN, hair, [], NOW).replicas == 5


def test_section14_trap_4_the_log_stays_at_most_window_over_period_plus_one():
    log = ()
    for tick in range(1000):
        log = stabilize(3, log, 300 * S, tick * 15 * S).recommendations
    assert len(log) == 300 // 15 + 1


REPLICAS = st.integers(0, 50)
LOG = st.lists(st.builds(rec, REPLICAS, st.integers(0, 500)), max_size=8)
POLICY = st.builds(
    ScalingPolicy, st.sampled_from(["Pods", "Percent"]), st.integers(1, 200), st.integers(1, 1800)
)
RULES = st.builds(
    ScalingRules,
    st.integers(0, 3600),
    st.lists(POLICY, min_size=1, max_size=3).map(tuple),
    st.sampled_from(["Max", "Min", "Disabled"]),
)
EVENTS = st.lists(st.builds(event, st.integers(1, 10), st.integers(0, 500)), max_size=4)


@given(REPLICAS, REPLICAS, LOG, st.integers(0, 400), st.integers(0, 400))
def test_section9b_stabilized_lies_between_current_and_proposal(current, proposal, log, up_s, down_s):
    stable = stabilize_with_behavior(current, proposal, log, up_s * S, down_s * S, NOW)
    assert min(current, proposal) <= stable.replicas <= max(current, proposal)
    assert Recommendation(proposal, NOW) in stable.recommendations


@given(REPLICAS, REPLICAS, RULES, RULES, EVENTS, EVENTS)
def test_section9b_limits_never_overshoot_and_never_turn(current, desired, up, down, ups, downs):
    replicas, reason = bounded(current, desired, up, down, 0, 50, ups, downs)
    assert min(current, desired) <= replicas <= max(current, desired)
    assert (replicas != desired) == (reason != "DesiredWithinRange")

"""The plan of the perfect autoscaler, by hand and against every other schedule of a small case."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.autoscaling.perfect import PerfectSpec, PerfectState, decide, needs, plan
from simulator.units import PS_PER_S as S

SPEC = PerfectSpec(rate_per_replica=2.0, lead_ps=20 * S, window_ps=10 * S, min_replicas=1)


def arrivals(*per_window: int) -> list[int]:
    """So many arrivals in each window of 10 s."""
    return [index * 10 * S + k for index, count in enumerate(per_window) for k in range(count)]


def test_a_window_needs_its_arrivals_over_capacity() -> None:
    # One replica takes 20 requests in a window.
    assert needs(arrivals(0, 20, 21, 60, 0), SPEC) == [1, 1, 2, 3]
    assert needs(arrivals(200), replace(SPEC, max_replicas=4)) == [4]


def test_orders_come_one_lead_early_and_releases_at_the_end() -> None:
    schedule = plan(arrivals(0, 0, 0, 0, 41, 5), SPEC)
    assert schedule.times_ps == (0, 20 * S, 50 * S)
    assert schedule.replicas == (1, 3, 1)
    assert [decide(PerfectState(), schedule, t * S)[1].replicas for t in (0, 19, 20, 49, 50, 999)] == [
        1,
        1,
        3,
        3,
        1,
        1,
    ]


def test_an_order_cannot_come_before_the_start() -> None:
    assert plan(arrivals(40), SPEC).replicas[0] == 2


@pytest.mark.parametrize(("gap_windows", "kept"), [(1, True), (2, True), (3, False), (9, False)])
def test_gaps_up_to_the_lead_are_kept(gap_windows: int, kept: bool) -> None:
    schedule = plan(arrivals(0, 0, 0, 40, *[0] * gap_windows, 40), SPEC)
    assert (min(schedule.at(t * S) for t in range(10, 40 + 10 * gap_windows)) == 2) is kept


def test_the_tail_makes_keeping_cheaper() -> None:
    load = arrivals(0, 0, 0, 40, 0, 0, 0, 40)
    assert plan(load, SPEC).at(40 * S) == 1
    assert plan(load, replace(SPEC, tail_ps=10 * S)).at(40 * S) == 2


def test_no_arrivals_keep_the_minimum() -> None:
    assert plan([], SPEC).replicas == (1,)


def test_bad_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="rate and window"):
        plan([], replace(SPEC, rate_per_replica=0.0))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=7), st.integers(0, 3), st.integers(0, 2))
def test_no_other_schedule_is_cheaper(levels: list[int], lead: int, tail: int) -> None:
    """Every schedule of two extra replicas over the windows, each replica by itself; lead and tail in windows."""
    spec = replace(SPEC, min_replicas=0, lead_ps=lead * 10 * S, tail_ps=tail * 10 * S)
    padded = [0] * lead + levels  # nothing is needed before a first order could arrive
    schedule = plan(arrivals(*[20 * level for level in padded]), spec)
    paid = sum(
        schedule.replicas[i] * (schedule.times_ps[i + 1] - schedule.times_ps[i])
        for i in range(len(schedule.times_ps) - 1)
    )
    releases = sum(max(0, a - b) for a, b in zip(schedule.replicas, schedule.replicas[1:], strict=False))
    cost = paid // (10 * S) + tail * releases

    def cheapest(level: int) -> int:
        """Of all ways to have one replica ready wherever the level is needed."""
        best = None
        for ready in product((False, True), repeat=len(padded)):
            if any(need >= level and not have for need, have in zip(padded, ready, strict=True)):
                continue
            starts = sum(have and not before for before, have in zip((False, *ready), ready, strict=False))
            # A start overlapping the replica's own last release would be two replicas: still paid for both.
            total = sum(ready) + starts * (lead + tail)
            best = total if best is None else min(best, total)
        return best or 0

    assert cost == sum(cheapest(level) for level in (1, 2))

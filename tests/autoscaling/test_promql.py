"""Prometheus' functions on samples whose results can be worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.autoscaling.promql import avg_over_time, histogram_quantile, increase, max_over_time, rate


def test_rate_of_samples_that_fill_the_window():
    samples = [(t, 100 + 2 * t) for t in range(0, 61, 15)]
    assert rate(samples, 0, 60) == 2.0


def test_rate_reaches_to_both_ends_when_samples_are_near():
    # 45 s sampled, 10 s before and 5 s after: all 60 s are taken to go on alike.
    samples = [(t, 100 + 2 * t) for t in (10, 25, 40, 55)]
    assert increase(samples, 0, 60) == pytest.approx(120)
    assert rate(samples, 0, 60) == pytest.approx(2)


def test_rate_of_a_series_that_began_late_reaches_half_a_spacing_back():
    # 30 s sampled, 30 s before: beyond 1.1 spacings, so 7.5 s.
    samples = [(t, 1000 + 2 * t) for t in (30, 45, 60)]
    assert increase(samples, 0, 60) == pytest.approx(2 * 37.5)


def test_rate_of_a_series_that_ended_early_reaches_half_a_spacing_on():
    samples = [(t, 1000 + 2 * t) for t in (0, 15, 30)]
    assert increase(samples, 0, 60) == pytest.approx(2 * 37.5)


def test_rate_never_reaches_before_the_counter_was_zero():
    # It was 4 at 10 s and grows by 2 a second: 0 at 8 s.
    samples = [(t, 4 + 2 * (t - 10)) for t in (10, 25, 40, 55)]
    assert increase(samples, 0, 60) == pytest.approx(2 * 52)


def test_rate_takes_a_fall_for_a_restart():
    samples = [(0, 10), (15, 40), (30, 5), (45, 35), (60, 65)]
    assert increase(samples, 0, 60) == pytest.approx(30 + 5 + 30 + 30)


def test_rate_needs_two_samples():
    assert rate([], 0, 60) is None
    assert rate([(30, 5)], 0, 60) is None
    assert rate([(30, 5), (45, 5)], 0, 60) == 0


@given(
    st.lists(st.floats(0, 1e6), min_size=2, max_size=10),
    st.floats(0, 14.9),
)
def test_rate_is_never_negative(values, offset):
    samples = [(offset + 15 * n, value) for n, value in enumerate(values)]
    assert rate(samples, 0, 15 * len(values)) >= 0


def test_over_time():
    assert avg_over_time([(0, 1), (15, 5), (30, 6)]) == 4
    assert max_over_time([(0, 1), (15, 7), (30, 6)]) == 7
    assert avg_over_time([]) is None
    assert max_over_time([]) is None


def test_histogram_quantile_is_linear_in_the_bucket():
    bounds, counts = (0.1, 0.5, 1.0), (10, 50, 100, 100)
    assert histogram_quantile(0.5, bounds, counts) == pytest.approx(0.5)
    assert histogram_quantile(0.75, bounds, counts) == pytest.approx(0.75)
    assert histogram_quantile(0.05, bounds, counts) == pytest.approx(0.05)


def test_histogram_quantile_beyond_the_last_bound_is_that_bound():
    assert histogram_quantile(0.99, (0.1, 0.5), (10, 50, 100)) == 0.5


def test_histogram_quantile_without_observations():
    assert math.isnan(histogram_quantile(0.5, (0.1, 0.5), (0, 0, 0)))

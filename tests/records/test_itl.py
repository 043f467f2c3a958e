import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.records.itl import QUANTILE_RELATIVE_ERROR, ItlHistogram, bin_edges_ps, bin_index
from simulator.units import PS_PER_S

GAPS = st.integers(0, 100 * PS_PER_S)


@given(GAPS)
def test_a_gap_lies_in_its_bin_and_bins_are_narrow(gap: int) -> None:
    low, high = bin_edges_ps(bin_index(gap))
    assert low <= gap < high
    assert high - low <= max(1, low / 256)


@given(GAPS)
def test_bins_follow_each_other_without_holes(gap: int) -> None:
    index = bin_index(gap)
    assert bin_edges_ps(index)[1] == bin_edges_ps(index + 1)[0]


@given(
    first=st.integers(1, PS_PER_S),
    increment=st.integers(-1000, PS_PER_S // 100),
    count=st.integers(0, 300),
    weight=st.integers(1, 5),
)
def test_a_series_counts_as_its_gaps_one_by_one(first: int, increment: int, count: int, weight: int) -> None:
    if first + increment * count < 0:
        return
    series, singles = ItlHistogram(["w"]), ItlHistogram(["w"])
    series.add(0, first, increment, count, weight)
    for i in range(count):
        for _ in range(weight):
            singles.add(0, first + i * increment, 0, 1, 1)
    one, other = series.pool(), singles.pool()
    assert (one.tokens, one.sum_ps, one.max_ps) == (other.tokens, other.sum_ps, other.max_ps)
    assert {k: v for k, v in one.bins.items() if v} == dict(other.bins)


@given(st.lists(st.integers(1, 10 * PS_PER_S), min_size=1, max_size=200))
def test_quantiles_are_within_the_stated_error_of_the_nearest_rank(gaps: list[int]) -> None:
    histogram = ItlHistogram(["w"])
    for gap in gaps:
        histogram.add(0, gap, 0, 1, 1)
    levels = (0.5, 0.9, 0.99, 1.0)
    exact = np.quantile(np.array(gaps, dtype=float), levels, method="inverted_cdf") / PS_PER_S
    found = histogram.pool().quantiles_s(levels)
    assert found == pytest.approx(list(exact), rel=QUANTILE_RELATIVE_ERROR)
    assert histogram.pool().max_s == max(gaps) / PS_PER_S
    assert histogram.pool().mean_s == pytest.approx(sum(gaps) / len(gaps) / PS_PER_S, rel=1e-15)


def test_workloads_are_pooled_and_kept_apart() -> None:
    histogram = ItlHistogram(["chat", "code"])
    histogram.add(0, 10 * 10**9, 0, 3, 2)
    histogram.add(1, 30 * 10**9, 0, 1, 2)
    assert histogram.pool("chat").tokens == 6
    assert histogram.pool("code").mean_s == pytest.approx(0.03)
    assert histogram.pool().mean_s == pytest.approx((6 * 0.01 + 2 * 0.03) / 8)
    assert [(name, tokens) for name, _, _, tokens in histogram.rows()] == [("chat", 6), ("code", 2)]


def test_without_gaps_there_is_nothing_to_say() -> None:
    pool = ItlHistogram(["w"]).pool()
    assert (pool.mean_s, pool.max_s, pool.quantiles_s([0.5])) == (None, None, [None])

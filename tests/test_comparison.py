"""Differences are taken pair by pair."""

from __future__ import annotations

import math
from typing import Any

import pytest

from simulator.comparison import Measure, UnknownFigureError, compare, measures


def summary(total: int, good: float, errors: int, usd: float, in_flight: int = 0) -> dict[str, Any]:
    return {
        "requests": {"total": total, "in_flight": in_flight, "errors": errors},
        "slo": {"good_share": good},
        "cost": {"total_usd": usd},
        "latency": {"ttft_s": {"p99": None if errors == total else 0.1}},
    }


def test_measures_and_paired_differences() -> None:
    base = [summary(110, 0.9, 5, 1.0, in_flight=10), summary(200, 0.5, 50, 3.0)]
    other = [summary(110, 1.0, 0, 2.0, in_flight=10), summary(200, 0.6, 40, 4.0)]
    found = compare({"a": base, "b": other}, "a")
    assert found["a"]["slo_misses"].interval is not None
    assert found["a"]["slo_misses"].interval.mean == 55.0  # 10 and 100
    assert found["b"]["slo_misses"].difference is not None
    assert found["b"]["slo_misses"].difference.interval.mean == -15.0  # −10 and −20
    dollars = found["b"]["total_usd"].difference
    assert dollars is not None
    assert (dollars.interval.mean, dollars.interval.half_width) == (1.0, 0.0)  # chance cancels
    assert found["a"]["lost_requests"].difference is None
    lost = found["a"]["lost_requests"].interval
    assert lost is not None
    half = lost.half_width
    assert half == pytest.approx(12.706 * 22.5 * math.sqrt(2) / math.sqrt(2), rel=1e-3)


def test_a_path_in_the_summary_is_a_figure() -> None:
    (misses, p99, cut) = measures(["slo_misses", "latency.ttft_s.p99", "requests.errors_by_cause.drain"])
    one = {**summary(10, 1.0, 0, 1.0), "requests": {"errors_by_cause": {"spot": 3}}}
    assert (misses.title, p99.title) == ("SLO misses", "ttft_s.p99")
    assert p99.of(one) == 0.1
    assert cut.of(one) == 0  # a cause that did not occur


@pytest.mark.parametrize("path", ["latency.nothing", "latency", "requests.total.more"])
def test_no_such_figure(path: str) -> None:
    (measure,) = measures([path])
    with pytest.raises(UnknownFigureError, match=path):
        measure.of(summary(10, 1.0, 0, 1.0))


def test_pairs_without_the_figure_are_left_out() -> None:
    p99 = measures(["ttft_p99_s"])
    none, some = summary(10, 0.0, 10, 1.0), summary(10, 1.0, 0, 1.0)
    found = compare({"a": [some, some, none], "b": [none, some, some], "c": [none] * 3}, "a", p99)
    interval = found["b"]["ttft_p99_s"].interval
    difference = found["b"]["ttft_p99_s"].difference
    assert interval is not None
    assert difference is not None
    assert (interval.replications, difference.interval.replications) == (2, 1)
    assert found["c"]["ttft_p99_s"].interval is None
    assert found["c"]["ttft_p99_s"].difference is None


def test_many_differences_are_judged_together() -> None:
    """One of twenty differences falls below 5 % by chance: Holm's adjustment holds the family's error."""
    base = [{"x": value} for value in (1.0, 2.0, 3.0, 4.0)]
    other = [{"x": value} for value in (1.2, 2.4, 3.1, 4.5)]
    x = Measure("x", "x", lambda given: float(given["x"]))
    alone = compare({"a": base, "b": other}, "a", [x])["b"]["x"]
    assert alone.adjusted_p is not None
    assert 0.01 < alone.adjusted_p < 0.05
    assert alone.significant
    crowd = compare({"a": base, **{f"b{i}": other for i in range(20)}}, "a", [x])["b7"]["x"]
    assert crowd.adjusted_p == pytest.approx(min(1.0, 20 * alone.adjusted_p))
    assert not crowd.significant


def test_unequal_replications_are_no_pairs() -> None:
    one = summary(10, 1.0, 0, 1.0)
    with pytest.raises(ValueError, match="b has 1 replications"):
        compare({"a": [one, one], "b": [one]}, "a")

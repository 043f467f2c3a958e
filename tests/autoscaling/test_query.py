"""PromQL on a stub of the scraped series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from simulator.autoscaling.autoscaler import Point
from simulator.autoscaling.query import parse_query


class Reader:
    """Three pods with waiting requests 1, 2 and 6, and 10 running each."""

    _VALUES: Mapping[str, Mapping[str, float]] = {
        "waiting": {"a": 1.0, "b": 2.0, "c": 6.0},
        "running": {"a": 10.0, "b": 10.0, "c": 10.0},
        "nothing": {},
    }

    def exported(self, metric: str) -> str | None:
        return metric if metric in self._VALUES else None

    def names(self) -> Iterable[str]:
        return self._VALUES

    def labels(self, target: str) -> Mapping[str, str]:
        return {"pod": target, "model_name": "llama"}

    def keep(self, window_s: float) -> None:
        pass

    def latest(self, metric: str, now: int) -> Mapping[str, Point]:
        return {pod: Point(value, 0, 0) for pod, value in self._VALUES[metric].items()}

    def rate(self, metric: str, window_s: float, now: int) -> Mapping[str, float]:
        return {pod: value / window_s for pod, value in self._VALUES[metric].items()}

    def avg_over_time(self, metric: str, window_s: float, now: int) -> Mapping[str, float]:
        return self._VALUES[metric]

    max_over_time = avg_over_time

    def quantile(self, q: float, histogram: str, window_s: float, now: int) -> float | None:
        return q * window_s if histogram == "ttft_bucket" else None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("waiting", {"a": 1.0, "b": 2.0, "c": 6.0}),
        ('waiting{namespace="x"}', {"a": 1.0, "b": 2.0, "c": 6.0}),
        ('waiting{model_name="x"}', {}),
        ('sum(waiting{pod=~"a|b", model_name!="x"})', {"": 3.0}),
        ('max_over_time(waiting{pod!~"a|b"}[1m])', {"c": 6.0}),
        ("sum(waiting)", {"": 9.0}),
        ("avg(waiting) * 2", {"": 6.0}),
        ("max(waiting) - min(waiting)", {"": 5.0}),
        ("count(waiting)", {"": 3.0}),
        ("sum by (pod) (waiting)", {"a": 1.0, "b": 2.0, "c": 6.0}),
        ("sum without (pod) (waiting)", {"": 9.0}),
        ("sum by (namespace) (waiting)", {"": 9.0}),
        ("sum(waiting) / sum(running)", {"": 0.3}),
        ("waiting / running", {"a": 0.1, "b": 0.2, "c": 0.6}),
        ("waiting > 1", {"b": 2.0, "c": 6.0}),
        ("waiting > bool 1", {"a": 0.0, "b": 1.0, "c": 1.0}),
        ("count(waiting > 1)", {"": 2.0}),
        ("sum(nothing)", {}),
        ("sum(nothing) or vector(0)", {"": 0.0}),
        ("sum(waiting) or vector(0)", {"": 9.0}),
        ("sum(rate(waiting[30s]))", {"": 0.3}),
        ("sum(increase(waiting[30s]))", {"": 9.0}),
        ("max(max_over_time(waiting[1m]))", {"": 6.0}),
        ("scalar(sum(waiting))", 9.0),
        ("clamp_max(sum(waiting), 5)", {"": 5.0}),
        ("ceil(avg(waiting) / 2)", {"": 2.0}),
        ("-sum(waiting)", {"": -9.0}),
        ("histogram_quantile(0.95, sum by (le) (rate(ttft_bucket[1m])))", {"": 57.0}),
        ("histogram_quantile(0.95, sum(rate(other_bucket[1m])) by (le, model_name))", {}),
    ],
)
def test_values(text: str, expected: object) -> None:
    value = parse_query(text).value(Reader(), 0)
    if isinstance(value, dict) and isinstance(expected, dict):
        assert value == pytest.approx(expected)
    else:
        assert value == expected


def test_metrics_and_windows() -> None:
    query = parse_query("sum(rate(a[2m])) + sum(avg_over_time(b[30s])) + sum(c)")
    assert (query.metrics, query.window_s) == (("a", "b", "c"), 120.0)


@pytest.mark.parametrize(
    "text",
    [
        "waiting",
        'waiting{model="sum(x)"}',
        "rate(waiting[1m])",
        "sum by (pod) (waiting)",
        "max(waiting) by (instance)",
        "sum(waiting) + waiting",
        "sum by (model_name) (waiting)",
    ],
)
def test_lint_finds_queries_of_several_elements(text: str) -> None:
    assert parse_query(text).several


@pytest.mark.parametrize(
    "text", ["sum(waiting)", "avg(waiting) / 2", "scalar(waiting)", "sum without (pod) (waiting)"]
)
def test_lint_passes_queries_of_one_element(text: str) -> None:
    assert parse_query(text).several is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sum(", "not PromQL"),
        ("histogram_quantile(0.9, rate(x_bucket[1m]))", "histogram_quantile is modelled over sum by"),
        ("predict_linear(waiting[5m], 60)", "predict_linear\\(\\) is not modelled"),
        ("topk(3, waiting)", "topk is not modelled"),
        ("waiting offset 5m", "offset"),
        ("waiting and running", "operator and"),
        ("1 + 1", "selects no metric"),
        ("max_over_time(sum(waiting)[1m:5s])", "subquery"),
    ],
)
def test_what_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_query(text)

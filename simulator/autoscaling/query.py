"""PromQL queries of users, evaluated on what the simulation exports.

Parsing is `promql-parser`'s (the grammar of Prometheus itself). A series here is a target's: a pod or the gateway. The
labels that tell pods apart (``pod``, ``instance``) are known to be different on every series, and all others to be the
same, so ``by (namespace)`` is one group. A matcher is held against the labels whose values are known (pod, model_name,
engine, perhaps namespace), and lets through what it asks of others.

Modelled: selectors, ``sum avg min max count`` with by and without, ``rate increase avg_over_time max_over_time``,
``scalar vector ceil floor clamp_min clamp_max``, ``histogram_quantile`` of ``sum by (le) (rate(..._bucket[...]))``,
arithmetic, comparisons, ``or``. The rest is refused by name.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import promql_parser as promql

from simulator.autoscaling.autoscaler import MetricsReader

Vector = dict[str, float]
Value = float | Vector

POD_LABELS: Final = frozenset({"pod", "instance", "pod_name", "kubernetes_pod_name", "exported_pod"})
"""Labels whose values differ from pod to pod."""

_AGGREGATIONS: Final[Mapping[str, Callable[[list[float]], float]]] = {
    "sum": math.fsum,
    "avg": lambda values: math.fsum(values) / len(values),
    "min": min,
    "max": max,
    "count": lambda values: float(len(values)),
}
_WINDOWED: Final = ("rate", "increase", "avg_over_time", "max_over_time")
_PLAIN: Final[Mapping[str, Callable[[float], float]]] = {
    "ceil": lambda x: float(math.ceil(x)),
    "floor": lambda x: float(math.floor(x)),
    "abs": abs,
}
_CLAMPS: Final[Mapping[str, Callable[[float, float], float]]] = {"clamp_min": max, "clamp_max": min}
_ARITHMETIC: Final[Mapping[str, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda a, b: a / b if b else (math.nan if not a or math.isnan(a) else math.copysign(math.inf, a)),
}
_COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


@dataclass(frozen=True)
class Query:
    """A query that has been read.

    Attributes:
        text: as the user wrote it.
        metrics: names that it selects.
        window_s: its longest window; 0 without any.
        several: why its result may have several elements; None if it has one at most.
    """

    text: str
    metrics: tuple[str, ...]
    window_s: float
    several: str | None
    tree: Any

    def value(self, reader: MetricsReader, now: int) -> Value:
        """The result at an instant: a number for a scalar, else values by series (an empty key is a group)."""
        return _value(self.tree, reader, now)


def parse_query(text: str) -> Query:
    """Read a query.

    Raises:
        ValueError: not PromQL, or it uses what is not modelled.
    """
    try:
        tree = promql.parse(text)
    except ValueError as error:
        raise ValueError(f"not PromQL: {error}") from None
    metrics: dict[str, None] = {}
    window_s = _walk(tree, metrics)
    if not metrics:
        raise ValueError("the query selects no metric")
    return Query(text, tuple(metrics), window_s, _several(tree), tree)


def _walk(node: Any, metrics: dict[str, None]) -> float:
    """Collects metrics, gives the longest window, refuses what is not modelled."""
    match node:
        case promql.NumberLiteral():
            return 0.0
        case promql.ParenExpr() | promql.UnaryExpr():
            return _walk(node.expr, metrics)
        case promql.VectorSelector():
            if node.offset is not None or node.at is not None:
                raise ValueError("offset and @ are not modelled")
            if node.name is None:
                raise ValueError("a selector without a metric name is not modelled")
            metrics[node.name] = None
            return 0.0
        case promql.AggregateExpr():
            if str(node.op) not in _AGGREGATIONS:
                raise ValueError(f"{node.op} is not modelled; {', '.join(_AGGREGATIONS)} are")
            return _walk(node.expr, metrics)
        case promql.BinaryExpr():
            name = str(node.op)
            if name not in _ARITHMETIC and name not in _COMPARISONS and name != "or":
                raise ValueError(f"the operator {name} is not modelled")
            return max(_walk(node.lhs, metrics), _walk(node.rhs, metrics))
        case promql.Call():
            name = node.func.name
            if name in _WINDOWED:
                selector = node.args[0]
                if not isinstance(selector, promql.MatrixSelector):
                    raise ValueError(f"{name} of a subquery is not modelled")
                _walk(selector.vector_selector, metrics)
                window: timedelta = selector.range
                return window.total_seconds()
            if name in ("scalar", "vector", *_PLAIN, *_CLAMPS):
                return max(_walk(argument, metrics) for argument in node.args)
            if name == "histogram_quantile":
                selector = _quantile_of(node)
                metrics[selector.vector_selector.name] = None
                return float(selector.range.total_seconds())
            known = ", ".join((*_WINDOWED, "histogram_quantile", "scalar", "vector", *_PLAIN, *_CLAMPS))
            raise ValueError(f"{name}() is not modelled; {known} are")
    raise ValueError(f"{type(node).__name__} is not modelled")


def _quantile_of(node: Any) -> Any:
    """The selector of ``histogram_quantile(q, sum by (le) (rate(selector)))``."""
    quantile, inner = node.args
    while isinstance(inner, promql.ParenExpr):
        inner = inner.expr
    if (
        isinstance(quantile, promql.NumberLiteral)
        and isinstance(inner, promql.AggregateExpr)
        and str(inner.op) == "sum"
        and inner.modifier is not None
        and inner.modifier.type == promql.AggModifierType.By
        and "le" in inner.modifier.labels
        and not set(inner.modifier.labels) & POD_LABELS
    ):
        call = inner.expr
        if isinstance(call, promql.Call) and call.func.name == "rate":
            return call.args[0]
    raise ValueError("histogram_quantile is modelled over sum by (le) (rate(..._bucket[...])) alone")


def _groups_pods(node: Any) -> bool:
    """Whether an aggregation keeps one element for each pod."""
    modifier = node.modifier
    if modifier is None:
        return False
    labels = set(modifier.labels)
    if modifier.type == promql.AggModifierType.By:
        return bool(labels & POD_LABELS)
    return not labels & POD_LABELS


def _several(node: Any) -> str | None:
    """Why a result may have several elements."""
    match node:
        case promql.NumberLiteral():
            return None
        case promql.ParenExpr() | promql.UnaryExpr():
            return _several(node.expr)
        case promql.AggregateExpr():
            if _groups_pods(node):
                return f"{node.op} keeps one element for each pod"
            if node.modifier is not None and node.modifier.type == promql.AggModifierType.By:
                others = sorted(set(node.modifier.labels))
                if others:
                    return f"{node.op} by ({', '.join(others)}) has one element for each {', '.join(others)}"
            return None
        case promql.BinaryExpr():
            return _several(node.lhs) or _several(node.rhs)
        case promql.Call():
            if node.func.name in ("scalar", "vector", "histogram_quantile"):
                return None
            return _several(node.args[0])
    return "a selector has one element for each pod"


def _matches(selector: Any, labels: Mapping[str, str]) -> bool:
    """Whether a series with these known labels is selected."""
    for matcher in selector.matchers.matchers:
        known = labels.get(matcher.name)
        if known is None:
            continue
        if matcher.op in (promql.MatchOp.Equal, promql.MatchOp.NotEqual):
            same = known == matcher.value
        else:
            same = re.fullmatch(matcher.value, known) is not None
        if same == (matcher.op in (promql.MatchOp.NotEqual, promql.MatchOp.NotRe)):
            return False
    return True


def _value(node: Any, reader: MetricsReader, now: int) -> Value:
    match node:
        case promql.NumberLiteral():
            return float(node.val)
        case promql.ParenExpr():
            return _value(node.expr, reader, now)
        case promql.UnaryExpr():
            return _map(lambda x: -x, _value(node.expr, reader, now))
        case promql.VectorSelector():
            points = reader.latest(str(node.name), now)
            return {
                target: points[target].value for target in points if _matches(node, reader.labels(target))
            }
        case promql.AggregateExpr():
            return _aggregate(node, _value(node.expr, reader, now))
        case promql.BinaryExpr():
            return _binary(node, reader, now)
    return _call(node, reader, now)


def _map(function: Callable[[float], float], value: Value) -> Value:
    return {k: function(v) for k, v in value.items()} if isinstance(value, dict) else function(value)


def _aggregate(node: Any, value: Value) -> Value:
    vector = value if isinstance(value, dict) else {"": value}
    if not vector:
        return {}
    function = _AGGREGATIONS[str(node.op)]
    if _groups_pods(node):
        return {target: function([single]) for target, single in vector.items()}
    return {"": function(list(vector.values()))}


def _binary(node: Any, reader: MetricsReader, now: int) -> Value:
    name = str(node.op)
    left, right = _value(node.lhs, reader, now), _value(node.rhs, reader, now)
    if name == "or":
        first = left if isinstance(left, dict) else {"": left}
        second = right if isinstance(right, dict) else {"": right}
        return {**second, **first} if not first or set(first) & set(second) else {**first, **second}
    if name in _ARITHMETIC:
        return _matched(_ARITHMETIC[name], left, right)
    compare = _COMPARISONS[name]
    modifier = node.modifier
    if (modifier is not None and modifier.return_bool) or not (
        isinstance(left, dict) or isinstance(right, dict)
    ):
        return _matched(lambda a, b: float(compare(a, b)), left, right)
    # A comparison filters: the left element stays where it holds, against a scalar the vector's.
    if isinstance(left, dict):
        other = right
        return {
            k: v
            for k, v in left.items()
            if (k in other and compare(v, other[k]) if isinstance(other, dict) else compare(v, other))
        }
    assert isinstance(right, dict)
    return {k: v for k, v in right.items() if compare(left, v)}


def _matched(function: Callable[[float, float], float], left: Value, right: Value) -> Value:
    if isinstance(left, dict) and isinstance(right, dict):
        return {k: function(v, right[k]) for k, v in left.items() if k in right}
    if isinstance(left, dict):
        assert not isinstance(right, dict)
        return {k: function(v, right) for k, v in left.items()}
    if isinstance(right, dict):
        return {k: function(left, v) for k, v in right.items()}
    return function(left, right)


def _call(node: Any, reader: MetricsReader, now: int) -> Value:
    name = node.func.name
    if name == "histogram_quantile":
        selector = _quantile_of(node)
        window_s = selector.range.total_seconds()
        quantile = reader.quantile(float(node.args[0].val), selector.vector_selector.name, window_s, now)
        return {} if quantile is None else {"": quantile}
    if name in _WINDOWED:
        selector, window_s = node.args[0].vector_selector, node.args[0].range.total_seconds()
        functions = {"avg_over_time": reader.avg_over_time, "max_over_time": reader.max_over_time}
        found = functions.get(name, reader.rate)(selector.name, window_s, now)
        scale = window_s if name == "increase" else 1.0
        return {k: v * scale for k, v in found.items() if _matches(selector, reader.labels(k))}
    value = _value(node.args[0], reader, now)
    if name == "vector":
        return value if isinstance(value, dict) else {"": value}
    if name == "scalar":
        vector = value if isinstance(value, dict) else {"": value}
        return next(iter(vector.values())) if len(vector) == 1 else math.nan
    if name in _CLAMPS:
        bound = _value(node.args[1], reader, now)
        assert not isinstance(bound, dict)
        clamp = _CLAMPS[name]
        return _map(lambda x: clamp(x, bound), value)
    return _map(_PLAIN[name], value)

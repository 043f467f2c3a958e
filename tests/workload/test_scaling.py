"""More or less of the same traffic."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from simulator.scenario.arrivals import Arrivals
from simulator.scenario.workload import WorkloadConfig
from simulator.workload.scaling import scaled

LENGTHS = {"kind": "uniform", "input": {"min": 1, "max": 9}, "output": {"min": 1, "max": 9}}


@pytest.mark.parametrize(
    ("arrivals", "expected"),
    [
        ({"kind": "poisson", "rate": 4}, {"rate": 8}),
        ({"kind": "constant", "rate": 4}, {"rate": 8}),
        ({"kind": "gamma", "rate": 4, "num_requests": 3}, {"rate": 8, "num_requests": 6}),
        (
            {"kind": "spikes", "mean_rate": 4, "peak_factor": 3, "ramp": 1, "hold": 1, "every": 60},
            {"mean_rate": 8, "peak_factor": 3},
        ),
        ({"kind": "diurnal", "mean_rate": 4, "peak_to_trough": 3}, {"mean_rate": 8}),
        ({"kind": "weekly", "mean_rate": 4}, {"mean_rate": 8}),
        ({"kind": "builtin", "model": "azure-2023-code", "mean_rate": 4}, {"mean_rate": 8}),
        ({"kind": "closed-loop", "users": 4}, {"users": 8}),
    ],
)
def test_rates_and_users(arrivals: dict[str, Any], expected: dict[str, Any]) -> None:
    entry = WorkloadConfig.model_validate({"name": "a", "arrivals": arrivals, "lengths": LENGTHS})
    made = scaled(entry, 2.0).arrivals
    given = TypeAdapter[Any](Arrivals).validate_python({**arrivals, **expected})
    assert made == given


def test_curves_sums_and_traces() -> None:
    poisson = {"kind": "poisson", "rate": 4}
    curve = {"kind": "curve", "points": [{"at": 0, "rate": 2}, {"at": 5, "rate": 0}]}
    entry = WorkloadConfig.model_validate(
        {"name": "a", "arrivals": {"kind": "sum", "of": [poisson, curve]}, "lengths": LENGTHS}
    )
    parts: Any = scaled(entry, 0.5).arrivals
    assert parts.of[0].rate == 2
    assert [point.rate for point in parts.of[1].points] == [1, 0]
    trace = WorkloadConfig.model_validate(
        {"name": "a", "arrivals": {"kind": "trace", "file": "x", "rate_scale": 3}}
    )
    made: Any = scaled(trace, 2.0).arrivals
    assert made.rate_scale == 6


def test_a_builtin_curve_of_its_own_height() -> None:
    entry = WorkloadConfig.model_validate(
        {"name": "a", "arrivals": {"kind": "builtin", "model": "azure-2023-code"}, "lengths": LENGTHS}
    )
    whole: Any = scaled(entry, 1.0).arrivals
    half: Any = scaled(entry, 0.5).arrivals
    assert half.mean_rate == pytest.approx(whole.mean_rate / 2)
    with pytest.raises(ValueError, match="above 0"):
        scaled(entry, 0.0)

"""The same traffic, more or less of it: rates, users and trace rows times a factor."""

from __future__ import annotations

from typing import Any

from simulator.scenario.arrivals import Arrivals
from simulator.scenario.workload import WorkloadConfig
from simulator.workload.builtin import builtin_model


def scaled(workload: WorkloadConfig, factor: float) -> WorkloadConfig:
    """An entry with so many times its requests in the same time; curves keep their shape.

    Numbers of requests and of users are rounded to whole ones, at least one.

    Raises:
        ValueError: the factor is not above 0.
    """
    if factor <= 0:
        raise ValueError(f"a load is scaled by a factor above 0, got {factor:g}")
    return workload.model_copy(update={"arrivals": _scaled(workload.arrivals, factor)})


def _scaled(arrivals: Arrivals, factor: float) -> Any:
    match arrivals.kind:
        case "poisson" | "constant":
            return arrivals.model_copy(update={"rate": arrivals.rate * factor})
        case "gamma":
            requests = arrivals.num_requests
            number = None if requests is None else max(1, round(requests * factor))
            return arrivals.model_copy(update={"rate": arrivals.rate * factor, "num_requests": number})
        case "spikes" | "diurnal" | "weekly":
            return arrivals.model_copy(update={"mean_rate": arrivals.mean_rate * factor})
        case "builtin":
            mean = arrivals.mean_rate
            if mean is None:
                mean = builtin_model(arrivals.model).rate.mean_per_s
            return arrivals.model_copy(update={"mean_rate": mean * factor})
        case "curve":
            points = [point.model_copy(update={"rate": point.rate * factor}) for point in arrivals.points]
            return arrivals.model_copy(update={"points": points})
        case "sum":
            return arrivals.model_copy(update={"of": [_scaled(part, factor) for part in arrivals.of]})
        case "closed-loop":
            return arrivals.model_copy(update={"users": max(1, round(arrivals.users * factor))})
        case "trace":
            return arrivals.model_copy(update={"rate_scale": arrivals.rate_scale * factor})

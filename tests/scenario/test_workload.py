from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from simulator.scenario.workload import WorkloadConfig, Workloads

EXAMPLE = """
- name: chat
  arrivals:
    kind: sum
    of:
      - {kind: poisson, rate: 12/s}
      - {kind: spikes, mean_rate: 7/s, peak_factor: 8, ramp: 30s, hold: 1m, every: 20m}
      - {kind: diurnal, mean_rate: 300/min, peak_to_trough: 3}
  lengths: {kind: builtin, model: azure-2023-conversation}
  sessions:
    groups:
      - {weight: 3, system_prompt_tokens: 800}
      - {system_prompt_tokens: 200, tenants: 20}
    turns: {kind: geometric, mean: 3, max: 20}
    think_time: {kind: lognormal, median: 20s, p95: 2m}
  max_tokens: 1024
  slo: {ttft: 1s, tpot: 50ms}
- name: batch
  arrivals: {kind: closed-loop, users: 50, think_time: 2s}
  lengths: {kind: lognormal, input: {mean: 900, p95: 3000, max: 8000}, output: {median: 200, sigma: 0.5}}
  max_tokens: output
  priority: 1
  start: 10m
  duration: 1h
- name: replay
  arrivals: {kind: trace, file: trace.csv.gz, time_scale: 0.5}
"""


def load(text: str) -> list[WorkloadConfig]:
    return TypeAdapter(Workloads).validate_python(yaml.safe_load(text))


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "name": "a",
        "arrivals": {"kind": "poisson", "rate": "1/s"},
        "lengths": {"kind": "fixed", "input": 1, "output": 1},
        **changes,
    }


def test_example_loads_with_units() -> None:
    chat, batch, replay = load(EXAMPLE)
    assert chat.arrivals.kind == "sum"
    assert [part.kind for part in chat.arrivals.of] == ["poisson", "spikes", "diurnal"]
    assert chat.arrivals.of[2].mean_rate == 5.0  # type: ignore[union-attr]
    assert (batch.start, batch.duration) == (600.0, 3600.0)
    assert replay.lengths is None


def test_schema_is_exported_with_descriptions() -> None:
    schema = TypeAdapter(Workloads).json_schema()
    assert "SpikeArrivals" in schema["$defs"]
    properties = schema["$defs"]["SpikeArrivals"]["properties"]
    assert properties["mean_rate"]["description"].startswith("Mean over the whole time")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"arrivals": {"kind": "poisson", "rate": "12x"}}, "rate such as"),
        ({"arrivals": {"kind": "poisson", "rate": 0}}, "greater than 0"),
        ({"arrivals": {"kind": "poisson", "rate": 1, "burst": 1}}, "Extra inputs"),
        ({"arrivals": {"kind": "steady"}}, "does not match any of the expected tags"),
        ({"arrivals": {"kind": "gamma", "rate": 1, "rescale": True}}, "rescale needs num_requests"),
        ({"arrivals": {"kind": "gamma", "rate": 1, "burstiness": 0}}, "greater than 0"),
        ({"arrivals": {"kind": "diurnal", "mean_rate": 1}}, "either peak_to_trough or amplitude"),
        ({"arrivals": {"kind": "weekly", "mean_rate": 1, "days": [1, 1]}}, "at least 7"),
        ({"arrivals": {"kind": "weekly", "mean_rate": 1, "days": [0] * 7}}, "above 0"),
        ({"arrivals": {"kind": "curve", "points": [{"at": 1, "rate": 0}]}}, "above 0"),
        (
            {"arrivals": {"kind": "curve", "points": [{"at": 1, "rate": 1}, {"at": 0, "rate": 1}]}},
            "time order",
        ),
        ({"arrivals": {"kind": "curve", "points": [{"at": 9, "rate": 1}], "period": 5}}, "within the period"),
        ({"arrivals": {"kind": "sum", "of": [{"kind": "closed-loop", "users": 1}]}}, "expected tags"),
        ({"arrivals": {"kind": "trace", "file": "x"}}, "leave out lengths and sessions"),
        ({"lengths": None}, "lengths is missing"),
        ({"lengths": {"kind": "lognormal", "input": {"mean": 1}, "output": {"mean": 1}}}, "exactly two of"),
        (
            {"lengths": {"kind": "lognormal", "input": {"mean": 9, "median": 10}, "output": {"mean": 1}}},
            "no lognormal",
        ),
        ({"lengths": {"kind": "empirical"}}, "either file, or"),
        ({"lengths": {"kind": "empirical", "input": {0: 1, 1: 2}}}, "either file, or"),
        (
            {"lengths": {"kind": "empirical", "input": {0: 5, 1: 2}, "output": {0: 1, 1: 2}}},
            "must not fall",
        ),
        ({"lengths": {"kind": "empirical", "input": {0.5: 5}, "output": {0: 1, 1: 2}}}, "from 0 to 1"),
        (
            {"lengths": {"kind": "uniform", "input": {"min": 2, "max": 1}, "output": {"min": 1, "max": 1}}},
            "below min",
        ),
        ({"lengths": {"kind": "builtin", "model": "gpt"}}, "Input should be"),
        ({"sessions": {"system_prompt_tokens": 1, "groups": [{"system_prompt_tokens": 1}]}}, "give either"),
        ({"sessions": {"turns": 0}}, "greater than or equal to 1"),
        ({"sessions": {"think_time": {"kind": "normal"}}}, "expected tags"),
        ({"max_tokens": "all"}, "'output'"),
        ({"name": "a b"}, "match pattern"),
        ({"duration": "0s"}, "greater than 0"),
    ],
)
def test_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        WorkloadConfig.model_validate(entry(**changes))


SPIKES = {"kind": "spikes", "mean_rate": 1, "peak_factor": 2, "ramp": "10s", "hold": "10s"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "either every or times"),
        ({"every": "5m", "times": ["1m"]}, "either every or times"),
        ({"times": []}, "must not be empty"),
        ({"times": ["1m"], "first_at": "1m"}, "first_at belongs to every"),
        ({"every": "29s"}, "overlap"),
        ({"times": ["1m", "85s"]}, "overlap"),
        ({"every": "5m", "ramp": 0, "hold": 0}, "above 0"),
        ({"every": "5m", "peak_factor": 1}, "greater than 1"),
    ],
)
def test_refused_spikes(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        WorkloadConfig.model_validate(entry(arrivals={**SPIKES, **changes}))


def test_names_are_unique() -> None:
    with pytest.raises(ValidationError, match="two entries are named 'a'"):
        TypeAdapter(Workloads).validate_python([entry(), entry()])
    with pytest.raises(ValidationError, match="at least 1 item"):
        TypeAdapter(Workloads).validate_python([])

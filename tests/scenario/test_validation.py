"""Pydantic's findings in one line each."""

from pathlib import Path
from typing import Any

import pytest

from simulator.scenario.errors import ScenarioError
from simulator.scenario.load import load_scenario
from tests.small import write

LENGTHS = {"kind": "fixed", "input": 1, "output": 1}


def workload(**arrivals: Any) -> dict[str, Any]:
    return {"workload": [{"name": "a", "arrivals": arrivals, "lengths": LENGTHS}]}


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        ({"sede": 3}, "sede", "unknown key; did you mean seed?"),
        ({"gateway": {"rooting": "x"}}, "gateway.rooting", "unknown key; did you mean routing?"),
        ({"gateway": {"zzz": "x"}}, "gateway.zzz", "unknown key; expected one of latency, "),
        ({"duration": "soon"}, "duration", "expected a duration such as 30s, 5m or 2h, not 'soon'"),
        ({"duration": None}, "duration", "expected a duration"),
        ({"gateway": {"routing": "sticky"}}, "gateway.routing", "expected 'round-robin', "),
        ({"gateway": 3}, "gateway", "expected keys and values, got 3"),
        (workload(kind="poison", rate=1), "workload.0.arrivals.kind", "did you mean poisson?"),
        (workload(rate=1), "workload.0.arrivals.kind", "this key is required"),
        (workload(kind="poisson"), "workload.0.arrivals.rate", "this key is required"),
        (workload(kind="poisson", rate=0), "workload.0.arrivals.rate", "expected greater than 0, got 0"),
        ({"workload": []}, "workload", "expected at least 1 item(s), got 0"),
        ({"engine": {"vllm_version": 0.32}}, "engine.vllm_version", "write it in quotes, got 0.32"),
        ({"seed": 1.5}, "seed", "integer"),
        ({"slo": {"target": 2}}, "slo.target", "2"),
        ({"cluster": {"pools": [{"name": "a"}, {"name": "a"}]}}, "cluster", "pool names must be unique"),
        (
            {"clients": {"retry": {"on": ["500"]}}},
            "clients.retry.on.0",
            "expected '429', '503', 'cut' or 'timeout'",
        ),
    ],
)
def test_one_finding(tmp_path: Path, change: dict[str, Any], key: str, reason: str) -> None:
    with pytest.raises(ScenarioError) as error:
        load_scenario(write(tmp_path, change))
    assert error.value.key == key
    assert reason in error.value.reason
    assert "\n" not in str(error.value)


def test_the_misspelling_is_told_and_the_others_counted(tmp_path: Path) -> None:
    with pytest.raises(
        ScenarioError, match=r"scenario\.yaml:\d+: workload\.0\.arrivals\.rte: .*\(and 1 more\)"
    ):
        load_scenario(write(tmp_path, workload(kind="poisson", rte=1)))

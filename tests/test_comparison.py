"""Differences are taken pair by pair."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from simulator import compare as command
from simulator.comparison import compare
from tests import small


def summary(total: int, good: float, errors: int, usd: float, in_flight: int = 0) -> dict[str, Any]:
    return {
        "requests": {"total": total, "in_flight": in_flight, "errors": errors},
        "slo": {"good_share": good},
        "cost": {"total_usd": usd},
    }


def test_measures_and_paired_differences() -> None:
    base = [summary(110, 0.9, 5, 1.0, in_flight=10), summary(200, 0.5, 50, 3.0)]
    other = [summary(110, 1.0, 0, 2.0, in_flight=10), summary(200, 0.6, 40, 4.0)]
    found = compare({"a": base, "b": other}, "a")
    assert found["a"]["slo_misses"].interval.mean == 55.0  # 10 and 100
    assert found["b"]["slo_misses"].difference is not None
    assert found["b"]["slo_misses"].difference.interval.mean == -15.0  # −10 and −20
    dollars = found["b"]["total_usd"].difference
    assert dollars is not None
    assert (dollars.interval.mean, dollars.interval.half_width) == (1.0, 0.0)  # chance cancels
    assert found["a"]["lost_requests"].difference is None
    half = found["a"]["lost_requests"].interval.half_width
    assert half == pytest.approx(12.706 * 22.5 * math.sqrt(2) / math.sqrt(2), rel=1e-3)


def write(folder: Path, name: str, **change: Any) -> str:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(small.merged(small.SCENARIO, {"name": name, **change})))
    return str(path)


def invoke(*arguments: str) -> Any:
    import typer

    app = typer.Typer()
    app.command()(command.main)
    return CliRunner().invoke(app, arguments)


def test_the_command_prints_and_writes(tmp_path: Path) -> None:
    one, two = write(tmp_path, "one"), write(tmp_path, "two", fleet={"replicas": 2})
    out = tmp_path / "figures.json"
    result = invoke(one, two, "--replications", "2", "--jobs", "1", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "two" in result.output
    data = json.loads(out.read_text())
    assert data["base"] == "one"
    dollars = data["scenarios"]["two"]["total_usd"]
    assert dollars["difference"]["mean"] > 0


def test_other_traffic_is_refused(tmp_path: Path) -> None:
    one, two = write(tmp_path, "one"), write(tmp_path, "two", duration="50s")
    result = invoke(one, two)
    assert result.exit_code == command.EXIT_BAD_INPUT


def test_workers_change_nothing(tmp_path: Path) -> None:
    from simulator.runs import replicate
    from simulator.scenario.load import load_scenario

    loaded = [load_scenario(write(tmp_path, name)) for name in ("one", "two")]
    assert replicate(loaded, seed=3, replications=2, jobs=1) == replicate(
        loaded, seed=3, replications=2, jobs=2
    )

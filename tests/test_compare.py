"""The command: tables, JSON, variants, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from simulator import compare as command
from simulator.command import EXIT_BAD_INPUT
from tests import small


def write(folder: Path, name: str, **change: Any) -> str:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(small.merged(small.SCENARIO, {"name": name, **change})))
    return str(path)


def invoke(*arguments: str) -> Any:
    import typer

    app = typer.Typer()
    app.command()(command.main)
    return CliRunner().invoke(app, arguments)


def test_tables_and_json(tmp_path: Path) -> None:
    one, two = write(tmp_path, "one"), write(tmp_path, "two", fleet={"replicas": 2})
    result = invoke(one, two, "--replications", "2", "--jobs", "1")
    assert result.exit_code == 0, result.output
    assert "two" in result.output
    result = invoke(one, two, "--replications", "2", "--jobs", "1", "--json")
    data = json.loads(result.output)
    assert data["base"] == "one"
    dollars = data["scenarios"]["two"]["total_usd"]
    assert dollars["difference"]["mean"] > 0


def test_one_scenario_varied(tmp_path: Path) -> None:
    one = write(tmp_path, "one")
    result = invoke(
        one, "--vary", "fleet.replicas=1,2", "--base", "replicas=2", "--show", "engine.preemptions",
        "--replications", "2", "--jobs", "1", "--set", "duration=10s", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    data = json.loads(result.output)
    assert data["base"] == "replicas=2"
    assert data["figures"] == {"engine.preemptions": "engine.preemptions"}
    assert list(data["scenarios"]) == ["replicas=1", "replicas=2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--base", "zwei"], "'zwei' is not among one"), (["--show", "latency.none"], "no figure latency.none")],
)
def test_bad_options(tmp_path: Path, options: list[str], message: str) -> None:
    result = invoke(
        write(tmp_path, "one"), *options, "--replications", "2", "--jobs", "1", "--set", "duration=2s"
    )
    assert result.exit_code == EXIT_BAD_INPUT
    assert message in result.output


def test_a_page_for_the_review(tmp_path: Path) -> None:
    one = write(tmp_path, "one", description="As it <is>.")
    page = tmp_path / "page.html"
    arguments = (
        one, "--vary", "fleet.replicas=1,2", "--show", "total_usd", "--show", "engine.preemptions",
        "--replications", "2", "--jobs", "1", "--out", str(page),
    )  # fmt: skip
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    text = page.read_text(encoding="utf-8")
    assert "replicas=1" in result.output
    assert 'replicas=1 <span class="dim">base</span>' in text
    assert "As it &lt;is&gt;." in text
    assert "engine.preemptions" in text
    assert "--vary fleet.replicas=1,2 --show total_usd" in text
    assert 'src="http' not in text
    assert "<script" not in text  # one file, no network
    first = page.read_bytes()
    assert invoke(*arguments).exit_code == 0
    assert page.read_bytes() == first
    assert list(tmp_path.glob("*.partial")) == []


@pytest.mark.parametrize(
    ("name", "message"), [("page.txt", "ends in .html"), ("none/page.html", "no file can be written there")]
)
def test_a_page_that_cannot_be_written_stops_before_the_runs(tmp_path: Path, name: str, message: str) -> None:
    result = invoke(write(tmp_path, "one"), "--vary", "fleet.replicas=1,2", "--out", str(tmp_path / name))
    assert result.exit_code == EXIT_BAD_INPUT
    assert message in result.output


def test_workers_change_nothing(tmp_path: Path) -> None:
    from simulator.runs import replicate
    from simulator.scenario.load import load_scenario

    loaded = [load_scenario(write(tmp_path, name)) for name in ("one", "two")]
    assert replicate(loaded, seed=3, replications=2, jobs=1) == replicate(
        loaded, seed=3, replications=2, jobs=2
    )

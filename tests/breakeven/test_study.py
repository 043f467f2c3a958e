"""A small scenario at several loads."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from simulator.billing import ApiPrices
from simulator.breakeven import study
from simulator.breakeven.__main__ import main
from simulator.breakeven.report import answer
from simulator.scenario.load import LoadedScenario, load_scenario
from tests.small import write

API = ApiPrices.of(2.0, 6.0)


def small(folder: Path, limit: str = "1s") -> LoadedScenario:
    change = {"duration": "30s", "slo": {"ttft": limit, "tpot": "50ms"}, "fleet": {"replicas": 2}}
    return load_scenario(write(folder, change))


def test_as_configured_the_cost_falls_and_the_api_s_does_not(tmp_path: Path) -> None:
    made = study(small(tmp_path), API, [1, 0.5, 2], fleet="configured", replications=2, jobs=1)
    assert [point.load for point in made.points] == [0.5, 1, 2]
    own = [point.own_usd_per_million[0] for point in made.points]
    assert own[0] > own[1] > own[2]
    for point in made.points:
        assert point.replicas is None
        for summary, own_usd, api_usd in zip(
            point.summaries, point.own_usd_per_million, point.api_usd_per_million, strict=True
        ):
            cost = summary["cost"]
            tokens = cost["input_tokens"] + cost["output_tokens"]
            assert own_usd == pytest.approx(cost["usd_per_million_tokens"])
            spent = 2.0 * cost["input_tokens"] + 6.0 * cost["output_tokens"]
            assert api_usd == pytest.approx(spent / tokens, rel=1e-4)
    # Two replicas all the time: what they cost at 3 dollars an hour.
    assert made.points[0].summaries[0]["cost"]["peak_provisioned_usd"] == pytest.approx(
        made.points[0].summaries[0]["cost"]["nodes_usd"]
    )


def test_the_smallest_fleet_is_the_first_that_meets_the_slo(tmp_path: Path) -> None:
    loaded = small(tmp_path)
    made = study(loaded, API, [1, 8, 24], fleet="smallest", replications=1, jobs=1)
    sizes = [point.replicas for point in made.points]
    assert all(point.slo_met for point in made.points)
    assert sizes == sorted(sizes, key=lambda size: size or 0)
    largest = made.points[-1].replicas
    assert largest is not None
    assert largest > 1
    one_less = {"duration": "30s", "fleet": {"replicas": largest - 1}}
    fewer = study(
        load_scenario(write(tmp_path, one_less)), API, [24], fleet="configured", replications=1, jobs=1
    )
    assert not fewer.points[0].slo_met


def test_without_a_fleet_that_is_large_enough_there_is_no_answer(tmp_path: Path) -> None:
    made = study(small(tmp_path, "1ms"), API, [1, 2], fleet="smallest", replications=1, jobs=1)
    assert [point.load for point in made.points] == [1]
    assert made.crossing.load is None
    assert answer(made) == "No tested load meets the SLO: there is nothing to compare."


def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(main)
    return app


def test_command(tmp_path: Path) -> None:
    path = small(tmp_path).source.path
    out = tmp_path / "out"
    prices = ["--api-usd-per-million-input", "2", "--api-usd-per-million-output", "6"]
    given = [
        str(path),
        *prices,
        "--loads",
        "0.5,8",
        "--fleet",
        "configured",
        "--replications",
        "2",
        "--jobs",
        "1",
    ]
    result = CliRunner().invoke(command(), [*given, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "own $/M" in result.output
    data = json.loads((out / "summary.json").read_text())
    assert data["answer"] in result.output.replace("\n", "")
    assert [point["load"] for point in data["points"]] == [0.5, 8]
    assert (out / "breakeven.png").stat().st_size > 1000
    for wrong in (["--loads", "0,1"], ["--loads", "a"]):
        assert CliRunner().invoke(command(), [*given, *wrong]).exit_code == 2

"""Runs in folders, in memory and in replications."""

import json
from pathlib import Path

import pandas as pd
import pytest

from simulator.records.results import read_results
from simulator.runs import run, run_to_folder
from simulator.scenario.errors import ScenarioError
from simulator.scenario.load import load_scenario
from simulator.step_time import dump_profile, shipped_profiles
from tests.small import write

SHORT = ["duration=20s"]


def test_folders_are_byte_identical_whatever_the_number_of_workers(tmp_path: Path) -> None:
    loaded = load_scenario(write(tmp_path), SHORT)
    for jobs in (1, 3):
        run_to_folder(loaded, tmp_path / str(jobs), replications=3, jobs=jobs)
    one, three = (
        {path.name: path.read_bytes() for path in sorted((tmp_path / str(jobs)).rglob("*")) if path.is_file()}
        for jobs in (1, 3)
    )
    assert one.keys() == three.keys()
    assert [name for name in one if one[name] != three[name]] == []
    replications = json.loads(one["replications.json"])
    assert len({item["requests"]["total"] for item in replications}) > 1  # draws of their own
    combined = json.loads(one["summary.json"])["replications"]
    totals = [item["requests"]["total"] for item in replications]
    assert combined["figures"]["requests"]["total"]["mean"] == pytest.approx(sum(totals) / 3)
    assert combined["figures"]["requests"]["total"]["half_width"] > 0


def test_memory_and_folder_hold_the_same(tmp_path: Path) -> None:
    path = write(tmp_path)
    run_to_folder(load_scenario(path, SHORT), tmp_path / "out")
    here, there = run(path, overrides=SHORT), read_results(tmp_path / "out")
    assert here.summary == there.summary
    assert here.scenario_yaml == there.scenario_yaml
    for name in ("requests", "attempts", "timeline", "events", "itl"):
        pd.testing.assert_frame_equal(getattr(here.tables, name), getattr(there.tables, name))


def test_recorded_scenario_runs_again_to_the_same_results(tmp_path: Path) -> None:
    first = run(write(tmp_path), overrides=SHORT)
    again = tmp_path / "again.yaml"
    again.write_text(first.scenario_yaml)
    assert run(again).summary == first.summary


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    seen: list[tuple[float, int]] = []
    result = run(write(tmp_path), overrides=SHORT, progress=lambda t, n: seen.append((t, n)))
    assert seen == sorted(seen)
    assert seen[-1] == (
        pytest.approx(result.summary["run"]["duration_s"]),
        result.summary["requests"]["total"],
    )


def test_draws_of_the_profile_are_bands_beside_the_run(tmp_path: Path) -> None:
    loaded = load_scenario(write(tmp_path), SHORT)
    plain = run(loaded).summary
    summaries = [
        run(loaded, profile_draws=3, replications=n, jobs=jobs).summary for n, jobs in ((1, 1), (2, 2))
    ]
    assert summaries[0]["profile_draws"] == summaries[1]["profile_draws"]  # the same traffic in every draw
    assert {key: value for key, value in summaries[0].items() if key != "profile_draws"} == plain
    drawn = summaries[0]["profile_draws"]
    assert (drawn["draws"], drawn["coverage"]) == (3, 0.5)
    tpot = drawn["latency"]["tpot_s"]["p50"]
    assert tpot["low"] < tpot["median"] < tpot["high"]
    assert 0.7 < tpot["low"] / plain["latency"]["tpot_s"]["p50"] < 1.3
    assert summaries[1]["replications"]["replications"] == 2


def test_a_profile_of_unknown_error_cannot_be_drawn(tmp_path: Path) -> None:
    own = shipped_profiles()["h100-sxm--llama-3.1-8b--bf16--tp1"]
    own = own.model_copy(update={"name": "mine", "source": "fitted profile"})
    (tmp_path / "mine.yaml").write_text(dump_profile(own))
    loaded = load_scenario(write(tmp_path), [*SHORT, "engine.profile=mine.yaml"])
    with pytest.raises(ScenarioError, match="mine: states no uncertainty"):
        run_to_folder(loaded, tmp_path / "out", profile_draws=2, jobs=1)
    assert not (tmp_path / "out").exists()

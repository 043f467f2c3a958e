import json
from pathlib import Path

from typer import Typer
from typer.testing import CliRunner, Result

from calibration.profiles import main
from simulator.step_time import dump_profile, shipped_profiles


def run(*arguments: str) -> Result:
    app = Typer()
    app.command()(main)
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def test_every_shipped_profile_is_listed_for_machines() -> None:
    rows = json.loads(run("--json").output)
    assert [row["where"] for row in rows] == list(shipped_profiles())
    row = next(row for row in rows if row["where"] == "h200-sxm--llama-3.1-70b--fp8--tp4")
    assert (row["gpu"], row["model"], row["tp"]) == ("H200-SXM", "meta-llama/Llama-3.1-70B", 4)
    assert (row["weights"], row["kv_cache"], row["engine"]) == ("fp8", "bfloat16", "vllm 0.24.0")
    assert (row["source"], row["date"]) == ("composed", "2026-08-31")
    assert set(row["error"]) == {"dense", "pure_decode", "pure_prefill"}


def test_a_file_is_listed_by_its_path_and_dated_by_its_own_record(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    profile = shipped_profiles()["rtx4090--llama-3.1-8b--bf16--tp1"]
    path.write_text(dump_profile(profile), encoding="utf-8")
    last = json.loads(run("--json", str(path)).output)[-1]
    assert (last["where"], last["date"]) == (str(path), profile.provenance["date"])


def test_a_table_for_people() -> None:
    output = run().output
    assert "rtx4090--llama-3.1-8b" in output
    assert "decode" in output


def test_a_file_that_is_no_profile_is_named(tmp_path: Path) -> None:
    path = tmp_path / "foreign.yaml"
    path.write_text("a: 1", encoding="utf-8")
    result = run(str(path))
    assert result.exit_code == 2
    assert "foreign.yaml" in result.output

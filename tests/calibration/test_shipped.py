from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from calibration.compose import compose, main
from calibration.shipped import PROFILES, shipped_files
from simulator.catalog import find_gpu, find_model
from simulator.step_time import load_profile

FITTED = "fitted profile"


def test_shipped_profiles_are_what_the_tables_give(operator_tables: Path) -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in PROFILES.glob("*.yaml")}
    composed = {
        name: text for name, text in committed.items() if load_profile(PROFILES / name).source != FITTED
    }
    assert shipped_files(operator_tables) == composed


def test_command_writes_a_profile_that_loads(operator_tables: Path, tmp_path: Path) -> None:
    app = Typer()
    app.command()(main)
    out = tmp_path / "profile.yaml"
    arguments = ["--gpu", "RTX4090", "--model", "meta-llama/Llama-3.1-8B", "--out", str(out)]
    result = CliRunner().invoke(app, [*arguments, "--tables", str(operator_tables / "llmservingsim")])
    assert result.exit_code == 0, result.output
    assert "mixed: mean" in result.output
    assert load_profile(out).identity.gpu == "RTX4090"


def test_command_refuses_what_it_cannot_make(tmp_path: Path) -> None:
    app = Typer()
    app.command()(main)
    arguments = [
        "--model",
        "meta-llama/Llama-3.1-8B",
        "--out",
        str(tmp_path / "x"),
        "--tables",
        str(tmp_path),
    ]
    for gpu, reason in [("V100", "unknown GPU"), ("H100", "neither LLMServingSim's meta.yaml nor")]:
        result = CliRunner().invoke(app, ["--gpu", gpu, *arguments])
        assert result.exit_code == 2
        assert reason in result.output
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("gpu", "model", "tp", "reason"),
    [
        ("L4", "meta-llama/Llama-3.1-8B", 1, "no aiconfigurator tables for L4"),
        ("H100", "mistralai/Mixtral-8x7B-v0.1", 1, "dense models only"),
        ("H100", "meta-llama/Llama-3.1-8B", 3, "does not divide"),
    ],
)
def test_tables_that_do_not_cover_a_deployment_say_so(
    operator_tables: Path, gpu: str, model: str, tp: int, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        compose(operator_tables, find_gpu(gpu), find_model(model), tp)

"""The scenarios of the questions load, run, and are those of the page."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from experiments.page import PAGES, commands, table
from simulator import compare, run
from simulator.command import EXIT_INTERRUPTED
from simulator.scenario.load import load_scenario

ROOT = Path(__file__).parents[2]
QUESTIONS = ROOT / "experiments" / "questions"
COMMANDS, *OTHERS = (commands(page.read_text(encoding="utf-8")) for page in PAGES)
ALL = [*COMMANDS, *(command for page in OTHERS for command in page)]


@pytest.mark.parametrize("path", sorted(QUESTIONS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_scenario_loads_and_is_called_after_its_file(path: Path) -> None:
    assert load_scenario(path).scenario.name == path.stem


def test_every_scenario_and_manifest_is_used() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in QUESTIONS.glob("*.yaml")}
    extended = {yaml.safe_load(text).get("extends") for text in texts.values()}
    arguments = {argument for command in COMMANDS for argument in command}
    for path in texts:
        assert path.relative_to(ROOT).as_posix() in arguments or path.name in extended
    everything = "".join(texts.values()) + " ".join(arguments)
    for manifest in QUESTIONS.glob("manifests/*.yaml"):
        assert f"manifests/{manifest.name}" in everything


def test_every_page_has_commands() -> None:
    assert COMMANDS
    assert all(OTHERS)


@pytest.mark.parametrize("command", ALL, ids=lambda command: Path(command[0]).stem)
def test_a_command_is_understood(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """All options are read and all variants load; a run of nothing stands in for the runs."""
    monkeypatch.chdir(ROOT)
    asked = []

    def replicate(scenarios: list[object], **_: object) -> list[list[dict[str, object]]]:
        asked.append(len(scenarios))
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "replicate", replicate)
    app = typer.Typer()
    app.command()(compare.main)
    result = CliRunner().invoke(app, command)
    assert result.exit_code == EXIT_INTERRUPTED, result.output
    assert asked[0] >= 2


@pytest.mark.parametrize("name", sorted({Path(command[0]).stem for command in COMMANDS}))
def test_a_slice_of_a_question_runs(name: str) -> None:
    summary = run(QUESTIONS / f"{name}.yaml", overrides=["duration=12s", "drain=5s"]).summary
    assert summary["fleet"]["gpu_hours"] > 0
    figures = {
        command[position + 1]
        for command in COMMANDS
        if Path(command[0]).stem == name
        for position, argument in enumerate(command)
        if argument == "--show"
    }
    for measure in compare.measures(figures):
        measure.of(summary)


def test_figures_as_a_table() -> None:
    difference = {"mean": -2.0, "half_width": 0.5, "significant": True}
    data = {
        "replications": 5,
        "figures": {"x": "X [s]"},
        "scenarios": {
            "one": {"x": {"mean": 3.0, "half_width": 1.0, "difference": None}},
            "two": {"x": {"mean": 1.0, "half_width": 0.0, "difference": difference}},
            "three": {"x": None},
        },
    }
    assert table(data) == (
        "| mean of 5 | X [s] |\n| --- | ---: |\n| one | 3.00 ± 1.00 |\n"
        "| two | 1.00<br>-2.00 ± 0.50 \\* |\n| three | – |\n"
    )

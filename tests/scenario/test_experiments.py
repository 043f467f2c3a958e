"""Every shipped scenario loads with the files that it names."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from simulator.scenario.load import load_scenario

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SCENARIOS = [
    path
    for path in sorted(EXPERIMENTS.rglob("*.yaml"))
    if {"engine", "extends"} & set(yaml.safe_load(path.read_text()) or {})
]


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: str(path.relative_to(EXPERIMENTS)))
def test_it_loads(path: Path) -> None:
    loaded = load_scenario(path)
    assert loaded.scenario.description


def test_names_differ() -> None:
    names = [load_scenario(path).scenario.name for path in SCENARIOS]
    assert len(set(names)) == len(names)

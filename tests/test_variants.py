"""What is compared, and what the variants are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from simulator.scenario.errors import ScenarioError
from simulator.variants import load_variants
from tests import small


def write(folder: Path, name: str, **change: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(small.merged(small.SCENARIO, {"name": name, **change})))
    return path


def test_files_are_called_after_their_scenarios(tmp_path: Path) -> None:
    assert list(load_variants([write(tmp_path, "one"), write(tmp_path, "two")])) == ["one", "two"]


def test_all_combinations_the_first_key_slowest(tmp_path: Path) -> None:
    found = load_variants(
        [write(tmp_path, "one")], vary=["fleet.replicas=1,2", "gateway.queue_timeout=5s,1m"]
    )
    assert list(found) == [
        "replicas=1 queue_timeout=5s",
        "replicas=1 queue_timeout=1m",
        "replicas=2 queue_timeout=5s",
        "replicas=2 queue_timeout=1m",
    ]
    last = found["replicas=2 queue_timeout=1m"].scenario
    assert (last.fleet.replicas, last.gateway.queue_timeout) == (2, 60.0)


def test_several_files_varied(tmp_path: Path) -> None:
    found = load_variants(
        [write(tmp_path, "one"), write(tmp_path, "two")], ["seed=9"], ["fleet.replicas=1,2"]
    )
    assert list(found) == ["one replicas=1", "one replicas=2", "two replicas=1", "two replicas=2"]
    assert {each.scenario.seed for each in found.values()} == {9}


def test_sections_are_values_too(tmp_path: Path) -> None:
    found = load_variants([write(tmp_path, "one")], vary=["clients.retry=null,{max_attempts: 4, on: [cut]}"])
    assert list(found) == ["retry=none", "retry=given"]
    retry = found["retry=given"].scenario.clients.retry
    assert retry is not None
    assert retry.max_attempts == 4


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ("fleet.replicas", "KEY.PATH=VALUE,VALUE"),
        ("fleet.replicas=", "at least one value"),
        ("fleet.replicas=1,}", "YAML"),
        ("fleet.replicas=1,1", "'replicas=1': names must differ"),
        ("duration=10s,20s", "the same traffic"),
        ("workload.0.arrivals.rate=1/s,2/s", "the same traffic"),
        ("fleet.replicsa=1,2", "replicsa"),
    ],
)
def test_bad_variants(tmp_path: Path, vary: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        load_variants([write(tmp_path, "one")], vary=[vary])

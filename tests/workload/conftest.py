"""Helpers of the workload tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.draws import Draws
from simulator.scenario.workload import WorkloadConfig
from simulator.units import to_ps
from simulator.workload import RequestSpec, WorkloadSource

MakeSource = Callable[..., WorkloadSource]


@pytest.fixture(scope="session")
def make_source() -> MakeSource:
    def make(
        *entries: dict[str, Any], duration_s: float = 100.0, seed: int = 1, base_dir: Path = Path()
    ) -> WorkloadSource:
        configs = [
            WorkloadConfig.model_validate({"name": f"w{index}", **entry})
            for index, entry in enumerate(entries)
        ]
        return WorkloadSource(configs, Draws(seed), to_ps(duration_s), base_dir)

    return make


@pytest.fixture(scope="session")
def arrivals(make_source: MakeSource) -> Callable[..., list[RequestSpec]]:
    return lambda *entries, **options: list(make_source(*entries, **options).arrivals())


@pytest.fixture(scope="session")
def traces_dir() -> Path:
    """Folder of the published traces; tests that need it are skipped where it is not there."""
    root = Path(os.environ.get("LLM_SIM_SHARED", Path(__file__).parents[3] / "shared"))
    folder = root / "data" / "workloads"
    if not folder.is_dir():
        pytest.skip(f"no traces: {folder} does not exist (set LLM_SIM_SHARED)")
    return folder

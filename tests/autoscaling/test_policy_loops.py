"""Every kind of policy at work on the small scenario: it scales, it says why, and the run adds up."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from simulator.runs import run
from tests import small
from tests.autoscaling.policy_files import POLICIES, scenario_with, write_files


def results(folder: Path, *kinds: str, **changes: object):  # type: ignore[no-untyped-def]
    write_files(folder)
    policies = [{"kind": kind, **POLICIES[kind], **changes} for kind in kinds]
    return run(small.write(folder, scenario_with(*policies)))


@pytest.mark.parametrize("kind", POLICIES)
def test_every_kind_scales_up_and_says_why(tmp_path: Path, kind: str) -> None:
    found = results(tmp_path, kind)
    timeline, events = found.tables.timeline, found.tables.events
    assert timeline["replicas_desired"].max() > 1
    expected = "floor" if kind in ("forecast", "standby") else kind
    own = events[events["kind"].isin([expected, "hpa"])]
    assert len(own)
    assert own["message"].str.endswith(".").all()
    scaled = events[events["reason"] == "ScalingReplicaSet"]
    assert len(scaled)


def test_dynamo_scales_by_kv_load(tmp_path: Path) -> None:
    write_files(tmp_path)
    planner = {"mode": "agg", "optimization_target": "latency", "max_gpu_budget": 4}
    (tmp_path / "planner.yaml").write_text(yaml.safe_dump(planner))
    path = small.write(tmp_path, scenario_with({"kind": "dynamo", **POLICIES["dynamo"]}))
    tables = run(path).tables
    assert tables.timeline["replicas_desired"].max() == 4
    events = tables.events[tables.events["kind"] == "dynamo"]
    assert {"ScaleUp", "StartupInProgress"} <= set(events["reason"])


def test_a_run_is_reproducible(tmp_path: Path) -> None:
    first, second = (results(tmp_path, "ray-serve").summary for _ in range(2))
    assert first == second


def test_floors_raise_a_scaler_of_another_system(tmp_path: Path) -> None:
    alone = results(tmp_path, "keda").tables.timeline["replicas_desired"]
    floored = results(tmp_path, "keda", "standby").tables.timeline["replicas_desired"]
    assert alone.iloc[5] == 1
    assert floored.iloc[5] >= 2


def test_the_perfect_autoscaler_is_ready_before_the_spike(tmp_path: Path) -> None:
    timeline = results(tmp_path, "perfect").tables.timeline
    at_peak = timeline[(timeline["t_s"] > 65) & (timeline["t_s"] < 85)]
    before = timeline[timeline["t_s"] < 20]
    assert at_peak["replicas_ready"].min() > before["replicas_ready"].max()

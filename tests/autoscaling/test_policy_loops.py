"""Every kind of policy at work on the small scenario: it scales, it says why, and the run adds up."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from simulator.runs import run
from tests import small
from tests.autoscaling.policy_files import POLICIES, WVA_CONFIG, WVA_METRIC, scenario_with, write_files


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


def test_wva_by_tokens(tmp_path: Path) -> None:
    write_files(tmp_path)
    config = {
        **WVA_CONFIG,
        "data": {"default": "analyzerName: saturation\nkvCacheThreshold: 0.05\nkvSpareTrigger: 0"},
    }
    (tmp_path / "wva.yaml").write_text(yaml.safe_dump(config))
    tables = run(small.write(tmp_path, scenario_with({"kind": "wva", **POLICIES["wva"]}))).tables
    own = tables.events[tables.events["kind"] == "wva"]
    assert "ScaleUp" in set(own["reason"])
    assert own["message"].str.contains("tokens").any()


def test_wva_leaves_zero_within_a_tenth_of_a_second_of_a_request(tmp_path: Path) -> None:
    write_files(tmp_path)
    zero = {**WVA_CONFIG, "data": {"default": "enable_scale_to_zero: true\nretention_period: 20s"}}
    (tmp_path / "zero.yaml").write_text(yaml.safe_dump(zero))
    (tmp_path / "wva-hpa.yaml").write_text(
        small.hpa_text(
            {
                "spec": {
                    "minReplicas": 0,
                    "metrics": [WVA_METRIC],
                    "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
                }
            }
        )
    )
    policy = {"kind": "wva", **POLICIES["wva"], "scale_to_zero": "zero.yaml"}
    policy["hpa"] = {"scale_to_zero": True}
    change = scenario_with(policy)
    change["gateway"] = {"max_outstanding_per_replica": 50, "max_queue": 1000, "queue_timeout": "60s"}
    change["workload"][0]["arrivals"] = {
        "kind": "curve",
        "points": [
            {"at": "149s", "rate": "0/s"},
            {"at": "150s", "rate": "5/s"},
        ],
    }
    tables = run(small.write(tmp_path, change)).tables
    own = tables.events[tables.events["kind"] == "wva"].drop_duplicates("reason").set_index("reason")
    assert own.loc["ScaleToZero", "value"] == 0
    first = tables.requests["arrival_s"].min()
    woken = own.loc["ScaleFromZero", "t_s"]
    assert 0 < woken - first <= 0.1 + 1e-9


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

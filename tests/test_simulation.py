"""Whole runs: one computed by hand, determinism, common random numbers, causality of the autoscaler."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from simulator.cluster.cold_start import Phase, image_ps, process_steps, provisioning_ps
from simulator.draws import Draws
from simulator.records.results import Results
from simulator.scenario.load import load_scenario
from simulator.step_time.select import shipped_profiles
from simulator.units import to_s
from tests.small import FAST_START, results, write

# --- by hand -------------------------------------------------------------------------------------------------


def fixed_steps(folder: Path) -> str:
    """A profile whose steps take 10 ms, whatever is in them; no host time."""
    data = shipped_profiles()["h100-sxm--llama-3.1-8b--bf16--tp1"].model_dump(mode="json", exclude_none=True)
    terms = data["terms"]
    terms["dense"] = {"tokens": [1, 4096], "us": [10_000, 10_000]}
    terms["per_sequence"] = {"sequences": [1, 512], "us": [0, 0]}
    for name in ("decode_attention", "prefill_attention", "mixed_attention"):
        for key in ("base_us", "per_context_token_ns", "above_knee_ns"):
            if key in terms[name]:
                terms[name][key] = (np.array(terms[name][key]) * 0.0).tolist()
    terms["prefill_attention"]["launch_us"] = 0.0
    terms["overhead_us"] = 0.0
    data["host"] |= {"base_us": 0.0, "per_request_us": 0.0}
    (folder / "fixed.yaml").write_text(yaml.safe_dump(data | {"name": "fixed"}))
    return "fixed.yaml"


def by_hand(folder: Path, *, asynchronous: bool) -> pd.DataFrame:
    """Request a of 200 tokens at 0 s, request b of 3 tokens at 0.998 s; every delay is a round number."""
    change = {
        "duration": "1500ms",
        "drain": "10s",
        "engine": {
            "profile": fixed_steps(folder),
            "frontend_in": "3ms",
            "frontend_out": "1ms",
            "vllm": {"async-scheduling": asynchronous},
        },
        "gateway": {"latency": "2ms"},
        "workload": [
            {
                "name": "a",
                "arrivals": {"kind": "constant", "rate": "1/min"},
                "lengths": {"kind": "fixed", "input": 100, "output": 200},
            },
            {
                "name": "b",
                "arrivals": {"kind": "constant", "rate": "1/min"},
                "lengths": {"kind": "fixed", "input": 100, "output": 3},
                "start": "998ms",
            },
        ],
    }
    return results(folder, change).tables.requests.set_index("workload")


@pytest.mark.parametrize(
    ("asynchronous", "b_waits_ms"),
    [
        # It reaches the engine at 1003 ms; steps end at 1005, 1015, ...: the one under way and the one launched
        # behind it are waited for, without async scheduling only the former.
        (True, 2 + 10),
        (False, 2),
    ],
)
def test_latencies_by_hand(tmp_path: Path, asynchronous: bool, b_waits_ms: int) -> None:
    requests = by_hand(tmp_path, asynchronous=asynchronous)
    a, b = requests.loc["a"], requests.loc["b"]
    there_ms, back_ms = 2 + 3, 1 + 2  # the wire and the front end
    assert a["ttft_s"] * 1e3 == pytest.approx(there_ms + 10 + back_ms, abs=1e-9)
    assert a["e2e_s"] * 1e3 == pytest.approx(there_ms + 200 * 10 + back_ms, abs=1e-9)
    assert a["tpot_s"] * 1e3 == pytest.approx(10, abs=1e-9)
    assert a["max_itl_s"] * 1e3 == pytest.approx(10, abs=1e-9)
    assert b["ttft_s"] * 1e3 == pytest.approx(there_ms + b_waits_ms + 10 + back_ms, abs=1e-9)
    assert b["e2e_s"] * 1e3 == pytest.approx(there_ms + b_waits_ms + 30 + back_ms, abs=1e-9)
    # A schedule takes it when the step under way has ended, and its own step follows what is launched.
    assert b["queue_s"] * 1e3 == pytest.approx(2, abs=1e-9)


def test_gpu_is_busy_and_money_runs_as_computed(tmp_path: Path) -> None:
    by_hand(tmp_path, asynchronous=True)
    result = results(tmp_path, yaml.safe_load((tmp_path / "scenario.yaml").read_text()))
    timeline = result.tables.timeline
    # Steps run from 5 ms to 2005 ms; the last token is at the client 3 ms later.
    assert result.summary["run"]["duration_s"] == pytest.approx(timeline["t_s"].iloc[-1])
    busy_s = (timeline["gpu_utilization"] * timeline["interval_s"]).sum()
    assert busy_s == pytest.approx(
        2.000, abs=0.0101
    )  # async: one more step is launched before the end is seen
    assert timeline["output_tokens"].sum() == 203
    hours = result.summary["run"]["duration_s"] / 3600
    assert result.summary["cost"]["total_usd"] == pytest.approx(3.0 * hours)


# --- determinism ---------------------------------------------------------------------------------------------

STRESS: dict[str, Any] = {
    "duration": "2m",
    "cluster": {
        "pools": [
            {
                "name": "spot",
                "capacity": "spot",
                "usd_per_gpu_hour": 1.0,
                "provisioning": {"median": "8s"},
                "reclaim": {"mean_time_between": "90s", "notice": "5s"},
            }
        ],
        "cold_start": FAST_START,
    },
    "gateway": {"routing": "random-of-two"},
    "clients": {"retry": {"budget": None}},
    "workload": [
        {
            "name": "chat",
            "arrivals": {"kind": "gamma", "rate": "5/s", "burstiness": 0.3},
            "lengths": {"kind": "builtin", "model": "azure-2023-conversation"},
        }
    ],
}
TABLES = ("requests", "attempts", "timeline", "events", "itl")


def assert_same(a: Results, b: Results, tables: tuple[str, ...] = TABLES) -> None:
    for name in tables:
        pd.testing.assert_frame_equal(getattr(a.tables, name), getattr(b.tables, name))


def test_same_seed_same_run_and_other_seed_another(tmp_path: Path) -> None:
    first, second = (results(tmp_path, STRESS, hpa={}) for _ in range(2))
    assert_same(first, second)
    assert json.dumps(first.summary) == json.dumps(second.summary)
    other = results(tmp_path, STRESS, hpa={}, seed=8)
    assert other.summary["run"]["seed"] == 8
    assert not first.tables.requests["arrival_s"].equals(other.tables.requests["arrival_s"])


@pytest.mark.parametrize("routing", ["random-of-two", "least-kv", "least-outstanding"])
def test_looking_changes_nothing(tmp_path: Path, routing: str) -> None:
    change = {**STRESS, "gateway": {"routing": routing}}
    coarse = results(tmp_path, {**change, "timeline_interval": "30s"}, hpa={})
    fine = results(tmp_path, {**change, "timeline_interval": "130ms"}, hpa={})
    assert len(fine.tables.timeline) > 100 * len(coarse.tables.timeline)
    assert_same(coarse, fine, ("requests", "attempts", "events", "itl"))
    totals = ["arrivals", "attempts", "completed", "errors", "slo_good", "output_tokens", "input_tokens"]
    assert (coarse.tables.timeline[totals].sum() == fine.tables.timeline[totals].sum()).all()
    assert coarse.summary["latency"] == fine.summary["latency"]
    assert coarse.summary["cost"] == fine.summary["cost"]


# --- common random numbers -----------------------------------------------------------------------------------


def test_policies_face_the_same_world(tmp_path: Path) -> None:
    one = results(tmp_path, {**STRESS, "fleet": {"replicas": 2}})
    other = results(
        tmp_path, {**STRESS, "gateway": {"routing": "prefix-hash"}}, hpa={"spec": {"minReplicas": 2}}
    )
    traffic = ["workload", "arrival_s", "input_tokens", "max_tokens"]
    a, b = (r.tables.requests.set_index("request_id").sort_index()[traffic] for r in (one, other))
    pd.testing.assert_frame_equal(a, b)

    phases = ["Started", "WeightsLoaded", "Compiled", "GraphsCaptured"]
    for a_values, b_values in (
        (phase_times(one, phases), phase_times(other, phases)),
        (spot_lives(one), spot_lives(other)),
    ):
        common = a_values.index.intersection(b_values.index)
        assert len(common) >= 2
        assert (a_values[common] == b_values[common]).all()
    # Their histories did part.
    assert not phase_times(one, phases).index.equals(phase_times(other, phases).index)


def phase_times(result: Results, reasons: list[str]) -> pd.Series[float]:
    events = result.tables.events
    chosen = events[events["reason"].isin(reasons)]
    return (
        chosen.assign(subject=chosen["subject"].astype(str), reason=chosen["reason"].astype(str))
        .drop_duplicates(["subject", "reason"])
        .set_index(["subject", "reason"])["value"]
    )


def spot_lives(result: Results) -> pd.Series[float]:
    """How long nodes that were taken away had been held, by node."""
    events = result.tables.events
    gone = events[events["reason"] == "NodeReclaimed"]
    return gone.set_index(gone["subject"].astype(str))["value"].round(6)


# --- the fleet -----------------------------------------------------------------------------------------------


def test_cold_start_is_the_sum_of_its_phases(tmp_path: Path) -> None:
    path = write(tmp_path, {"fleet": {"replicas": 2}, "duration": "5m", "cluster": {"initial": "cold"}})
    loaded = load_scenario(path)
    from simulator.runs import run

    events = run(loaded).tables.events
    section, draws = loaded.scenario.cluster, Draws(7, 0)
    for ordinal in (0, 1):
        own = events[events["subject"] == f"vllm-{ordinal}"].drop_duplicates("reason").set_index("reason")
        node_s = to_s(provisioning_ps(section.pools[0], draws, ordinal, 0))
        image_s = to_s(image_ps(section.cold_start, draws, ordinal, on_node=True))
        steps = process_steps(section.cold_start, draws, ordinal, eager=False, weight_bytes=16_060_522_496)
        assert own.loc["Scheduled", "t_s"] == pytest.approx(node_s)
        assert own.loc["Pulled", "t_s"] == pytest.approx(node_s + image_s)
        read_s = sum(step.read_bytes for step in steps) / section.cold_start.reader_bytes_per_s
        listens_s = sum(to_s(step.duration_ps) for step in steps) + read_s
        # The kubelet probes every 10 s from the container's start.
        ready_s = node_s + image_s + 10 * np.ceil(listens_s / 10)
        assert own.loc["Ready", "t_s"] == pytest.approx(ready_s)
        assert [step.phase for step in steps] == [
            Phase.PROCESS_START,
            Phase.WEIGHTS,
            Phase.COMPILE,
            Phase.GRAPH_CAPTURE,
        ]
        order = ["Scheduled", "Pulled", "Started", "WeightsLoaded", "Compiled", "GraphsCaptured", "Ready"]
        assert own.loc[order, "t_s"].is_monotonic_increasing
        assert 60 < own.loc["Ready", "t_s"] < 240  # two minutes, as published


def test_autoscaler_acts_on_the_past_and_replicas_follow(tmp_path: Path) -> None:
    """A load that begins at 60 s cannot be answered before it was scraped and read."""
    change = {
        "duration": "4m",
        "cluster": {
            "cold_start": FAST_START,
            "pools": [{"name": "p", "usd_per_gpu_hour": 1, "provisioning": "9s"}],
        },
        "workload": [
            {
                "name": "late",
                "start": "60s",
                "duration": "60s",
                "arrivals": {"kind": "constant", "rate": "8/s"},
                "lengths": {"kind": "fixed", "input": 500, "output": 200},
            }
        ],
    }
    result = results(tmp_path, change, hpa={})
    events, timeline = result.tables.events, result.tables.timeline
    rescales = events[(events["kind"] == "hpa") & (events["reason"] == "SuccessfulRescale")]
    delay_s = 1.0  # of the adapter
    assert rescales["t_s"].min() > 60 + delay_s
    assert rescales["t_s"].min() < 60 + 15 + 15 + delay_s + 1  # a scrape, a pass
    # Passes are a period and their own duration apart.
    gaps = np.diff(rescales["t_s"]) / 15.03
    assert np.allclose(gaps, gaps.round(), atol=0.05 * gaps.max() / 10 + 0.02)
    assert timeline["replicas_desired"].max() == 4
    assert timeline["replicas_ready"].max() == 4
    assert timeline["replicas_ready"].iloc[-1] < 4  # and down again
    # Whoever is told to stop first drains out of the gateway: with nothing in flight nobody is cut.
    assert result.summary["requests"]["errors"] == result.tables.requests["cause"].str.startswith("cut").sum()

"""Conservation and sanity of whole runs, over random scenarios that put every part under stress."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from simulator.records.results import Results
from tests.small import FAST_START, results

OWN = ("completed", "rejected", "cut", "timed-out", "in-flight")


@st.composite
def scenarios(draw: st.DrawFn) -> dict[str, Any]:
    def one(*options: Any) -> Any:
        return draw(st.sampled_from(options))

    spot: dict[str, Any] = {
        "name": "spot",
        "capacity": "spot",
        "usd_per_gpu_hour": 1.0,
        "gpus_per_node": one(1, 2),
        "warm_nodes": one(0, 0, 1),
        "max_nodes": one(1, 3, 10),
        "provisioning": one("5s", {"median": "8s", "sigma": 0.5}),
        "empty_node_ttl": one("0s", "10s"),
        "reclaim": {
            "mean_time_between": one("20s", "60s", "10m"),
            "notice": one("0s", "5s", "30s", "120s"),
            "replacement": one(True, True, False),
            "detection": one(None, "1s", "10s"),
        },
    }
    steady: dict[str, Any] = {"name": "steady", "usd_per_gpu_hour": 3.0, "provisioning": "5s"}
    sessions = one(
        None, None, {"turns": {"kind": "geometric", "mean": 3}, "system_prompt_tokens": 100, "think_time": 1}
    )
    arrivals = one(
        {"kind": "poisson", "rate": "4/s"},
        {"kind": "gamma", "rate": "6/s", "burstiness": 0.3},
        {"kind": "closed-loop", "users": 30, "think_time": {"kind": "exponential", "mean": "1s"}},
        {"kind": "spikes", "mean_rate": 4, "peak_factor": 6, "ramp": "2s", "hold": "3s", "every": "45s"},
    )
    if arrivals["kind"] == "closed-loop":
        sessions = None
    workload = {
        "name": "a",
        "arrivals": arrivals,
        "lengths": {
            "kind": "lognormal",
            "input": {"median": one(50, 400), "sigma": 1.0, "max": one(900, 1500)},
            "output": {"median": one(5, 100), "sigma": 0.7, "max": 500},
        },
        "max_tokens": one(None, 200, "output"),
        "priority": one(0, 3),
    }
    if sessions is not None:
        workload["sessions"] = sessions
    other = {
        "name": "b",
        "arrivals": {"kind": "constant", "rate": 1},
        "lengths": {"kind": "fixed", "input": 64, "output": 1},
    }
    clients: dict[str, Any] = {
        "timeout": one(None, "5s", "60s"),
        "attempt_timeout": one(None, "3s", "20s"),
        "ttft_timeout": one(None, "1s", "10s"),
        "retry": one(
            None,
            {"on": ["429", "503", "cut", "timeout"], "budget": None, "max_attempts": 4},
            {"budget": 0.1, "budget_burst": 2, "jitter": "none", "initial_backoff": "0s"},
        ),
        "fallback": one(
            None,
            {
                "usd_per_million_input_tokens": 1,
                "usd_per_million_output_tokens": 5,
                "error_rate": one(0.0, 0.3),
                "ttft": "200ms",
            },
        ),
    }
    return {
        "seed": draw(st.integers(0, 10**6)),
        "duration": one("45s", "90s"),
        "drain": one("0s", "20s", "10m"),
        "engine": {
            "vllm": {
                "num-gpu-blocks-override": one(129, 200, 1000),
                "max-num-seqs": one(2, 16),
                "max-num-batched-tokens": one(256, 2048),
                "scheduling-policy": one("fcfs", "priority"),
                "enable-prefix-caching": one(True, False),
                "async-scheduling": one(True, False),
                "shutdown-timeout": one(0, 10),
            }
        },
        "fleet": {"replicas": one(0, 1, 3)},
        "cluster": {
            "pools": one([spot], [steady, spot], [steady]),
            "cold_start": {**FAST_START, "prepulled": one(True, False), "image_pull": "5s"},
            "initial": one("ready", "cold"),
        },
        "gateway": {
            "routing": one(
                "round-robin", "least-outstanding", "least-kv", "prefix-hash", "prefix-match", "random-of-two"
            ),
            "latency": one("0s", "2ms", "100ms"),
            "max_outstanding_per_replica": one(None, 1, 8),
            "max_queue": one(0, 5, 1000),
            "queue_timeout": one("2s", "60s"),
        },
        "clients": clients,
        "workload": [workload, other],
        "timeline_interval": one("1s", "7s"),
    }


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # shrinking a whole run takes minutes
    suppress_health_check=[HealthCheck.too_slow],
)
@given(change=scenarios(), scaled=st.booleans())
def test_every_request_ends_once_and_everything_balances(change: dict[str, Any], scaled: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(results(Path(folder), change, hpa={} if scaled else None), change)


def check(result: Results, scenario: dict[str, Any]) -> None:
    check_requests(result)
    check_attempts(result)
    check_timeline(result)
    check_money(result, scenario)
    check_pods(result)


def check_requests(result: Results) -> None:
    requests, attempts = result.tables.requests, result.tables.attempts
    summary = result.summary["requests"]
    assert requests["request_id"].is_unique
    outcomes = ("completed", "timed_out", "rejected", "failed", "fell_back", "in_flight")
    assert sum(summary[name] for name in outcomes) == summary["total"] == len(requests)
    assert sum(summary["errors_by_cause"].values()) == summary["errors"]

    sent = attempts.groupby("request_id").size().reindex(requests["request_id"], fill_value=0)
    assert (sent.to_numpy() == requests["attempts"].to_numpy()).all()
    assert (requests["attempts"] >= 1).all()

    ended = requests[requests["outcome"] != "in-flight"]
    assert ended["end_s"].notna().all()
    assert (ended["end_s"] >= ended["arrival_s"]).all()
    assert ended["slo_good"].notna().all()
    assert requests.loc[requests["outcome"] == "in-flight", "slo_good"].isna().all()
    errors = requests["outcome"].isin(["timed-out", "rejected", "failed"])
    assert not requests.loc[errors, "slo_good"].any()
    assert (requests.loc[errors, "cause"] != "").all()
    assert (requests.loc[requests["outcome"] == "completed", "cause"] == "").all()

    answered = requests[requests["outcome"].isin(["completed", "fell-back"])]
    assert (answered["ttft_s"] > 0).all()
    assert (answered["ttft_s"] <= answered["e2e_s"] + 1e-9).all()
    assert np.allclose(answered["arrival_s"] + answered["e2e_s"], answered["end_s"], atol=1e-9)
    assert (answered["output_tokens"] >= 1).all()
    assert (answered["output_tokens"] <= answered["max_tokens"]).all()
    several = answered[answered["output_tokens"] > 1]
    total = several["ttft_s"] + several["tpot_s"] * (several["output_tokens"] - 1)
    assert np.allclose(total, several["e2e_s"], atol=1e-9)
    assert (several["max_itl_s"] >= several["tpot_s"] - 1e-9).all()


def check_attempts(result: Results) -> None:
    requests, attempts = result.tables.requests, result.tables.attempts
    assert attempts["attempt_id"].is_unique
    assert set(attempts["outcome"].unique()) <= set(OWN)
    merged = attempts.merge(requests, on="request_id", suffixes=("", "_of_request"))
    assert len(merged) == len(attempts)
    # Of a request only the last attempt can have completed, and it has if the own fleet answered.
    last = merged["number"] == merged["attempts"] - 1
    won = merged["outcome"] == "completed"
    assert (merged.loc[won, "outcome_of_request"] == "completed").all()
    assert last[won].all()
    assert won.sum() == (requests["outcome"] == "completed").sum()
    assert (merged.loc[merged["outcome"] == "in-flight", "outcome_of_request"] == "in-flight").all()
    assert (merged.loc[won, "output_tokens"] == merged.loc[won, "output_tokens_of_request"]).all()
    # One after the other, never two at a time.
    ordered = attempts.sort_values(["request_id", "number"])
    follows = ordered["request_id"].eq(ordered["request_id"].shift())
    gap = ordered["sent_s"] - ordered["end_s"].shift()
    assert (gap[follows] >= -1e-9).all()
    # Time runs forwards through an attempt.
    for before, after in (
        ("sent_s", "engine_s"),
        ("engine_s", "scheduled_s"),
        ("scheduled_s", "first_token_s"),
        ("first_token_s", "end_s"),
    ):
        both = attempts[[before, after]].dropna()
        assert (both[before] <= both[after] + 1e-9).all(), (before, after)


def check_timeline(result: Results) -> None:
    timeline, requests, attempts = result.tables.timeline, result.tables.requests, result.tables.attempts
    assert timeline["arrivals"].sum() == len(requests)
    assert timeline["attempts"].sum() == len(attempts)
    assert timeline["slo_good"].sum() == requests["slo_good"].sum()
    assert np.allclose(timeline["interval_s"].cumsum(), timeline["t_s"])
    for name in ("gpu_utilization", "kv_usage_mean", "kv_usage_max"):
        values = timeline[name].dropna()
        assert ((values >= 0) & (values <= 1 + 1e-12)).all(), (name, values.min(), values.max())
    counts = timeline.drop(columns=["gpu_utilization"]).select_dtypes("number")
    assert (counts.min().dropna() >= 0).all()
    assert (timeline["replicas_ready"] <= timeline["replicas_provisioned"]).all()
    assert (timeline["prefix_hits"] <= timeline["prefix_queries"]).all()
    assert timeline["preemptions"].sum() == (result.tables.events["kind"] == "preemption").sum()
    # Every token that an engine made is an attempt's, delivered or lost; attempts in flight keep theirs.
    known = int(attempts["output_tokens"].sum())
    made = int(timeline["output_tokens"].sum())
    if (attempts["outcome"] == "in-flight").any():
        assert known <= made
    else:
        assert known == made
    completed = requests[requests["outcome"] == "completed"]
    own_gaps = int((completed["output_tokens"] - 1).sum())
    assert int(result.tables.itl["tokens"].sum()) >= own_gaps


def check_money(result: Results, scenario: dict[str, Any]) -> None:
    summary, timeline = result.summary, result.tables.timeline
    pools = summary["fleet"]["pools"]
    prices = {pool["name"]: pool["usd_per_gpu_hour"] for pool in scenario["cluster"]["pools"]}
    lines = dict.fromkeys(summary["cost"]["lines"], 0)
    for name, pool in pools.items():
        used = pool["cost_usd"] - pool["lines"]["rounding_usd"]
        assert used == pytest.approx(prices[name] * pool["gpu_hours"], abs=1e-5)
        assert sum(pool["gpu_hours_by_use"].values()) == pytest.approx(pool["gpu_hours"])
        assert sum(map(micro, pool["lines"].values())) == micro(pool["cost_usd"])
        for line, usd in pool["lines"].items():
            lines[line] += micro(usd)
    cost = summary["cost"]
    lines["fallback_api_usd"] = micro(cost["fallback_usd"])
    assert {line: micro(usd) for line, usd in cost["lines"].items()} == lines
    assert sum(lines.values()) == micro(cost["total_usd"])
    purchases = ("on_demand_usd", "spot_usd", "reserved_usd")
    assert sum(micro(cost[name]) for name in purchases) == micro(cost["nodes_usd"])
    assert timeline["cost_usd"].is_monotonic_increasing
    assert timeline["cost_usd"].iloc[-1] == cost["total_usd"]


def micro(usd: float) -> int:
    """Dollars of the summary to the micro-dollars that they are."""
    assert round(usd * 1e6) == pytest.approx(usd * 1e6, abs=1e-3)
    return round(usd * 1e6)


def check_pods(result: Results) -> None:
    events, attempts = result.tables.events, result.tables.attempts
    first = events[events["kind"] == "pod"].groupby(["subject", "reason"], observed=True)["t_s"].min()
    served = attempts.dropna(subset=["pod"])
    # Nobody is scheduled before its pod is ready, or finishes after its process has ended.
    for pod, own in served.groupby("pod", observed=True):
        if (pod, "Ready") in first:
            assert own["engine_s"].min() >= first[pod, "Ready"] - 1e-9 or pd.isna(own["engine_s"].min())
        if (pod, "Stopped") in first:
            done = own[own["outcome"] == "completed"]
            slack_s = 2.0  # the wire and the front end, on the way back
            assert not (done["end_s"] > first[pod, "Stopped"] + slack_s).any()

import json
import math
from dataclasses import replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from simulator.billing import ApiBill
from simulator.metrics import ConservationError, RunFacts, StepTimeTrust, summarise
from simulator.records import Recorder
from simulator.records.tables import Tables
from simulator.scenario.slo import Slo
from tests.bills import pool_ledger

FACTS = RunFacts(
    scenario="tiny",
    scenario_digest="d1",
    seed=4,
    simulator_version="0.1.0",
    duration_s=100.0,
    slo=Slo(ttft=1.0, tpot=0.05, target=0.5),
    model="m",
    engine="vLLM 0.32",
    gpu="H100-SXM",
    gpus_per_replica=1,
    pools=(
        pool_ledger("od", "on-demand", 0.04, 0.10, 2, 0),
        pool_ledger("spot", "spot", 0.02, 0.02, 3, 1),
    ),
    peak_provisioned_micro_usd=240_000,
    fallback=ApiBill(1000, 100, 30_000),
    step_time=StepTimeTrust("roofline", "H100-SXM", "From data sheets.", {}, {"batch": 5}, 50),
)

# id, outcome, cause, attempts, ttft, tpot, end, good: two good, one too slow, then one of each other outcome
REQUESTS = [
    ("completed", "", 1, 0.5, 0.02, 10.0, True),
    ("completed", "", 2, 1.0, 0.04, 20.0, True),
    ("completed", "", 1, 4.0, 0.03, 30.0, False),
    ("timed-out", "timeout_request", 1, None, None, 40.0, False),
    ("rejected", "gateway_queue_full", 1, None, None, 50.0, False),
    ("failed", "cut_spot_reclaim", 1, None, None, 60.0, False),
    ("fell-back", "gateway_queue_full", 1, 0.7, 0.02, 70.0, False),
    ("in-flight", "", 1, None, None, None, None),
]


def timeline_row(t_s: float, **values: Any) -> tuple[Any, ...]:
    row: dict[str, Any] = dict.fromkeys(Recorder([]).tables().timeline.columns, 0)
    row |= {"t_s": t_s, "interval_s": 50.0, "ttft_p50_s": None, "ttft_p99_s": None, "tpot_p50_s": None}
    row |= {"kv_usage_mean": None, "kv_usage_max": None}
    return tuple((row | values).values())


def record() -> tuple[Tables, Recorder]:
    recorder = Recorder(["chat", "code"])
    attempt_id = 0
    for i, (outcome, cause, attempts, ttft, tpot, end, good) in enumerate(REQUESTS):
        done = outcome in ("completed", "fell-back")
        tokens = 101 if done else 0
        e2e = ttft + tpot * 100 if ttft is not None and tpot is not None else None
        recorder.request(
            (
                i,
                "code" if i == 2 else "chat",
                None,
                None,
                float(i),
                1000,
                200,
                tokens,
                outcome,
                cause,
                attempts,
                ttft,
                tpot,
                e2e,
                tpot,
                0.1 if done else None,
                end,
                0,
                0,
                good,
            )
        )
        for number in range(attempts):
            last = number == attempts - 1
            kind = (
                "completed"
                if outcome == "completed" and last
                else "in-flight"
                if outcome == "in-flight"
                else "cut"
            )
            recorder.attempt(
                (
                    attempt_id,
                    i,
                    number,
                    "vllm-0",
                    float(i),
                    None,
                    None,
                    None,
                    end,
                    7,
                    kind,
                    "" if kind != "cut" else cause or "cut_failure",
                    200,
                    0,
                    0,
                )
            )
            attempt_id += 1
    recorder.itl.add(0, 20 * 10**9, 0, 100, 1)
    recorder.timeline(
        timeline_row(
            50.0,
            arrivals=6,
            attempts=7,
            completed=3,
            errors=1,
            waiting=4,
            replicas_ready=1,
            replicas_desired=1,
            prefix_queries=100,
            prefix_hits=20,
            ttft_p99_s=4.0,
            kv_usage_mean=0.2,
            kv_usage_max=0.3,
            preemptions=2,
        )
    )
    recorder.timeline(
        timeline_row(
            100.0,
            arrivals=2,
            attempts=2,
            errors=2,
            fell_back=1,
            waiting=0,
            replicas_ready=2,
            replicas_desired=3,
            prefix_queries=100,
            prefix_hits=60,
            ttft_p99_s=0.5,
        )
    )
    return recorder.tables(), recorder


@pytest.fixture(scope="module")
def run() -> tuple[Tables, Recorder]:
    return record()


@pytest.fixture(scope="module")
def summary(run: tuple[Tables, Recorder]) -> dict[str, Any]:
    return summarise(run[0], run[1].itl, FACTS)


def test_outcomes_and_errors(summary: dict[str, Any]) -> None:
    requests = summary["requests"]
    assert {
        k: requests[k]
        for k in ("total", "completed", "timed_out", "rejected", "failed", "fell_back", "in_flight")
    } == {
        "total": 8,
        "completed": 3,
        "timed_out": 1,
        "rejected": 1,
        "failed": 1,
        "fell_back": 1,
        "in_flight": 1,
    }
    assert requests["errors"] == 3
    assert requests["error_share"] == pytest.approx(3 / 7)
    assert requests["errors_by_cause"] == {
        "gateway_queue_full": 1,
        "cut_spot_reclaim": 1,
        "timeout_request": 1,
    }


def test_latency_is_of_the_own_fleet_and_quantiles_interpolate(summary: dict[str, Any]) -> None:
    ttft = summary["latency"]["ttft_s"]
    assert ttft["count"] == 3
    assert ttft["mean"] == pytest.approx(5.5 / 3)
    assert ttft["p50"] == 1.0
    assert ttft["p90"] == pytest.approx(1.0 + 0.8 * 3.0)  # rank 1.8 of 0..2
    assert ttft["max"] == 4.0
    assert summary["fallback"]["ttft_s"]["mean"] == 0.7
    assert summary["latency"]["itl_s"]["count"] == 100
    assert summary["latency"]["itl_s"]["mean"] == pytest.approx(0.02)


def test_goodput_and_verdict(run: tuple[Tables, Recorder], summary: dict[str, Any]) -> None:
    assert summary["slo"]["good_share"] == pytest.approx(2 / 7)
    assert summary["slo"]["verdict"] == "missed"
    assert summary["slo"]["completed_over_limit_share"] == {
        "ttft_s": pytest.approx(1 / 3),
        "tpot_s": 0.0,
        "e2e_s": None,
    }
    assert summary["throughput"]["goodput_per_s"] == pytest.approx(0.02)
    easier = replace(FACTS, slo=Slo(ttft=1.0, target=2 / 7))
    assert summarise(run[0], run[1].itl, easier)["slo"]["verdict"] == "met"


def test_throughput_and_money(summary: dict[str, Any]) -> None:
    throughput, cost = summary["throughput"], summary["cost"]
    assert throughput["output_tokens_per_s"] == pytest.approx(3.03)
    assert throughput["input_tokens_per_s"] == pytest.approx(30.0)
    assert throughput["output_tokens_per_s_per_gpu"] == pytest.approx(303 / 216)  # 0.06 GPU-hours
    assert cost["total_usd"] == pytest.approx(0.15)
    assert cost["nodes_usd"] == pytest.approx(0.12)
    assert cost["peak_provisioned_usd"] == 0.24
    assert cost["lines"]["serving_usd"] == pytest.approx(0.06)  # half of each pool's
    assert sum(cost["lines"].values()) == pytest.approx(0.15)
    assert (cost["on_demand_usd"], cost["spot_usd"], cost["reserved_usd"]) == (0.1, 0.02, 0.0)
    assert cost["gpu_hours_by_use"]["idle"] == pytest.approx(0.015)
    price = summary["fleet"]["pools"]["od"]["price"]
    assert (price["usd_per_gpu_hour"], price["rule"]) == (2.5, "stated in the scenario")
    assert cost["usd_per_million_output_tokens"] == pytest.approx(
        0.15e6 / 404
    )  # the fallback's tokens count too
    assert cost["usd_per_million_tokens"] == pytest.approx(0.15e6 / 4404)
    assert summary["fleet"]["gpu_hours"] == pytest.approx(0.06)
    assert summary["fleet"]["gpus_mean"] == pytest.approx(2.16)


def test_gauges_are_time_averages_and_rates_come_from_sums(summary: dict[str, Any]) -> None:
    assert summary["engine"]["waiting"] == {"mean": 2.0, "max": 4.0}
    assert summary["engine"]["prefix_hit_rate"] == pytest.approx(0.4)
    assert summary["engine"]["preemptions"] == 2
    assert summary["engine"]["kv_usage"] == {"mean": 0.2, "max": 0.3}  # no replica in the second interval
    assert summary["fleet"]["replicas_ready"] == {"mean": 1.5, "max": 2.0}
    assert summary["fleet"]["scale_changes"] == 1


def test_attempts(summary: dict[str, Any]) -> None:
    attempts = summary["attempts"]
    assert attempts["total"] == 9
    assert attempts["per_request"] == pytest.approx(9 / 8)
    assert attempts["by_outcome"] == {"completed": 3, "rejected": 0, "cut": 5, "timed-out": 0, "in-flight": 1}
    assert attempts["lost_output_tokens"] == 35


def test_workloads_add_up(summary: dict[str, Any]) -> None:
    workloads = summary["workloads"]
    assert list(workloads) == ["chat", "code"]
    assert sum(part["requests"]["total"] for part in workloads.values()) == 8
    assert workloads["code"]["latency"]["ttft_s"]["max"] == 4.0
    assert workloads["code"]["latency"]["itl_s"]["mean"] is None


def test_worst_moment_looks_back_over_the_wait(summary: dict[str, Any]) -> None:
    worst = summary["worst_moment"]
    assert (worst["t_s"], worst["ttft_p99_s"], worst["queued_when_sent"]) == (50.0, 4.0, 4)
    assert worst["arrivals_per_s_mean"] == pytest.approx(0.08)


def test_summary_is_plain_json_without_nan_and_reproducible(
    run: tuple[Tables, Recorder], summary: dict[str, Any]
) -> None:
    text = json.dumps(summary, allow_nan=False)
    tables, recorder = record()
    assert json.dumps(summarise(tables, recorder.itl, FACTS)) == text


def test_an_empty_run_has_no_figures_and_no_nan() -> None:
    recorder = Recorder(["chat"])
    summary = summarise(recorder.tables(), recorder.itl, replace(FACTS, pools=(), fallback=ApiBill()))
    json.dumps(summary, allow_nan=False)
    assert summary["requests"]["error_share"] is None
    assert summary["worst_moment"] is None
    assert not math.isnan(summary["cost"]["total_usd"])


def drop_first(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.iloc[1:]


def first_twice(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame.iloc[:1], frame.iloc[:-1]])


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("requests", drop_first, "7 requests, but 8 arrivals in the timeline"),
        ("requests", first_twice, "8 requests, but 7 distinct request ids"),
        ("attempts", drop_first, "8 attempts, but 9 attempts counted by requests"),
        (
            "requests",
            lambda f: f.assign(outcome=pd.Categorical(["lost"] * 8)),
            "8 requests, but 0 requests with a known outcome",
        ),
        (
            "timeline",
            lambda f: f.assign(completed=1),
            "3 completed requests, but 2 completed in the timeline",
        ),
        ("timeline", lambda f: f.assign(errors=0), "3 requests with an error, but 0 errors in the timeline"),
    ],
)
def test_records_that_contradict_each_other_are_refused(
    run: tuple[Tables, Recorder], table: str, change: Any, message: str
) -> None:
    tables, recorder = run
    changed = pa.Table.from_pandas(change(getattr(tables, table)), preserve_index=False)
    wrong = Tables({**tables.sources, table: changed})
    with pytest.raises(ConservationError, match=message):
        summarise(wrong, recorder.itl, FACTS)

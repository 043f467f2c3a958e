"""A made-up run for the report to show: a spike of eight times the load, late replicas, reclaims, errors.

No simulation: a fluid first-come queue whose capacity follows a given number of ready replicas.
"""

from pathlib import Path

import numpy as np
import pytest

from simulator.billing import ApiBill
from simulator.metrics import RunFacts, StepTimeTrust, summarise
from simulator.records import Recorder, ResultsFolder
from simulator.records.results import Results
from simulator.report.write import write_report
from simulator.scenario.slo import Slo
from simulator.units import PS_PER_S
from tests.bills import pool_ledger

SLO = Slo(ttft=2.0, tpot=0.05, e2e=30.0, target=0.95)
SCENARIO_YAML = """\
name: spiky
duration: 2h
slo: {ttft: 2s, tpot: 50ms, e2e: 30s, target: 0.95}
workload:
  - name: chat
    arrivals: {kind: spikes, rate: 4/s, factor: 8}
"""
INTERVAL_S = 10.0


def _rate(t: np.ndarray) -> np.ndarray:
    rate = 4.0 + 1.5 * np.sin(2 * np.pi * t / 5400)
    for start in (1500.0, 4500.0):
        rate += 28.0 * np.clip((t - start) / 30, 0, 1) * np.clip((start + 420 - t) / 60, 0, 1)
    return rate


def _replicas(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Desired and ready replicas."""
    desired = np.full_like(t, 2)
    ready = np.full_like(t, 2)
    for start in (1500, 4500):
        for step in range(7):
            desired[(t >= start + 60 + 60 * step) & (t < start + 1100 + 120 * step)] += 2
            ready[(t >= start + 190 + 60 * step) & (t < start + 1105 + 120 * step)] += 2
    for reclaim in (900, 1980, 4900, 4960):
        ready[(t >= reclaim) & (t < reclaim + 150)] -= 1
    return np.minimum(desired, 16), np.clip(ready, 1, 16)


def record_run(recorder: Recorder, duration_s: float = 7200.0, seed: int = 1, scale: float = 1.0) -> None:
    rng = np.random.default_rng(seed)
    fine = np.arange(0.0, duration_s, 1.0)
    desired, ready = _replicas(fine)
    arrivals = np.sort(np.repeat(fine, rng.poisson(_rate(fine) * scale)) + 0.0)
    arrivals = np.sort(arrivals + rng.random(len(arrivals)))
    capacity = np.concatenate([[0.0], np.cumsum(ready * 3.6 * scale)])  # requests that can start by second i
    seconds = np.arange(0.0, duration_s + 1)
    counts = {
        k: np.zeros(int(duration_s / INTERVAL_S) + 1, dtype=int)
        for k in ("arrivals", "attempts", "completed", "fell_back", "errors", "good", "out", "in")
    }
    ttfts: list[list[float]] = [[] for _ in counts["out"]]
    tpots: list[list[float]] = [[] for _ in counts["out"]]
    waiting = np.zeros(len(seconds) + 200)
    running = np.zeros(len(seconds) + 200)

    def bump(key: str, t: float, by: int = 1) -> None:
        counts[key][min(int(t / INTERVAL_S), len(counts[key]) - 1)] += by

    position = 0.0
    for request_id, t in enumerate(arrivals.tolist()):
        workload = "chat" if rng.random() < 0.8 else "code"
        prompt = int(rng.lognormal(6.5 if workload == "chat" else 7.5, 0.8)) + 1
        tokens = int(rng.lognormal(5.2 if workload == "chat" else 4.0, 0.7)) + 2
        slot = max(position, float(np.interp(t, seconds, capacity))) + 1
        start = max(t, float(np.interp(slot, capacity, seconds)))
        load = min(1.0, (start - t) / 10)
        tpot = 0.012 + 0.03 * load + 0.004 * rng.random()
        ttft = start - t + 0.06 + prompt * 2e-5 + 0.05 * rng.random()
        end = t + ttft + tpot * (tokens - 1)
        outcome, cause, status = "completed", "", 200
        if start - t > 45:
            outcome, cause, status, end = "timed-out", "timeout_request", 0, t + 45
        elif start - t > 30 and rng.random() < 0.5:
            outcome, cause, status, end = "rejected", "gateway_queue_full", 429, t + 0.01
        elif any(t < r <= end for r in (900, 1980, 4900, 4960)) and rng.random() < 0.3:
            outcome, cause, status, end = "failed", "cut_spot_reclaim", 0, min(end, t + 5)
        if outcome != "completed" and rng.random() < 0.15:
            outcome, ttft, end = "fell-back", end - t + 0.5, end + 0.5 + 0.02 * tokens
        else:
            position = slot if outcome == "completed" else position
        if end >= duration_s:
            outcome, cause, end = "in-flight", "", None
        done = outcome in ("completed", "fell-back")
        good = None if end is None else done and ttft <= SLO.ttft and tpot <= SLO.tpot and end - t <= SLO.e2e
        recorder.request(
            (
                request_id,
                workload,
                None,
                None,
                t,
                prompt,
                512,
                tokens if done else 0,
                outcome,
                cause,
                1,
                ttft if done else None,
                tpot if done else None,
                end - t if done else None,
                tpot * 2 if done else None,
                start - t if done else None,
                end,
                0,
                0,
                good,
            )
        )
        own = outcome == "completed"
        recorder.attempt(
            (
                request_id,
                request_id,
                0,
                "vllm-0" if own else None,
                t,
                t,
                start,
                t + ttft if own else None,
                end,
                tokens if own else 0,
                "in-flight"
                if end is None
                else "completed"
                if own
                else {"timeout_request": "timed-out", "gateway_queue_full": "rejected"}.get(cause, "cut"),
                cause,
                status,
                0,
                0,
            )
        )
        bump("arrivals", t)
        bump("attempts", t)
        waiting[int(t) : int(min(start, t + 45))] += 1
        if own:
            recorder.itl.add(0 if workload == "chat" else 1, round(tpot * PS_PER_S), 1000, tokens - 1, 1)
            running[int(start) : int(end) + 1] += 1
            bump("out", end, tokens)
            bump("in", start, prompt)
            ttfts[min(int((t + ttft) / INTERVAL_S), len(ttfts) - 1)].append(ttft)
            tpots[min(int(end / INTERVAL_S), len(ttfts) - 1)].append(tpot)
        if end is not None:
            key = {"completed": "completed", "fell-back": "fell_back"}.get(outcome, "errors")
            bump(key, end)
            bump("good", end, int(bool(good)))
    cost = 0.0
    previous = 2
    for i in range(int(duration_s / INTERVAL_S)):
        at = min(int((i + 1) * INTERVAL_S) - 1, len(fine) - 1)
        want, now = int(desired[at]), int(ready[at])
        have = max(want, now)
        on_demand = (have + 1) // 2
        cost += (on_demand * 2.0 + (have - on_demand) * 0.8) * INTERVAL_S / 3600
        if want != previous:
            recorder.event(
                round((i + 1) * INTERVAL_S * PS_PER_S),
                "scale",
                "llm-serving-hpa",
                "SuccessfulRescale",
                f"New size: {want}; reason: pods metric request_queue_depth above target",
                want,
            )
            previous = want
        busy = min(1.0, running[at] / now / 30)
        recorder.timeline(
            (
                (i + 1) * INTERVAL_S,
                INTERVAL_S,
                int(counts["arrivals"][i]),
                int(counts["attempts"][i]),
                int(counts["completed"][i]),
                int(counts["fell_back"][i]),
                int(counts["errors"][i]),
                int(counts["good"][i]),
                float(np.median(ttfts[i])) if ttfts[i] else None,
                float(np.quantile(ttfts[i], 0.99)) if ttfts[i] else None,
                float(np.median(tpots[i])) if tpots[i] else None,
                int(max(0, waiting[at] - 20 * now)),
                int(running[at]),
                int(min(waiting[at], 20 * now)),
                running[at] / now,
                0.7 * busy,
                min(1.0, 0.9 * busy),
                busy,
                72e9,
                int(counts["in"][i]),
                int(counts["out"][i]),
                int(counts["in"][i]),
                int(0.3 * counts["in"][i]),
                0,
                want,
                have,
                now,
                0,
                on_demand,
                have - on_demand,
                cost,
                0,
                1.0,
                None,
            )
        )
    for number, t in enumerate((900, 1980, 4900, 4960)):
        recorder.event(
            t * PS_PER_S, "reclaim", f"spot-{number}", "SpotReclaimed", "The cloud took the node back.", 30.0
        )


def facts(seed: int = 1, duration_s: float = 7200.0) -> RunFacts:
    return RunFacts(
        scenario="spiky",
        scenario_digest="0f3a",
        seed=seed,
        simulator_version="0.1.0",
        duration_s=duration_s,
        slo=SLO,
        model="meta-llama/Llama-3.1-8B",
        engine="vLLM 0.32",
        gpu="H100-SXM",
        gpus_per_replica=1,
        pools=(
            pool_ledger("on-demand", "on-demand", 7.0, 21.0, 9, 0),
            pool_ledger("spot", "spot", 6.0, 7.2, 12, 4),
        ),
        peak_provisioned_micro_usd=52_800_000,
        fallback=ApiBill(300_000, 1_000_000, 420_000),
        step_time=StepTimeTrust(
            "profile",
            "h100-sxm-llama-3.1-8b-bf16",
            "Composed from kernel timings measured on an H100. Not checked against a served run on this GPU.",
            {"pure decode": 0.04, "mixed": 0.09, "pure prefill": 0.06},
            {"context over 32768": 1200},
            4_100_000,
        ),
        notes=("vLLM 0.32 rules.",),
    )


def synthetic_results(duration_s: float = 7200.0, seed: int = 1, scale: float = 1.0) -> Results:
    recorder = Recorder(["chat", "code"])
    record_run(recorder, duration_s, seed, scale)
    tables = recorder.tables()
    summary = summarise(tables, recorder.itl, facts(seed, duration_s))
    return Results(tables, summary, SCENARIO_YAML)


@pytest.fixture(scope="session")
def results() -> Results:
    return synthetic_results(duration_s=2400.0)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("results") / "spiky"
    with ResultsFolder(target) as staged:
        recorder = Recorder(["chat", "code"], staged.staging)
        record_run(recorder, 2400.0)
        summary = summarise(recorder.tables(), recorder.itl, facts(duration_s=2400.0))
        staged.write_summary(summary, SCENARIO_YAML)
        write_report(staged.staging)
        return staged.publish()

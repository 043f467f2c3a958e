"""What comes and how it is sent on: workloads and the traces that they replay, clients, the gateway."""

from __future__ import annotations

import json
from random import Random
from typing import Any

_ROUTING = ("round-robin", "least-outstanding", "least-kv", "prefix-hash", "prefix-match", "random-of-two")


def draw_gateway(rng: Random) -> dict[str, Any]:
    """The scenario's ``gateway``."""
    one = rng.choice
    return {
        "routing": one(_ROUTING),
        "latency": one(("0s", "2ms", "100ms")),
        "max_outstanding_per_replica": one((None, None, 1, 8)),
        "max_queue": one((0, 5, 1000, 1000)),
        "queue_timeout": one(("0s", "2s", "60s", "60s")),
        "metrics_interval": one(("1s", "5s")),
        "load_balance_abs": one((0, 4, 32)),
    }


def draw_clients(rng: Random) -> dict[str, Any]:
    """The scenario's ``clients``."""
    one = rng.choice
    return {
        "timeout": one((None, "5s", "60s")),
        "attempt_timeout": one((None, "3s", "20s")),
        "ttft_timeout": one((None, None, "1s", "10s")),
        "retry": one(
            (
                None,
                {"on": ["429", "503", "cut", "timeout"], "budget": None, "max_attempts": 4},
                {"budget": 0.1, "budget_burst": 2, "jitter": "none", "initial_backoff": "0s"},
                {"budget": 0.5, "jitter": "equal", "max_backoff": "2s"},
            )
        ),
        "fallback": one(
            (
                None,
                {
                    "usd_per_million_input_tokens": 1,
                    "usd_per_million_output_tokens": 5,
                    "error_rate": one((0.0, 0.3)),
                    "ttft": "200ms",
                },
            )
        ),
    }


def draw_workload(rng: Random, files: dict[str, Any]) -> list[dict[str, Any]]:
    """The scenario's ``workload``: one entry of any kind, a trickle beside it, and in part of them a trace."""
    one = rng.choice
    kinds = ("poisson", "gamma", "constant", "spikes", "diurnal", "curve", "builtin", "sum", "closed-loop")
    first: dict[str, Any] = {
        "name": "a",
        "arrivals": _arrivals(rng, one(kinds)),
        "lengths": _lengths(rng),
        "max_tokens": one((None, 200, "output")),
        "priority": one((0, 3)),
        "slo": one((None, {"ttft": "2s", "e2e": "20s", "target": 0.9})),
    }
    if first["arrivals"]["kind"] != "closed-loop" and rng.random() < 0.35:
        first["sessions"] = _sessions(rng)
    second = {
        "name": "b",
        "arrivals": {"kind": "constant", "rate": 1},
        "lengths": {"kind": "fixed", "input": 64, "output": 1},
        "start": one(("0s", "15s")),
        "duration": one((None, "20s")),
    }
    entries = [first, second]
    if rng.random() < 0.3:
        entries.append(
            {"name": "c", "arrivals": _trace(rng, files), "max_tokens": one((None, 100, "output"))}
        )
    return entries


def _arrivals(rng: Random, kind: str) -> dict[str, Any]:
    one = rng.choice
    rate = one((2, 5))
    match kind:
        case "closed-loop":
            think = one(
                ({"kind": "exponential", "mean": "1s"}, "500ms", {"kind": "lognormal", "mean": 2, "sigma": 1})
            )
            return {"kind": kind, "users": 15, "think_time": think, "ramp": one(("0s", "10s"))}
        case "gamma":
            return {"kind": kind, "rate": rate, "burstiness": one((0.3, 3.0))}
        case "spikes":
            return {
                "kind": kind,
                "mean_rate": rate,
                "peak_factor": 6,
                "ramp": "2s",
                "hold": "3s",
                "every": "45s",
            }
        case "diurnal":
            return {"kind": kind, "mean_rate": rate, "peak_to_trough": 8, "period": "80s", "peak_at": "20s"}
        case "curve":
            points = [{"at": 0, "rate": 1}, {"at": 20, "rate": 2 * rate}, {"at": 50, "rate": 0}]
            return {"kind": kind, "points": points, "period": "1m"}
        case "builtin":
            return {"kind": kind, "model": "azure-2023-conversation", "mean_rate": rate, "offset": "10m"}
        case "sum":
            return {"kind": kind, "of": [_arrivals(rng, "poisson"), _arrivals(rng, "spikes")]}
        case _:
            return {"kind": kind, "rate": rate}


def _lengths(rng: Random) -> dict[str, Any]:
    one = rng.choice
    output = {"median": one((5, 100)), "sigma": 0.7, "max": 500}
    return one(
        (
            {
                "kind": "lognormal",
                "input": {"median": one((50, 400)), "sigma": 1.0, "max": one((900, 1500))},
                "output": output,
                "correlation": one((0.0, 0.5)),
            },
            {"kind": "uniform", "input": {"min": 1, "max": 600}, "output": {"min": 1, "max": 200}},
            {"kind": "empirical", "input": {0: 5, 0.5: 300, 1: 1200}, "output": {0: 1, 1: 300}},
            {"kind": "builtin", "model": "azure-2023-code", "max_total_tokens": one((2000, 2500))},
        )
    )


def _sessions(rng: Random) -> dict[str, Any]:
    one = rng.choice
    sessions: dict[str, Any] = {
        "turns": one(({"kind": "geometric", "mean": 3}, {"kind": "uniform", "min": 1, "max": 4})),
        "think_time": one((1, {"kind": "exponential", "mean": 2})),
        "max_prompt_tokens": one((None, 1000)),
    }
    if rng.random() < 0.5:
        sessions["system_prompt_tokens"] = 100
    else:
        sessions["groups"] = [
            {"system_prompt_tokens": 300, "tenants": 3},
            {"system_prompt_tokens": 20, "weight": 2},
        ]
    return sessions


def _trace(rng: Random, files: dict[str, Any]) -> dict[str, Any]:
    """A replayed file, whose prompts share prefixes."""
    one = rng.choice
    trace: dict[str, Any] = {
        "kind": "trace",
        "time_scale": one((1.0, 0.5)),
        "rate_scale": one((1.0, 0.7, 2.0)),
        "spread": one(("0s", "3s")),
    }
    times = sorted(rng.randrange(0, 60_000, 500) for _ in range(80))
    prompts = [(rng.randint(1, 1200), rng.randint(1, 150), rng.randint(0, 3)) for _ in times]
    if rng.random() < 0.5:
        trace.update(file="trace.jsonl", format="mooncake")
        rows = [
            json.dumps(
                {
                    "timestamp": t,
                    "input_length": prompt,
                    "output_length": output,
                    "hash_ids": [10 * group + block for block in range(-(-prompt // 512))],
                }
            )
            for t, (prompt, output, group) in zip(times, prompts, strict=True)
        ]
    else:
        trace.update(file="trace.csv", format="csv", prefix_block_tokens=64)
        rows = ["arrival_s,input_tokens,output_tokens,prefix_block_ids"]
        for t, (prompt, output, group) in zip(times, prompts, strict=True):
            ids = " ".join(str(100 * group + block) for block in range(min(6, prompt // 64)))
            rows.append(f"{t / 1000},{prompt},{output},{ids}")
    files[trace["file"]] = "\n".join(rows) + "\n"
    return trace

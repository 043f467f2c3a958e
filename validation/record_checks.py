"""What every run's tables and summary must say, whatever the scenario."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from simulator.records.tables import Tables
    from simulator.scenario.schema import Scenario

_ATTEMPT_OUTCOMES: Final = {"completed", "rejected", "cut", "timed-out", "in-flight"}
_CLOSE: Final = 1e-9
_HALF_MICRO: Final = 1e-3


def wrong_records(tables: Tables, summary: dict[str, Any], scenario: Scenario) -> list[str]:
    """Every statement below that does not hold, beside those that a summary is not made without (`check_conservation`).

    Args:
        tables: of the run.
        summary: of the run.
        scenario: that was run.
    """
    statements = {
        **_requests(tables, summary),
        **_answers(tables),
        **_attempts(tables),
        **_timeline(tables),
        **_money(tables, summary, scenario),
        **_pods(tables, scenario),
    }
    return [what for what, holds in statements.items() if not holds]


def _requests(tables: Tables, summary: dict[str, Any]) -> dict[str, Any]:
    requests, attempts, counts = tables.requests, tables.attempts, summary["requests"]
    outcomes = ("completed", "timed_out", "rejected", "failed", "fell_back", "in_flight")
    sent = attempts.groupby("request_id").size().reindex(requests["request_id"], fill_value=0)
    flying = requests["outcome"] == "in-flight"
    ended = requests[~flying]
    errors = requests["outcome"].isin(["timed-out", "rejected", "failed"])
    return {
        "request ids are unique": requests["request_id"].is_unique,
        "outcomes add up to the requests": sum(counts[name] for name in outcomes)
        == counts["total"]
        == len(requests),
        "causes add up to the errors": sum(counts["errors_by_cause"].values()) == counts["errors"],
        "a request knows its attempts": (sent.to_numpy() == requests["attempts"].to_numpy()).all(),
        "a request has an attempt": (requests["attempts"] >= 1).all(),
        "a request has ended or is in flight": ended["end_s"].notna().all()
        and requests.loc[flying, "end_s"].isna().all(),
        "a request ends after it came": (ended["end_s"] >= ended["arrival_s"]).all(),
        "what has ended is good or not, what is in flight neither": ended["slo_good"].notna().all()
        and requests.loc[flying, "slo_good"].isna().all(),
        "no error is good": not requests.loc[errors, "slo_good"].any(),
        "an error has a cause": (requests.loc[errors, "cause"] != "").all(),
        "what completed has none": (requests.loc[requests["outcome"] == "completed", "cause"] == "").all(),
    }


def _answers(tables: Tables) -> dict[str, Any]:
    requests = tables.requests
    answered = requests[requests["outcome"].isin(["completed", "fell-back"])]
    several = answered[answered["output_tokens"] > 1]
    total_s = several["ttft_s"] + several["tpot_s"] * (several["output_tokens"] - 1)
    return {
        "TTFT is above 0": (answered["ttft_s"] > 0).all(),
        "the first token comes before the last": (answered["ttft_s"] <= answered["e2e_s"] + _CLOSE).all(),
        "E2E runs from the arrival to the end": np.allclose(
            answered["arrival_s"] + answered["e2e_s"], answered["end_s"], atol=_CLOSE
        ),
        "an answer has a token, and no more than were asked for": (
            answered["output_tokens"].between(1, answered["max_tokens"]).all()
        ),
        "TTFT and TPOT make E2E": np.allclose(total_s, several["e2e_s"], atol=_CLOSE),
        "the largest gap is no smaller than the mean": (
            several["max_itl_s"] >= several["tpot_s"] - _CLOSE
        ).all(),
    }


def _attempts(tables: Tables) -> dict[str, Any]:
    requests, attempts = tables.requests, tables.attempts
    merged = attempts.merge(requests, on="request_id", suffixes=("", "_of_request"))
    last = merged["number"] == merged["attempts"] - 1
    won = merged["outcome"] == "completed"
    flying = merged["outcome"] == "in-flight"
    ordered = attempts.sort_values(["request_id", "number"])
    follows = ordered["request_id"].eq(ordered["request_id"].shift())
    gap_s = (ordered["sent_s"] - ordered["end_s"].shift())[follows]
    stages = ["sent_s", "engine_s", "scheduled_s", "first_token_s", "end_s"]
    return {
        "attempt ids are unique": attempts["attempt_id"].is_unique,
        "attempts end in one of the known ways": set(attempts["outcome"].unique()) <= _ATTEMPT_OUTCOMES,
        "an attempt is one request's": len(merged) == len(attempts),
        "the attempt that completed is the last of a request that completed": last[won].all()
        and (merged.loc[won, "outcome_of_request"] == "completed").all()
        and won.sum() == (requests["outcome"] == "completed").sum(),
        "an attempt in flight is that of a request in flight": (
            merged.loc[flying, "outcome_of_request"] == "in-flight"
        ).all(),
        "a request's tokens are those of the attempt that completed": (
            merged.loc[won, "output_tokens"] == merged.loc[won, "output_tokens_of_request"]
        ).all(),
        "one attempt comes after the other": (gap_s >= -_CLOSE).all(),
        "time runs forwards through an attempt": all(
            _rises(attempts, before, after) for before, after in pairwise(stages)
        ),
    }


def _rises(attempts: pd.DataFrame, before: str, after: str) -> bool:
    both = attempts[[before, after]].dropna()
    return bool((both[before] <= both[after] + _CLOSE).all())


def _timeline(tables: Tables) -> dict[str, Any]:
    timeline, requests, attempts = tables.timeline, tables.requests, tables.attempts
    shares = timeline[["gpu_utilization", "kv_usage_mean", "kv_usage_max"]]
    counts = timeline.drop(columns=["gpu_utilization"]).select_dtypes("number")
    known, made = int(attempts["output_tokens"].sum()), int(timeline["output_tokens"].sum())
    flying = (attempts["outcome"] == "in-flight").any()
    completed = requests[requests["outcome"] == "completed"]
    restarts = tables.events["reason"].isin(["OOMKilled", "Error", "Unhealthy"])
    return {
        "the timeline has every arrival": timeline["arrivals"].sum() == len(requests),
        "the timeline has every attempt": timeline["attempts"].sum() == len(attempts),
        "the timeline has every good request": timeline["slo_good"].sum() == requests["slo_good"].sum(),
        "intervals have no gaps": np.allclose(timeline["interval_s"].cumsum(), timeline["t_s"]),
        "shares lie between 0 and 1": bool(
            (shares.isna() | ((shares >= 0) & (shares <= 1 + 1e-12))).all().all()
        ),
        "nothing is below 0": (counts.min().dropna() >= 0).all(),
        "ready replicas exist": (timeline["replicas_ready"] <= timeline["replicas_provisioned"]).all(),
        "prefix hits are looked up": (timeline["prefix_hits"] <= timeline["prefix_queries"]).all(),
        "every preemption is an event": timeline["preemptions"].sum()
        == (tables.events["kind"] == "preemption").sum(),
        "every restart of a container is an event": timeline["container_restarts"].sum() == restarts.sum(),
        # Delivered or lost; attempts in flight keep theirs.
        f"engines made {made} tokens, attempts have {known}": known <= made if flying else known == made,
        "every gap of an answer is counted": int(tables.itl["tokens"].sum())
        >= int((completed["output_tokens"] - 1).sum()),
    }


def _money(tables: Tables, summary: dict[str, Any], scenario: Scenario) -> dict[str, Any]:
    timeline, cost, pools = tables.timeline, summary["cost"], summary["fleet"]["pools"]
    lines = dict.fromkeys(cost["lines"], 0)
    statements: dict[str, bool] = {}
    for config in scenario.cluster.pools:
        name, pool = config.name, pools[config.name]
        price = pool["price"]
        prices = [
            price["usd_per_gpu_hour"],
            *(change.usd_per_gpu_hour for change in config.price_changes),
            *([price["committed_usd_per_gpu_hour"]] if config.commitment else []),
        ]
        used_usd = sum(pool["lines"][f"{use}_usd"] for use in ("serving", "starting", "idle", "terminating"))
        hours = pool["gpu_hours"]
        statements |= {
            f"{name}: hours are paid at prices that it has": min(prices) * hours - 1e-5
            <= used_usd
            <= max(prices) * hours + 1e-5,
            f"{name}: hours by use add up": abs(sum(pool["gpu_hours_by_use"].values()) - hours)
            < 1e-6 * max(1.0, hours),
            f"{name}: lines add up": sum(map(_micro, pool["lines"].values())) == _micro(pool["cost_usd"]),
        }
        for line, usd in pool["lines"].items():
            lines[line] += _micro(usd)
    lines["fallback_api_usd"] = _micro(cost["fallback_usd"])
    bought = ("on_demand_usd", "spot_usd", "reserved_usd")
    return {
        **statements,
        "the pools' lines are the bill's": {line: _micro(usd) for line, usd in cost["lines"].items()}
        == lines,
        "the bill's lines add up": sum(lines.values()) == _micro(cost["total_usd"]),
        "what was bought adds up": sum(_micro(cost[name]) for name in bought) == _micro(cost["nodes_usd"]),
        "dollars never fall": timeline["cost_usd"].is_monotonic_increasing,
        "the timeline ends at the bill": timeline["cost_usd"].iloc[-1] == cost["total_usd"],
        "answers of the API are paid for": _micro(cost["fallback_usd"]) >= _api_micro(tables, scenario) - 1,
    }


def _api_micro(tables: Tables, scenario: Scenario) -> int:
    """What the API's answers cost; streams that clients left come on top."""
    fallback, requests = scenario.clients.fallback, tables.requests
    if fallback is None:
        return 0
    answered = requests[requests["outcome"] == "fell-back"]
    return int(
        answered["input_tokens"].sum() * fallback.usd_per_million_input_tokens
        + answered["output_tokens"].sum() * fallback.usd_per_million_output_tokens
    )


def _micro(usd: float) -> int:
    """Dollars of the summary to the micro-dollars that they are.

    Raises:
        ValueError: they are not whole micro-dollars.
    """
    if abs(usd * 1e6 - round(usd * 1e6)) > _HALF_MICRO:
        raise ValueError(f"${usd} is not a whole number of micro-dollars")
    return round(usd * 1e6)


def _pods(tables: Tables, scenario: Scenario) -> dict[str, Any]:
    """Nobody is scheduled before its pod is ready, or finishes after its last process has ended."""
    events, attempts = tables.events, tables.attempts
    first = events[events["kind"] == "pod"].groupby(["subject", "reason"], observed=True)["t_s"].min()
    back_s = 2.0 + scenario.gateway.latency  # the wire and the front end, on the way to the client
    early, late = [], []
    for pod, own in attempts.dropna(subset=["pod"]).groupby("pod", observed=True):
        if (pod, "Ready") in first and own["engine_s"].min() < first[pod, "Ready"] - _CLOSE:
            early.append(pod)
        if (pod, "Stopped") in first:
            done = own[own["outcome"] == "completed"]
            if (done["end_s"] > first[pod, "Stopped"] + back_s).any():
                late.append(pod)
    return {f"{early} serve before they are ready": not early, f"{late} serve when stopped": not late}

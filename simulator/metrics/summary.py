"""From tables to the summary: one nested dict, ready for JSON, with units in the names and a stable order.

What is counted:

- latencies are of requests that the own fleet completed; those answered by the fallback API stand apart;
- a request is good if it was answered within every limit of the SLO, by the own fleet or by the fallback API;
  the share is of requests that ended;
- errors are requests that timed out, were rejected or failed, as a share of requests that ended;
- rates are over the whole run, tokens are those that clients kept;
- dollars are nodes (for as long as they are paid for, idle or not) plus the fallback API, each in one line of
  ``cost.lines``; dollars per million tokens divide all of them by all tokens that clients got;
- means of gauges are time averages. Nothing in the summary depends on the wall clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import pandas as pd

from simulator.billing import NODE_LINES, PHASES, Statement, usd
from simulator.billing.money import PS_PER_HOUR
from simulator.metrics.conservation import ERROR_OUTCOMES, check_conservation, outcome_counts
from simulator.metrics.distributions import describe, describe_itl, gauge, number, ratio
from simulator.metrics.facts import PoolLedger, RunFacts
from simulator.metrics.worst import worst_moment
from simulator.outcomes import Cause, Outcome
from simulator.records.columns import SCHEMA_VERSION
from simulator.records.itl import ItlHistogram
from simulator.records.results import Tables
from simulator.scenario.slo import Slo

SUMMARY_COLUMNS: Final = {
    "requests": (
        "request_id",
        "workload",
        "input_tokens",
        "output_tokens",
        "outcome",
        "cause",
        "attempts",
        "ttft_s",
        "tpot_s",
        "e2e_s",
        "queue_s",
        "slo_good",
    ),
    "attempts": ("attempt_id", "output_tokens", "outcome", "cause"),
}
"""All that `summarise` reads of the two long tables: a million rows of every column would fill half a gigabyte."""


def summarise(tables: Tables, itl: ItlHistogram, facts: RunFacts) -> dict[str, Any]:
    """The summary of one run.

    Args:
        tables: its records; of requests and attempts at least `SUMMARY_COLUMNS`.
        itl: its inter-token latencies.
        facts: the rest: identity, SLO, ledger, source of step times.

    Raises:
        ConservationError: the records contradict each other.
    """
    check_conservation(tables)
    requests = tables.requests
    return {
        "schema_version": SCHEMA_VERSION,
        "run": {
            "scenario": facts.scenario,
            "scenario_digest": facts.scenario_digest,
            "seed": facts.seed,
            "simulator_version": facts.simulator_version,
            "duration_s": facts.duration_s,
            "model": facts.model,
            "engine": facts.engine,
            "gpu": facts.gpu,
            "gpus_per_replica": facts.gpus_per_replica,
        },
        "slo": _slo(requests, facts.slo),
        "requests": _requests(requests),
        "attempts": _attempts(tables),
        "latency": _latency(requests, itl, None),
        "fallback": _fallback(requests, facts),
        "throughput": _throughput(requests, facts),
        "engine": _engine(tables),
        "fleet": _fleet(tables.timeline, facts),
        "cost": _cost(requests, facts),
        "workloads": _workloads(requests, itl, facts),
        "worst_moment": worst_moment(tables.timeline),
        "step_time": _step_time(facts),
        "notes": list(facts.notes),
    }


def _limits(slo: Slo) -> dict[str, float | None]:
    return {"ttft_s": slo.ttft, "tpot_s": slo.tpot, "e2e_s": slo.e2e}


def _good(requests: pd.DataFrame) -> tuple[int, int]:
    """Good requests and requests that ended."""
    judged = requests["slo_good"].dropna()
    return int(judged.sum()), len(judged)


def _slo(requests: pd.DataFrame, slo: Slo) -> dict[str, Any]:
    good, ended = _good(requests)
    share = ratio(good, ended)
    completed = requests[requests["outcome"] == Outcome.COMPLETED.label]
    missed = {
        name: ratio(int((completed[name] > limit).sum()), len(completed)) if limit is not None else None
        for name, limit in _limits(slo).items()
    }
    return {
        "verdict": "met" if share is not None and share >= slo.target else "missed",
        "good_share": share,
        "target_share": slo.target,
        "limits": _limits(slo),
        "completed_over_limit_share": missed,
    }


def _requests(requests: pd.DataFrame) -> dict[str, Any]:
    counts = outcome_counts(requests)
    ended = len(requests) - counts[Outcome.IN_FLIGHT]
    errors = sum(counts[outcome] for outcome in ERROR_OUTCOMES)
    failed = requests[requests["outcome"].isin([outcome.label for outcome in ERROR_OUTCOMES])]
    by_cause = failed["cause"].value_counts()
    return {
        "total": len(requests),
        **{outcome.label.replace("-", "_"): counts[outcome] for outcome in Outcome},
        "errors": errors,
        "error_share": ratio(errors, ended),
        "errors_by_cause": {
            cause.value: int(by_cause[cause.value])
            for cause in Cause
            if cause and by_cause.get(cause.value, 0)
        },
    }


def _attempts(tables: Tables) -> dict[str, Any]:
    attempts = tables.attempts
    by_outcome = attempts["outcome"].value_counts()
    by_cause = attempts["cause"].value_counts()
    unfinished = attempts[attempts["outcome"] != "completed"]
    return {
        "total": len(attempts),
        "per_request": ratio(len(attempts), len(tables.requests)),
        "by_outcome": {
            name: int(by_outcome.get(name, 0))
            for name in ("completed", "rejected", "cut", "timed-out", "in-flight")
        },
        "failed_by_cause": {
            cause.value: int(by_cause[cause.value])
            for cause in Cause
            if cause and by_cause.get(cause.value, 0)
        },
        "lost_output_tokens": int(
            unfinished.loc[unfinished["outcome"] != "in-flight", "output_tokens"].sum()
        ),
    }


def _latency(requests: pd.DataFrame, itl: ItlHistogram, workload: str | None) -> dict[str, Any]:
    own = requests[requests["outcome"] == Outcome.COMPLETED.label]
    return {
        "ttft_s": describe(own["ttft_s"]),
        "tpot_s": describe(own["tpot_s"]),
        "itl_s": describe_itl(itl.pool(workload)),
        "e2e_s": describe(own["e2e_s"]),
        "queue_s": describe(own["queue_s"]),
    }


def _fallback(requests: pd.DataFrame, facts: RunFacts) -> dict[str, Any]:
    away = requests[requests["outcome"] == Outcome.FELL_BACK.label]
    return {
        "requests": len(away),
        "ttft_s": describe(away["ttft_s"]),
        "e2e_s": describe(away["e2e_s"]),
        "input_tokens_billed": facts.fallback.input_tokens,
        "output_tokens_billed": facts.fallback.output_tokens,
        "cost_usd": usd(facts.fallback.micro_usd),
    }


def _throughput(requests: pd.DataFrame, facts: RunFacts) -> dict[str, Any]:
    own = requests[requests["outcome"] == Outcome.COMPLETED.label]
    input_tokens, output_tokens = int(own["input_tokens"].sum()), int(own["output_tokens"].sum())
    gpu_s = 3600.0 * sum(pool.gpu_hours for pool in facts.pools)
    duration = facts.duration_s
    return {
        "arrivals_per_s": ratio(len(requests), duration),
        "completed_per_s": ratio(len(own), duration),
        "goodput_per_s": ratio(_good(requests)[0], duration),
        "input_tokens_per_s": ratio(input_tokens, duration),
        "output_tokens_per_s": ratio(output_tokens, duration),
        "output_tokens_per_s_per_gpu": ratio(output_tokens, gpu_s),
        "total_tokens_per_s_per_gpu": ratio(input_tokens + output_tokens, gpu_s),
    }


def _engine(tables: Tables) -> dict[str, Any]:
    timeline = tables.timeline
    return {
        "preemptions": int(timeline["preemptions"].sum()),
        "prefix_hit_rate": ratio(int(timeline["prefix_hits"].sum()), int(timeline["prefix_queries"].sum())),
        "running": gauge(timeline, "running"),
        "waiting": gauge(timeline, "waiting"),
        "gateway_queue": gauge(timeline, "gateway_queue"),
        "batch_size": gauge(timeline, "batch_size_mean"),
        "kv_usage": {
            "mean": gauge(timeline, "kv_usage_mean")["mean"],
            "max": gauge(timeline, "kv_usage_max")["max"],
        },
        "gpu_utilization": gauge(timeline, "gpu_utilization"),
        "gpu_memory_used_bytes": gauge(timeline, "gpu_memory_used_bytes"),
    }


def _fleet(timeline: pd.DataFrame, facts: RunFacts) -> dict[str, Any]:
    hours = facts.duration_s / 3600.0
    gpu_hours = sum(pool.gpu_hours for pool in facts.pools)
    return {
        "replicas_desired": gauge(timeline, "replicas_desired"),
        "replicas_provisioned": gauge(timeline, "replicas_provisioned"),
        "replicas_ready": gauge(timeline, "replicas_ready"),
        "nodes_on_demand": gauge(timeline, "nodes_on_demand"),
        "nodes_spot": gauge(timeline, "nodes_spot"),
        "scale_changes": int((timeline["replicas_desired"].diff().fillna(0) != 0).sum()),
        "reclaims": sum(pool.nodes_reclaimed for pool in facts.pools),
        "gpu_hours": gpu_hours,
        "gpus_mean": ratio(gpu_hours, hours),
        "pools": {
            pool.name: {
                "capacity": pool.capacity,
                "gpu_hours": pool.gpu_hours,
                "gpu_hours_by_use": _gpu_hours_by_use([pool]),
                "cost_usd": usd(pool.bill.total),
                "lines": {f"{line}_usd": usd(pool.bill.line(line)) for line in NODE_LINES},
                "price": asdict(pool.price),
                "nodes_started": pool.nodes_started,
                "nodes_reclaimed": pool.nodes_reclaimed,
            }
            for pool in facts.pools
        },
    }


def _gpu_hours_by_use(pools: Sequence[PoolLedger]) -> dict[str, float]:
    return {phase: sum(pool.gpu_ps[phase] for pool in pools) / PS_PER_HOUR for phase in PHASES}


def _cost(requests: pd.DataFrame, facts: RunFacts) -> dict[str, Any]:
    nodes = Statement.sum(pool.bill for pool in facts.pools)
    total_usd = usd(nodes.total + facts.fallback.micro_usd)
    served = requests[requests["outcome"].isin([Outcome.COMPLETED.label, Outcome.FELL_BACK.label])]
    input_tokens, output_tokens = int(served["input_tokens"].sum()), int(served["output_tokens"].sum())
    good, _ = _good(requests)
    return {
        "total_usd": total_usd,
        "lines": {
            **{f"{line}_usd": usd(nodes.line(line)) for line in NODE_LINES},
            "fallback_api_usd": usd(facts.fallback.micro_usd),
        },
        "nodes_usd": usd(nodes.total),
        "on_demand_usd": usd(nodes.purchase("on-demand")),
        "spot_usd": usd(nodes.purchase("spot")),
        "reserved_usd": usd(nodes.purchase("reserved")),
        "fallback_usd": usd(facts.fallback.micro_usd),
        "peak_provisioned_usd": usd(facts.peak_provisioned_micro_usd),
        "gpu_hours_by_use": _gpu_hours_by_use(facts.pools),
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "usd_per_hour": ratio(total_usd, facts.duration_s / 3600.0),
        "usd_per_million_output_tokens": ratio(total_usd * 1e6, output_tokens),
        "usd_per_million_tokens": ratio(total_usd * 1e6, input_tokens + output_tokens),
        "usd_per_thousand_good_requests": ratio(total_usd * 1e3, good),
    }


def _workloads(requests: pd.DataFrame, itl: ItlHistogram, facts: RunFacts) -> dict[str, Any]:
    sections = {}
    for name in itl.workloads:
        own = requests[requests["workload"] == name]
        good, ended = _good(own)
        sections[name] = {
            "requests": _requests(own),
            "good_share": ratio(good, ended),
            "input_tokens_mean": number(own["input_tokens"].mean()),
            "output_tokens_mean": number(
                own.loc[own["outcome"] == Outcome.COMPLETED.label, "output_tokens"].mean()
            ),
            "arrivals_per_s": ratio(len(own), facts.duration_s),
            "latency": _latency(own, itl, name),
        }
    return sections


def _step_time(facts: RunFacts) -> dict[str, Any]:
    trust = facts.step_time
    return {
        "source": trust.source,
        "name": trust.name,
        "text": trust.text,
        "known_error": dict(trust.known_error),
        "steps": trust.steps,
        "out_of_range": {
            name: {"steps": count, "share": ratio(count, trust.steps)}
            for name, count in trust.out_of_range.items()
        },
    }

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

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from simulator.billing import NODE_LINES, PHASES, Statement, usd
from simulator.billing.money import PS_PER_HOUR
from simulator.metrics.cohorts import Cohort, RequestFigures, limits, request_figures
from simulator.metrics.conservation import ERROR_OUTCOMES, check_conservation
from simulator.metrics.distributions import describe_itl, gauge, label_counts, ratio
from simulator.metrics.facts import PoolLedger, RunFacts
from simulator.metrics.worst import worst_moment
from simulator.outcomes import Cause, Outcome
from simulator.records.columns import SCHEMA_VERSION
from simulator.records.itl import ItlHistogram
from simulator.records.tables import Tables
from simulator.scenario.slo import Slo


def summarise(tables: Tables, itl: ItlHistogram, facts: RunFacts) -> dict[str, Any]:
    """The summary of one run.

    Args:
        tables: its records.
        itl: its inter-token latencies.
        facts: the rest: identity, SLO, ledger, source of step times.

    Raises:
        ConservationError: the records contradict each other.
    """
    check_conservation(tables)
    requests = request_figures(tables, itl.workloads, facts.slo)
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
        "requests": _requests(requests.all),
        "attempts": _attempts(tables),
        "latency": _latency(requests.all, itl, None),
        "fallback": _fallback(requests, facts),
        "throughput": _throughput(requests.all, facts),
        "engine": _engine(tables),
        "fleet": _fleet(tables.timeline, facts),
        "cost": _cost(requests, facts),
        "workloads": {
            name: _workload(name, cohort, itl, facts) for name, cohort in requests.by_workload.items()
        },
        "worst_moment": worst_moment(tables.timeline),
        "step_time": _step_time(facts),
        "notes": list(facts.notes),
    }


def _slo(requests: RequestFigures, slo: Slo) -> dict[str, Any]:
    share = requests.all.good_share
    return {
        "verdict": "met" if share is not None and share >= slo.target else "missed",
        "good_share": share,
        "target_share": slo.target,
        "limits": limits(slo),
        "completed_over_limit_share": {
            name: None if over is None else ratio(over, requests.all.completed)
            for name, over in requests.over_limit.items()
        },
    }


def _requests(cohort: Cohort) -> dict[str, Any]:
    counts = cohort.outcomes
    errors = sum(counts[outcome] for outcome in ERROR_OUTCOMES)
    return {
        "total": cohort.total,
        **{outcome.label.replace("-", "_"): counts[outcome] for outcome in Outcome},
        "errors": errors,
        "error_share": ratio(errors, cohort.total - counts[Outcome.IN_FLIGHT]),
        "errors_by_cause": _by_cause(cohort.errors_by_cause),
    }


def _by_cause(counts: Mapping[str, int]) -> dict[str, int]:
    return {cause.value: counts[cause.value] for cause in Cause if cause and counts.get(cause.value)}


def _attempts(tables: Tables) -> dict[str, Any]:
    outcomes = tables.column("attempts", "outcome")
    by_outcome = label_counts(outcomes)
    lost = ~outcomes.isin(["completed", "in-flight"])
    return {
        "total": len(outcomes),
        "per_request": ratio(len(outcomes), tables.rows("requests")),
        "by_outcome": {
            name: by_outcome.get(name, 0)
            for name in ("completed", "rejected", "cut", "timed-out", "in-flight")
        },
        "failed_by_cause": _by_cause(label_counts(tables.column("attempts", "cause"))),
        "lost_output_tokens": int(tables.column("attempts", "output_tokens")[lost].sum()),
    }


def _latency(cohort: Cohort, itl: ItlHistogram, workload: str | None) -> dict[str, Any]:
    described = cohort.latency
    return {
        "ttft_s": described["ttft_s"],
        "tpot_s": described["tpot_s"],
        "itl_s": describe_itl(itl.pool(workload)),
        "e2e_s": described["e2e_s"],
        "queue_s": described["queue_s"],
    }


def _fallback(requests: RequestFigures, facts: RunFacts) -> dict[str, Any]:
    return {
        "requests": requests.all.outcomes[Outcome.FELL_BACK],
        **requests.fallback_latency,
        "input_tokens_billed": facts.fallback.input_tokens,
        "output_tokens_billed": facts.fallback.output_tokens,
        "cost_usd": usd(facts.fallback.micro_usd),
    }


def _throughput(requests: Cohort, facts: RunFacts) -> dict[str, Any]:
    input_tokens, output_tokens = (
        requests.completed_tokens[name] for name in ("input_tokens", "output_tokens")
    )
    gpu_s = 3600.0 * sum(pool.gpu_hours for pool in facts.pools)
    duration = facts.duration_s
    return {
        "arrivals_per_s": ratio(requests.total, duration),
        "completed_per_s": ratio(requests.completed, duration),
        "goodput_per_s": ratio(requests.good, duration),
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


def _cost(requests: RequestFigures, facts: RunFacts) -> dict[str, Any]:
    nodes = Statement.sum(pool.bill for pool in facts.pools)
    total_usd = usd(nodes.total + facts.fallback.micro_usd)
    input_tokens, output_tokens = (requests.served_tokens[name] for name in ("input_tokens", "output_tokens"))
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
        "usd_per_thousand_good_requests": ratio(total_usd * 1e3, requests.all.good),
    }


def _workload(name: str, cohort: Cohort, itl: ItlHistogram, facts: RunFacts) -> dict[str, Any]:
    return {
        "requests": _requests(cohort),
        "good_share": cohort.good_share,
        "input_tokens_mean": ratio(cohort.tokens["input_tokens"], cohort.total),
        "output_tokens_mean": ratio(cohort.completed_tokens["output_tokens"], cohort.completed),
        "arrivals_per_s": ratio(cohort.total, facts.duration_s),
        "latency": _latency(cohort, itl, name),
    }


def _step_time(facts: RunFacts) -> dict[str, Any]:
    trust = facts.step_time
    return {
        "source": trust.source,
        "name": trust.name,
        "text": trust.text,
        "known_error": dict(trust.known_error),
        "validated": [dict(entry) for entry in trust.validated],
        "steps": trust.steps,
        "out_of_range": {
            name: {"steps": count, "share": ratio(count, trust.steps)}
            for name, count in trust.out_of_range.items()
        },
    }

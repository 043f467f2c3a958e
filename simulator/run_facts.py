"""What a summary says of a run beside its tables: engine, fleet, bill, and how far to trust the step times."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from simulator import __version__
from simulator.cluster.zones import market_notes
from simulator.metrics.facts import PoolLedger, PriceFacts, RunFacts, StepTimeTrust
from simulator.pricing import PricedPool, price_notes
from simulator.step_time.validated import validated_errors
from simulator.units import to_s

if TYPE_CHECKING:
    from simulator.resolve import ReplicaPlan
    from simulator.scenario.load import LoadedScenario
    from simulator.simulation import Simulation


def run_facts(run: Simulation) -> RunFacts:
    """What the summary of a run that has ended needs beside the tables."""
    scenario, plan = run.loaded.scenario, run.plan
    now = run.clock.now
    vllm_version = plan.engine.vllm_version
    trust = plan.step_time
    bills, gpu_ps = run.cluster.statements(now), run.cluster.gpu_ps(now)
    return RunFacts(
        scenario=scenario.name,
        scenario_digest=digest(run.loaded),
        seed=run.seed,
        simulator_version=__version__,
        duration_s=to_s(now),
        slo=scenario.slo,
        model=plan.model.name,
        engine=f"vLLM {vllm_version}",
        gpu=", ".join(dict.fromkeys(other.gpu.id for other in _plans(run))),
        gpus_per_replica=plan.gpus,
        pools=tuple(
            PoolLedger(
                name=pool.name,
                capacity=pool.config.capacity,
                gpu_ps=gpu_ps[pool.name],
                bill=bills[pool.name],
                price=_price_facts(run.prices[pool.name]),
                nodes_started=pool.created,
                nodes_reclaimed=pool.reclaimed,
            )
            for pool in run.cluster.pools
        ),
        peak_provisioned_micro_usd=run.cluster.peak_provisioned_micro_usd(now),
        fallback=run.client.fallback_bill,
        step_time=StepTimeTrust(
            source="roofline" if trust.source == "roofline" else "profile",
            name=trust.profile.name,
            text="; ".join(
                ([] if trust.source == "roofline" else [trust.source]) + [trust.known_error, trust.reason]
            ),
            known_error={
                fit.regime.replace("_", " "): fit.mean_abs_pct / 100 for fit in trust.profile.fit_error
            },
            validated=tuple(
                entry.model_dump(exclude={"profile", "source"})
                for entry in validated_errors(trust.profile.name)
            ),
            out_of_range={
                kind: count
                for kind in trust.step_time.range_violations
                if (count := sum(other.step_time.step_time.range_violations[kind] for other in _plans(run)))
            },
            steps=run.timeline.totals.steps,
        ),
        notes=_notes(run),
    )


def _notes(run: Simulation) -> tuple[str, ...]:
    plan = run.plan
    usable = plan.engine.num_gpu_blocks - 1
    notes = [
        *run.loaded.notes,
        *plan.notes,
        f"KV cache: {usable} usable blocks of {plan.engine.block_size} tokens, {plan.kv_blocks_from}",
        f"front end: {_front_end(run)}",
        *price_notes(run.prices),
        *market_notes(run.loaded.scenario.cluster),
        *([] if run.cold_start_note is None else [run.cold_start_note]),
    ]
    for name, version in run.versions.items():
        for gpu, other in version.plans.items():
            if other is not plan and (name == "v1" or version.plans is not run.versions["v1"].plans):
                notes.append(
                    f"{name} on {gpu}: {other.engine.num_gpu_blocks - 1} usable KV blocks; "
                    f"{other.step_time.known_error}"
                )
    if all(workload.arrivals.kind == "trace" for workload in run.loaded.scenario.workload):
        notes.append("trace replay: the workload is one and the same in every replication")
    return tuple(notes)


def _plans(run: Simulation) -> list[ReplicaPlan]:
    """Each plan once: of every version and GPU."""
    plans = {id(plan): plan for version in run.versions.values() for plan in version.plans.values()}
    return list(plans.values())


def _front_end(run: Simulation) -> str:
    section = run.loaded.scenario.engine
    given = [name for name in ("frontend_in", "frontend_out") if getattr(section, name) is not None]
    source = run.plan.step_time.frontend.source.removeprefix("front_end: ")
    if len(given) == 2:
        return "as the scenario says"
    return f"{source}, but for {given[0]} of the scenario" if given else source


def _price_facts(pool: PricedPool) -> PriceFacts:
    quote = pool.quote
    return PriceFacts(
        usd_per_gpu_hour=pool.usd_per_gpu_hour,
        committed_usd_per_gpu_hour=pool.committed_usd_per_gpu_hour,
        rule="stated in the scenario" if quote is None else quote.rule,
        where=None if quote is None else quote.row.where,
        as_of=None if quote is None else quote.row.as_of,
        source=None if quote is None else quote.row.source,
    )


def digest(loaded: LoadedScenario) -> str:
    """Hash of everything that a run depends on but for the seed: scenario, configuration and manifests."""
    parts: dict[str, Any] = {
        "scenario": loaded.scenario.model_dump(mode="json"),
        "vllm": loaded.vllm.model_dump(mode="json"),
        "policies": [entry.data() for entry in loaded.policies],
        "deployment": None if loaded.deployment is None else loaded.deployment.model_dump(mode="json"),
    }
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

"""NVIDIA Dynamo's planner, load-based: one replica more or fewer by each engine's KV load, every 5 s. Pure.

An engine's load is the KV tokens of its running and preempted requests and the prompt tokens that wait, over the tokens
its KV cache holds; so it can exceed 1. Up by one if *any* engine is above the upper threshold, down by one if *all* are
below the lower one, unless the load spread over one fewer would reach the upper threshold. Thresholds: 1.0 and 0.6 for
the target ``throughput``, 0.4 and 0.1 for ``latency``, the user's (inclusive) for ``load``.

Source: ai-dynamo 1.6.1 (PyPI), dynamo/planner/core/load_scaling.py (_agg_easy_decision, _advance_load_agg). With the
target ``sla`` the same loop compares estimates of AISimulate's native performance model with the SLA, whose estimator
that source does not state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from simulator.autoscaling.decision import Decision
from simulator.autoscaling.dynamo_plan import Candidate, DynamoSpec, Inventory, guard, project

THRESHOLDS: Final = {"throughput": (1.0, 0.6), "latency": (0.4, 0.1)}
"""Upper and lower, by target."""


@dataclass(frozen=True, slots=True)
class LoadState:
    """``candidate`` is a reduction that the last passes wanted while replicas start."""

    candidate: Candidate | None = None


@dataclass(frozen=True, slots=True)
class LoadSnapshot:
    """What a pass sees.

    Attributes:
        spec: the planner's configuration.
        loads: of each engine that reports: tokens over the tokens of its KV cache.
        inventory: the replicas.
    """

    spec: DynamoSpec
    loads: tuple[float, ...]
    inventory: Inventory


def decide(state: LoadState, snapshot: LoadSnapshot, now: int) -> tuple[LoadState, Decision]:
    """One pass of load-based scaling.

    Args:
        state: a pending reduction.
        snapshot: the engines' loads.
        now: time in picoseconds.
    """
    candidate, decision = project(state.candidate, _propose(snapshot), snapshot.inventory, snapshot.spec, now)
    return LoadState(candidate), decision


def _propose(snapshot: LoadSnapshot) -> Decision:
    spec, inventory, loads = snapshot.spec, snapshot.inventory, snapshot.loads
    ready = inventory.ready
    if not loads:
        return Decision(None, "NoData", "no engine reports")
    if len(loads) != ready:
        return Decision(None, "WorkerCountMismatch", f"{len(loads)} engines report, {ready} are ready")
    inclusive = spec.target == "load"
    up, down = (spec.scale_up_kv, spec.scale_down_kv) if inclusive else THRESHOLDS[spec.target]
    highest = max(loads)
    text = f"KV load of {ready} engines up to {highest:.3f}"
    if highest > up or (inclusive and highest == up):
        size, text = ready + 1, f"{text}, above {up:g}: one more"
    elif (ready > 1 or inventory.pending) and (highest < down or (inclusive and highest == down)):
        size = max(ready - 1, spec.min_endpoint)
        if 0 < size < ready and highest * ready / size >= up:
            return Decision(
                ready if inventory.pending else None,
                "Consolidation",
                f"{text}; on {size} it would reach {up:g}",
            )
        text = f"{text}, below {down:g}: one fewer"
    else:
        return Decision(None, "Unchanged", text)
    if inventory.pending and size > ready:
        return Decision(None, "StartupInProgress", text)
    size = guard(spec, ready, max(size, spec.min_endpoint))
    if size == ready and not inventory.pending:
        return Decision(None, "Unchanged", f"{text}; held by the limits")
    return Decision(size, "ScaleUp" if size > ready else "ScaleDown", text)

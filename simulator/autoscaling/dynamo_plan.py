"""What both ways of scaling of NVIDIA Dynamo's planner share: settings, inventory, GPU budget, and when it writes.

It counts *ready* replicas as its present size. While replicas start it writes nothing but a reduction that drops them,
and that only when two passes at least a load interval apart want the same of the same replicas; while replicas end,
nothing at all. Once all is settled, too few replicas and a size outside the GPU budget are put right.

Source: ai-dynamo 1.6.1 (PyPI), dynamo/planner: core/budget.py (guard_single_scaling_budget, proportional_clamp_single),
plugins/orchestrator/engine_adapter.py (_project_scale_to, _project_startup_scale_down), connectors/kubernetes.py
(set_component_replicas), config/defaults.py. Which pass an operator's status lags behind is not modelled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from simulator.autoscaling.decision import Decision
from simulator.autoscaling.dynamo_predictors import PredictorSpec
from simulator.units import PS_PER_S

Target = Literal["sla", "throughput", "latency", "load"]


@dataclass(frozen=True, slots=True)
class DynamoSpec:
    """The planner's configuration.

    Attributes:
        target: ``sla`` scales by predicted throughput, the others by load thresholds.
        predictor: of the next interval's load.
        adjustment_interval_ps: between passes of throughput-based scaling.
        load_interval_ps: between passes of load-based scaling.
        min_endpoint: least replicas.
        min_gpu_budget: fewest GPUs; below 0 no limit.
        max_gpu_budget: most GPUs; below 0 no limit.
        gpus_per_engine: of one replica.
        max_change: replicas that one throughput pass may add or take.
        scale_up_kv: for ``load``: KV use (0 to 1) from which on to scale up.
        scale_down_kv: for ``load``: KV use down to which scaling down is allowed.
    """

    target: Target = "throughput"
    predictor: PredictorSpec = field(default_factory=PredictorSpec)
    adjustment_interval_ps: int = 180 * PS_PER_S
    load_interval_ps: int = 5 * PS_PER_S
    min_endpoint: int = 1
    min_gpu_budget: int = -1
    max_gpu_budget: int = 8
    gpus_per_engine: int = 1
    max_change: int = 8
    scale_up_kv: float = 1.0
    scale_down_kv: float = 0.6


@dataclass(frozen=True, slots=True)
class Inventory:
    """The replicas.

    Attributes:
        ready: serving, which is the planner's present size.
        pending: asked for and not ready.
        ending: whether any is terminating.
    """

    ready: int
    pending: int = 0
    ending: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """A reduction wanted while replicas start.

    Attributes:
        size: the size wanted.
        inventory: the replicas then.
        since_ps: when it was first wanted.
    """

    size: int
    inventory: Inventory
    since_ps: int


def in_budget(spec: DynamoSpec, replicas: int) -> bool:
    """Whether a size lies in the GPU budget; with both limits the lower one gives way by a replica."""
    low, high, gpus = spec.min_gpu_budget, spec.max_gpu_budget, replicas * spec.gpus_per_engine
    tolerance = spec.gpus_per_engine if low >= 0 and high >= 0 else 0
    return not (0 <= high < gpus) and not (low >= 0 and gpus < low - tolerance)


def clamp(spec: DynamoSpec, replicas: int) -> int:
    """The size in the GPU budget that is nearest; 0 if the least replicas do not fit."""
    if in_budget(spec, replicas):
        return replicas
    high, each = spec.max_gpu_budget, spec.gpus_per_engine
    if 0 <= high < replicas * each:
        return 0 if high < spec.min_endpoint * each else max(spec.min_endpoint, high // each)
    return max(spec.min_endpoint, math.ceil(spec.min_gpu_budget / each))


def guard(spec: DynamoSpec, current: int, proposed: int) -> int:
    """A proposal within the GPU budget, never turned into the other direction.

    A present size outside the budget is put right instead. At the lower limit nothing shrinks, at the upper nothing
    grows.
    """
    if not in_budget(spec, current):
        return clamp(spec, current)
    gpus = current * spec.gpus_per_engine
    if spec.min_gpu_budget >= 0 and gpus <= spec.min_gpu_budget and proposed < current:
        return current
    if 0 <= spec.max_gpu_budget <= gpus and proposed > current:
        return current
    fitted = clamp(spec, proposed)
    return fitted if min(current, proposed) <= fitted <= max(current, proposed) else current


def project(
    candidate: Candidate | None, decision: Decision, inventory: Inventory, spec: DynamoSpec, now: int
) -> tuple[Candidate | None, Decision]:
    """Turn what a pass proposes into what is written.

    Args:
        candidate: the reduction that earlier passes wanted, if any.
        decision: the proposal; without a size it is none.
        inventory: the replicas.
        spec: the planner's configuration.
        now: time in picoseconds.
    """
    ready, proposed = inventory.ready, decision.replicas
    if inventory.ending:
        return None, Decision(None, "ScalingInProgress", f"{decision.text}; replicas end: nothing is written")
    if inventory.pending:
        return _during_startup(candidate, decision, inventory, spec, now)
    size = ready if proposed is None else proposed
    size = max(size, spec.min_endpoint) if ready < spec.min_endpoint else size
    if not in_budget(spec, ready) or size != ready:
        size = guard(spec, ready, size)
    if size == ready:
        return None, Decision(None, decision.reason, decision.text)
    text = decision.text if size == proposed else f"{decision.text}; {size} by the limits"
    return None, Decision(size, decision.reason, text)


def _during_startup(
    candidate: Candidate | None, decision: Decision, inventory: Inventory, spec: DynamoSpec, now: int
) -> tuple[Candidate | None, Decision]:
    waiting = Decision(None, "StartupInProgress", f"{decision.text}; {inventory.pending} replicas start")
    if decision.replicas is None:
        return None, waiting
    size = max(decision.replicas, spec.min_endpoint)
    gpus = size * spec.gpus_per_engine
    if size > inventory.ready or gpus < spec.min_gpu_budget or 0 <= spec.max_gpu_budget < gpus:
        return None, waiting
    if candidate is None or (candidate.size, candidate.inventory) != (size, inventory):
        return Candidate(size, inventory, now), waiting
    if now - candidate.since_ps < spec.load_interval_ps:
        return candidate, waiting
    text = f"{decision.text}; {inventory.pending} replicas that start are given up"
    return candidate, Decision(size, decision.reason, text)

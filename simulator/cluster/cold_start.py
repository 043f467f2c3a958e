"""How long the phases of a cold start take: functions of the scenario and of addressed draws, nothing else.

A draw's address is (``cold-start/<phase>``, ordinal of the pod, attempt), so the n-th pod of a run has the same
cold start under every policy. Phases are independent of each other; how long the weights' bytes take is up to the
node's links, which its pods share.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import NamedTuple

from simulator.draws import Draws
from simulator.scenario.capacity import NodePool
from simulator.scenario.cold_start import ColdStart
from simulator.scenario.spread import Spread
from simulator.units import to_ps

_WEIGHTS_SIGMA = 0.25


class Phase(StrEnum):
    """A phase of a cold start."""

    PROVISIONING = "provisioning"
    IMAGE_PULL = "image_pull"
    PROCESS_START = "process_start"
    WEIGHTS = "weights"
    COMPILE = "compile"
    GRAPH_CAPTURE = "graph_capture"
    PROFILING = "profiling"
    RESTORE = "restore"
    WAKE = "wake"
    ENDPOINT_PROPAGATION = "endpoint_propagation"


class Step(NamedTuple):
    """A phase, and its duration or the bytes that it reads over the node's links."""

    phase: Phase
    duration_ps: int
    read_bytes: int = 0


def _drawn_ps(spread: Spread, phase: Phase, draws: Draws, ordinal: int, attempt: int) -> int:
    if spread.fixed is not None:
        return to_ps(spread.fixed)
    return to_ps(spread.quantile_s(draws.uniform(f"cold-start/{phase}", ordinal, attempt)))


def provisioning_ps(pool: NodePool, draws: Draws, ordinal: int, attempt: int) -> int:
    """Time to provision a node for a pod; ``attempt`` counts the nodes asked for on behalf of this pod before."""
    return _drawn_ps(pool.provisioning, Phase.PROVISIONING, draws, ordinal, attempt)


def warm_provisioning_ps(pool: NodePool, draws: Draws, node_ordinal: int) -> int:
    """Time to provision a node that no pod waits for."""
    return to_ps(pool.provisioning.quantile_s(draws.uniform(f"warm-node/{pool.name}", node_ordinal)))


def image_ps(
    config: ColdStart, draws: Draws, ordinal: int, on_node: bool, other_version: bool = False
) -> int:
    """Time to get the image, or to find it on the node; ``other_version``: whether its unchanged layers are there."""
    spread = config.image_cached if on_node else config.image_pull
    duration_ps = _drawn_ps(spread, Phase.IMAGE_PULL, draws, ordinal, 0)
    if other_version and not on_node:
        return round(duration_ps * (1.0 - config.layer_reuse))
    return duration_ps


def process_steps(
    config: ColdStart,
    draws: Draws,
    ordinal: int,
    *,
    eager: bool,
    weight_bytes: int,
    attempt: int = 0,
    compiled: bool = False,
    sleeper: bool = False,
) -> tuple[Step, ...]:
    """The phases from the container's start until its server listens, in order.

    Args:
        config: the scenario's cold start.
        draws: the run's draws.
        ordinal: ordinal of the pod.
        eager: vLLM's enforce-eager: no compilation, no graphs, memory profiling only.
        weight_bytes: bytes that one replica reads.
        attempt: how often the container has been restarted.
        compiled: whether the compile cache has what it needs.
        sleeper: whether a sleeping process waits on the node.
    """

    def step(phase: Phase, spread: Spread) -> Step:
        return Step(phase, _drawn_ps(spread, phase, draws, ordinal, attempt))

    weights = Step(Phase.WEIGHTS, 0, round(weight_bytes * _noise(draws, ordinal, attempt)))
    if config.weights is not None:
        weights = step(Phase.WEIGHTS, config.weights)
    if config.start == "snapshot":
        return (step(Phase.RESTORE, config.snapshot),)
    if config.start in ("sleep-1", "sleep-2") and sleeper and attempt == 0:
        wake = step(Phase.WAKE, config.wake)
        return (wake, weights) if config.start == "sleep-2" else (wake,)
    steps = [step(Phase.PROCESS_START, config.process_start), weights]
    if eager:
        steps.append(step(Phase.PROFILING, config.profiling_eager))
    else:
        hit = compiled or config.compile_cache == "warm"
        steps.append(step(Phase.COMPILE, config.compile_cached if hit else config.compile))
        steps.append(step(Phase.GRAPH_CAPTURE, config.graph_capture))
    return tuple(steps)


def _noise(draws: Draws, ordinal: int, attempt: int) -> float:
    """Factor on the bytes of weights, for all that makes one read slower than another."""
    return math.exp(_WEIGHTS_SIGMA * draws.normal(f"cold-start/{Phase.WEIGHTS}", ordinal, attempt))


def propagation_ps(config: ColdStart, draws: Draws, ordinal: int, *, leaving: bool) -> int:
    """Time until the gateway knows that a pod has become ready, or that it leaves."""
    return _drawn_ps(config.endpoint_propagation, Phase.ENDPOINT_PROPAGATION, draws, ordinal, int(leaving))

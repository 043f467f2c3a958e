"""How long the phases of a cold start take: functions of the scenario and of addressed draws, nothing else.

A draw's address is (``cold-start/<phase>``, ordinal of the pod, attempt), so the n-th pod of a run has the same
cold start under every policy. Phases are independent of each other; pulls and weight reads do not share bandwidth.
"""

from __future__ import annotations

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
    ENDPOINT_PROPAGATION = "endpoint_propagation"


class Step(NamedTuple):
    """A phase and its duration."""

    phase: Phase
    duration_ps: int


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


def image_ps(config: ColdStart, draws: Draws, ordinal: int, on_node: bool) -> int:
    """Time to get the image, or to find it on the node."""
    spread = config.image_cached if on_node else config.image_pull
    return _drawn_ps(spread, Phase.IMAGE_PULL, draws, ordinal, 0)


def weights_spread(config: ColdStart, weight_bytes: int) -> Spread:
    """The distribution of the time to bring the weights from storage to the GPU."""
    if config.weights is not None:
        return config.weights
    if weight_bytes == 0:
        return Spread(fixed=0.0)
    return Spread(median=weight_bytes / (config.weights_gb_per_s * 1e9), sigma=_WEIGHTS_SIGMA)


def process_steps(
    config: ColdStart, draws: Draws, ordinal: int, *, eager: bool, weight_bytes: int, attempt: int = 0
) -> tuple[Step, ...]:
    """The phases from the container's start until its server listens, in order.

    Args:
        config: the scenario's cold start.
        draws: the run's draws.
        ordinal: ordinal of the pod.
        eager: vLLM's enforce-eager: no compilation, no graphs, memory profiling only.
        weight_bytes: bytes that one replica reads.
        attempt: how often the container has been restarted.
    """
    spreads = [
        (Phase.PROCESS_START, config.process_start),
        (Phase.WEIGHTS, weights_spread(config, weight_bytes)),
    ]
    if eager:
        spreads.append((Phase.PROFILING, config.profiling_eager))
    else:
        warm = config.compile_cache == "warm"
        spreads.append((Phase.COMPILE, config.compile_cached if warm else config.compile))
        spreads.append((Phase.GRAPH_CAPTURE, config.graph_capture))
    return tuple(Step(phase, _drawn_ps(spread, phase, draws, ordinal, attempt)) for phase, spread in spreads)


def propagation_ps(config: ColdStart, draws: Draws, ordinal: int, *, leaving: bool) -> int:
    """Time until the gateway knows that a pod has become ready, or that it leaves."""
    return _drawn_ps(config.endpoint_propagation, Phase.ENDPOINT_PROPAGATION, draws, ordinal, int(leaving))

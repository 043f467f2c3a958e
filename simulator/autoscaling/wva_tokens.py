"""llm-d's workload variant autoscaler, token mode ("saturation v2") of one variant. Pure.

A replica's capacity is the smaller of two numbers of tokens: k1, what its KV cache holds times the threshold, and k2,
what it is found to compute: the tokens in use now if its queue is full; else the mean of the last ten such findings at
outputs of that length (below 100, below 500, longer); else N · (I + O/2) with N = min(B · O / (I + O), S) from the
deployment's token budget B and sequence limit S and the mean input I and output O; else k1. Its demand is the tokens in
use and the prompts that wait. The variant's capacity per replica is the median.

    required = demand / scaleUpThreshold − capacity × all replicas       grows by ceil(required / capacity)
    spare    = capacity × ready replicas − demand / scaleDownBoundary    shrinks by floor(spare / capacity), not below 1

Replicas that start count as capacity to come, so nothing waits for them.

Source: llm-d/llm-d-workload-variant-autoscaler@b08b1c77, internal/engines/analyzers/saturation_v2/analyzer.go,
internal/engines/pipeline/cost_aware_optimizer.go, internal/engines/saturation/engine_v2.go (which leaves the gateway's
queue out). Its records for variants without replicas matter between variants alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_HISTORY = 10
_SHORT, _MEDIUM = 100, 500


@dataclass(frozen=True, slots=True)
class EngineArguments:
    """What the deployment's arguments say of vLLM, or what the autoscaler takes for vLLM's defaults."""

    max_num_batched_tokens: int = 8192
    max_num_seqs: int = 256


@dataclass(frozen=True, slots=True)
class ReplicaTokens:
    """One replica that reports.

    Attributes:
        tokens_in_use: peak of the last minute.
        kv_tokens: what its KV cache holds.
        queue_length: waiting requests, peak of the last minute.
        input_tokens: mean of the requests that ended in five minutes; 0 if unknown.
        output_tokens: likewise.
    """

    tokens_in_use: int
    kv_tokens: int
    queue_length: int
    input_tokens: float = 0.0
    output_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class TokenConfig:
    """The thresholds."""

    kv_cache_threshold: float = 0.80
    queue_length_threshold: float = 5.0
    scale_up_threshold: float = 0.85
    scale_down_boundary: float = 0.70


History = tuple[tuple[str, tuple[int, ...]], ...]
"""The last findings of k2, oldest first, by output length."""


def bucket(output_tokens: float) -> str:
    """The class of output lengths that findings are kept by."""
    return "short" if output_tokens < _SHORT else "medium" if output_tokens < _MEDIUM else "long"


def derived_capacity(engine: EngineArguments, input_tokens: float, output_tokens: float) -> int:
    """k2 from the deployment's arguments; 0 without an output length."""
    if output_tokens <= 0:
        return 0
    steady = engine.max_num_batched_tokens * output_tokens / (input_tokens + output_tokens)
    return int(min(steady, engine.max_num_seqs) * (input_tokens + output_tokens / 2))


def replica_capacity(
    history: History, config: TokenConfig, engine: EngineArguments, replica: ReplicaTokens
) -> tuple[History, int]:
    """A replica's capacity in tokens, and the findings with its own."""
    k1 = int(replica.kv_tokens * config.kv_cache_threshold)
    key, kept = bucket(replica.output_tokens), dict(history)
    if replica.queue_length >= int(config.queue_length_threshold) and replica.tokens_in_use > 0:
        kept[key] = (*kept.get(key, ()), replica.tokens_in_use)[-_HISTORY:]
        k2 = replica.tokens_in_use
    elif kept.get(key):
        k2 = int(sum(kept[key]) / len(kept[key]))
    else:
        k2 = derived_capacity(engine, replica.input_tokens, replica.output_tokens) or k1
    return tuple(kept.items()), min(k1, k2)


def median(values: Sequence[int]) -> int:
    """Of whole numbers, the mean of the middle two cut to a whole one."""
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) // 2


def plan(
    history: History,
    config: TokenConfig,
    engine: EngineArguments,
    replicas: Sequence[ReplicaTokens],
    current: int,
    ready: int,
) -> tuple[History, int, str]:
    """The size wanted, and why.

    Args:
        history: findings of k2.
        config: the thresholds.
        engine: the deployment's arguments.
        replicas: those that report, at least one.
        current: replicas of the target.
        ready: of these ready.
    """
    capacities, demand = [], 0
    for replica in replicas:
        history, capacity = replica_capacity(history, config, engine, replica)
        capacities.append(capacity)
        demand += replica.tokens_in_use + replica.queue_length * int(replica.input_tokens)
    each = median(capacities)
    required = max(0.0, demand / config.scale_up_threshold - current * each)
    spare = max(0.0, ready * each - demand / config.scale_down_boundary)
    text = f"demand {demand} tokens, {each} a replica, {ready} of {current} ready"
    size = current
    if each <= 0:
        return history, current, text
    if required > 0:
        size = current + math.ceil(required / each)
        text += f", {required:.0f} missing"
    elif spare > 0:
        size = current - max(0, min(math.floor(spare / each), current - 1))
        text += f", {spare:.0f} to spare"
    return history, size, text

"""llm-d's workload variant autoscaler, saturation mode: how many replicas it publishes for each variant. Pure.

An HPA with an External metric of AverageValue 1 follows the published number; `simulator.autoscaling.hpa` does that.

Source: llm-d/llm-d-workload-variant-autoscaler@b08b1c77, internal/saturation/analyzer.go (percentage-based analyzer),
config/manager/*.yaml (defaults). Releases from v0.9.0 default to a token-based analyzer, which is not modelled. While
any variant is on its way (desired, current and reporting replicas differ) nothing is decided for the model; the
project's own documents describe an older rule that froze only that variant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simulator.autoscaling.decision import Decision
from simulator.units import PS_PER_S

_LEAST_NON_SATURATED = 2


@dataclass(frozen=True, slots=True)
class SaturationConfig:
    """The saturation-scaling ConfigMap's thresholds, and the optimisation interval."""

    kv_cache_threshold: float = 0.80
    queue_length_threshold: float = 5.0
    kv_spare_trigger: float = 0.1
    queue_spare_trigger: float = 3.0
    interval_ps: int = 60 * PS_PER_S
    scale_to_zero: bool = False


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """One replica that reports: the peaks of the last minute.

    Attributes:
        variant: whose replica it is.
        kv_cache_usage: 0 to 1.
        queue_length: waiting requests.
    """

    variant: str
    kv_cache_usage: float
    queue_length: float


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant of the model.

    Attributes:
        name: of the VariantAutoscaling.
        cost: variantCost.
        current: replicas of its target.
        pending: of these not yet ready.
    """

    name: str
    cost: float
    current: int
    pending: int = 0


@dataclass(frozen=True, slots=True)
class WvaSnapshot:
    """What a pass sees: the settings, the model's variants, and its replicas' load."""

    config: SaturationConfig
    variants: tuple[Variant, ...]
    replicas: tuple[ReplicaLoad, ...]


@dataclass(frozen=True, slots=True)
class WvaState:
    """``desired`` is what was last published, by variant; absent is 0, which decides nothing."""

    desired: tuple[tuple[str, int], ...] = ()

    def of(self, variant: str) -> int:
        return dict(self.desired).get(variant, 0)


@dataclass(frozen=True, slots=True)
class WvaDecision(Decision):
    """``targets`` is what is published, by variant; ``replicas`` is that of the first one."""

    targets: tuple[tuple[str, int], ...] = ()


def _is_saturated(config: SaturationConfig, load: ReplicaLoad) -> bool:
    return (
        load.kv_cache_usage >= config.kv_cache_threshold or load.queue_length >= config.queue_length_threshold
    )


def analyze(config: SaturationConfig, replicas: Sequence[ReplicaLoad]) -> tuple[bool, bool, str]:
    """Whether to scale up, whether scaling down is safe, and why."""
    if not replicas:
        return False, False, "no replica reports"
    calm = [load for load in replicas if not _is_saturated(config, load)]
    count = len(calm)
    kv = sum(load.kv_cache_usage for load in calm)
    queue = sum(load.queue_length for load in calm)
    spare_kv = config.kv_cache_threshold - kv / count if count else 0.0
    spare_queue = config.queue_length_threshold - queue / count if count else 0.0
    text = f"{count} of {len(replicas)} replicas not saturated, spare KV {spare_kv:.3f}, spare queue {spare_queue:.1f}"
    up = spare_kv < config.kv_spare_trigger or spare_queue < config.queue_spare_trigger
    if count < _LEAST_NON_SATURATED:
        return up, False, text
    safe = (
        config.kv_cache_threshold - kv / (count - 1) >= config.kv_spare_trigger
        and config.queue_length_threshold - queue / (count - 1) >= config.queue_spare_trigger
    )
    return up, safe, text


def decide(state: WvaState, snapshot: WvaSnapshot, now: int) -> tuple[WvaState, WvaDecision]:
    """One pass of the saturation engine.

    Args:
        state: what the last pass published.
        snapshot: what this one sees.
        now: time in picoseconds; no rule needs it.
    """
    del now
    variants = snapshot.variants
    if not snapshot.replicas:
        targets = {variant.name: variant.current for variant in variants}
        return _publish(targets, "NoMetrics", "no replica reports: the present sizes are kept")
    reporting = {v.name: sum(load.variant == v.name for load in snapshot.replicas) for v in variants}
    moving = [
        f"{v.name}: desired {state.of(v.name)}, current {v.current}, reporting {reporting[v.name]}"
        for v in variants
        if reporting[v.name] and (state.of(v.name) not in (0, v.current) or reporting[v.name] != v.current)
    ]
    if moving:
        targets = {v.name: state.of(v.name) or v.current for v in variants}
        return _publish(targets, "InTransition", "in transition, nothing is decided: " + "; ".join(moving))
    targets = {v.name: reporting[v.name] or v.current for v in variants}
    up, safe, text = analyze(snapshot.config, snapshot.replicas)
    candidates = [v for v in variants if reporting[v.name]]
    if up:
        free = [v for v in candidates if not v.pending]
        if free:
            cheapest = min(free, key=lambda v: (v.cost, v.name))
            targets[cheapest.name] += 1
            return _publish(targets, "ScaleUp", f"{text}: +1 on {cheapest.name}")
    elif safe:
        shrinkable = [v for v in candidates if targets[v.name] > 1]
        if shrinkable:
            dearest = max(shrinkable, key=lambda v: (v.cost, v.name))
            targets[dearest.name] -= 1
            return _publish(targets, "ScaleDown", f"{text}: -1 on {dearest.name}")
    return _publish(targets, "Unchanged", text)


def _publish(targets: dict[str, int], reason: str, text: str) -> tuple[WvaState, WvaDecision]:
    published = tuple(targets.items())
    return WvaState(published), WvaDecision(published[0][1] if published else None, reason, text, published)

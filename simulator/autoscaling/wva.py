"""llm-d's workload variant autoscaler, saturation mode: how many replicas it publishes for each variant. Pure.

An HPA with an External metric of AverageValue 1 follows the published number; `simulator.autoscaling.hpa` does that.

Two analyzers: by percentages (`analyze`), the default, and by tokens (`simulator.autoscaling.wva_tokens`), if the
ConfigMap names it. By percentages nothing is decided for a model while any of its variants is on its way (desired,
current and reporting replicas differ); the project's own documents describe an older rule that froze only that variant.
Without any replica that reports, the last number stays. Where scaling to zero is on and no request has ended for the
retention period, both publish 0; `wakes` is the loop that leaves zero.

Source: llm-d/llm-d-workload-variant-autoscaler@b08b1c77, internal/saturation/analyzer.go, internal/engines/saturation/
engine.go (passes), internal/engines/pipeline/enforcer.go (zero), internal/engines/scalefromzero/engine.go,
internal/config/scale_to_zero.go, config/manager/*.yaml (defaults).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from simulator.autoscaling.decision import Decision
from simulator.autoscaling.wva_tokens import EngineArguments, History, ReplicaTokens, TokenConfig, plan
from simulator.units import PS_PER_S

_LEAST_NON_SATURATED = 2


@dataclass(frozen=True, slots=True)
class SaturationConfig:
    """The ConfigMaps' settings.

    Attributes:
        kv_cache_threshold: KV use from which a replica is saturated.
        queue_length_threshold: waiting requests from which it is.
        kv_spare_trigger: scale up below this spare KV use on average.
        queue_spare_trigger: scale up below this spare queue on average.
        by_tokens: whether the token analyzer decides.
        scale_up_threshold: of demand over capacity, for tokens.
        scale_down_boundary: likewise.
        interval_ps: between passes.
        scale_to_zero: whether an idle model goes to zero.
        retention_ps: how long it must have been idle.
    """

    kv_cache_threshold: float = 0.80
    queue_length_threshold: float = 5.0
    kv_spare_trigger: float = 0.1
    queue_spare_trigger: float = 3.0
    by_tokens: bool = False
    scale_up_threshold: float = 0.85
    scale_down_boundary: float = 0.70
    interval_ps: int = 30 * PS_PER_S
    scale_to_zero: bool = False
    retention_ps: int = 600 * PS_PER_S

    @property
    def tokens(self) -> TokenConfig:
        """What the token analyzer takes of them."""
        return TokenConfig(
            self.kv_cache_threshold,
            self.queue_length_threshold,
            self.scale_up_threshold,
            self.scale_down_boundary,
        )


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
    """What a pass sees.

    Attributes:
        config: the settings.
        variants: the model's; the token analyzer takes one.
        replicas: their load, for the analyzer by percentages.
        finished: requests that have ended in the retention period; None if unknown.
        tokens: the replicas' tokens, for the token analyzer.
        engine: what the deployment's arguments say.
    """

    config: SaturationConfig
    variants: tuple[Variant, ...]
    replicas: tuple[ReplicaLoad, ...] = ()
    finished: float | None = None
    tokens: tuple[ReplicaTokens, ...] = ()
    engine: EngineArguments = field(default_factory=EngineArguments)


@dataclass(frozen=True, slots=True)
class WvaState:
    """What the autoscaler remembers.

    Attributes:
        desired: what was last published, by variant; absent before.
        history: the token analyzer's findings.
    """

    desired: tuple[tuple[str, int], ...] = ()
    history: History = ()

    def of(self, variant: str) -> int:
        """What was last published for a variant; 0 before, which decides nothing."""
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


def wakes(desired: int, queued: float | None) -> bool:
    """Whether the loop that leaves zero writes 1: requests wait at the gateway for a target of size 0."""
    return desired == 0 and queued is not None and queued > 0


def decide(state: WvaState, snapshot: WvaSnapshot, now: int) -> tuple[WvaState, WvaDecision]:
    """One pass of the saturation engine.

    Args:
        state: what the last passes left.
        snapshot: what this one sees.
        now: time in picoseconds; no rule needs it.

    Raises:
        ValueError: several variants for the token analyzer.
    """
    del now
    config = snapshot.config
    if not (snapshot.tokens if config.by_tokens else snapshot.replicas):
        return _publish(state, dict(state.desired), "NoMetrics", "no replica reports: the last number stays")
    history = state.history
    if config.by_tokens:
        if len(snapshot.variants) != 1:
            raise ValueError(f"the token analyzer takes one variant, not {len(snapshot.variants)}")
        variant = snapshot.variants[0]
        history, size, text = plan(
            history,
            config.tokens,
            snapshot.engine,
            snapshot.tokens,
            variant.current,
            max(0, variant.current - variant.pending),
        )
        targets = {variant.name: size}
        reason = (
            "ScaleUp" if size > variant.current else "ScaleDown" if size < variant.current else "Unchanged"
        )
    else:
        targets, reason, text = _by_percentages(state, snapshot)
    if config.scale_to_zero and snapshot.finished == 0:
        targets, reason = dict.fromkeys(targets, 0), "ScaleToZero"
        text = f"no request has ended for {config.retention_ps / PS_PER_S:g} s"
    return _publish(replace(state, history=history), targets, reason, text)


def _by_percentages(state: WvaState, snapshot: WvaSnapshot) -> tuple[dict[str, int], str, str]:
    variants = snapshot.variants
    reporting = {v.name: sum(load.variant == v.name for load in snapshot.replicas) for v in variants}
    moving = [
        f"{v.name}: desired {state.of(v.name)}, current {v.current}, reporting {reporting[v.name]}"
        for v in variants
        if reporting[v.name] and (state.of(v.name) not in (0, v.current) or reporting[v.name] != v.current)
    ]
    if moving:
        targets = {v.name: state.of(v.name) or v.current for v in variants}
        return targets, "InTransition", "in transition, nothing is decided: " + "; ".join(moving)
    targets = {v.name: reporting[v.name] or v.current for v in variants}
    up, safe, text = analyze(snapshot.config, snapshot.replicas)
    candidates = [v for v in variants if reporting[v.name]]
    if up:
        free = [v for v in candidates if not v.pending]
        if free:
            cheapest = min(free, key=lambda v: (v.cost, v.name))
            targets[cheapest.name] += 1
            return targets, "ScaleUp", f"{text}: +1 on {cheapest.name}"
    elif safe:
        shrinkable = [v for v in candidates if targets[v.name] > 1]
        if shrinkable:
            dearest = max(shrinkable, key=lambda v: (v.cost, v.name))
            targets[dearest.name] -= 1
            return targets, "ScaleDown", f"{text}: -1 on {dearest.name}"
    return targets, "Unchanged", text


def _publish(
    state: WvaState, targets: dict[str, int], reason: str, text: str
) -> tuple[WvaState, WvaDecision]:
    published = tuple(targets.items())
    first = published[0][1] if published else None
    return replace(state, desired=published), WvaDecision(first, reason, text, published)

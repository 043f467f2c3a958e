"""Knative's pod autoscaler (KPA): stable and panic windows, rate limits, scale to zero. Pure.

`decide` is one tick. The averages over the two windows are the caller's to compute from what the queue-proxies
report; so is the activator, which buffers requests while there is no ready pod.

Source: knative/serving@00a4a55c, pkg/autoscaler/scaling/autoscaler.go (the decision) and
config/core/configmaps/autoscaler.yaml@0d68a7be (defaults); pkg/reconciler/autoscaling/kpa/scaler.go (limits, scale
to zero) from memory, not re-read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from simulator.autoscaling.decision import Decision
from simulator.units import PS_PER_S


@dataclass(frozen=True, slots=True)
class KpaSpec:
    """A revision's autoscaling, annotations and config-autoscaler put together.

    Attributes:
        target: what one pod should have (concurrency or requests a second), percentage applied.
        total: what one pod can have; for the activator's part.
        min_scale: min-scale.
        max_scale: max-scale; 0 is no limit.
        activation_scale: size that a start from 0 goes to at least.
        stable_window_ps: stable-window.
        panic_window_ps: panic window.
        panic_threshold: panic-threshold as a factor: 2.0 is 200 %.
        max_scale_up_rate: ratio of wanted to ready pods in one tick.
        max_scale_down_rate: likewise of ready to wanted.
        scale_down_delay_ps: scale-down-delay.
        scale_to_zero: enable-scale-to-zero.
        grace_ps: scale-to-zero-grace-period: at most so long until the activator is in the path.
        activator_ps: how long it takes to get it there.
        pod_retention_ps: scale-to-zero-pod-retention-period.
        target_burst_capacity: -1 always has the activator in the path, 0 only at zero.
        tick_ps: tick-interval.
    """

    target: float
    total: float
    min_scale: int = 0
    max_scale: int = 0
    activation_scale: int = 1
    stable_window_ps: int = 60 * PS_PER_S
    panic_window_ps: int = 6 * PS_PER_S
    panic_threshold: float = 2.0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    scale_down_delay_ps: int = 0
    scale_to_zero: bool = True
    grace_ps: int = 30 * PS_PER_S
    activator_ps: int = 0
    pod_retention_ps: int = 0
    target_burst_capacity: float = 200.0
    tick_ps: int = 2 * PS_PER_S


@dataclass(frozen=True, slots=True)
class KpaState:
    """What the autoscaler remembers.

    Attributes:
        panic_since_ps: the last tick over the panic threshold; None when it is calm.
        peak: the most pods wanted in this panic.
        recent: (time, wanted pods) within the scale-down delay.
        active_since_ps: since when the revision is wanted at all; None when not.
        idle_since_ps: since when nothing is wanted; None when something is.
        excess_burst_capacity: negative puts the activator in the path.
    """

    panic_since_ps: int | None = None
    peak: int = 0
    recent: tuple[tuple[int, int], ...] = ()
    active_since_ps: int | None = None
    idle_since_ps: int | None = None
    excess_burst_capacity: int = -1


def initial_state(ready: int, now: int) -> KpaState:
    """A new autoscaler: with more than one ready pod it starts in panic, so as not to shrink for want of data."""
    return KpaState(panic_since_ps=now if ready > 1 else None, peak=ready, active_since_ps=now)


@dataclass(frozen=True, slots=True)
class KpaSnapshot:
    """What a tick sees.

    Attributes:
        spec: the revision's settings.
        ready: ready pods.
        replicas: pods asked for at present.
        stable: the metric summed over pods, averaged over the stable window; None without data.
        panic: likewise over the panic window.
    """

    spec: KpaSpec
    ready: int
    replicas: int
    stable: float | None
    panic: float | None


def decide(state: KpaState, snapshot: KpaSnapshot, now: int) -> tuple[KpaState, Decision]:
    """One tick.

    Args:
        state: what the last tick left.
        snapshot: what this one sees.
        now: time in picoseconds.
    """
    spec = snapshot.spec
    if snapshot.stable is None or snapshot.panic is None:
        return state, Decision(None, "NoData", "no data to scale on yet")
    ready = max(1, snapshot.ready)
    up, down = math.ceil(spec.max_scale_up_rate * ready), math.floor(ready / spec.max_scale_down_rate)
    raw_stable, raw_panic = math.ceil(snapshot.stable / spec.target), math.ceil(snapshot.panic / spec.target)
    stable, panic = min(max(raw_stable, down), up), min(max(raw_panic, down), up)
    if spec.activation_scale > 1:
        stable = max(stable, spec.activation_scale) if raw_stable > 0 else stable
        panic = max(panic, spec.activation_scale) if raw_panic > 0 else panic

    over = raw_panic / ready >= spec.panic_threshold
    since, peak = state.panic_since_ps, state.peak
    if over:
        since = now
    elif since is not None and since + spec.stable_window_ps < now:
        since, peak = None, 0
    wanted, mode = stable, "stable"
    if since is not None:
        peak = max(peak, stable, panic)
        wanted, mode = peak, "panic"
    recent = state.recent
    if spec.scale_down_delay_ps:
        recent = (*(e for e in recent if e[0] + spec.scale_down_delay_ps > now), (now, wanted))
        wanted = max(size for _, size in recent)
    state = replace(
        state,
        panic_since_ps=since,
        peak=peak,
        recent=recent,
        excess_burst_capacity=_excess_burst_capacity(spec, snapshot.ready, snapshot.panic),
    )
    text = (
        f"{mode} mode: stable {snapshot.stable:.3g}, panic {snapshot.panic:.3g} at target {spec.target:g} "
        f"on {snapshot.ready} ready want {wanted}"
    )
    return _apply(state, snapshot, wanted, text, now)


def _excess_burst_capacity(spec: KpaSpec, ready: int, panic: float) -> int:
    if spec.target_burst_capacity == 0:
        return 0
    if spec.target_burst_capacity < 0:
        return -1
    return math.floor(ready * spec.total - spec.target_burst_capacity - panic)


def _apply(
    state: KpaState, snapshot: KpaSnapshot, wanted: int, text: str, now: int
) -> tuple[KpaState, Decision]:
    """The reconciler's part: limits, and the way to zero."""
    spec, current = snapshot.spec, snapshot.replicas
    size = max(wanted, spec.min_scale)
    if spec.max_scale:
        size = min(size, spec.max_scale)
    if size > 0:
        since = now if state.active_since_ps is None else state.active_since_ps
        state = replace(state, active_since_ps=since, idle_since_ps=None)
    elif not spec.scale_to_zero:
        size, text = 1, f"{text}; scale to zero is off"
    elif current > 0:
        # At least one stable window active, then marked inactive, then the activator takes over.
        idle = now if state.idle_since_ps is None else state.idle_since_ps
        state = replace(state, idle_since_ps=idle)
        active = state.active_since_ps
        handover = max(min(spec.activator_ps, spec.grace_ps), spec.pod_retention_ps)
        if (active is not None and active + spec.stable_window_ps > now) or idle + handover > now:
            size, text = 1, f"{text}; the last pod waits for the activator"
        else:
            state = replace(state, active_since_ps=None)
    if size == current:
        return state, Decision(None, "Unchanged", text)
    return state, Decision(size, "PanicMode" if state.panic_since_ps is not None else "StableMode", text)

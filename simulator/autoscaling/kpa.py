"""Knative's pod autoscaler (KPA): stable and panic windows, rate limits, scale to zero. Pure.

`decide` is one tick: the autoscaler's wish, then what the reconciler makes of it. The averages over the two windows are
the caller's to compute from what the queue-proxies report; so is the activator, which buffers requests while there is
no ready pod.

A revision is *activating* until its first min-scale (at first: initial-scale) pods are ready, then *active*, and
*inactive* once nothing is wanted of it. Zero is reached from active alone: after a stable window as active it is marked
inactive, and goes when the activator answers for it and has been in the path for the grace period. It already is if
there is too little burst capacity. One that does not get ready goes to zero after the progress deadline and 30 s.

Source: knative/serving@98e5ef90, pkg/autoscaler/scaling/autoscaler.go (the wish), pkg/reconciler/autoscaling/kpa/
scaler.go and kpa.go (limits, states, zero), config/core/configmaps/autoscaler.yaml (defaults). Every tick is a
reconciliation here; Knative's also come in between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

from simulator.autoscaling.decision import Decision
from simulator.units import PS_PER_S

Status = Literal["activating", "active", "inactive"]

_ACTIVATION_BUFFER_PS: Final = 30 * PS_PER_S


@dataclass(frozen=True, slots=True)
class KpaSpec:
    """A revision's autoscaling, annotations and config-autoscaler put together.

    Attributes:
        target: what one pod should have (concurrency or requests a second), percentage applied.
        total: what one pod can have; for the activator's part.
        initial_scale: initial-scale: the least size until so many pods were ready once.
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
        grace_ps: scale-to-zero-grace-period: how long the activator must have been in the path.
        activator_ps: from an inactive revision until the activator answers for it.
        pod_retention_ps: scale-to-zero-pod-retention-period.
        target_burst_capacity: -1 always has the activator in the path, 0 only at zero.
        progress_deadline_ps: progress-deadline of config-deployment.
        tick_ps: tick-interval.
    """

    target: float
    total: float
    initial_scale: int = 1
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
    target_burst_capacity: float = 211.0
    progress_deadline_ps: int = 600 * PS_PER_S
    tick_ps: int = 2 * PS_PER_S


@dataclass(frozen=True, slots=True)
class KpaState:
    """What the autoscaler remembers.

    Attributes:
        panic_since_ps: the last tick over the panic threshold; None when it is calm.
        peak: the most pods wanted in this panic.
        recent: (time, wanted pods) within the scale-down delay.
        excess_burst_capacity: negative puts the activator in the path.
        status: of the revision.
        status_since_ps: since when it has it.
        initialized: whether its initial scale was ready once.
        proxy_since_ps: since when the activator is in the path; None when it is not.
    """

    panic_since_ps: int | None = None
    peak: int = 0
    recent: tuple[tuple[int, int], ...] = ()
    excess_burst_capacity: int = -1
    status: Status = "activating"
    status_since_ps: int = 0
    initialized: bool = False
    proxy_since_ps: int | None = 0


def initial_state(ready: int, now: int) -> KpaState:
    """A new autoscaler: with more than one ready pod it starts in panic, so as not to shrink for want of data."""
    return KpaState(
        panic_since_ps=now if ready > 1 else None, peak=ready, status_since_ps=now, proxy_since_ps=now
    )


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
        return _reconcile(state, snapshot, -1, "no data to scale on yet", now)
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
    return _reconcile(state, snapshot, wanted, text, now)


def _excess_burst_capacity(spec: KpaSpec, ready: int, panic: float) -> int:
    if spec.target_burst_capacity == 0:
        return 0
    if spec.target_burst_capacity < 0:
        return -1
    return math.floor(ready * spec.total - spec.target_burst_capacity - panic)


def _reconcile(
    state: KpaState, snapshot: KpaSnapshot, wanted: int, text: str, now: int
) -> tuple[KpaState, Decision]:
    """The reconciler's part: limits, the way to zero, and the revision's status.

    Args:
        state: with the tick's wish taken in.
        snapshot: what the tick sees.
        wanted: the wish; -1 without data.
        text: why.
        now: time in picoseconds.
    """
    spec = snapshot.spec
    known = wanted >= 0
    if not known and state.status != "activating":
        size, applied = -1, False
    else:
        lifted = spec.initial_scale > 1 and not state.initialized
        size = max(wanted, spec.min_scale, spec.initial_scale if lifted else 0)
        if spec.max_scale:
            size = min(size, spec.max_scale)
        size, applied, why = _way_to_zero(state, spec, size, now)
        text += why
    state = _with_status(state, snapshot, size, now)
    if not applied or size == snapshot.replicas:
        return state, Decision(None, "Unchanged" if known else "NoData", text)
    return state, Decision(size, "PanicMode" if state.panic_since_ps is not None else "StableMode", text)


def _way_to_zero(state: KpaState, spec: KpaSpec, size: int, now: int) -> tuple[int, bool, str]:
    """The size, whether it is to be written, and what to add to the reason."""
    if size != 0:
        return size, True, ""
    if not spec.scale_to_zero:
        return 1, True, "; scale to zero is off"
    for_ps = now - state.status_since_ps
    if state.status == "activating":
        if for_ps > spec.progress_deadline_ps + _ACTIVATION_BUFFER_PS:
            return 0, True, "; it did not get ready before the progress deadline"
        return -1, False, "; it is still activating"
    if state.status == "active":
        if for_ps >= spec.stable_window_ps:
            return 0, False, "; it becomes inactive"
        return 1, True, "; the last pod stays for a stable window"
    waiting = 0, False, "; the last pod waits for the activator"
    if spec.target_burst_capacity != -1 and for_ps < spec.activator_ps:
        return waiting
    if for_ps >= max(spec.grace_ps, spec.pod_retention_ps):
        return 0, True, ""
    proxied = state.proxy_since_ps is not None and now - state.proxy_since_ps >= spec.grace_ps
    return (0, True, "") if for_ps >= spec.pod_retention_ps and proxied else waiting


def _with_status(state: KpaState, snapshot: KpaSnapshot, size: int, now: int) -> KpaState:
    """The revision's status after a pass that ended in a size (-1: unknown)."""
    spec, status = snapshot.spec, state.status
    if size > 0 and state.excess_burst_capacity >= 0:
        proxy_since = None
    else:
        proxy_since = now if state.proxy_since_ps is None else state.proxy_since_ps
    threshold = max(spec.min_scale, 1 if state.initialized else spec.initial_scale)
    initialized = state.initialized or snapshot.ready >= threshold
    if size == 0 or threshold == 0:
        status = "inactive"
    elif size > 0 or status != "inactive":
        status = "active" if snapshot.ready >= threshold else "activating"
    return replace(
        state,
        status=status,
        status_since_ps=state.status_since_ps if status == state.status else now,
        initialized=initialized,
        proxy_since_ps=proxy_since,
    )

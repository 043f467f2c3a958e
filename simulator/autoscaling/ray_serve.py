"""Ray Serve's default autoscaling policy: ongoing requests per replica, with delays by consecutive ticks. Pure.

Source: ray-project/ray@00590c45, python/ray/serve/autoscaling_policy.py; python/ray/serve/config.py (defaults).
The control loop's interval, 0.1 s, is RAY_SERVE_CONTROL_LOOP_INTERVAL_S's default (_private/constants.py@0016b72b).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from simulator.autoscaling.decision import Decision


@dataclass(frozen=True, slots=True)
class RayServeSpec:
    """``autoscaling_config`` of a deployment; times in seconds, as its rules divide them.

    Attributes:
        min_replicas: lower limit.
        max_replicas: upper limit.
        target_ongoing_requests: what one replica should have.
        metrics_interval_s: between the pushes of a replica's metrics.
        look_back_period_s: what they are averaged over.
        upscale_delay_s: how long every tick must want more.
        downscale_delay_s: how long every tick must want less.
        downscale_to_zero_delay_s: the same for the step from 1 to 0; None takes downscale_delay_s.
        upscaling_factor: gain of steps up.
        downscaling_factor: gain of steps down.
        control_loop_interval_s: between ticks.
    """

    min_replicas: int = 1
    max_replicas: int = 1
    target_ongoing_requests: float = 2.0
    metrics_interval_s: float = 10.0
    look_back_period_s: float = 30.0
    upscale_delay_s: float = 30.0
    downscale_delay_s: float = 600.0
    downscale_to_zero_delay_s: float | None = None
    upscaling_factor: float = 1.0
    downscaling_factor: float = 1.0
    control_loop_interval_s: float = 0.1


@dataclass(frozen=True, slots=True)
class RayServeState:
    """``counter`` counts ticks that wanted more (positive) or fewer (negative) replicas in a row."""

    counter: int = 0


@dataclass(frozen=True, slots=True)
class RayServeSnapshot:
    """What a tick sees.

    Attributes:
        spec: the deployment's settings.
        running: replicas that run.
        target: replicas asked for at present.
        total_requests: ongoing and queued requests, averaged over the look-back period.
    """

    spec: RayServeSpec
    running: int
    target: int
    total_requests: float


def desired_replicas(spec: RayServeSpec, running: int, total_requests: float) -> int:
    """What the load asks for, within the limits, before any delay; ``running`` is at least 1."""
    wanted = running * (total_requests / (spec.target_ongoing_requests * running))
    delta = wanted - running
    factor = spec.upscaling_factor if delta > 0 else spec.downscaling_factor
    size = math.ceil(running + factor * delta)
    if math.ceil(wanted) < running and size == running:
        size -= 1
    return max(spec.min_replicas, min(spec.max_replicas, size))


def decide(state: RayServeState, snapshot: RayServeSnapshot, now: int) -> tuple[RayServeState, Decision]:
    """One tick of the controller.

    Args:
        state: what the last tick left.
        snapshot: what this one sees.
        now: time in picoseconds; only ticks count here.
    """
    del now
    spec, target, total = snapshot.spec, snapshot.target, snapshot.total_requests
    seen = f"{total:.3g} ongoing requests on {snapshot.running} running"
    if snapshot.running == 0:
        size = max(math.ceil(spec.upscaling_factor), target) if total > 0 else target
        if size == target:
            return state, Decision(None, "Unchanged", seen)
        return state, Decision(size, "ColdStart", f"{seen}: {size} at once")
    desired = desired_replicas(spec, snapshot.running, total)
    loop = spec.control_loop_interval_s
    if desired > target:
        counter = max(state.counter, 0) + 1
        if counter > int(spec.upscale_delay_s / loop):
            return replace(state, counter=0), Decision(desired, "Upscaling", f"{seen} want {desired}")
        return replace(state, counter=counter), Decision(None, "UpscaleDelay", f"{seen} want {desired}")
    if desired < target:
        counter = min(state.counter, 0) - 1
        delay_s = spec.downscale_delay_s
        if target == 1:
            if spec.downscale_to_zero_delay_s is not None:
                delay_s = spec.downscale_to_zero_delay_s
        else:
            desired = max(1, desired)
        if counter < -int(delay_s / loop):
            if desired == target:
                return replace(state, counter=0), Decision(None, "Unchanged", seen)
            return replace(state, counter=0), Decision(desired, "Downscaling", f"{seen} want {desired}")
        return replace(state, counter=counter), Decision(None, "DownscaleDelay", f"{seen} want {desired}")
    return replace(state, counter=0), Decision(None, "Unchanged", f"{seen} want {desired}")

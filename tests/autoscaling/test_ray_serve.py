"""Ray Serve's policy, rule by rule."""

from __future__ import annotations

from dataclasses import replace

from simulator.autoscaling.ray_serve import (
    RayServeSnapshot,
    RayServeSpec,
    RayServeState,
    decide,
    desired_replicas,
)

SPEC = RayServeSpec(min_replicas=1, max_replicas=10)


def tick(
    state: RayServeState, total: float, running: int, target: int, spec: RayServeSpec = SPEC
) -> tuple[RayServeState, int | None]:
    state, decision = decide(state, RayServeSnapshot(spec, running, target, total), 0)
    return state, decision.replicas


def test_desired_is_total_over_target() -> None:
    assert desired_replicas(SPEC, 3, 13.0) == 7  # ceil(13 / 2)
    assert desired_replicas(SPEC, 3, 99.0) == 10
    assert desired_replicas(SPEC, 3, 0.0) == 1


def test_factors_scale_the_difference() -> None:
    assert desired_replicas(replace(SPEC, upscaling_factor=0.5), 2, 12.0) == 4  # 2 + 0.5 × (6 − 2)
    assert desired_replicas(replace(SPEC, downscaling_factor=0.5), 8, 8.0) == 6  # 8 + 0.5 × (4 − 8)


def test_a_small_factor_still_steps_down_by_one() -> None:
    # 5 + 0.1 × (4 − 5) = 4.9, rounded up 5: stuck, so 4.
    assert desired_replicas(replace(SPEC, downscaling_factor=0.1), 5, 8.0) == 4


def test_upscale_waits_for_more_ticks_than_delay_over_interval() -> None:
    spec = replace(SPEC, upscale_delay_s=0.5)  # int(0.5 / 0.1) = 5: the sixth tick acts
    state = RayServeState()
    for _ in range(5):
        state, size = tick(state, 9.0, 2, 2, spec)
        assert size is None
    state, size = tick(state, 11.0, 2, 2, spec)
    assert (size, state.counter) == (6, 0)  # the latest desired counts


def test_one_contrary_tick_restarts_the_delay() -> None:
    state, _ = tick(RayServeState(250), 9.0, 2, 2)
    assert state.counter == 251
    assert tick(state, 4.0, 2, 2)[0].counter == 0
    assert tick(state, 1.0, 2, 2)[0].counter == -1


def test_downscale_stops_at_one_unless_from_one() -> None:
    spec = replace(SPEC, min_replicas=0, downscale_delay_s=0.0)
    assert tick(RayServeState(), 0.0, 3, 3, spec)[1] == 1
    assert tick(RayServeState(), 0.0, 1, 1, spec)[1] == 0


def test_the_step_to_zero_has_a_delay_of_its_own() -> None:
    spec = replace(SPEC, min_replicas=0, downscale_delay_s=0.0, downscale_to_zero_delay_s=0.2)
    state, size = tick(RayServeState(), 0.0, 1, 1, spec)
    assert size is None
    state, size = tick(state, 0.0, 1, 1, spec)
    assert size is None
    assert tick(state, 0.0, 1, 1, spec)[1] == 0


def test_from_zero_running_it_acts_at_once() -> None:
    spec = replace(SPEC, min_replicas=0, upscaling_factor=1.5)
    assert tick(RayServeState(), 0.1, 0, 0, spec)[1] == 2
    assert tick(RayServeState(), 0.0, 0, 0, spec)[1] is None
    assert tick(RayServeState(), 5.0, 0, 4, spec)[1] is None  # four are on their way

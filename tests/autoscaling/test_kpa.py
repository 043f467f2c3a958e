"""Knative's autoscaler, rule by rule. Targets of 10 requests a pod unless said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulator.autoscaling.kpa import KpaSnapshot, KpaSpec, KpaState, decide, initial_state
from simulator.units import PS_PER_S as S

SPEC = KpaSpec(target=10, total=10)


def tick(
    stable: float | None,
    panic: float | None,
    ready: int,
    now: int = 0,
    *,
    spec: KpaSpec = SPEC,
    state: KpaState | None = None,
    replicas: int | None = None,
) -> tuple[KpaState, int | None]:
    replicas = ready if replicas is None else replicas
    state, decision = decide(
        KpaState(status="active", initialized=True) if state is None else state,
        KpaSnapshot(spec, ready, replicas, stable, panic),
        now,
    )
    return state, decision.replicas


def test_no_data_decides_nothing() -> None:
    assert tick(None, None, 3)[1] is None


def test_stable_mode_follows_the_stable_window() -> None:
    assert tick(45, 20, 4)[1] == 5  # ceil(45 / 10); panic window wants 2 of 4 ready: no panic


def test_panic_begins_at_twice_the_ready_pods() -> None:
    state, size = tick(45, 80, 4, 10 * S)  # ceil(80 / 10) / 4 = 2
    assert (size, state.panic_since_ps) == (8, 10 * S)
    state, size = tick(45, 79, 5, 10 * S)  # 8 / 5 < 2
    assert (size, state.panic_since_ps) == (None, None)


def test_panic_never_shrinks_and_ends_one_stable_window_after_its_last_cause() -> None:
    state, _ = tick(10, 80, 4, 10 * S)
    state, size = tick(10, 10, 8, 70 * S, state=state)
    assert (size, state.panic_since_ps) == (None, 10 * S)  # 8 held; 10 + 60 is not before 70
    state, size = tick(10, 10, 8, 72 * S, state=state)
    assert (size, state.panic_since_ps, state.peak) == (4, None, 0)  # halved at most


def test_scale_down_is_limited_by_the_rate_and_up_too() -> None:
    assert tick(0, 0, 9)[1] == 4  # floor(9 / 2)
    assert tick(1000, 0, 2, spec=replace(SPEC, max_scale_up_rate=1.5))[1] == 3


def test_rates_count_one_pod_at_least() -> None:
    assert tick(35, 0, 0, spec=replace(SPEC, max_scale_up_rate=2.0))[1] == 2


def test_activation_scale_lifts_any_size_above_zero() -> None:
    spec = replace(SPEC, activation_scale=3)
    assert tick(1, 1, 0, spec=spec, replicas=0)[1] == 3


def test_scale_down_delay_takes_the_maximum_over_it() -> None:
    spec, state = replace(SPEC, scale_down_delay_ps=10 * S), None
    state, _ = tick(40, 0, 4, 0, spec=spec)
    state, size = tick(30, 0, 4, 8 * S, spec=spec, state=state)
    assert size is None
    state, size = tick(30, 0, 4, 10 * S, spec=spec, state=state)
    assert size == 3


def test_limits() -> None:
    assert tick(100, 0, 5, spec=replace(SPEC, max_scale=6))[1] == 6
    assert tick(0, 0, 1, spec=replace(SPEC, min_scale=2))[1] == 2


def test_starts_in_panic_with_several_ready_pods() -> None:
    assert initial_state(3, 5).panic_since_ps == 5
    assert initial_state(1, 5).panic_since_ps is None
    state, size = tick(0, 0, 3, 10 * S, state=initial_state(3, 0))
    assert (size, state.peak) == (None, 3)


def test_initial_scale_holds_until_it_was_ready_once() -> None:
    spec, state = replace(SPEC, initial_scale=5), initial_state(0, 0)
    state, size = tick(None, None, 0, 2 * S, spec=spec, state=state, replicas=1)
    assert size == 5  # without any data
    state, size = tick(0, 0, 4, 60 * S, spec=spec, state=state, replicas=5)
    assert (size, state.status, state.initialized) == (None, "activating", False)
    state, size = tick(0, 0, 5, 62 * S, spec=spec, state=state, replicas=5)
    assert (size, state.status, state.initialized) == (None, "active", True)
    assert tick(0, 0, 5, 64 * S, spec=spec, state=state)[1] == 2  # floor(5 / 2)


def test_a_starting_revision_does_not_go_to_zero_before_its_deadline() -> None:
    state, size = tick(0, 0, 0, 600 * S, state=initial_state(0, 0), replicas=1)
    assert (size, state.status) == (None, "activating")
    assert tick(0, 0, 0, 630 * S, state=state, replicas=1)[1] is None
    assert tick(0, 0, 0, 632 * S, state=state, replicas=1)[1] == 0


def test_last_pod_stays_active_for_a_stable_window() -> None:
    state, size = tick(0, 0, 1, 59 * S)
    assert (size, state.status) == (None, "active")
    state, size = tick(0, 0, 1, 60 * S)
    assert (size, state.status, state.status_since_ps) == (None, "inactive", 60 * S)
    # Several are first brought down to one.
    assert tick(0, 0, 1, 30 * S, replicas=3)[1] == 1


def test_the_activator_must_have_been_in_the_path_for_the_grace_period() -> None:
    idle = KpaState(status="inactive", status_since_ps=60 * S, initialized=True, proxy_since_ps=60 * S)
    assert tick(0, 0, 1, 89 * S, state=idle)[1] is None
    assert tick(0, 0, 1, 90 * S, state=idle)[1] == 0
    # One pod of 10 has no room for a burst of 211, so the activator was there before: at once.
    early = replace(idle, proxy_since_ps=0)
    assert tick(0, 0, 1, 62 * S, state=early)[1] == 0


def test_the_activator_leaves_the_path_with_burst_capacity() -> None:
    state, _ = tick(5, 5, 30)
    assert state.excess_burst_capacity >= 0
    assert state.proxy_since_ps is None
    state, _ = tick(5, 5, 3, 10 * S, state=state)
    assert state.proxy_since_ps == 10 * S


def test_the_activator_must_answer() -> None:
    idle = KpaState(status="inactive", initialized=True)
    spec = replace(SPEC, activator_ps=40 * S)
    assert tick(0, 0, 1, 38 * S, spec=spec, state=idle)[1] is None
    assert tick(0, 0, 1, 40 * S, spec=spec, state=idle)[1] == 0


def test_pod_retention_keeps_the_last_pod() -> None:
    idle = KpaState(status="inactive", initialized=True)
    spec = replace(SPEC, pod_retention_ps=90 * S)
    assert tick(0, 0, 1, 88 * S, spec=spec, state=idle)[1] is None
    assert tick(0, 0, 1, 90 * S, spec=spec, state=idle)[1] == 0


def test_traffic_resets_the_way_to_zero() -> None:
    state, _ = tick(0, 0, 1, 70 * S)
    assert state.status == "inactive"
    state, _ = tick(1, 1, 1, 72 * S, state=state)
    assert (state.status, state.status_since_ps) == ("active", 72 * S)


def test_scale_to_zero_can_be_off() -> None:
    assert tick(0, 0, 1, 999 * S, spec=replace(SPEC, scale_to_zero=False))[1] is None


@pytest.mark.parametrize(
    ("burst", "ready", "panic", "expected"),
    [(200.0, 30, 50.5, 49), (200.0, 10, 0.0, -100), (0.0, 1, 99.0, 0), (-1.0, 99, 0.0, -1)],
)
def test_excess_burst_capacity(burst: float, ready: int, panic: float, expected: int) -> None:
    state, _ = tick(0, panic, ready, spec=replace(SPEC, target_burst_capacity=burst))
    assert state.excess_burst_capacity == expected

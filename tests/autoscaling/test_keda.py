"""KEDA's operator loop and metrics server, rule by rule; seconds are turned into picoseconds by `S`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulator.autoscaling.hpa import HpaSnapshot, HpaState
from simulator.autoscaling.hpa import decide as hpa_decide
from simulator.autoscaling.hpa_types import ExternalValues, MetricError, Scale
from simulator.autoscaling.keda import (
    Fallback,
    KedaSnapshot,
    KedaSpec,
    KedaState,
    Pause,
    Trigger,
    decide,
    hpa_spec_of,
    read_trigger,
)
from simulator.units import PS_PER_S as S

SPEC = KedaSpec(triggers=(Trigger("s0-prometheus", 5_000),))


def poll(
    value: float | None, replicas: int, now: int, spec: KedaSpec = SPEC, state: KedaState | None = None
) -> tuple[KedaState, int | None, str]:
    state, decision = decide(state or KedaState(), KedaSnapshot(spec, (value,), replicas), now)
    return state, decision.replicas, decision.reason


def test_activation_is_strictly_above_the_threshold() -> None:
    spec = replace(SPEC, triggers=(Trigger("t", 5_000, activation_threshold=2.0),))
    assert poll(2.0, 0, S, spec)[1] is None
    assert poll(2.001, 0, S, spec)[1:] == (1, "KEDAScaleTargetActivated")


def test_activation_goes_to_the_minimum_and_sets_last_active() -> None:
    state, size, _ = poll(1.0, 0, 7 * S, replace(SPEC, min_replicas=3))
    assert (size, state.last_active_ps) == (3, 7 * S)


def test_above_zero_the_hpa_decides_and_activity_is_noted() -> None:
    state, size, reason = poll(9.0, 4, 30 * S)
    assert (size, reason, state.last_active_ps) == (None, "ScalerActive", 30 * S)


def test_cooldown_goes_from_any_size_straight_to_zero_and_only_after_it() -> None:
    state = KedaState(last_active_ps=100 * S)
    assert poll(0.0, 7, 400 * S, state=state)[1:] == (None, "ScalerCooldown")  # not strictly later
    assert poll(0.0, 7, 400 * S + 1, state=state)[1:] == (0, "KEDAScaleTargetDeactivated")


def test_activity_in_any_poll_restarts_the_cooldown() -> None:
    state, _, _ = poll(1.0, 2, 390 * S, state=KedaState(last_active_ps=100 * S))
    assert poll(0.0, 2, 500 * S, state=state)[2] == "ScalerCooldown"


def test_initial_cooldown_counts_from_creation_while_never_active() -> None:
    spec, state = replace(SPEC, initial_cooldown_ps=60 * S), KedaState(created_ps=10 * S)
    assert poll(0.0, 1, 70 * S, spec, state)[2] == "ScalerCooldown"
    assert poll(0.0, 1, 71 * S, spec, state)[1] == 0


def test_idle_count_is_left_for_the_minimum_and_returned_to() -> None:
    spec = replace(SPEC, min_replicas=2, idle_replicas=0)
    assert poll(1.0, 0, S, spec)[1] == 2
    assert poll(1.0, 1, S, spec)[1] == 2
    assert poll(0.0, 5, 500 * S, spec, KedaState(last_active_ps=0))[1] == 0


def test_with_a_minimum_and_no_idle_count_nothing_is_deactivated() -> None:
    spec = replace(SPEC, min_replicas=2)
    assert poll(0.0, 5, 900 * S, spec, KedaState(last_active_ps=0))[1] is None
    assert poll(0.0, 1, 900 * S, spec)[1:] == (2, "BelowMinReplicaCount")


def test_an_error_never_scales_to_zero_without_fallback() -> None:
    assert poll(None, 3, 900 * S, state=KedaState(last_active_ps=0))[1:] == (None, "TriggerError")


def test_an_error_with_fallback_replicas_leaves_the_size_to_the_hpa() -> None:
    spec = replace(SPEC, fallback=Fallback(3, 6))
    assert poll(None, 3, 900 * S, spec, KedaState(last_active_ps=0))[1:] == (None, "TriggerError")


def test_an_error_with_fallback_to_zero_is_not_active_and_cools_down() -> None:
    spec = replace(SPEC, fallback=Fallback(3, 0))
    assert poll(None, 3, 900 * S, spec, KedaState(last_active_ps=0))[1] == 0


def test_an_active_trigger_beside_one_in_error_does_not_renew_the_activity() -> None:
    spec = replace(SPEC, triggers=(Trigger("a", 1_000), Trigger("b", 1_000)))
    state, decision = decide(KedaState(last_active_ps=5), KedaSnapshot(spec, (3.0, None), 2), 90 * S)
    assert (decision.replicas, decision.reason, state.last_active_ps) == (None, "PartialTriggerError", 5)


def test_a_value_for_each_trigger_is_needed() -> None:
    with pytest.raises(ValueError, match="2 values for 1 triggers"):
        decide(KedaState(), KedaSnapshot(SPEC, (1.0, 2.0), 1), 0)


def test_fallback_begins_after_more_failures_than_the_threshold() -> None:
    spec, state = replace(SPEC, fallback=Fallback(2, 6)), KedaState()
    readings = []
    for _ in range(3):
        state, reading = read_trigger(state, spec, 0, None, 4, 4)
        readings.append(reading)
    assert isinstance(readings[0], MetricError)
    assert isinstance(readings[1], MetricError)
    assert readings[2] == ExternalValues((30_000,))  # threshold 5 × 6 replicas
    state, reading = read_trigger(state, spec, 0, 1.5, 4, 4)
    assert (reading, state.failures) == (ExternalValues((1_500,)), (0,))


@pytest.mark.parametrize(
    ("behavior", "current", "size"),
    [
        ("static", 9, 6),
        ("currentReplicas", 9, 9),
        ("currentReplicasIfHigher", 9, 9),
        ("currentReplicasIfHigher", 2, 6),
        ("currentReplicasIfLower", 9, 6),
        ("currentReplicasIfLower", 2, 2),
    ],
)
def test_fallback_behaviors(behavior: str, current: int, size: int) -> None:
    spec = replace(SPEC, fallback=Fallback(0, 6, behavior))  # type: ignore[arg-type]
    assert read_trigger(KedaState(), spec, 0, None, current, current)[1] == ExternalValues((5_000 * size,))


def test_fallback_of_a_value_metric_divides_by_ready_replicas() -> None:
    spec = replace(SPEC, triggers=(Trigger("t", 5_000, metric_type="Value"),), fallback=Fallback(0, 6))
    assert read_trigger(KedaState(), spec, 0, None, 3, 4)[1] == ExternalValues((7_500,))
    assert isinstance(read_trigger(KedaState(), spec, 0, None, 3, 0)[1], MetricError)


def _hpa_size(spec: KedaSpec, reading: ExternalValues, replicas: int) -> int | None:
    snapshot = HpaSnapshot(hpa_spec_of(spec), Scale(replicas, replicas), readings=(reading,))
    return hpa_decide(HpaState(), snapshot, 600 * S)[1].desired_replicas


def test_the_hpa_divides_the_value_by_the_threshold() -> None:
    assert hpa_spec_of(SPEC).min_replicas == 1
    assert _hpa_size(SPEC, ExternalValues((23_000,)), 3) == 5  # ceil(23 / 5)
    assert _hpa_size(SPEC, ExternalValues((15_900,)), 3) == 3  # 15.9 / 15 is within 10 %


def test_the_hpa_lands_on_the_fallback_size() -> None:
    spec = replace(SPEC, fallback=Fallback(0, 6))
    reading = read_trigger(KedaState(), spec, 0, None, 3, 3)[1]
    assert isinstance(reading, ExternalValues)
    assert _hpa_size(spec, reading, 3) == 6


def test_at_zero_the_hpa_sleeps() -> None:
    assert _hpa_size(SPEC, ExternalValues((23_000,)), 0) == 0


def test_a_paused_object_is_set_once_and_left() -> None:
    spec = replace(SPEC, pause=Pause(paused=True, replicas=4))
    assert poll(9.0, 2, S, spec)[1:] == (4, "ScaledObjectPaused")
    assert poll(9.0, 4, S, spec)[1:] == (None, "ScaledObjectPaused")
    assert poll(0.0, 2, 900 * S, replace(SPEC, pause=Pause(paused=True)))[1] is None


def test_paused_scale_in_stays_above_zero_and_disables_the_hpas_policies() -> None:
    spec = replace(SPEC, pause=Pause(scale_in=True))
    assert poll(0.0, 5, 900 * S, spec, KedaState(last_active_ps=0))[1:] == (None, "PausedScaleIn")
    assert poll(1.0, 0, S, spec)[1] == 1
    assert _hpa_size(spec, ExternalValues((23_000,)), 3) == 5
    assert _hpa_size(spec, ExternalValues((1_000,)), 3) == 3


def test_paused_scale_out_stays_at_zero_and_disables_the_hpas_policies() -> None:
    spec = replace(SPEC, pause=Pause(scale_out=True))
    state, size, reason = poll(9.0, 0, S, spec)
    assert (size, reason, state.last_active_ps) == (None, "PausedScaleOut", None)
    assert _hpa_size(spec, ExternalValues((23_000,)), 3) == 3


def test_forced_activation_counts_as_active() -> None:
    spec = replace(SPEC, pause=Pause(force_activation=True))
    assert poll(0.0, 0, S, spec)[1] == 1
    assert poll(0.0, 3, 9 * S, spec)[0].last_active_ps == 9 * S

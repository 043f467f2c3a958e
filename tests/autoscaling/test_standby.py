"""The floor of a warm standby pool."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from simulator.autoscaling.standby import StandbySnapshot, StandbySpec, StandbyState, decide
from simulator.units import PS_PER_S as S

SPEC = StandbySpec(target=10.0, standby=2, max_replicas=8, stabilization_ps=60 * S)


def test_need_plus_standby_up_to_the_limit() -> None:
    for load, floor in ((0.0, 2), (1.0, 3), (40.0, 6), (41.0, 7), (500.0, 8)):
        assert decide(StandbyState(), StandbySnapshot(SPEC, load), 0)[1].replicas == floor


def test_without_data_the_floor_stays() -> None:
    state = StandbyState(((0, 5),))
    after, decision = decide(state, StandbySnapshot(SPEC, None), S)
    assert (after, decision.replicas) == (state, None)


def test_falls_are_followed_after_the_window() -> None:
    state, _ = decide(StandbyState(), StandbySnapshot(SPEC, 40.0), 0)
    state, decision = decide(state, StandbySnapshot(SPEC, 0.0), 59 * S)
    assert decision.replicas == 6
    assert decide(state, StandbySnapshot(SPEC, 0.0), 60 * S)[1].replicas == 2


@given(st.lists(st.floats(0, 80), min_size=1, max_size=30))
def test_the_floor_is_the_maximum_over_the_window(series: list[float]) -> None:
    state, floors = StandbyState(), []
    for index, load in enumerate(series):
        state, decision = decide(state, StandbySnapshot(SPEC, load), index * 15 * S)
        floors.append(decide(StandbyState(), StandbySnapshot(SPEC, load), 0)[1].replicas or 0)
        assert decision.replicas == max(floors[-4:])  # 60 s hold four looks

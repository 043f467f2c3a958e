"""The saturation analyzer, rule by rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulator.autoscaling.wva import (
    ReplicaLoad,
    SaturationConfig,
    Variant,
    WvaDecision,
    WvaSnapshot,
    WvaState,
    analyze,
    decide,
    wakes,
)

CONFIG = SaturationConfig()


def loads(*pairs: tuple[float, float], variant: str = "a") -> tuple[ReplicaLoad, ...]:
    return tuple(ReplicaLoad(variant, kv, queue) for kv, queue in pairs)


def one(replicas: tuple[ReplicaLoad, ...], current: int, desired: int = 0, pending: int = 0) -> WvaDecision:
    state = WvaState((("a", desired),) if desired else ())
    return decide(state, WvaSnapshot(CONFIG, (Variant("a", 10.0, current, pending),), replicas), 0)[1]


def test_scale_up_on_little_spare_kv_or_queue() -> None:
    assert analyze(CONFIG, loads((0.71, 0), (0.71, 0)))[0]  # spare 0.09 < 0.1
    assert not analyze(CONFIG, loads((0.69, 0), (0.69, 0)))[0]
    assert analyze(CONFIG, loads((0.1, 3), (0.1, 2)))[0]  # spare queue 2.5 < 3
    assert not analyze(CONFIG, loads((0.1, 2), (0.1, 2)))[0]


def test_saturated_replicas_are_left_out_of_the_averages() -> None:
    # 0.8 is saturated, and so is a queue of 5; the third has plenty.
    up, safe, _ = analyze(CONFIG, loads((0.8, 0), (0.1, 5), (0.1, 0)))
    assert (up, safe) == (False, False)  # one non-saturated replica is too few to remove one


def test_all_saturated_scales_up() -> None:
    assert analyze(CONFIG, loads((0.9, 9)))[:2] == (True, False)


def test_scale_down_is_safe_if_one_fewer_still_has_room() -> None:
    assert analyze(CONFIG, loads((0.34, 0), (0.34, 0)))[1]  # 0.8 − 0.68 = 0.12
    assert not analyze(CONFIG, loads((0.36, 0), (0.36, 0)))[1]  # 0.08
    assert not analyze(CONFIG, loads((0.1, 1), (0.1, 2)))[1]  # 5 − 3 = 2 < 3


def test_one_more_or_one_fewer_at_a_time() -> None:
    assert one(loads((0.9, 9), (0.9, 9)), 2).replicas == 3
    assert one(loads((0.0, 0), (0.0, 0), (0.0, 0)), 3).replicas == 2
    assert one(loads((0.0, 0)), 1).replicas == 1


def test_nothing_is_decided_in_transition() -> None:
    busy = loads((0.9, 9), (0.9, 9))
    assert one(busy, 2, desired=3).replicas == 3  # on its way
    decision = one(busy, 3, desired=3)  # the third does not report yet
    assert (decision.replicas, decision.reason) == (3, "InTransition")
    assert one(busy, 2, desired=2, pending=1).replicas == 2  # pending replicas are not added to


def test_without_metrics_the_last_number_stays() -> None:
    assert one((), 4, desired=3).replicas == 3
    assert one((), 4).targets == ()  # nothing was published yet, nor is now


def test_an_idle_model_goes_to_zero_after_the_retention_period() -> None:
    config = replace(CONFIG, scale_to_zero=True)
    snapshot = WvaSnapshot(config, (Variant("a", 10.0, 2),), loads((0.0, 0), (0.0, 0)), finished=0.0)
    decision = decide(WvaState(), snapshot, 0)[1]
    assert (decision.replicas, decision.reason) == (0, "ScaleToZero")
    for finished in (1.0, None):  # a request ended; it is not known whether one did
        assert decide(WvaState(), replace(snapshot, finished=finished), 0)[1].replicas == 1
    assert decide(WvaState(), replace(snapshot, config=CONFIG), 0)[1].replicas == 1  # not enabled


def test_it_wakes_when_requests_wait_at_the_gateway_for_nobody() -> None:
    assert wakes(0, 1.0)
    assert not wakes(0, 0.0)
    assert not wakes(0, None)
    assert not wakes(1, 9.0)


@pytest.mark.parametrize(("cost_b", "grown"), [(5.0, "b"), (10.0, "a"), (20.0, "a")])
def test_the_cheapest_variant_grows(cost_b: float, grown: str) -> None:
    variants = (Variant("a", 10.0, 1), Variant("b", cost_b, 1))
    busy = loads((0.9, 9)) + loads((0.9, 9), variant="b")
    targets = dict(decide(WvaState(), WvaSnapshot(CONFIG, variants, busy), 0)[1].targets)
    assert targets == {"a": 1, "b": 1} | {grown: 2}


@pytest.mark.parametrize(("cost_b", "shrunk"), [(5.0, "a"), (10.0, "b"), (20.0, "b")])
def test_the_dearest_variant_shrinks(cost_b: float, shrunk: str) -> None:
    variants = (Variant("a", 10.0, 2), Variant("b", cost_b, 2))
    calm = loads((0.0, 0), (0.0, 0)) + loads((0.0, 0), (0.0, 0), variant="b")
    targets = dict(decide(WvaState(), WvaSnapshot(CONFIG, variants, calm), 0)[1].targets)
    assert targets == {"a": 2, "b": 2} | {shrunk: 1}


def test_transition_of_one_variant_freezes_the_model() -> None:
    variants = (Variant("a", 10.0, 1), Variant("b", 5.0, 2))
    busy = loads((0.9, 9)) + loads((0.9, 9), variant="b")  # b has two, one reports
    decision = decide(WvaState(), WvaSnapshot(CONFIG, variants, busy), 0)[1]
    assert dict(decision.targets) == {"a": 1, "b": 2}

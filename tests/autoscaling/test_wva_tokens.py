"""The token analyzer, rule by rule, with numbers by hand."""

from __future__ import annotations

import pytest

from simulator.autoscaling.wva import SaturationConfig, Variant, WvaSnapshot, WvaState, decide
from simulator.autoscaling.wva_tokens import (
    EngineArguments,
    ReplicaTokens,
    TokenConfig,
    bucket,
    derived_capacity,
    median,
    plan,
    replica_capacity,
)

CONFIG = TokenConfig()
ENGINE = EngineArguments()


def replica(
    used: int, queue: int = 0, kv: int = 10_000, lengths: tuple[float, float] = (0.0, 0.0)
) -> ReplicaTokens:
    return ReplicaTokens(used, kv, queue, *lengths)


@pytest.mark.parametrize(
    ("output", "name"), [(0, "short"), (99.9, "short"), (100, "medium"), (499, "medium"), (500, "long")]
)
def test_findings_are_kept_by_output_length(output: float, name: str) -> None:
    assert bucket(output) == name


def test_k1_is_the_threshold_of_the_cache() -> None:
    assert replica_capacity((), CONFIG, ENGINE, replica(100)) == ((), 8000)


def test_k2_is_what_is_in_use_under_a_full_queue() -> None:
    history, capacity = replica_capacity((), CONFIG, ENGINE, replica(6000, queue=5))
    assert (history, capacity) == ((("short", (6000,)),), 6000)
    assert replica_capacity((), CONFIG, ENGINE, replica(9000, queue=5))[1] == 8000  # k1 is smaller
    assert replica_capacity((), CONFIG, ENGINE, replica(6000, queue=4))[1] == 8000


def test_k2_is_the_mean_of_the_last_ten_findings() -> None:
    history: tuple[tuple[str, tuple[int, ...]], ...] = ()
    for used in (100, *range(1000, 11_000, 1000)):
        history, _ = replica_capacity(history, CONFIG, ENGINE, replica(used, queue=9, kv=100_000))
    assert history == (("short", tuple(range(1000, 11_000, 1000))),)
    assert replica_capacity(history, CONFIG, ENGINE, replica(5))[1] == 5500
    assert (
        replica_capacity(history, CONFIG, ENGINE, replica(5, lengths=(0.0, 200.0)))[1] != 5500
    )  # another class


def test_k2_follows_from_the_arguments_without_findings() -> None:
    # B·O/(I+O) = 8192 · 250/1250 = 1638.4, cut to S = 256; 256 · (1000 + 125) = 288,000.
    assert derived_capacity(ENGINE, 1000.0, 250.0) == 288_000
    # 2048 · 50/1050 = 97.52...; × 1025 = 99,961.9.
    assert derived_capacity(EngineArguments(2048, 256), 1000.0, 50.0) == 99_961
    assert derived_capacity(ENGINE, 1000.0, 0.0) == 0
    small = EngineArguments(2048, 4)
    assert replica_capacity((), CONFIG, small, replica(5, lengths=(1000.0, 200.0)))[1] == 4400


def test_the_median_is_a_whole_number() -> None:
    assert median([5]) == 5
    assert median([4, 1, 9]) == 4
    assert median([4, 1, 9, 7]) == 5


def test_up_by_what_is_missing() -> None:
    # 2 × 8000 of capacity; demand 15,000 + 15,000 = 30,000; 30,000/0.85 − 16,000 = 19,294: 3 more.
    busy = [replica(7500, queue=3, lengths=(2500.0, 0.0))] * 2
    assert plan((), CONFIG, ENGINE, busy, 2, 2)[1] == 5
    # Those that start count: 5 × 8000 = 40,000 ≥ 35,294.
    assert plan((), CONFIG, ENGINE, busy, 5, 2)[1] == 5


def test_down_by_what_is_to_spare_but_never_to_zero() -> None:
    # 4 × 8000 − 4 × 2000/0.7 = 20,571: two of 8000 each.
    assert plan((), CONFIG, ENGINE, [replica(2000)] * 4, 4, 4)[1] == 2
    assert plan((), CONFIG, ENGINE, [replica(0)] * 4, 4, 4)[1] == 1
    # Only ready ones count as spare: 2 × 8000 − 8000/0.7 = 4571 is not a replica.
    assert plan((), CONFIG, ENGINE, [replica(2000)] * 4, 4, 2)[1] == 4


def test_between_the_thresholds_the_size_stays() -> None:
    # 0.75 of 2 × 8000: nothing missing at 0.85, nothing to spare at 0.70.
    assert plan((), CONFIG, ENGINE, [replica(6000)] * 2, 2, 2)[1] == 2


def test_the_config_map_chooses_the_analyzer() -> None:
    config = SaturationConfig(by_tokens=True)
    tokens = (replica(8000, queue=9),)
    state, decision = decide(WvaState(), WvaSnapshot(config, (Variant("a", 1.0, 1),), tokens=tokens), 0)
    # 8000/0.85 − 8000 = 1412: one more, and 8000 is kept as a finding.
    assert (decision.replicas, decision.reason) == (2, "ScaleUp")
    assert state.history == (("short", (8000,)),)
    # In transition it decides all the same.
    _, decision = decide(state, WvaSnapshot(config, (Variant("a", 1.0, 2, 1),), tokens=tokens), 0)
    assert decision.replicas == 2


def test_one_variant_only() -> None:
    config, two = SaturationConfig(by_tokens=True), (Variant("a", 1.0, 1), Variant("b", 1.0, 1))
    with pytest.raises(ValueError, match="takes one variant, not 2"):
        decide(WvaState(), WvaSnapshot(config, two, tokens=(replica(5),)), 0)

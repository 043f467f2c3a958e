"""Books that balance in random scenarios with every fault on, and books that do not when something is lost."""

from collections import Counter

import pytest

from simulator.cluster.kubelet import Kubelet
from simulator.cluster.nodes import Pool
from simulator.cluster.termination import Terminator
from simulator.scenario.load import load_scenario
from validation.conservation import check
from validation.random_scenarios import draw_scenario, write_scenario


@pytest.mark.slow
def test_nothing_is_lost_in_random_scenarios():
    coverage: Counter[str] = Counter()
    unbalanced = [(seed, what) for seed in range(5000, 5050) for what in check(seed, coverage)]
    assert unbalanced == []
    # They made happen what they are there for.
    for reason in (
        "FaultInjected",
        "OOMKilled",
        "Partitioned",
        "ThermalThrottling",
        "BackOff",
        "MassReclaim",
        "StockOut",
        "InsufficientCapacity",
        "NodeReclaimed",
        "RolloutStarted",
        "CanaryWeight",
        "Unhealthy",
        "cut_partition",
        "unreachable",
        "cut_spot_reclaim",
        "cut_failure",
    ):
        assert coverage[reason] > 0, reason


def test_the_same_seed_draws_the_same_scenario():
    assert draw_scenario(3) == draw_scenario(3)
    assert draw_scenario(3) != draw_scenario(4)


def test_drawn_scenarios_are_sound(tmp_path):
    for seed in range(200):
        load_scenario(write_scenario(draw_scenario(seed), tmp_path))


def unbalanced(seeds=range(12)):
    return " ".join(what for seed in seeds for what in check(seed, Counter()))


def test_a_node_that_is_not_billed_is_found(monkeypatch):
    def remove(self, node):
        self.meter.close = lambda ordinal, _: self.meter._nodes.pop(ordinal)
        inner(self, node)

    inner = Pool.remove
    monkeypatch.setattr(Pool, "remove", remove)
    assert "its nodes lived" in unbalanced()


def test_a_pod_that_is_forgotten_is_found(monkeypatch):
    monkeypatch.setattr(Terminator, "_gone", lambda self, pod: setattr(pod, "gone_ps", self._env.now))
    assert "listed and gone" in unbalanced()


def test_a_process_that_outlives_its_pod_is_found(monkeypatch):
    monkeypatch.setattr(Terminator, "_stopped", lambda self, pod, cause: self._on_stopped(pod))
    assert "its process lives" in unbalanced()


def test_a_stream_that_is_lost_in_a_crash_is_found(monkeypatch):
    def crash(self, pod, cause, reason):
        if pod.replica is not None:
            pod.replica._attempts.clear()
        return inner(self, pod, cause, reason)

    inner = Kubelet.crash
    monkeypatch.setattr(Kubelet, "crash", crash)
    assert unbalanced()

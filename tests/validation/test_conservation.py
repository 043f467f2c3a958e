"""Books that balance in random scenarios with every fault on, and books that do not when something is lost."""

from collections import Counter

import pytest

from simulator.billing.rates import PoolRates
from simulator.clients.fallback import FallbackApi
from simulator.cluster.kubelet import Kubelet
from simulator.cluster.nodes import Pool
from simulator.cluster.termination import Terminator
from simulator.scenario.load import load_scenario
from validation.conservation import check
from validation.random_scenarios import draw_scenario, features, write_scenario


@pytest.mark.slow
def test_nothing_is_lost_in_random_scenarios():
    checked = [check(seed) for seed in range(5000, 5050)]
    assert [(one.seed, one.wrong) for one in checked if one.wrong] == []
    # They made happen what they are there for.
    came = sum((one.came for one in checked), Counter())
    for what in (
        "FaultInjected",
        "OOMKilled",
        "Partitioned",
        "ThermalThrottling",
        "BackOff",
        "MassReclaim",
        "StockOut",
        "InsufficientCapacity",
        "NodeReclaimed",
        "EvictionBlocked",
        "RolloutStarted",
        "CanaryWeight",
        "RolledBack",
        "Unhealthy",
        "Preempted",
        "cut_partition",
        "unreachable",
        "cut_spot_reclaim",
        "cut_failure",
        "cut_termination",
        "request completed",
        "request fell-back",
        "retries",
        "prefix hits",
    ):
        assert came[what] > 0, what


def test_the_same_seed_draws_the_same_scenario():
    assert draw_scenario(3) == draw_scenario(3)
    assert draw_scenario(3) != draw_scenario(4)


def test_drawn_scenarios_are_sound_and_have_everything(tmp_path):
    drawn = Counter()
    for seed in range(100):
        scenario = draw_scenario(seed)
        drawn.update(features(scenario))
        load_scenario(write_scenario(scenario, tmp_path))
    policies = ("hpa", "keda", "knative", "ray-serve", "sagemaker", "wva", "dynamo", "perfect")
    floors = ("cron-floor", "forecast", "standby")
    for what in (*(f"policy {kind}" for kind in (*policies, *floors)), "several policies", "arrivals trace"):
        assert drawn[what] >= 3, what


def is_found(text):
    """Whether one of some scenarios is found not to balance, in such words."""
    return any(text in what for seed in range(30) for what in check(seed).wrong)


def test_a_node_that_is_not_billed_is_found(monkeypatch):
    def remove(self, node):
        self.meter.close = lambda ordinal, _: self.meter._nodes.pop(ordinal)
        inner(self, node)

    inner = Pool.remove
    monkeypatch.setattr(Pool, "remove", remove)
    assert is_found("its nodes lived")


def test_time_that_is_billed_beyond_a_nodes_end_is_not_forgotten(monkeypatch):
    monkeypatch.setattr(PoolRates, "billed_ps", lambda self, life_ps: life_ps)
    assert is_found("its nodes $")


def test_a_stream_of_the_api_that_is_not_charged_is_found(monkeypatch):
    monkeypatch.setattr(FallbackApi, "charge", lambda self, *tokens: None)
    assert is_found("answers of the API are paid for")


def test_a_pod_that_is_forgotten_is_found(monkeypatch):
    monkeypatch.setattr(Terminator, "_gone", lambda self, pod: setattr(pod, "gone_ps", self._env.now))
    assert is_found("listed and gone")


def test_a_process_that_outlives_its_pod_is_found(monkeypatch):
    monkeypatch.setattr(Terminator, "_stopped", lambda self, pod, cause: self._on_stopped(pod))
    assert is_found("its process lives")


def test_a_process_that_outlives_its_container_is_found(monkeypatch):
    def crash(self, pod, cause, reason):
        pod.replica = None
        return inner(self, pod, cause, reason)

    inner = Kubelet.crash
    monkeypatch.setattr(Kubelet, "crash", crash)
    assert is_found("nobody knows of")


def test_a_stream_that_is_lost_in_a_crash_is_found(monkeypatch):
    def crash(self, pod, cause, reason):
        if pod.replica is not None:
            pod.replica._attempts.clear()
        return inner(self, pod, cause, reason)

    inner = Kubelet.crash
    monkeypatch.setattr(Kubelet, "crash", crash)
    assert is_found("attempts")

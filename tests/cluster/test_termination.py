"""Deletion: what is cut, when the process ends, and what the gateway knows meanwhile."""

import pytest

from simulator.cluster.pods import PodSpec


def stopped(w):
    return w.told("Stopped")


@pytest.fixture
def fleet(world):
    """One ready pod that is scaled away at 100 s, with a request that needs until 130 s."""

    def make(**spec):
        w = world(initial="ready", spec=PodSpec(**spec))
        w.cluster.start(1)
        w.send_at(90, 1, "vllm-0", 40)
        w.scale_at(100, 0)
        return w

    return make


def test_vllm_aborts_at_sigterm_by_default(fleet):
    w = fleet()
    w.run(200)
    assert w.ended == [(100.0, 1, "cut_termination", 7)]
    assert stopped(w) == [(100.0, "vllm-0", "Stopped")]
    assert w.gateway.log[1:] == [(102.0, "remove", "vllm-0")]


def test_pre_stop_comes_before_sigterm(fleet):
    w = fleet(pre_stop_s=15)
    w.send_at(105, 2, "vllm-0", 5)
    w.run(200)
    assert w.ended == [(110.0, 2, "finished", 0), (115.0, 1, "cut_termination", 7)]
    assert stopped(w) == [(115.0, "vllm-0", "Stopped")]


def test_drain_ends_with_the_last_request(fleet):
    w = fleet(shutdown_timeout_s=60, termination_grace_period_s=90)
    w.run(200)
    assert w.ended == [(130.0, 1, "finished", 0)]
    assert stopped(w) == [(130.0, "vllm-0", "Stopped")]


def test_drain_is_bounded_by_the_shutdown_timeout(fleet):
    w = fleet(shutdown_timeout_s=20, termination_grace_period_s=90)
    w.run(200)
    assert w.ended == [(120.0, 1, "cut_termination", 7)]


def test_drain_is_bounded_by_the_grace_period(fleet):
    w = fleet(pre_stop_s=5, shutdown_timeout_s=60, termination_grace_period_s=25)
    w.run(200)
    assert w.ended == [(125.0, 1, "cut_termination", 7)]


def test_pre_stop_as_long_as_the_grace_leaves_two_seconds(fleet):
    w = fleet(pre_stop_s=40, shutdown_timeout_s=60, termination_grace_period_s=25)
    w.run(200)
    assert w.ended == [(127.0, 1, "cut_termination", 7)]


def test_new_requests_are_refused_while_vllm_drains(fleet):
    w = fleet(shutdown_timeout_s=60, termination_grace_period_s=90)
    w.send_at(101, 2, "vllm-0", 1)
    w.run(200)
    assert w.ended == [(101.0, 2, "cut_termination", 0), (130.0, 1, "finished", 0)]


def test_idle_pod_drains_at_once(world):
    w = world(initial="ready", spec=PodSpec(shutdown_timeout_s=60))
    w.cluster.start(1)
    w.scale_at(100, 0)
    w.run(200)
    assert stopped(w) == [(100.0, "vllm-0", "Stopped")]


def test_requests_to_an_ended_process_fail_until_the_gateway_knows(world):
    w = world(initial="ready")
    w.cluster.start(1)
    replica = w.gateway.endpoints["vllm-0"]
    w.scale_at(100, 0)
    w.run(101)
    assert "vllm-0" in w.gateway.endpoints
    assert not replica.alive
    w.run(103)
    assert w.gateway.endpoints == {}


def test_pod_deleted_while_it_loads_runs_pre_stop_and_never_gets_requests(world):
    w = world(spec=PodSpec(pre_stop_s=10))
    w.cluster.start(1)
    w.scale_at(80, 0)
    w.run(300)
    assert stopped(w) == [(90.0, "vllm-0", "Stopped")]
    assert w.gateway.log == []
    assert w.times("Ready") == []


def test_pod_deleted_while_it_pulls_is_gone_at_once(world):
    w = world(spec=PodSpec(pre_stop_s=10), cold={"prepulled": False})
    w.cluster.start(1)
    w.scale_at(80, 0)
    w.run(81)
    assert w.cluster.pods() == ()
    assert stopped(w) == []


def test_pod_deleted_before_the_gateway_knew_of_it_is_never_listed(world):
    w = world()
    w.cluster.start(1)
    w.scale_at(112, 0)  # ready at 111, listed at 113
    w.run(300)
    assert [what for _, what, _ in w.gateway.log] == ["remove"]


def test_terminating_pod_keeps_its_node_until_the_process_has_ended(fleet):
    w = fleet(shutdown_timeout_s=60, termination_grace_period_s=90)
    w.scale_at(105, 1)
    w.run(300)
    assert w.told("NodeRequested") == [(105.0, "od-1", "NodeRequested")]
    # The new pod waits for a node until 155; at 130 the old one's is free.
    assert w.told("Scheduled")[1] == (130.0, "vllm-1", "Scheduled")

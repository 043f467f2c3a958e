"""Drains under a PodDisruptionBudget, and hints of a reclaim."""

import pytest

from simulator.cluster.eviction import may_evict
from simulator.cluster.pods import PodSpec
from simulator.scenario.lifecycle import DisruptionBudget


@pytest.mark.parametrize(
    ("budget", "replicas", "needed"),
    [
        ({"min_available": 2}, 5, 2),
        ({"min_available": "50%"}, 5, 3),
        ({"max_unavailable": 1}, 5, 4),
        ({"max_unavailable": "30%"}, 5, 3),
        ({"max_unavailable": 9}, 5, 0),
    ],
)
def test_needed(budget, replicas, needed):
    assert DisruptionBudget(**budget).needed(replicas) == needed


def test_budgets_that_say_nothing_or_two_things():
    for given in ({}, {"min_available": 1, "max_unavailable": 1}):
        with pytest.raises(ValueError, match="exactly one"):
            DisruptionBudget(**given)


def test_unready_pods_go_unless_the_budget_is_broken():
    budget = DisruptionBudget(min_available=2)
    assert may_evict(budget, 3, 3, pod_ready=True, pod_running=True)
    assert not may_evict(budget, 3, 2, pod_ready=True, pod_running=True)
    assert may_evict(budget, 3, 2, pod_ready=False, pod_running=True)
    assert not may_evict(budget, 3, 1, pod_ready=False, pod_running=True)
    assert may_evict(budget, 3, 0, pod_ready=False, pod_running=False)


def hinted(world, action, *, budget=None, notice=120, lead=400, spec=None):
    rebalance = {"lead": lead, "action": action}
    spot = {
        "name": "spot",
        "capacity": "spot",
        "usd_per_gpu_hour": 1.0,
        "provisioning": 50,
        "gpus_per_node": 2,
        "reclaim": {"mean_time_between": 4000, "notice": notice, "detection": 2, "rebalance": rebalance},
    }
    seed = next(
        s for s in range(100) if 600 < 4000 * world(seed=s).draws.exponential("reclaim/spot", 0) < 3000
    )
    w = world(pools=[spot], initial="ready", seed=seed, budget=budget, spec=spec)
    return w, 4000 * w.draws.exponential("reclaim/spot", 0)


def test_karpenter_ignores_the_hint(world):
    w, t = hinted(world, "ignore")
    w.cluster.start(2)
    w.run(t + 1)
    assert w.times("RebalanceRecommendation")[0] == pytest.approx(t - 400)
    assert w.times("Killing") == []


def test_drained_at_the_hint_and_given_back(world):
    w, t = hinted(world, "drain")
    w.cluster.start(2)
    w.run(t - 300)
    assert w.times("Killing") == [pytest.approx(t - 400)] * 2
    assert w.told("NodeReleased")[0] == (pytest.approx(t - 400), "spot-0", "NodeReleased")
    assert w.times("NodeReclaimed") == []


def test_replaced_first(world):
    w, t = hinted(world, "replace")
    w.cluster.start(2)
    w.run(t - 300)
    assert w.times("NodeRequested") == [pytest.approx(t - 400)]
    assert w.times("Killing") == [pytest.approx(t - 350)] * 2
    # The new pods find the new node.
    assert {subject for _, subject, _ in w.told("Scheduled")[2:]} == {"vllm-2", "vllm-3"}
    assert w.times("NodeRequested") == [pytest.approx(t - 400)]


def test_a_budget_makes_the_drain_wait(world):
    w, t = hinted(world, "drain", budget=DisruptionBudget(min_available=1))
    w.cluster.start(2)
    w.run(t - 250)
    killed = w.times("Killing")
    assert killed[0] == pytest.approx(t - 400)
    # 50 s of provisioning and 60 s of loading until the first has a successor; then the next 5 s try.
    ready = w.times("Ready")[2]
    assert killed[1] == pytest.approx(t - 400 + 5 * ((ready - (t - 400)) // 5 + 1))
    assert w.times("EvictionBlocked") == [pytest.approx(t - 400)]


def test_the_cloud_does_not_wait_for_a_budget(world, spot):
    spec = PodSpec(termination_grace_period_s=5)
    w = world(
        pools=[spot(notice=30, detection=2)],
        initial="ready",
        budget=DisruptionBudget(min_available=1),
        spec=spec,
    )
    t = 1000 * w.draws.exponential("reclaim/spot", 0)
    w.cluster.start(1)
    w.send_at(t - 1, 1, "vllm-0", 100)
    w.run(t + 31)
    assert w.times("EvictionBlocked") == [pytest.approx(t + 2)]
    assert w.ended == [(pytest.approx(t + 30), 1, "cut_spot_reclaim", 7)]

"""Whom a scale-down hits."""

from types import SimpleNamespace

from simulator.cluster.deployment import victims
from simulator.cluster.pods import Pod
from simulator.units import to_ps

NODES = {name: SimpleNamespace(name=name, account=lambda: None) for name in "abc"}


def pod(ordinal, *, node="a", phase="Running", ready_s=10.0, created_s=0.0, restarts=0, uid=None):
    made = Pod(f"p{ordinal}", ordinal, ordinal / 100 if uid is None else uid, to_ps(created_s))
    made.node = None if node is None else NODES[node]
    made.phase = phase
    made.restarts = restarts
    if node is not None:
        made.set_ready(ready_s is not None, to_ps(ready_s or 0))
    return made


def order(*pods, now_s=1000.0):
    return [p.ordinal for p in victims(pods, len(pods), to_ps(now_s))]


def test_unscheduled_then_pending_then_unready_then_ready():
    pods = (
        pod(0, node="a"),
        pod(1, node="b", ready_s=None),
        pod(2, node="c", phase="Pending", ready_s=None),
        pod(3, node=None, phase="Pending", ready_s=None),
    )
    assert order(*pods) == [3, 2, 1, 0]


def test_crowded_nodes_first():
    assert order(pod(0, node="a"), pod(1, node="b"), pod(2, node="b"))[-1] == 0


def test_ready_for_a_shorter_time_first():
    # 990 s and 90 s are 2^39.8 and 2^36.4 ns.
    assert order(pod(0, node="a", ready_s=10), pod(1, node="b", ready_s=910)) == [1, 0]


def test_times_of_one_power_of_two_are_told_apart_by_uid():
    # 990 s and 700 s are both 2^39.x ns: the shorter time does not matter.
    older = pod(0, node="a", ready_s=10, uid=0.1)
    younger = pod(1, node="b", ready_s=300, uid=0.9)
    assert order(older, younger) == [0, 1]


def test_more_restarts_first_when_ready_at_the_same_second():
    assert order(pod(0, node="a"), pod(1, node="b", restarts=2)) == [1, 0]


def test_created_later_first_among_unready():
    first = pod(0, node=None, phase="Pending", created_s=0)
    second = pod(1, node=None, phase="Pending", created_s=900)
    assert order(first, second) == [1, 0]


def test_scale_down_takes_the_pod_that_is_not_ready(world):
    w = world(initial="ready")
    w.cluster.start(2)
    w.scale_at(100, 3)
    w.scale_at(120, 2)
    w.run(121)
    assert [p.name for p in w.cluster.pods()] == ["vllm-0", "vllm-1"]


def test_scale_events(world):
    w = world(initial="ready")
    w.cluster.start(2)
    w.scale_at(10, 5)
    w.scale_at(20, 5)
    w.scale_at(30, 1)
    w.run(40)
    told = [(t, value) for t, _, _, reason, value in w.events if reason == "ScalingReplicaSet"]
    assert told == [(0.0, 2.0), (10.0, 5.0), (30.0, 1.0)]

"""When nodes are asked for, by each provisioner's own rules."""

import pytest

OD = {"name": "od", "usd_per_gpu_hour": 3.6, "provisioning": 50, "zone": "z"}
SPOT = {"name": "spot", "capacity": "spot", "usd_per_gpu_hour": 1.0, "provisioning": 50, "zone": "z"}


def outage(start, end, capacity="any"):
    return [
        {"name": "z", "stock_outs": [{"capacity": capacity, "intervals": [{"start": start, "end": end}]}]}
    ]


def requested(w):
    return [(t, subject) for t, subject, _ in w.told("NodeRequested")]


def test_direct_asks_at_once(world):
    w = world()
    w.cluster.start(0)
    w.scale_at(3, 1)
    w.run(10)
    assert requested(w) == [(3.0, "od-0")]


def test_karpenter_waits_for_an_idle_second(world):
    w = world(provisioner={"kind": "karpenter"})
    w.cluster.start(0)
    w.scale_at(3, 1)
    w.scale_at(3.8, 2)
    w.run(20)
    assert requested(w) == [(4.8, "od-0"), (4.8, "od-1")]


def test_karpenters_window_has_an_end(world):
    w = world(provisioner={"kind": "karpenter"})
    w.cluster.start(0)
    for n in range(30):
        w.scale_at(0.5 + 0.5 * n, n + 1)
    w.run(12)
    assert requested(w) == [(10.5, f"od-{n}") for n in range(21)]  # 10.5 s: the last pod, too


def test_cluster_autoscaler_scans(world):
    w = world(provisioner={"kind": "cluster-autoscaler"})
    w.cluster.start(0)
    w.scale_at(3, 1)
    w.scale_at(8, 2)
    w.scale_at(12, 3)
    w.run(30)
    assert requested(w) == [(10.0, "od-0"), (10.0, "od-1"), (20.0, "od-2")]


@pytest.mark.parametrize(
    ("kind", "refused", "granted"),
    [
        ("direct", [100 + 30 * n for n in range(10)], 400.0),
        ("karpenter", [101.0, 282.0], 463.0),  # the idle second before each
        ("cluster-autoscaler", [110.0], 420.0),
    ],
)
def test_a_stock_out_is_asked_about_again(world, kind, refused, granted):
    w = world(pools=[OD], zones=outage(50, 390), provisioner={"kind": kind})
    w.cluster.start(0)
    w.scale_at(100, 1)
    w.run(1000)
    assert w.times("InsufficientCapacity") == refused
    assert requested(w) == [(granted, "od-0")]


def test_cluster_autoscaler_backs_off_longer_each_time(world):
    w = world(pools=[OD], zones=outage(0, 3000), provisioner={"kind": "cluster-autoscaler"})
    w.cluster.start(0)
    w.scale_at(5, 1)
    w.run(10000)
    # 5, 10, 20, 30 min, and the next scan after each.
    assert w.times("InsufficientCapacity") == [10.0, 320.0, 930.0, 2140.0]
    assert requested(w) == [(3950.0, "od-0")]


def test_falls_back_to_a_pool_without_share(world):
    od = {**OD, "share": 0, "zone": None}
    w = world(pools=[od, SPOT], zones=outage(100, 500, "spot"))
    w.cluster.start(2)
    w.scale_at(200, 4)
    w.run(300)
    assert [subject for _, subject in requested(w)] == ["spot-0", "spot-1", "od-0", "od-1"]


def test_base_comes_before_shares(world):
    od = {**OD, "base": 2, "share": 1, "zone": None}
    w = world(pools=[{**SPOT, "share": 3, "zone": None}, od])
    w.cluster.start(0)
    for n in range(1, 11):
        w.scale_at(n, n)
    w.run(20)
    # Two on demand, then one in four of the rest.
    order = [subject.split("-")[0] for _, subject in requested(w)]
    assert order[:2] == ["od", "od"]
    assert order.count("od") == 4
    assert order.count("spot") == 6


def test_warm_nodes_are_asked_for_again(world):
    w = world(pools=[{**OD, "warm_nodes": 1}], zones=outage(0, 45))
    w.cluster.start(0)
    w.run(100)
    assert requested(w) == [(60.0, "od-0")]

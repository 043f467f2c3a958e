"""Markets of zones: mass events, stock-outs, replayed capacity."""

import pytest

from simulator.cluster.availability import Availability
from simulator.units import to_ps

NEVER = 1e9


def pool(name="spot", zone="z", **more):
    return {
        "name": name,
        "zone": zone,
        "capacity": "spot",
        "usd_per_gpu_hour": 1.0,
        "provisioning": 50,
        "reclaim": {"mean_time_between": NEVER, "notice": 30, "detection": 2},
        **more,
    }


def zone(name="z", region=None, **events):
    given = {"mean_time_between": 1000, "take_all": 1, "region_share": 0, "outage": 100, **events}
    return {"name": name, "region": region, "mass_events": given}


def test_an_event_takes_all_nodes_and_leaves_an_outage(world):
    w = world(pools=[pool()], zones=[zone()], initial="ready")
    t = 1000 * w.draws.exponential("mass-event/zone/z", 0)
    w.cluster.start(4)
    w.run(t + 99)
    assert w.times("MassReclaim") == [pytest.approx(t)]
    assert w.times("SpotReclaimNotice") == [pytest.approx(t)] * 4
    assert w.times("NodeReclaimed") == [pytest.approx(t + 30)] * 4
    assert w.times("NodeRequested") == []
    assert w.times("InsufficientCapacity")
    w.run(t + 140)
    assert len(w.times("NodeRequested")) == 4


def test_an_event_takes_some(world):
    w = world(pools=[pool()], zones=[zone(take_all=0, take_share=0.5, outage=0)], initial="ready")
    t = 1000 * w.draws.exponential("mass-event/zone/z", 0)
    w.cluster.start(40)
    hit = [n for n in range(40) if w.draws.uniform("mass-event/zone/z/z/spot", n, 0) < 0.5]
    assert 10 < len(hit) < 30
    w.run(t + 1)
    assert [subject for _, subject, _ in w.told("SpotReclaimNotice")] == [f"spot-{n}" for n in hit]


def strikes(world, policy, region_share, until=200_000):
    zones = [
        zone("a", "r", region_share=region_share, outage=0),
        zone("b", "r", region_share=region_share, outage=0),
    ]
    w = world(pools=[pool("p", "a"), pool("q", "b")], zones=zones, initial="ready", seed=3)
    w.cluster.start(policy)
    w.run(until)
    told = w.told("MassReclaim")
    return [{t for t, subject, _ in told if subject == name} for name in "ab"]


def test_rates_and_common_events_of_a_region(world):
    a, b = strikes(world, 0, 0.5)
    # 200 events are expected of each zone, half of them common.
    assert 150 < len(a) < 250
    assert 150 < len(b) < 250
    assert 60 < len(a & b) < 140
    a, b = strikes(world, 0, 0.0)
    assert not a & b


def test_two_policies_face_the_same_market(world):
    assert strikes(world, 1, 0.5, 20_000) == strikes(world, 5, 0.5, 20_000)


def test_zones_may_ask_for_different_rates(world):
    zones = [zone("a", "r", region_share=1, outage=0), zone("b", "r", region_share=1, outage=0)]
    zones[1]["mass_events"]["mean_time_between"] = 4000
    w = world(pools=[pool("p", "a"), pool("q", "b")], zones=zones, seed=3)
    w.cluster.start(0)
    w.run(400_000)
    counts = [sum(subject == name for _, subject, _ in w.told("MassReclaim")) for name in "ab"]
    assert counts[0] == pytest.approx(400, rel=0.2)
    assert counts[1] == pytest.approx(100, rel=0.3)


def test_stock_outs_by_chance_leave_nodes_alone(world):
    stock_outs = [{"mean_time_between": 500, "duration": 200, "capacity": "spot"}]
    w = world(pools=[pool()], zones=[{"name": "z", "stock_outs": stock_outs}], initial="ready")
    w.cluster.start(2)
    w.run(5000)
    begun, ended = w.times("StockOut"), w.times("StockOutEnded")
    assert len(begun) > 2
    assert [pytest.approx(t + 200) for t in begun[: len(ended)]] == ended
    assert w.times("NodeReclaimed") == []


def test_replay_takes_what_the_zone_loses(world):
    trace = Availability((0, to_ps(100), to_ps(200), to_ps(400)), (3, 1, 0, 2))
    free = {key: value for key, value in pool().items() if key != "reclaim"}
    free["reclaim"] = {"notice": 30, "detection": 2}
    w = world(
        pools=[free],
        zones=[{"name": "z", "availability": "f.csv"}],
        availability={"z": trace},
        initial="ready",
    )
    w.cluster.start(5)
    w.run(99)
    assert w.cluster.counts().nodes_spot == 3
    assert w.cluster.counts().ready == 3
    w.run(190)
    assert w.times("NodeReclaimed") == [130.0, 130.0]
    assert w.cluster.counts().nodes_spot == 1
    w.run(399)
    assert w.times("NodeReclaimed") == [130.0, 130.0, 230.0]
    assert w.cluster.counts().nodes_spot == 0
    w.run(460)
    assert w.cluster.counts().nodes_spot == 2

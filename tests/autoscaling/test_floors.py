"""Floors: the largest holds, the clock sets them, and something must write the size."""

from types import SimpleNamespace

import pytest

from simulator.autoscaling.autoscaler import Services
from simulator.autoscaling.floors import CronFloor, Floors, HeldSize
from simulator.clock import Clock
from simulator.draws import Draws
from simulator.scenario.autoscaling import CronFloorPolicy
from simulator.scenario.errors import ScenarioError
from simulator.units import to_ps, to_s
from tests import small


class Target:
    def __init__(self, replicas):
        self.replicas = replicas
        self.writes = []

    def counts(self):
        return SimpleNamespace(desired=self.replicas, provisioned=self.replicas, ready=self.replicas)

    def set_replicas(self, replicas, now, by):
        self.replicas = replicas
        self.writes.append((to_s(now), replicas, by))


@pytest.fixture
def services():
    clock = Clock()
    events = []
    sink = SimpleNamespace(event=lambda t, *rest: events.append((to_s(t), *rest)), events=events)
    return Services(clock, Target(2), Floors(), None, None, Draws(1), sink)


def cron(services, schedule, **options):
    policy = CronFloorPolicy(kind="cron-floor", schedule=schedule, **options)
    return CronFloor(services, policy)


def test_the_largest_floor_holds():
    floors, told = Floors(), []
    floors.on_change(lambda: told.append(floors.minimum))
    assert floors.minimum == 0
    floors.set("a", 3)
    floors.set("b", 2)
    floors.set("a", 1)
    floors.set("a", 0)
    floors.set("b", 0)
    assert told == [3, 2, 0]


def test_a_floor_never_lowers_a_minimum_nor_passes_a_maximum():
    floors = Floors()
    assert floors.raised(2, 8) == 2
    floors.set("a", 1)
    assert floors.raised(2, 8) == 2
    floors.set("a", 5)
    assert floors.raised(2, 8) == 5
    floors.set("a", 50)
    assert floors.raised(2, 8) == 8


def test_cron_floor_of_a_day(services):
    floor = cron(services, [{"start": "8h", "end": "18h", "replicas": 6}], offset="7h")
    HeldSize(services, 2)
    floor.start()
    services.clock.run(until=to_ps(36 * 3600))
    assert services.target.writes == [
        (3600, 6, "floor"),
        (11 * 3600, 2, "floor"),
        (25 * 3600, 6, "floor"),
        (35 * 3600, 2, "floor"),
    ]
    assert [event[3] for event in services.sink.events] == ["FloorChanged"] * 4


def test_cron_floor_over_midnight_and_overlaps(services):
    floor = cron(
        services,
        [{"start": "22h", "end": "2h", "replicas": 3}, {"start": "1h", "end": "4h", "replicas": 5}],
    )
    at = [floor.floor_at(to_ps(hour * 3600)) for hour in (0, 1, 2, 4, 21, 22, 23)]
    assert at == [3, 5, 5, 0, 0, 3, 3]


def test_an_entry_beyond_the_period_is_refused():
    with pytest.raises(ValueError, match="lie within the period of 3600 s"):
        CronFloorPolicy(kind="cron-floor", period="1h", schedule=[{"start": 0, "end": "2h", "replicas": 1}])
    with pytest.raises(ValueError, match="start and end are both 60 s"):
        CronFloorPolicy(kind="cron-floor", schedule=[{"start": 60, "end": 60, "replicas": 1}])


def scales(results):
    events = results.tables.events
    return events.value[events.kind == "scale"].tolist()


def test_a_floor_alone_sets_the_size(tmp_path):
    policy = {"kind": "cron-floor", "schedule": [{"start": "20s", "end": "40s", "replicas": 3}]}
    results = small.results(tmp_path, {"fleet": {"replicas": 1, "autoscaling": {"policies": [policy]}}})
    assert scales(results) == [1, 3, 1]


def test_a_floor_under_an_autoscaler(tmp_path):
    (tmp_path / "hpa.yaml").write_text(small.hpa_text())
    policies = [
        {"kind": "hpa", "manifest": "hpa.yaml"},
        {"kind": "cron-floor", "schedule": [{"start": "20s", "end": "1h", "replicas": 3}]},
    ]
    change = {"workload": [], "fleet": {"replicas": 1, "autoscaling": {"policies": policies}}}
    change["workload"] = [{**small.SCENARIO["workload"][0], "arrivals": {"kind": "poisson", "rate": 0.1}}]
    results = small.results(tmp_path, change)
    assert scales(results) == [1, 3]
    assert (
        results.tables.events.message[results.tables.events.kind == "scale"].tolist()[1]
        == "Scaled up from 1 to 3 by hpa."
    )


def test_two_floors_without_a_name_are_told_apart(tmp_path):
    day = {"kind": "cron-floor", "schedule": [{"start": "0s", "end": "1h", "replicas": 2}]}
    more = {"kind": "cron-floor", "schedule": [{"start": "0s", "end": "1h", "replicas": 4}]}

    def run(*policies):
        return small.results(
            tmp_path, {"fleet": {"replicas": 1, "autoscaling": {"policies": list(policies)}}}
        )

    with pytest.raises(ScenarioError, match=r"policies\.1\.name: another policy is called 'cron-floor'"):
        run(day, more)
    results = run(more, {**day, "name": "day"})
    assert results.tables.timeline.replicas_desired.max() == 4
    assert results.tables.timeline.replicas_desired.iloc[-1] == 4

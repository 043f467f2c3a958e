"""Faults: what strikes when, and what an operator sees of it."""

import math

import pytest
from pydantic import TypeAdapter, ValidationError

from simulator.cluster.faults import FaultInjector, temperature_after
from simulator.scenario.faults import Fault
from tests.small import FAST_START, results

FAULT = TypeAdapter(Fault)
NODES = [{"name": "od", "usd_per_gpu_hour": 3.6, "provisioning": 50}]


def inject(w, *faults):
    injector = FaultInjector(w.clock, [FAULT.validate_python(f) for f in faults], w.draws, w, w.cluster)
    w.injector = injector
    return injector


def running(world, replicas, *faults, seed=1):
    w = world(pools=NODES, initial="ready", seed=seed)
    injector = inject(w, *faults)
    w.cluster.start(replicas)
    injector.start()
    return w


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"kind": "crash"}, "expected at, mean_time_between or both"),
        ({"kind": "slow", "at": 1}, "duration"),
        ({"kind": "slow", "at": 1, "duration": 1, "factor": 0.5}, "greater than or equal to 1"),
        ({"kind": "thermal", "at": 1, "duration": 1, "busy": 90}, "else the GPU never recovers"),
        ({"kind": "crash", "at": 1, "pods": "half"}, "a percentage such as 25%"),
        ({"kind": "fire", "at": 1}, "fire"),
    ],
)
def test_faults_that_make_no_sense(fault, told):
    with pytest.raises(ValidationError, match=told):
        FAULT.validate_python(fault)


def test_a_crash_hits_so_many(world):
    w = running(world, 5, {"kind": "crash", "at": ["10s", 200], "pods": "50%"})
    w.run(150)
    assert w.times("OOMKilled") == [10.0] * 3
    w.run(300)
    assert w.times("OOMKilled") == [10.0] * 3 + [200.0] * 3


def test_by_chance_at_addressed_times(world):
    fault = {"kind": "crash", "mean_time_between": 1000, "reason": "Error"}
    w = running(world, 2, fault)
    w.run(9000)
    times, t = [], 0.0
    for n in range(100):
        t += 1000 * w.draws.exponential("fault/0", n)
        times.append(t)
    assert w.times("FaultInjected") == [pytest.approx(t) for t in times if t < 9000]
    other = running(world, 7, fault)
    other.run(9000)
    assert other.times("FaultInjected") == w.times("FaultInjected")


def test_a_crash_loop_ends_with_its_cause(world):
    w = running(world, 1, {"kind": "crash-loop", "at": 10, "duration": 100, "after": 20})
    w.run(400)
    # 20 s after the strike, then 20 s after each start; pauses 0, 10, 20 s.
    assert w.times("Error") == [30.0, 50.0, 80.0]
    assert w.times("BackOff") == [50.0, 80.0]
    assert w.cluster.pods()[0].ready
    assert w.cluster.counts().restarts == 3


def test_partitioned_pods_stay_ready_and_do_not_answer(world):
    w = running(world, 1, {"kind": "partition", "at": 10, "duration": 30, "connect_timeout": 3})
    w.send_at(5, 1, "vllm-0", 100)
    w.send_at(20, 2, "vllm-0", 1)
    w.send_at(41, 3, "vllm-0", 1)
    w.run(100)
    assert w.ended == [(10.0, 1, "cut_partition", 7), (23.0, 2, "unreachable", 0), (42.0, 3, "finished", 0)]
    assert w.cluster.counts().ready == 1
    assert w.gateway.log == [(0.0, "add", "vllm-0")]


def test_partitions_that_overlap(world):
    first = {"kind": "partition", "at": 10, "duration": 30, "connect_timeout": 0}
    w = running(world, 1, first, {**first, "at": 20})
    w.send_at(45, 1, "vllm-0", 1)
    w.send_at(51, 2, "vllm-0", 1)
    w.run(100)
    assert w.ended == [(45.0, 1, "unreachable", 0), (52.0, 2, "finished", 0)]


def test_only_pods_of_a_pool(world):
    pools = [*NODES, {**NODES[0], "name": "other"}]
    w = world(pools=pools, initial="ready")
    injector = inject(w, {"kind": "crash", "at": 10, "pods": 9, "pool": "other"})
    w.cluster.start(4)
    injector.start()
    w.run(11)
    assert {subject for _, subject, _ in w.told("OOMKilled")} == {"vllm-1", "vllm-3"}


def test_temperature_is_exponential():
    assert temperature_after(70, 95, 60, 60) == pytest.approx(95 - 25 / math.e)


def test_a_hot_gpu_throttles_and_recovers(world):
    # Idle: 35 degrees and 55 on top; from 70 on towards 90 with a time constant of 60 s.
    w = running(world, 1, {"kind": "thermal", "at": 10, "duration": 300, "rise": 55, "factor": 2.5})
    pod = w.cluster.pods()[0]
    w.run(400)
    reach_s = 10 + 60 * math.log(20 / 7)
    (hot,), (cool,) = w.times("ThermalThrottling"), w.times("ThermalRecovered")
    assert reach_s <= hot <= reach_s + 5
    assert cool == 325.0  # 60 s * ln(55 / 43) after the fault, and the next sample
    assert pod.slowdown == pod.throttling == 1
    assert pod.gpu_temperature_c is None
    w = running(world, 1, {"kind": "thermal", "at": 10, "duration": 300, "rise": 55, "factor": 2.5})
    w.run(200)
    assert w.cluster.pods()[0].slowdown == w.cluster.pods()[0].throttling == 2.5
    assert w.cluster.counts().temperature_max_c > 83


# --- whole runs -----------------------------------------------------------------------------------------------


def steady(tmp_path, *faults, **changes):
    change = {
        "fleet": {"replicas": 2},
        "cluster": {"cold_start": FAST_START},
        "workload": [
            {
                "name": "chat",
                "arrivals": {"kind": "constant", "rate": 3},
                "lengths": {"kind": "fixed", "input": 100, "output": 100},
            }
        ],
        "faults": list(faults),
        "timeline_interval": "1s",
        **changes,
    }
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    folder.mkdir()
    return results(folder, change)


def tpot(run, after, before):
    rows = run.tables.requests
    rows = rows[(rows["arrival_s"] > after) & (rows["end_s"] < before)]
    return rows["tpot_s"].median()


def test_slow_pods_show_in_tpot_and_recover(tmp_path):
    well = steady(tmp_path)
    slow = steady(tmp_path, {"kind": "slow", "at": 20, "duration": "20s", "factor": 3, "pods": "100%"})
    assert tpot(slow, 0, 20) == pytest.approx(tpot(well, 0, 20))
    assert tpot(slow, 20, 40) == pytest.approx(3 * tpot(well, 20, 40), rel=0.1)
    assert tpot(slow, 45, 60) == pytest.approx(tpot(well, 45, 60), rel=0.05)
    timeline = slow.tables.timeline.set_index("t_s")
    assert timeline.loc[30, "slowdown_max"] == 3.0
    assert timeline.loc[50, "slowdown_max"] == 1.0


def test_both_engines_agree_on_slowed_steps(tmp_path):
    def requests(engine):
        faults = [
            {"kind": "slow", "at": [7.3, 21.9], "duration": "9.7s", "factor": 2.3, "pods": 1},
            {"kind": "crash", "at": 33},
        ]
        run = steady(tmp_path, *faults, engine={"engine_impl": engine})
        return run.tables.requests

    assert requests("skipping").equals(requests("plain"))


def test_crashes_show_in_restarts_and_errors(tmp_path):
    run = steady(tmp_path, {"kind": "crash", "at": 20, "pods": 2})
    assert run.tables.timeline["container_restarts"].sum() == 2
    assert run.tables.timeline["replicas_ready"].min() == 0
    assert run.summary["requests"]["errors_by_cause"]["cut_failure"] > 0


def test_nothing_breaks_without_faults(tmp_path):
    timeline = steady(tmp_path).tables.timeline
    assert (timeline["slowdown_max"] == 1).all()
    assert timeline["gpu_temperature_max_c"].isna().all()
    assert not timeline["container_restarts"].any()


def test_a_fault_for_a_pool_that_is_not_there(tmp_path):
    from simulator.scenario.errors import ScenarioError

    with pytest.raises(ScenarioError, match="a fault is for pool x"):
        steady(tmp_path, {"kind": "crash", "at": 1, "pool": "x"})

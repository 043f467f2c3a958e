"""Rollouts on the clock, and whole runs with new versions."""

from dataclasses import replace

import pytest

from simulator.cluster.pods import PodSpec
from simulator.cluster.rolling import Bounds
from simulator.scenario.errors import ScenarioError
from simulator.units import to_ps
from tests.small import FAST_START, results

V2 = replace(PodSpec(), version="v2", image="v2")
POOL = [{"name": "od", "usd_per_gpu_hour": 3.6, "provisioning": 50, "gpus_per_node": 8}]


def versions(w):
    return sorted(pod.spec.version for pod in w.cluster.pods() if pod.active)


def test_one_by_one_with_a_surge_of_one(world):
    w = world(pools=POOL, initial="ready")
    w.cluster.start(2)
    w.at(10, lambda: w.cluster.deployment.roll_out(V2, Bounds(1, 0), 0))
    w.run(11)
    assert versions(w) == ["v1", "v1", "v2"]
    w.run(200)
    # The first new pod is there after 60 s and more, for the image is new on the node; then the second.
    assert versions(w) == ["v1", "v2", "v2"]
    w.run(400)
    assert versions(w) == ["v2", "v2"]
    assert len(w.times("RolloutComplete")) == 1
    # Ready pods never fell below two.
    assert w.cluster.counts().ready == 2


def test_min_ready_slows_it_down(world):
    def complete(min_ready):
        w = world(pools=POOL, initial="ready")
        w.cluster.start(2)
        w.at(10, lambda: w.cluster.deployment.roll_out(V2, Bounds(1, 0), to_ps(min_ready)))
        w.run(900)
        return w.times("RolloutComplete")[0]

    assert complete(100) == pytest.approx(complete(0) + 200)


def test_scaled_in_the_midst(world):
    w = world(pools=POOL, initial="ready")
    w.cluster.start(8)
    w.at(10, lambda: w.cluster.deployment.roll_out(V2, Bounds(2, 0), 0))
    w.scale_at(20, 4)
    w.scale_at(30, 6)
    w.run(30.5)
    assert len(versions(w)) == 8  # six and the surge
    w.run(2000)
    assert versions(w) == ["v2"] * 6


def test_undo_on_the_way(world):
    w = world(pools=POOL, initial="ready")
    w.cluster.start(4)
    v1 = w.cluster.pods()[0].spec
    w.at(10, lambda: w.cluster.deployment.roll_out(V2, Bounds(1, 1), 0))
    w.at(20, lambda: w.cluster.deployment.roll_out(v1, Bounds(1, 1), 0))
    w.run(1000)
    assert versions(w) == ["v1"] * 4


def test_a_canary_is_beside_the_old_version(world):
    w = world(pools=POOL, initial="ready")
    w.cluster.start(5)
    w.at(10, lambda: w.cluster.deployment.canary(V2, 0.3, 0))
    w.scale_at(20, 7)
    w.run(19)
    assert versions(w) == ["v1"] * 5 + ["v2"] * 2
    w.run(21)
    assert versions(w) == ["v1"] * 7 + ["v2"] * 3
    w.at(30, lambda: w.cluster.deployment.end_canary(promote=False))
    w.run(31)
    assert versions(w) == ["v1"] * 7


def test_lower_deletion_cost_goes_first(world):
    w = world(pools=POOL, initial="ready")
    w.cluster.start(3)
    for pod, cost in zip(w.cluster.pods(), (5, 1, 9), strict=True):
        pod.deletion_cost = cost
    w.scale_at(10, 1)
    w.run(11)
    assert [pod.name for pod in w.cluster.pods() if pod.active] == ["vllm-2"]


# --- whole runs -----------------------------------------------------------------------------------------------


def brought_out(tmp_path, *rollouts, **changes):
    change = {
        "duration": "10m",
        "fleet": {"replicas": 4},
        "cluster": {
            "cold_start": {**FAST_START, "image_pull": "2s"},
            "pools": [{**POOL[0], "provisioning": "5s"}],
        },
        "workload": [
            {
                "name": "chat",
                "arrivals": {"kind": "poisson", "rate": 4},
                "lengths": {"kind": "fixed", "input": 100, "output": 50},
            }
        ],
        "rollouts": list(rollouts),
        **changes,
    }
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    folder.mkdir()
    return results(folder, change)


def reasons(run):
    events = run.tables.events
    return [r for r in events[events["kind"] == "scale"]["reason"] if r != "ScalingReplicaSet"]


def share_of(run, version_from, after, before):
    """Share of attempts, sent between two times, that pods created after a time served."""
    events, attempts = run.tables.events, run.tables.attempts
    scheduled = events[events["reason"] == "Scheduled"].groupby("subject", observed=True)["t_s"].min()
    new = set(scheduled[scheduled >= version_from].index)
    sent = attempts[(attempts["sent_s"] > after) & (attempts["sent_s"] < before)]
    return sent["pod"].isin(new).mean()


def test_retries_carry_requests_over_a_rolling_update(tmp_path):
    run = brought_out(
        tmp_path, {"at": "1m", "version": {"name": "v2"}}, clients={"retry": {"max_attempts": 3}}
    )
    assert reasons(run) == ["RolloutStarted", "RolloutComplete"]
    assert share_of(run, 60, 300, 600) == 1.0
    cut = (run.tables.attempts["cause"] == "cut_termination").sum()
    assert cut > 5 * run.summary["requests"]["errors"]


def test_a_slow_version_is_called_back(tmp_path):
    rollout = {
        "at": "1m",
        "version": {"name": "v2", "slowdown": 50},
        "rollback": {"interval": "30s", "min_good": 0.9, "min_attempts": 10},
    }
    run = brought_out(tmp_path, rollout)
    told = reasons(run)
    assert told.count("RolledBack") == 1
    assert told[-2:] == ["RolloutStarted", "RolloutComplete"]
    assert run.tables.timeline["slowdown_max"].max() == 50
    assert run.tables.timeline["slowdown_max"].iloc[-1] == 1


def test_nobody_calls_a_bad_version_back_without_an_analysis(tmp_path):
    run = brought_out(tmp_path, {"at": "1m", "version": {"name": "v2", "slowdown": 3}})
    assert run.tables.timeline["slowdown_max"].iloc[-1] == 3


def test_a_version_that_crashes_never_comes(tmp_path):
    rollout = {"at": "30s", "version": {"name": "v2", "crash_after": "2s"}, "rollback": {}}
    run = brought_out(tmp_path, rollout, duration="20m")
    assert reasons(run) == ["RolloutStarted", "RolledBack", "RolloutStarted", "RolloutComplete"]
    assert run.tables.timeline["container_restarts"].sum() > 5


def test_a_canary_gets_its_share_of_the_traffic(tmp_path):
    canary = [{"weight": 0.2, "hold": "3m"}, {"weight": 0.5, "hold": "2m"}]
    run = brought_out(tmp_path, {"at": "1m", "version": {"name": "v2"}, "canary": canary, "rollback": {}})
    assert reasons(run) == ["CanaryWeight", "CanaryWeight", "CanaryWeight", "RolloutComplete"]
    assert share_of(run, 60, 100, 250) == pytest.approx(0.2, abs=0.06)
    assert share_of(run, 60, 320, 380) == pytest.approx(0.5, abs=0.12)
    assert share_of(run, 60, 560, 600) == 1.0


def test_a_bad_canary_hurts_its_share_only(tmp_path):
    rollout = {
        "at": "1m",
        "version": {"name": "v2", "slowdown": 50},
        "canary": [{"weight": 0.1, "hold": "5m"}],
        "rollback": {"interval": "60s", "min_attempts": 10},
    }
    run = brought_out(tmp_path, rollout)
    assert reasons(run) == ["CanaryWeight", "RolledBack"]
    requests = run.tables.requests
    assert requests["slo_good"].mean() > 0.95
    assert share_of(run, 60, 300, 600) == 0.0


def test_versions_may_have_other_flags(tmp_path):
    run = brought_out(tmp_path, {"at": "1m", "version": {"name": "eager", "vllm": {"enforce-eager": True}}})
    assert "Profiled" in set(run.tables.events["reason"])
    assert any("eager on H100-SXM" in note for note in run.summary["notes"])


@pytest.mark.parametrize(
    ("rollout", "told"),
    [
        ({"at": 1, "version": {"name": "v1"}}, "versions must have different names"),
        ({"at": 1, "version": {"name": "v2", "vllm": {"tensor-parallel-size": 2}}}, "v2 needs 2 GPUs"),
        ({"at": 1, "version": {"name": "v2", "vllm": {"max-num-seqs": -1}}}, "max-num-seqs"),
        (
            {"at": 1, "version": {"name": "v2"}, "canary": [{"weight": 0.1, "hold": 1}], "max_surge": 1},
            "not for a canary",
        ),
    ],
)
def test_rollouts_that_cannot_be(tmp_path, rollout, told):
    with pytest.raises(ScenarioError, match=told):
        brought_out(tmp_path, rollout)

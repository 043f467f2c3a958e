"""Whole lives, with times added up by hand (see COLD in conftest)."""

import pytest

from simulator.cluster.pods import PodSpec
from simulator.cluster.probes import Probe
from simulator.scenario.errors import ScenarioError
from simulator.units import to_ps, to_s


def test_initial_pods_are_ready_at_once(world):
    w = world(initial="ready")
    w.cluster.start(2)
    assert w.gateway.log == [(0.0, "add", "vllm-0"), (0.0, "add", "vllm-1")]
    counts = w.cluster.counts()
    assert (counts.desired, counts.provisioned, counts.ready, counts.nodes_on_demand) == (2, 2, 2, 2)


def test_cold_pod_goes_through_every_phase(world):
    w = world()
    w.cluster.start(1)
    w.run(300)
    # 50 node, 1 image (container starts at 51), 20 + 10 + 15 + 14: listens at 110, probes at 51, 61, ... 111.
    reasons = (
        "NodeReady",
        "Scheduled",
        "Pulled",
        "Started",
        "WeightsLoaded",
        "Compiled",
        "GraphsCaptured",
        "Ready",
    )
    assert [(t, reason) for t, _, reason in w.told(*reasons)] == [
        (50.0, "NodeReady"),
        (50.0, "Scheduled"),
        (51.0, "Pulled"),
        (71.0, "Started"),
        (81.0, "WeightsLoaded"),
        (96.0, "Compiled"),
        (110.0, "GraphsCaptured"),
        (111.0, "Ready"),
    ]
    assert w.gateway.log == [(113.0, "add", "vllm-0")]


def test_phase_of_a_pod_over_time(world):
    w = world()
    w.cluster.start(1)
    (pod,) = w.cluster.pods()
    w.run(49)
    assert (pod.phase, pod.start_ps, pod.ready_transition_ps) == ("Pending", None, None)
    w.run(50.5)
    assert (pod.phase, pod.start_ps, pod.ready) == ("Pending", to_ps(50), False)
    w.run(80)
    assert (pod.phase, pod.ready, pod.replica) == ("Running", False, None)
    assert w.cluster.serving() == []
    w.run(110.5)
    assert not pod.ready
    assert len(w.cluster.serving()) == 1
    w.run(112)
    assert pod.ready
    assert pod.ready_transition_ps == to_ps(111)


def test_image_is_pulled_once_per_node(world):
    pool = {"name": "od", "usd_per_gpu_hour": 1, "provisioning": 50, "gpus_per_node": 2}
    w = world(pools=[pool], cold={"prepulled": False})
    w.cluster.start(2)
    w.run(400)
    assert w.times("Pulling") == [50.0]
    assert w.told("Pulled") == [(150.0, "vllm-0", "Pulled"), (151.0, "vllm-1", "Pulled")]


def test_a_second_pod_takes_over_the_pull_of_a_deleted_one(world):
    pool = {"name": "od", "usd_per_gpu_hour": 1, "provisioning": 50, "gpus_per_node": 2}
    w = world(pools=[pool], cold={"prepulled": False})
    w.cluster.start(2)
    w.at(80, lambda: w.cluster._delete(w.cluster.pods()[0]))
    w.run(400)
    assert w.told("Pulling", "Pulled")[:3] == [
        (50.0, "vllm-0", "Pulling"),
        (80.0, "vllm-1", "Pulling"),
        (180.0, "vllm-1", "Pulled"),
    ]


def test_startup_probe_restarts_a_container_that_loads_too_long(world):
    # Listens 59 s after the container's start; the probe gives up at its third failure, 20 s after the start.
    w = world(spec=PodSpec(startup_probe=Probe(failure_threshold=3)))
    w.cluster.start(1)
    w.run(200)
    # Start 51, killed 71; at once again, killed 91; 10 s pause, start 101, killed 121; 20 s pause, killed 161.
    assert w.times("Unhealthy") == [71.0, 91.0, 121.0, 161.0]
    assert w.cluster.pods()[0].restarts == 4
    assert w.cluster.counts().ready == 0


def test_liveness_probe_without_startup_probe_restarts_too(world):
    w = world(spec=PodSpec(liveness_probe=Probe(initial_delay_s=30)))
    w.cluster.start(1)
    w.run(150)
    assert w.times("Unhealthy") == [101.0]  # container starts at 51; probes at 81, 91 and 101 fail


def test_without_probes_requests_come_before_the_server_listens(world):
    w = world(spec=PodSpec(readiness_probe=None))
    w.cluster.start(1)
    w.send_at(60, 1, "vllm-0", 5)
    w.send_at(120, 2, "vllm-0", 5)
    w.run(200)
    assert w.gateway.log == [(53.0, "add", "vllm-0")]
    assert w.ended == [(60.0, 1, "cut_failure", 0), (125.0, 2, "finished", 0)]


def test_nodes_are_paid_from_request_to_release(world):
    w = world()
    w.cluster.start(1)
    w.scale_at(500, 0)
    w.run(1000)
    # Requested at 0; the pod stops at 500 (vLLM aborts at once); given back 60 s later. 3.60 $ an hour: 0.1 c a second.
    assert w.times("NodeReleased") == [560.0]
    assert w.cluster.micro_usd(w.clock.now) / 1e6 == pytest.approx(0.560)
    assert sum(w.cluster.gpu_ps(w.clock.now)["od"].values()) == to_ps(560)


def test_each_second_of_a_node_is_in_one_phase(world):
    w = world()
    w.cluster.start(1)
    w.at(300, lambda: w.cluster.pods()[0].set_ready(False, w.clock.now))
    w.at(310, lambda: w.cluster.pods()[0].set_ready(True, w.clock.now))
    w.scale_at(500, 0)
    w.run(1000)
    ready = w.times("Ready")[0]
    used = {phase: to_s(gpu_ps) for phase, gpu_ps in w.cluster.gpu_ps(w.clock.now)["od"].items()}
    assert used == pytest.approx(
        {"starting": ready + 10, "serving": 490 - ready, "idle": 60, "terminating": 0}
    )


def test_a_pod_that_drains_is_paid_as_terminating(world):
    w = world(initial="ready", spec=PodSpec(pre_stop_s=15))
    w.cluster.start(3)
    w.scale_at(100, 1)
    w.run(130)
    used = {phase: to_s(gpu_ps) for phase, gpu_ps in w.cluster.gpu_ps(w.clock.now)["od"].items()}
    assert used == pytest.approx({"starting": 0, "serving": 330, "idle": 30, "terminating": 30})
    # Three replicas at $3.60 an hour for 130 s would have been the peak all the time.
    assert w.cluster.peak_provisioned_micro_usd(w.clock.now) == 390_000


def test_empty_gpus_of_a_node_are_idle(world):
    pool = {
        "name": "od",
        "gpus_per_node": 4,
        "usd_per_gpu_hour": 3.6,
        "price_changes": [{"at": 100, "usd_per_gpu_hour": 36}],
    }
    w = world(pools=[pool], spec=PodSpec(gpus=3), initial="ready")
    w.cluster.start(1)
    w.run(200)
    statement = w.cluster.statements(w.clock.now)["od"]
    assert (statement.line("serving"), statement.line("idle")) == (3 * 1_100_000, 1_100_000)


def test_finish_stops_the_meter(world):
    w = world(initial="ready")
    w.cluster.start(2)
    w.run(100)
    w.cluster.finish(w.clock.now)
    w.run(200)
    assert w.cluster.micro_usd(w.clock.now) / 1e6 == pytest.approx(0.2)


def test_a_pod_deleted_while_its_node_is_provisioned_leaves_the_node(world):
    w = world()
    w.cluster.start(1)
    w.scale_at(10, 0)
    w.run(9)
    assert w.cluster.counts().provisioned == 1
    w.run(11)
    assert w.cluster.pods() == ()
    w.run(1000)
    assert w.times("NodeReleased") == [110.0]  # ready at 50, empty for 60


def test_a_pod_takes_an_empty_node(world):
    w = world()
    w.cluster.start(1)
    w.scale_at(200, 0)
    w.scale_at(230, 1)
    w.run(400)
    assert w.times("NodeRequested") == [0.0]
    assert w.told("Scheduled")[1] == (230.0, "vllm-1", "Scheduled")


def test_a_waiting_pod_moves_to_a_node_that_becomes_free(world):
    w = world(initial="ready")
    w.cluster.start(1)
    w.scale_at(100, 2)
    w.at(120, lambda: w.cluster._delete(w.cluster.pods()[0]))
    w.at(120, w.cluster.deployment.reconcile)
    w.run(130)
    # vllm-1 waited for a node until 150; the old pod's node is free at 120. vllm-2 gets the new node.
    assert w.told("Scheduled")[1:] == [(120.0, "vllm-1", "Scheduled")]
    w.run(300)
    assert w.told("Scheduled")[2:] == [(150.0, "vllm-2", "Scheduled")]
    assert w.cluster.counts().nodes_on_demand == 2


def test_warm_nodes_are_there_and_made_up_for(world):
    pool = {"name": "od", "usd_per_gpu_hour": 1, "provisioning": 50, "warm_nodes": 1}
    w = world(pools=[pool], initial="ready")
    w.cluster.start(2)
    assert w.cluster.counts().nodes_on_demand == 3
    w.scale_at(100, 3)
    w.run(1000)
    assert w.told("Scheduled")[2] == (100.0, "vllm-2", "Scheduled")
    assert w.times("NodeRequested") == [100.0]
    assert w.cluster.counts().nodes_on_demand == 4
    assert w.times("NodeReleased") == []


def test_two_pools_of_equal_share_get_half_each(world):
    pools = [
        {"name": "a", "usd_per_gpu_hour": 1, "provisioning": 50},
        {"name": "b", "usd_per_gpu_hour": 1, "provisioning": 50},
    ]
    w = world(pools=pools, initial="ready")
    w.cluster.start(7)
    assert [pod.node.pool.name for pod in w.cluster.pods()] == ["a", "b"] * 3 + ["a"]


def test_shares_are_weights(world):
    pools = [
        {"name": "a", "usd_per_gpu_hour": 1, "share": 3},
        {"name": "b", "usd_per_gpu_hour": 1, "share": 1},
    ]
    w = world(pools=pools, initial="ready")
    w.cluster.start(12)
    placed = [pod.node.pool.name for pod in w.cluster.pods()]
    assert placed.count("a") == 9
    assert placed[:4].count("a") == 3


def test_full_pool_falls_back_to_another(world):
    pools = [
        {"name": "a", "usd_per_gpu_hour": 1, "max_nodes": 1},
        {"name": "b", "usd_per_gpu_hour": 1},
    ]
    w = world(pools=pools, initial="ready")
    w.cluster.start(4)
    assert [pod.node.pool.name for pod in w.cluster.pods()] == ["a", "b", "b", "b"]


def test_pods_without_a_node_wait_for_room(world):
    pool = {"name": "od", "usd_per_gpu_hour": 1, "max_nodes": 1, "provisioning": 50}
    w = world(pools=[pool], initial="ready", spec=PodSpec(pre_stop_s=10))
    w.cluster.start(2)
    assert w.times("FailedScheduling") == [0.0]
    w.at(100, lambda: w.cluster._delete(w.cluster.pods()[0]))
    w.run(300)
    # The first pod's preStop ends at 110; then the pod that has waited longest gets the node.
    assert w.told("Scheduled")[1] == (110.0, "vllm-1", "Scheduled")


def test_pod_that_never_fits_is_an_error(world):
    with pytest.raises(ScenarioError, match=r"cluster\.pools\.0\.gpus_per_node: a replica needs 4 GPUs"):
        world(spec=PodSpec(gpus=4))


def test_counts_of_a_scale_down(world):
    w = world(initial="ready", spec=PodSpec(pre_stop_s=15))
    w.cluster.start(3)
    w.scale_at(100, 1)
    w.run(101)
    counts = w.cluster.counts()
    assert (counts.desired, counts.provisioned, counts.ready, counts.terminating) == (1, 1, 1, 2)
    assert len(w.cluster.serving()) == 3
    w.run(120)
    assert w.cluster.counts().terminating == 0
    assert len(w.cluster.pods()) == 1

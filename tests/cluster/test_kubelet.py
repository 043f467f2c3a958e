"""What a node keeps for the next start, what containers of a node share, and what restarts them."""

import pytest

from simulator.cluster.pods import PodSpec
from simulator.cluster.probes import Probe
from simulator.outcomes import Cause

GB = 10**9


def node(**more):
    return [{"name": "od", "usd_per_gpu_hour": 3.6, "provisioning": 50, "gpus_per_node": 4, **more}]


def reading(world, cold=None, **options):
    """Weights of about 10 GB, at 1 GB/s for one and 2 GB/s for all; a known size for each pod."""
    cold = {
        "weights": None,
        "weights_gb_per_s": 1,
        "weights_node_gb_per_s": 2,
        "page_cache": False,
        **(cold or {}),
    }
    return world(pools=node(), cold=cold, spec=PodSpec(weight_bytes=10 * GB, **options))


def sizes_s(w, count):
    from simulator.cluster.cold_start import process_steps

    config = w.cluster._config.cold_start
    return [
        process_steps(config, w.draws, n, eager=False, weight_bytes=10 * GB)[1].read_bytes / GB
        for n in range(count)
    ]


def took(w, reason):
    return {subject: value for _, _, subject, told, value in w.events if told == reason}


def test_two_readers_do_not_hurt_each_other(world):
    w = reading(world)
    w.cluster.start(2)
    w.run(300)
    for n, size in enumerate(sizes_s(w, 2)):
        assert took(w, "WeightsLoaded")[f"vllm-{n}"] == pytest.approx(size)


def test_four_readers_share_the_node(world):
    w = reading(world)
    w.cluster.start(4)
    w.run(300)
    sizes = sorted(sizes_s(w, 4))
    ends = sorted(took(w, "WeightsLoaded").values())
    assert ends[0] == pytest.approx(sizes[0] / 0.5)  # half of what it could read alone
    # Then three at 2/3 GB/s, and two alone.
    assert ends[1] == pytest.approx(ends[0] + (sizes[1] - sizes[0]) * 1.5)
    assert ends[3] == pytest.approx(ends[1] + sizes[3] - sizes[1])


def test_the_second_pod_reads_from_the_page_cache(world):
    w = reading(world, {"page_cache": True, "page_cache_gb_per_s": 10})
    w.cluster.start(1)
    w.scale_at(200, 2)
    w.run(400)
    first, second = sizes_s(w, 2)
    assert took(w, "WeightsLoaded") == pytest.approx({"vllm-0": first, "vllm-1": second / 10})


@pytest.mark.parametrize(
    ("cache", "expected"),
    [("cold", [45, 45, 45]), ("node", [45, 15, 45]), ("shared", [45, 15, 15]), ("warm", [15, 15, 15])],
)
def test_compile_caches(world, cache, expected):
    w = world(pools=node(gpus_per_node=2), cold={"compile_cache": cache})
    w.cluster.start(1)
    w.scale_at(300, 2)
    w.scale_at(600, 3)  # on a node of its own
    w.run(1000)
    assert list(took(w, "Compiled").values()) == expected


def test_those_that_start_together_all_miss_the_shared_cache(world):
    w = world(pools=node(), cold={"compile_cache": "shared"})
    w.cluster.start(3)
    w.run(300)
    assert list(took(w, "Compiled").values()) == [45, 45, 45]


def test_sleepers_wait_on_nodes_that_were_ready_before(world):
    w = world(pools=node(warm_nodes=1, gpus_per_node=1), cold={"start": "sleep-1", "wake": 1})
    w.cluster.start(0)
    w.scale_at(100, 2)
    w.run(400)
    # The warm node's is awake in a second; the other pod's node was asked for when the first took it.
    assert w.told("Woken") == [(102.0, "vllm-0", "Woken")]
    assert w.told("Started") == [(pytest.approx(171.0), "vllm-1", "Started")]


def test_a_probe_kills_a_pod_that_reads_too_long(world):
    # Reading begins 20 s after the container's start; the probe gives it up at its third failure, after 30 s.
    spec = PodSpec(weight_bytes=400 * GB, liveness_probe=Probe(initial_delay_s=10))
    cold = {"weights": None, "weights_gb_per_s": 1, "page_cache": False}
    w = world(pools=node(), cold=cold, spec=spec)
    w.cluster.start(1)
    w.run(150)
    assert w.times("Unhealthy") == [81.0, 111.0]
    assert w.times("BackOff") == [111.0]
    assert w.cluster.counts().ready == 0
    w.run(3600)
    assert w.cluster.pods()[0].restarts > 8


def test_a_crash_cuts_and_restarts(world):
    w = world(pools=node(), initial="ready")
    w.cluster.start(1)
    w.send_at(5, 1, "vllm-0", 100)
    w.at(10, lambda: w.cluster.crash(w.cluster.pods()[0], Cause.CUT_FAILURE, "OOMKilled"))
    w.run(100)
    assert w.ended == [(10.0, 1, "cut_failure", 7)]
    # 20 + 10 + 15 + 14 s, and the first probe after.
    assert w.told("OOMKilled", "Ready") == [
        (0.0, "vllm-0", "Ready"),
        (10.0, "vllm-0", "OOMKilled"),
        (70.0, "vllm-0", "Ready"),
    ]
    assert w.gateway.log == [(0.0, "add", "vllm-0"), (12.0, "remove", "vllm-0"), (72.0, "add", "vllm-0")]
    assert w.cluster.pods()[0].restarts == 1


def test_crashes_back_off(world):
    w = world(pools=node(), initial="ready")
    w.cluster.start(1)
    for n in range(100):
        w.at(10 * n, lambda: w.cluster.crash(w.cluster.pods()[0], Cause.CUT_FAILURE, "Error"))
    w.run(400)
    # Restarted at 0, then after 10, 20 and 40 s; the next crash comes with the next ten seconds.
    assert w.times("Error") == [0.0, 10.0, 30.0, 60.0, 110.0, 200.0, 370.0]
    assert w.times("BackOff") == [10.0, 30.0, 60.0, 110.0, 200.0, 370.0]


def test_a_pod_deleted_in_back_off_goes_at_once(world):
    w = world(pools=node(), initial="ready", spec=PodSpec(pre_stop_s=20))
    w.cluster.start(1)
    crash = lambda: w.cluster.crash(w.cluster.pods()[0], Cause.CUT_FAILURE, "Error")  # noqa: E731
    w.at(10, crash)
    w.at(11, crash)
    w.scale_at(15, 0)
    w.run(16)
    assert w.cluster.pods() == ()


def test_a_pod_deleted_while_it_reads_frees_the_link(world):
    w = reading(world)
    w.cluster.start(4)
    w.scale_at(75, 1)
    w.run(300)
    left = next(iter(w.cluster.pods()))
    assert left.node.storage.active == 0
    assert list(took(w, "WeightsLoaded")) == [left.name]


def test_a_pod_deleted_just_after_a_crash_leaves_the_gateway(world):
    w = world(pools=node(), initial="ready")
    w.cluster.start(1)
    w.at(10, lambda: w.cluster.crash(w.cluster.pods()[0], Cause.CUT_FAILURE, "Error"))
    w.scale_at(11, 0)
    w.run(20)
    assert w.gateway.endpoints == {}


def test_a_restart_that_overtakes_the_news_of_the_crash(world):
    fast = dict.fromkeys(("process_start", "weights", "compile_cached", "graph_capture"), 0)
    w = world(
        pools=node(), cold={**fast, "endpoint_propagation": {"min": 0, "max": 3}}, initial="ready", seed=2
    )
    w.cluster.start(1)
    first = w.cluster.pods()[0].replica
    w.at(10, lambda: w.cluster.crash(w.cluster.pods()[0], Cause.CUT_FAILURE, "Error"))
    w.run(20)
    assert w.gateway.endpoints["vllm-0"] is w.cluster.pods()[0].replica
    assert w.cluster.pods()[0].replica is not first

"""A fleet under an autoscaler: what cold starts do to what the autoscaler sees."""

import pytest

from simulator.autoscaling.autoscaler import Services
from simulator.autoscaling.floors import Floors
from simulator.autoscaling.hpa_loop import HpaLoop
from simulator.autoscaling.hpa_spec import Behavior, HpaSpec, MetricSpec, MetricTarget
from simulator.autoscaling.scrape import Scraper
from simulator.scenario.autoscaling import HpaPolicy
from simulator.units import to_ps


def metric(name, target):
    return MetricSpec("Pods", name, MetricTarget("AverageValue", average_value_milli=target * 1000))


@pytest.fixture
def autoscaled(world):
    """Two ready pods, each with 20 requests for the whole test; the stub engine calls them running."""

    def make(*metrics, **options):
        w = world(initial="ready", **options)
        aliases = {"running": "vllm:num_requests_running", "gpu_utilization": "DCGM_FI_DEV_GPU_UTIL"}
        scraper = Scraper(w.clock, w.cluster, w.draws, interval_s=15, delay_s=1, aliases=aliases)
        spec = HpaSpec(16, 2, metrics, Behavior())
        services = Services(w.clock, w.cluster, Floors(), scraper, None, w.draws, w)
        loop = HpaLoop(services, "hpa", spec, HpaPolicy(kind="hpa", manifest="hpa.yaml"))
        w.cluster.start(2)
        for pod in range(2):
            for number in range(20):
                w.send_at(0, 100 * pod + number, f"vllm-{pod}", 5000)
        loop.start()
        w.loop, w.scraper = loop, scraper
        return w

    return make


def scales(w):
    return [value for _, kind, _, _, value in w.events if kind == "scale"]


def test_pods_that_start_hold_the_autoscaler_back(autoscaled):
    w = autoscaled(metric("running", 10))
    w.run(49)
    # 40 running for a target of 10 a pod: 4. While two pods are Pending they count as 0: 40 / 4 = 10.
    assert scales(w) == [2.0, 4.0]
    w.run(105)
    # They run, but export nothing yet: missing, filled in with 0 on the way up.
    assert [pod.phase for pod in w.cluster.pods()] == ["Running"] * 4
    assert w.cluster.counts().ready == 2
    assert scales(w) == [2.0, 4.0]
    w.run(400)
    # Ready with real samples of 0: the mean is 10.
    assert w.cluster.counts().ready == 4
    assert scales(w) == [2.0, 4.0]


def test_first_pass_finds_no_metrics(autoscaled):
    w = autoscaled(metric("running", 10))
    w.run(1)
    assert w.times("FailedGetPodsMetric") != []
    assert scales(w) == [2.0]


def test_gpu_utilisation_sees_a_loading_pod_as_idle(autoscaled):
    w = autoscaled(metric("running", 10), metric("gpu_utilization", 85))
    w.run(100)
    loading = w.cluster.pods()[2]
    assert loading.replica is None
    assert w.scraper.value("DCGM_FI_DEV_GPU_UTIL", loading.name) == 0
    assert w.scraper.value("vllm:num_requests_running", loading.name) is None


def test_nothing_is_seen_before_it_was_scraped(autoscaled):
    w = autoscaled(metric("running", 10))
    for second in range(1, 200):
        w.run(second)
        for pod in w.cluster.pods():
            sample = w.scraper.point("vllm:num_requests_running", pod.name, w.clock.now)
            if sample is not None:
                assert sample.timestamp_ps <= w.clock.now - to_ps(1)

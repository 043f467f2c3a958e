"""What a reader of metrics sees, and when."""

from fractions import Fraction
from types import SimpleNamespace

import pytest

from simulator.autoscaling.exporters import (
    CLOCK_THROTTLE_REASONS,
    CLOCKS_EVENT_REASONS,
    CONTAINER_RESTARTS,
    GATEWAY_QUEUE,
    GPU_MEMORY_USED,
    GPU_POWER,
    GPU_TEMPERATURE,
    GPU_UTILIZATION,
    KV_CACHE_USAGE,
    NUM_REQUESTS_RUNNING,
    NUM_REQUESTS_WAITING,
    SM_CLOCK,
    GpuFacts,
    PodExporters,
)
from simulator.autoscaling.latencies import BOUNDS_S, TTFT, bucket_names
from simulator.autoscaling.scrape import Scraper
from simulator.clock import Clock
from simulator.cluster.pods import Pod
from simulator.draws import Draws
from simulator.engines.protocol import EngineCounters, EngineSnapshot
from simulator.units import PS_PER_S, to_ps


class FakeReplica:
    """Busy for all of the first half of each minute; as many waiting as seconds have passed."""

    def __init__(self, clock):
        self.clock = clock
        self.alive = True
        self.listening = True

    def set_slowdown(self, factor):
        pass

    def peek(self):
        now = self.clock.now
        minute, rest = divmod(now, 60 * PS_PER_S)
        busy = minute * 30 * PS_PER_S + min(rest, 30 * PS_PER_S)
        return EngineSnapshot(now, 3, now // PS_PER_S, 123, 1000, EngineCounters(busy_ps=busy))


class Rig:
    def __init__(self, **options):
        self.clock = Clock()
        self.watchers = []
        self.on_pod = self.watchers.append
        self.scraper = Scraper(
            self.clock,
            self,
            Draws(1),
            interval_s=15,
            exporters=PodExporters(lambda _: GpuFacts(70 * 2**30, tdp_w=700.0, sm_clock_mhz=1980.0)),
            **{"staleness_s": 40, **options},
        )
        self.offset_s = 15 * Draws(1).uniform("scrape-offset/prometheus", 0)

    def pod(self, *, bound=True, replica=True):
        pod = Pod("p", 0, 0.5, self.clock.now)
        if bound:
            pod.node = SimpleNamespace(gone_ps=None)
        if replica:
            pod.replica = FakeReplica(self.clock)
        for watcher in self.watchers:
            watcher(pod)
        return pod

    def read(self, metric, at_s):
        """Value at a time, by running up to it."""
        if to_ps(at_s) > self.clock.now:
            self.clock.run(until=to_ps(at_s))
        point = self.scraper.point(metric, "p", self.clock.now)
        return None if point is None else point.value


@pytest.fixture
def rig():
    return Rig


def test_nothing_is_read_before_the_first_scrape(rig):
    r = rig()
    r.pod()
    assert r.read(NUM_REQUESTS_WAITING, r.offset_s - 0.001) is None
    assert r.read(NUM_REQUESTS_WAITING, r.offset_s + 0.001) == int(r.offset_s)


def test_a_value_is_that_of_the_last_scrape(rig):
    r = rig()
    r.pod()
    assert r.read(NUM_REQUESTS_WAITING, r.offset_s + 29.9) == int(r.offset_s + 15)
    sample = r.scraper.point(NUM_REQUESTS_WAITING, "p", r.clock.now)
    assert sample.timestamp_ps == pytest.approx(to_ps(r.offset_s + 15), abs=1)
    assert sample.window_ps == 15 * PS_PER_S


def test_the_adapter_is_late(rig):
    r = rig(delay_s=4)
    r.pod()
    assert r.read(NUM_REQUESTS_WAITING, r.offset_s + 3.9) is None
    assert r.read(NUM_REQUESTS_WAITING, r.offset_s + 4.1) == int(r.offset_s)
    assert r.read(NUM_REQUESTS_WAITING, r.offset_s + 18.9) == int(r.offset_s)
    assert r.read(NUM_REQUESTS_WAITING, r.offset_s + 19.1) == int(r.offset_s + 15)


def test_delay_longer_than_the_interval(rig):
    r = rig(delay_s=35)
    r.pod()
    assert r.read(NUM_REQUESTS_WAITING, r.offset_s + 100) == int(r.offset_s + 60)


def test_all_metrics_of_a_running_pod(rig):
    r = rig()
    r.pod()
    at = r.offset_s + 61
    assert r.read(NUM_REQUESTS_RUNNING, at) == 3
    assert r.read(KV_CACHE_USAGE, at) == 0.123
    assert r.read(GPU_MEMORY_USED, at) == 70 * 1024
    assert r.read("vllm:unknown", at) is None
    assert r.scraper.value(KV_CACHE_USAGE, "p") == 0.123


def test_symptoms_of_faults_are_there_for_who_asks_for_them(rig):
    r = rig()
    for name in (SM_CLOCK, CLOCKS_EVENT_REASONS, CLOCK_THROTTLE_REASONS, CONTAINER_RESTARTS):
        assert r.scraper.exported(name) == name
    pod = r.pod()
    pod.start_ps = 0
    at = r.offset_s + 1
    assert (r.read(SM_CLOCK, at), r.read(CLOCKS_EVENT_REASONS, at), r.read(CONTAINER_RESTARTS, at)) == (
        1980,
        0,
        0,
    )
    pod.throttle(Fraction(3))
    pod.restarts = 2
    assert r.read(SM_CLOCK, at + 15) == 660
    assert r.read(CLOCKS_EVENT_REASONS, at + 15) == r.read(CLOCK_THROTTLE_REASONS, at + 15) == 0x8 + 0x40
    assert r.read(CONTAINER_RESTARTS, at + 15) == 2
    pod.throttle(Fraction(1, 2))
    assert (r.read(SM_CLOCK, at + 30), r.read(CLOCKS_EVENT_REASONS, at + 30)) == (1320, 0x20)
    pod.throttle(Fraction(2, 3))
    pod.slow_down(Fraction(2))  # a lost NVLink does not touch the clocks
    assert (r.read(SM_CLOCK, at + 45), r.read(CLOCKS_EVENT_REASONS, at + 45)) == (1980, 0)


def test_symptoms_that_nobody_asked_for_are_not_worked_out(rig):
    r = rig()
    r.pod()
    assert r.read(SM_CLOCK, r.offset_s + 1) is None


def test_a_pod_whose_node_is_lost_keeps_its_restarts(rig):
    r = rig()
    r.scraper.exported(CONTAINER_RESTARTS)
    pod = r.pod(bound=False, replica=False)
    assert r.read(CONTAINER_RESTARTS, r.offset_s + 1) is None
    pod.start_ps, pod.restarts, pod.node = 0, 1, SimpleNamespace(gone_ps=5)
    assert r.read(CONTAINER_RESTARTS, r.offset_s + 16) == 1


def test_utilisation_is_the_busy_share_between_two_scrapes(rig):
    r = rig()
    r.pod()
    # Scrapes at o, o + 15, o + 30, ...; busy in 0..30 s and 60..90 s.
    o = r.offset_s
    assert r.read(GPU_UTILIZATION, o + 15.1) == 100
    assert r.read(GPU_UTILIZATION, o + 30.1) == int(100 * (15 - o) / 15)
    assert r.read(GPU_UTILIZATION, o + 45.1) == 0


def test_a_pod_that_loads_has_dcgm_metrics_and_no_vllm_ones(rig):
    r = rig()
    r.pod(replica=False)
    at = r.offset_s + 1
    assert r.read(GPU_UTILIZATION, at) == 0
    assert r.read(GPU_MEMORY_USED, at) == 0
    assert r.read(NUM_REQUESTS_WAITING, at) is None


def test_an_unscheduled_pod_has_no_metrics(rig):
    r = rig()
    r.pod(bound=False, replica=False)
    assert r.read(GPU_UTILIZATION, r.offset_s + 1) is None


def test_a_server_that_does_not_listen_is_not_scraped(rig):
    r = rig()
    pod = r.pod()
    pod.replica.listening = False
    assert r.read(NUM_REQUESTS_WAITING, r.offset_s + 1) is None


def test_utilisation_begins_with_the_server(rig):
    r = rig()
    pod = r.pod(replica=False)
    r.clock.run(until=to_ps(r.offset_s + 1))
    pod.replica = FakeReplica(r.clock)
    assert 0 < r.read(GPU_UTILIZATION, r.offset_s + 15.1) <= 100


def test_a_scrape_that_finds_nobody_ends_the_series(rig):
    r = rig()
    pod = r.pod()
    r.clock.run(until=to_ps(r.offset_s + 1))
    pod.replica.alive = False
    pod.node.gone_ps = r.clock.now
    # The last good scrape is readable until the next one fails.
    assert r.read(NUM_REQUESTS_WAITING, r.offset_s + 14) is not None
    assert r.read(NUM_REQUESTS_WAITING, r.offset_s + 16) is None
    assert r.read(GPU_UTILIZATION, r.offset_s + 16) is None


def test_stale_samples_are_not_read(rig):
    r = rig(staleness_s=10)
    r.pod()
    assert r.read(NUM_REQUESTS_WAITING, r.offset_s + 9.9) is not None
    assert r.read(NUM_REQUESTS_WAITING, r.offset_s + 10.1) is None


def test_a_gone_pod_is_forgotten(rig):
    r = rig()
    pod = r.pod()
    r.clock.run(until=to_ps(20))
    pod.gone_ps = r.clock.now
    r.clock.run(until=to_ps(60))
    assert r.scraper.latest(NUM_REQUESTS_WAITING, r.clock.now) == {}
    r.clock.run()  # comes to an end: the pod is not scraped any more
    assert r.clock.now == to_ps(60)


def test_windows(rig):
    r = rig(gateway=lambda: {GATEWAY_QUEUE: 5.0})
    r.scraper.keep(60)
    r.pod()
    o = r.offset_s
    r.clock.run(until=to_ps(o + 46))
    now = r.clock.now
    # Waiting grows by one a second: samples at o, o + 15, o + 30, o + 45.
    values = [int(o + 15 * n) for n in range(4)]
    assert r.scraper.avg_over_time(NUM_REQUESTS_WAITING, 60, now) == {"p": sum(values) / 4}
    assert r.scraper.avg_over_time(NUM_REQUESTS_WAITING, 16, now) == {"p": values[3]}
    assert r.scraper.max_over_time(NUM_REQUESTS_WAITING, 40, now) == {"p": values[3]}
    assert r.scraper.rate(NUM_REQUESTS_WAITING, 45, now)["p"] == pytest.approx(1, rel=0.05)
    assert r.scraper.rate(NUM_REQUESTS_WAITING, 16, now) == {}  # one sample
    assert r.scraper.latest(GATEWAY_QUEUE, now)["gateway"].value == 5


def test_a_window_must_be_named_before_the_run(rig):
    r = rig()
    r.pod()
    with pytest.raises(ValueError, match="kept for 0 s, not for a window of 60 s"):
        r.scraper.rate(NUM_REQUESTS_WAITING, 60, 0)
    r.clock.run(until=to_ps(20))
    with pytest.raises(RuntimeError, match="before the run begins"):
        r.scraper.keep(60)


def test_samples_of_a_gone_pod_count_in_windows_and_not_at_an_instant(rig):
    r = rig()
    r.scraper.keep(60)
    pod = r.pod()
    r.clock.run(until=to_ps(r.offset_s + 31))
    pod.gone_ps = r.clock.now
    r.clock.run(until=to_ps(r.offset_s + 50))
    now = r.clock.now
    assert r.scraper.latest(NUM_REQUESTS_WAITING, now) == {}
    assert set(r.scraper.avg_over_time(NUM_REQUESTS_WAITING, 60, now)) == {"p"}
    r.clock.run(until=to_ps(r.offset_s + 120))
    assert r.scraper.avg_over_time(NUM_REQUESTS_WAITING, 60, r.clock.now) == {}


def test_aliases_and_names(rig):
    r = rig(aliases={"queue": NUM_REQUESTS_WAITING, "odd": "nothing"})
    r.pod()
    assert r.scraper.exported("queue") == NUM_REQUESTS_WAITING
    assert r.scraper.exported(NUM_REQUESTS_RUNNING) == NUM_REQUESTS_RUNNING
    assert r.scraper.exported("odd") is None
    assert "queue" in r.scraper.names()
    assert r.read("queue", r.offset_s + 1) == int(r.offset_s)


def test_power_and_temperature_follow_the_busy_share(rig):
    r = rig()
    r.pod()
    o = r.offset_s
    assert (r.read(GPU_TEMPERATURE, o + 15.1), r.read(GPU_POWER, o + 15.1)) == (70, 560)  # busy
    assert (r.read(GPU_TEMPERATURE, o + 45.1), r.read(GPU_POWER, o + 45.1)) == (35, 140)  # idle


class Server:
    """Half of its observations at or below 0.5 s, half at or below 1 s; twice as many at each scrape."""

    def write(self, values, now):
        count = now // PS_PER_S
        for name, bound in zip(bucket_names(TTFT), (*BOUNDS_S[TTFT], float("inf")), strict=True):
            values[name] = float(count if bound >= 1 else count // 2 if bound >= 0.5 else 0)


def test_quantile_over_all_pods(rig):
    r = rig()
    r.scraper.keep(60)
    assert r.scraper.exported(f"{TTFT}_bucket") is not None  # from now on they are kept
    r.scraper._exporters.latencies.serve("p", Server())
    r.pod()
    r.clock.run(until=to_ps(r.offset_s + 46))
    assert r.scraper.quantile(0.5, TTFT, 60, r.clock.now) == pytest.approx(0.5, abs=0.02)
    assert r.scraper.quantile(0.95, f"{TTFT}_bucket", 60, r.clock.now) == pytest.approx(0.975, abs=0.02)
    with pytest.raises(ValueError, match="no histogram 'vllm:none'"):
        r.scraper.quantile(0.5, "vllm:none", 60, r.clock.now)


def test_quantile_without_observations(rig):
    r = rig()
    r.scraper.keep(60)
    r.pod()
    r.clock.run(until=to_ps(r.offset_s + 46))
    assert r.scraper.quantile(0.5, TTFT, 60, r.clock.now) is None


def test_names_leave_single_buckets_out(rig):
    names = list(rig().scraper.names())
    assert f"{TTFT}_bucket" in names
    assert not any("{" in name for name in names)

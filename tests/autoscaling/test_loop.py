"""The autoscaler's loop: when it passes, what it sees, what it does."""

from types import SimpleNamespace

import pytest

from simulator.autoscaling import hpa_types as types
from simulator.autoscaling.hpa_spec import Behavior, HpaSpec, MetricSpec, MetricTarget
from simulator.autoscaling.loop import HpaLoop, exported_name, validate_metrics
from simulator.clock import Clock
from simulator.cluster.pods import Pod
from simulator.draws import Draws
from simulator.scenario.cluster import Autoscaling, Scrape
from simulator.scenario.errors import ScenarioError
from simulator.units import PS_PER_S, to_ps, to_s

QUEUE = MetricSpec("Pods", "request_queue_depth", MetricTarget("AverageValue", average_value_milli=10_000))


class FakeCluster:
    """Pods that are ready as soon as they are asked for."""

    def __init__(self, clock, replicas):
        self.clock = clock
        self.writes = []
        self.list = []
        self.made = 0
        self.resize(replicas)

    def resize(self, replicas):
        while len(self.list) < replicas:
            pod = Pod(f"p{self.made}", self.made, 0.5, self.clock.now)
            pod.phase, pod.start_ps = "Running", self.clock.now
            pod.set_ready(True, self.clock.now)
            self.list.append(pod)
            self.made += 1
        del self.list[replicas:]

    def pods(self):
        return tuple(self.list)

    def counts(self):
        return SimpleNamespace(desired=len(self.list), provisioned=len(self.list))

    def set_replicas(self, replicas, now, by):
        assert now == self.clock.now
        self.writes.append((to_s(now), replicas, by))
        self.resize(replicas)


class Rig:
    """A loop whose metric the test sets: the same value for each pod, in ``self.values`` by exported name."""

    def __init__(self, *metrics, replicas=2, lowest=1, highest=16, **config):
        self.clock = Clock()
        self.cluster = FakeCluster(self.clock, replicas)
        self.values = {"vllm:num_requests_waiting": 10_000}
        self.events = []
        spec = HpaSpec(highest, lowest, metrics or (QUEUE,), Behavior())
        self.loop = HpaLoop(
            self.clock,
            "hpa",
            spec,
            Autoscaling(**{"pass_duration": 0.5, **config}),
            cluster=self.cluster,
            scraper=self,
            draws=Draws(1),
            sink=self,
        )

    def latest(self, metric, pod, now):
        value = self.values.get(metric)
        return None if value is None else types.Sample(value, now)

    def event(self, t_ps, kind, subject, reason, message, value=None):
        assert (kind, subject) == ("hpa", "hpa")
        self.events.append((to_s(t_ps), reason, message, value))

    def run(self, until_s):
        self.clock.run(until=to_ps(until_s))

    def reasons(self):
        return [reason for _, reason, _, _ in self.events]


@pytest.fixture
def rig():
    return Rig


def test_first_pass_at_once_then_a_period_after_each(rig):
    r = rig()
    passes = []
    inner = r.loop.sync
    r.loop.sync = lambda: passes.append(to_s(r.clock.now)) or inner()
    r.loop.start()
    r.run(60)
    assert passes == [0.0, 15.5, 31.0, 46.5]


def test_scales_up_and_remembers(rig):
    r = rig()
    r.values["vllm:num_requests_waiting"] = 20_000
    r.loop.start()
    r.run(1)
    assert r.cluster.writes == [(0.0, 4, "hpa")]
    assert r.loop.state.desired_replicas == 4
    assert [event.change for event in r.loop.state.scale_up_events] == [2]
    # At the target nothing moves any more.
    r.values["vllm:num_requests_waiting"] = 10_000
    r.run(100)
    assert len(r.cluster.writes) == 1


def test_scale_down_waits_for_the_stabilisation_window(rig):
    r = rig(replicas=4)
    r.loop.start()
    r.run(1)  # recommends 4
    r.values["vllm:num_requests_waiting"] = 2_000
    r.run(300)
    assert r.cluster.writes == []
    r.run(330)
    assert r.cluster.writes == [(310.0, 1, "hpa")]  # 20 passes of 15.5 s


def test_events_of_a_rescale_tell_sizes_values_and_why(rig):
    r = rig()
    r.values["vllm:num_requests_waiting"] = 20_000
    r.loop.start()
    r.run(1)
    rescale = next(event for event in r.events if event[1] == "SuccessfulRescale")
    assert rescale[3] == 4.0
    assert rescale[2].startswith(
        "From 2 to 4: New size: 4; reason: pods metric request_queue_depth above target"
    )
    assert "Read: request_queue_depth 20." in rescale[2]


def test_conditions_are_told_when_they_change(rig):
    r = rig()
    r.loop.start()
    r.run(40)
    assert r.reasons() == ["ValidMetricFound", "DesiredWithinRange"]
    r.values.clear()
    r.run(100)
    assert r.reasons()[2:] == ["FailedGetPodsMetric", "FailedGetPodsMetric", "FailedComputeMetricsReplicas"]
    r.values["vllm:num_requests_waiting"] = 10_000
    r.run(120)
    assert r.reasons()[5:] == ["ValidMetricFound"]


def test_pod_times_are_whole_seconds(rig):
    r = rig()
    r.run(2.75)
    r.cluster.resize(3)
    pod = r.loop.snapshot().pods[2]
    assert pod.start_ps == 2 * PS_PER_S
    assert pod.ready == types.ReadyCondition("True", 2 * PS_PER_S)


def test_a_pending_pod_has_no_ready_condition(rig):
    r = rig()
    r.cluster.list.append(Pod("new", 9, 0.5, 0))
    pod = r.loop.snapshot().pods[2]
    assert (pod.phase, pod.start_ps, pod.ready, pod.deletion_ps) == ("Pending", None, None, None)


def test_object_metric_is_the_sum_over_pods(rig):
    target = MetricTarget("Value", value_milli=10_000)
    r = rig(MetricSpec("Object", "request_queue_depth", target, described_object=("Service", "vllm")))
    assert r.loop.snapshot().readings == (types.ObjectValue(20_000),)


def test_external_metric_has_a_series_for_each_pod(rig):
    target = MetricTarget("AverageValue", average_value_milli=10_000)
    r = rig(MetricSpec("External", "vllm:num_requests_waiting", target))
    assert r.loop.snapshot().readings == (types.ExternalValues((10_000, 10_000)),)
    r.values.clear()
    assert r.loop.snapshot().readings == (types.ExternalValues(()),)


def test_names_are_mapped_by_the_scenario():
    mapping = {"gpu": "DCGM_FI_DEV_GPU_UTIL"}
    assert exported_name("gpu", mapping) == "DCGM_FI_DEV_GPU_UTIL"
    assert exported_name("vllm:num_requests_running", mapping) == "vllm:num_requests_running"
    assert exported_name("nothing", mapping) is None


def test_metric_that_nothing_exports_is_an_error():
    metric = MetricSpec("Pods", "queue_lenght", MetricTarget("AverageValue", average_value_milli=1))
    with pytest.raises(ScenarioError, match=r"spec\.metrics\[1\]: nothing exports 'queue_lenght'"):
        validate_metrics((QUEUE, metric), Scrape().metrics)


def test_mapping_to_what_nothing_exports_is_an_error():
    with pytest.raises(ScenarioError, match=r"scrape\.metrics\.gpu: pods do not export 'DCGM_GPU'"):
        validate_metrics((), {"gpu": "DCGM_GPU"})


def test_resource_metric_is_an_error(rig):
    cpu = MetricSpec("Resource", "cpu", MetricTarget("Utilization", average_utilization_percent=50))
    with pytest.raises(ScenarioError, match=r"spec\.metrics\[0\]: the simulator has no cpu usage"):
        rig(cpu)

"""The autoscaler's loop: when it passes, what it sees, what it does."""

from itertools import pairwise
from types import SimpleNamespace

import pytest

from simulator.autoscaling import hpa_types as types
from simulator.autoscaling.autoscaler import Point, Services
from simulator.autoscaling.exporters import EXPORTED
from simulator.autoscaling.floors import Floors
from simulator.autoscaling.hpa_loop import HpaLoop, validate_metrics
from simulator.autoscaling.hpa_spec import Behavior, HpaSpec, MetricSpec, MetricTarget
from simulator.autoscaling.metrics_server import PodTemplate
from simulator.clock import Clock
from simulator.cluster.pods import Pod
from simulator.draws import Draws
from simulator.scenario.autoscaling import HpaPolicy
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

    def __init__(self, *metrics, replicas=2, lowest=1, highest=16, ambiguous=False, resources=None, **config):
        self.clock = Clock()
        self.cluster = FakeCluster(self.clock, replicas)
        self.values = {"vllm:num_requests_waiting": 10}
        self.events = []
        spec = HpaSpec(highest, lowest, metrics or (QUEUE,), Behavior())
        self.floors = Floors()
        services = Services(self.clock, self.cluster, self.floors, self, None, Draws(1), self, resources)
        policy = HpaPolicy(kind="hpa", manifest="hpa.yaml", **{"pass_duration": 0.5, **config})
        self.loop = HpaLoop(services, "hpa", spec, policy, ambiguous=ambiguous)

    def exported(self, metric):
        name = {"request_queue_depth": "vllm:num_requests_waiting"}.get(metric, metric)
        return name if name in EXPORTED else None

    def names(self):
        return EXPORTED

    def latest(self, metric, now):
        value = self.values.get(self.exported(metric))
        pods = () if value is None else self.cluster.pods()
        return {pod.name: Point(value, now, 0) for pod in pods}

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


def passes_of(r, until_s):
    passes = []
    inner = r.loop.sync
    r.loop.sync = lambda: passes.append(to_s(r.clock.now)) or inner()
    r.loop.start()
    r.run(until_s)
    return passes


def test_section1_first_pass_is_at_once_in_1_37_and_a_period_later_before(rig):
    assert passes_of(rig(), 10) == [0.0]
    assert passes_of(rig(version="1.36"), 20) == [15.0]


def test_section1_a_period_after_each_pass_whatever_came_of_it(rig):
    r = rig()
    assert passes_of(r, 60) == [0.0, 15.5, 31.0, 46.5]
    failing = rig()
    failing.values.clear()
    assert passes_of(failing, 60) == [0.0, 15.5, 31.0, 46.5]


def test_section1_passes_drift_by_their_duration(rig):
    r = rig(pass_duration={"min": 0.01, "max": 0.05})
    times = passes_of(r, 600)
    gaps = [after - before for before, after in pairwise(times)]
    assert all(15.01 <= gap <= 15.05 for gap in gaps)
    assert len(set(gaps)) > 1


def test_scales_up_and_remembers(rig):
    r = rig()
    r.values["vllm:num_requests_waiting"] = 20
    r.loop.start()
    r.run(1)
    assert r.cluster.writes == [(0.0, 4, "hpa")]
    assert r.loop.state.desired_replicas == 4
    assert [event.change for event in r.loop.state.scale_up_events] == [2]
    # At the target nothing moves any more.
    r.values["vllm:num_requests_waiting"] = 10
    r.run(100)
    assert len(r.cluster.writes) == 1


def test_scale_down_waits_for_the_stabilisation_window(rig):
    r = rig(replicas=4)
    r.loop.start()
    r.run(1)  # recommends 4
    r.values["vllm:num_requests_waiting"] = 2
    r.run(300)
    assert r.cluster.writes == []
    r.run(330)
    assert r.cluster.writes == [(310.0, 1, "hpa")]  # 20 passes of 15.5 s


def test_events_of_a_rescale_tell_sizes_values_and_why(rig):
    r = rig()
    r.values["vllm:num_requests_waiting"] = 20
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
    r.values["vllm:num_requests_waiting"] = 10
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


def test_metric_that_nothing_exports_is_an_error(rig):
    metric = MetricSpec("Pods", "queue_lenght", MetricTarget("AverageValue", average_value_milli=1))
    with pytest.raises(ScenarioError, match=r"spec\.metrics\[1\]: nothing exports 'queue_lenght'"):
        validate_metrics((QUEUE, metric), rig(), None)


def test_gateway_metric_of_pods_is_an_error(rig):
    target = MetricTarget("AverageValue", average_value_milli=1)
    name = "inference_extension_flow_control_queue_size"
    with pytest.raises(ScenarioError, match="use an Object or External metric"):
        rig(MetricSpec("Pods", name, target))
    rig(MetricSpec("External", name, target))


def test_a_floor_raises_the_minimum_at_the_next_pass(rig):
    r = rig(lowest=1, highest=8)
    r.loop.start()
    r.run(1)
    r.floors.set("cron", 6)
    r.run(20)
    assert r.cluster.writes == [(15.5, 6, "hpa")]
    r.floors.set("cron", 100)  # not above its own maximum
    r.run(40)
    assert r.cluster.writes[1:] == [(31.0, 8, "hpa")]
    # The floor gone, the size falls by the autoscaler's own rules: moves to a minimum leave no recommendation, so
    # the window holds the 2 of the first pass alone.
    r.floors.set("cron", 0)
    r.values["vllm:num_requests_waiting"] = 1
    r.run(50)
    assert r.cluster.writes[2:] == [(46.5, 2, "hpa")]


def test_two_autoscalers_of_one_target_do_nothing(rig):
    r = rig(ambiguous=True)
    r.values["vllm:num_requests_waiting"] = 50
    r.loop.start()
    r.run(40)
    assert r.cluster.writes == []
    assert "AmbiguousSelector" in r.reasons()


def cpu(percent=None, container="", **target):
    kind = "ContainerResource" if container else "Resource"
    wanted = MetricTarget("Utilization", average_utilization_percent=percent, **target)
    return MetricSpec(kind, "cpu", wanted, container=container)


TEMPLATE = PodTemplate(
    containers=(types.Container("vllm", {"cpu": 2000}), types.Container("proxy", {"memory": 1})),
)


@pytest.mark.parametrize(
    ("metric", "problem"),
    [
        (MetricSpec("Resource", "nvidia.com/gpu", MetricTarget()), "no 'nvidia.com/gpu' of pods"),
        (cpu(50), "container 'proxy' requests no cpu"),
        (cpu(50, "proxy"), "container 'proxy' requests no cpu"),
        (cpu(50, "none"), "no container 'none': expected one of vllm, proxy"),
        (cpu(50, "vllm"), None),
        (cpu(average_value_milli=500), None),
    ],
)
def test_resource_metrics_need_what_the_pods_have(rig, metric, problem):
    if problem is None:
        validate_metrics((metric,), rig(), TEMPLATE)
        return
    with pytest.raises(ScenarioError, match=problem):
        validate_metrics((metric,), rig(), TEMPLATE)


def test_resource_metric_without_a_metrics_server_is_an_error(rig):
    with pytest.raises(ScenarioError, match=r"spec\.metrics\[0\]: metrics-server has no 'cpu'"):
        rig(cpu(50))


def test_resource_metrics_are_read_with_requests(rig):
    usage = types.ResourceUsage({"p0": types.ContainerUsage({"vllm": {"cpu": 1000}})})
    server = SimpleNamespace(template=TEMPLATE, usage=lambda now: usage)
    r = rig(cpu(50, "vllm"), resources=lambda: server)
    snapshot = r.loop.snapshot()
    assert snapshot.readings == (usage,)
    assert snapshot.pods[0].containers == TEMPLATE.containers

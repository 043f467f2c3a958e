"""The upstream replica calculator's test table, case by case, through `decide`.

Case names are upstream's. Not stated here: that a metrics client asks for the right object and selector (there is no
client), and the timestamps that only upstream's status shows.
"""

from dataclasses import dataclass

import pytest

from simulator.autoscaling.hpa import decide
from simulator.autoscaling.hpa_pods import MetricUnavailableError, group_pods, pod_request_milli
from simulator.autoscaling.hpa_replicas import MAX_INT32, MAX_INT64
from simulator.autoscaling.hpa_spec import Behavior, HpaSpec
from simulator.autoscaling.hpa_types import (
    Container,
    ExternalValues,
    HpaSnapshot,
    HpaState,
    ObjectValue,
    Pod,
    PodSamples,
    ReadyCondition,
    Sample,
    Scale,
)
from simulator.units import PS_PER_S
from tests.autoscaling.upstream import FLAGS, NOW, controller, cpu, make_pods, qps, tolerances, usage

S = PS_PER_S


@dataclass
class Resource:
    """A CPU metric: levels and requests of each container in milli-cores; expected usage in milli-cores."""

    name: str
    current: int
    levels: list
    target: int
    replicas: int | None
    utilization: int = 0
    value: int = 0
    requests: list | None = None
    container: str = ""
    ready: str = ""
    start: str = ""
    phase: str = ""
    deleted: str = ""
    names: tuple = ()
    behavior: Behavior | None = None
    error: str = ""


def both(level):
    return 2 * level


UNEVEN = [900, 1000, 1100]
FIVE = [[1000, 100], [1000, 300], [1000, 500], [1000, 250], [1000, 250]]
C2 = "container2"

RESOURCE = [
    Resource("scale up", 3, [300, 500, 700], 30, 5, 50, both(500)),
    Resource(
        "scale up: container metric", 3, [[1000, 300], [1000, 500], [1000, 700]], 30, 5, 50, 500, container=C2
    ),
    Resource("scale up: unready pod scales less", 3, [300, 500, 700], 30, 4, 60, both(600), ready="FTT"),
    Resource(
        "scale up: hot-CPU container scales less",
        3,
        [[0, 300], [0, 500], [0, 700]],
        30,
        4,
        60,
        600,
        container=C2,
        start="hcc",
    ),
    Resource("scale up: hot-CPU pod scales less", 3, [300, 500, 700], 30, 4, 60, both(600), start="hcc"),
    Resource("no scale: unready pods ignored", 3, [400, 500, 700], 30, 3, 40, both(400), ready="TFF"),
    Resource(
        "no scale: hot-CPU pods ignored", 3, [400, 500, 700], 30, 3, 40, both(400), ready="TFF", start="chh"
    ),
    Resource(
        "scale up: failed pods ignored", 2, [500, 700], 30, 4, 60, both(600), ready="TTFF", phase="RRFF"
    ),
    Resource(
        "scale up: failed pods ignored with missing container metric",
        2,
        [[1000, 500], [9000, 700], [1000], [9000]],
        30,
        4,
        60,
        600,
        ready="TTFF",
        phase="RRFF",
        container=C2,
    ),
    Resource(
        "scale up: container metrics with failed pods ignored",
        2,
        [[1000, 500], [9000, 700]],
        30,
        4,
        60,
        600,
        ready="TTFF",
        phase="RRFF",
        container=C2,
    ),
    Resource(
        "scale up: pods being deleted are ignored",
        2,
        [500, 700],
        30,
        4,
        60,
        both(600),
        ready="TTFF",
        phase="RRRR",
        deleted="..xx",
    ),
    Resource(
        "scale up: container metrics with pods being deleted ignored",
        2,
        [500, 700],
        30,
        4,
        60,
        600,
        ready="TTFF",
        phase="RRRR",
        deleted="..xx",
        container="container1",
    ),
    Resource("scale down", 5, [100, 300, 500, 250, 250], 50, 3, 28, both(280)),
    Resource("scale down: container metric", 5, FIVE, 50, 3, 28, 280, container=C2),
    Resource(
        "scale down: exclude unready pods", 5, [100, 300, 500, 250, 250], 50, 2, 30, both(300), ready="TTTFF"
    ),
    Resource(
        "scale down: container metric excludes unready pods",
        5,
        FIVE,
        50,
        2,
        30,
        300,
        ready="TTTFF",
        container=C2,
    ),
    Resource(
        "scale down: exclude unscheduled pods", 5, [100], 50, 1, 10, both(100), ready="TFFFF", phase="RPPPP"
    ),
    Resource(
        "scale down: container metric excludes unscheduled pods",
        5,
        FIVE,
        50,
        1,
        10,
        100,
        ready="TFFFF",
        phase="RPPPP",
        container=C2,
    ),
    Resource(
        "scale down: ignore hot-CPU pods", 5, [100, 300, 500, 250, 250], 50, 2, 30, both(300), start="ccchh"
    ),
    Resource(
        "scale down: container metric ignores hot-CPU pods",
        5,
        [[1000, 100], [1000, 300], [1000, 500], [1000, 1000], [1000, 1000]],
        50,
        2,
        30,
        300,
        start="ccchh",
        container=C2,
    ),
    Resource(
        "scale down: failed pods ignored",
        5,
        [100, 300, 500, 250, 250],
        50,
        3,
        28,
        both(280),
        ready="TTTTTFF",
        phase="RRRRRFF",
    ),
    Resource(
        "scale down: container metric with failed pods ignored",
        5,
        FIVE,
        50,
        3,
        28,
        280,
        ready="TTTTTFF",
        phase="RRRRRFF",
        container=C2,
    ),
    Resource(
        "scale down: pods being deleted are ignored",
        5,
        [100, 300, 500, 250, 250],
        50,
        3,
        28,
        both(280),
        ready="TTTTTFF",
        phase="RRRRRRR",
        deleted=".....xx",
    ),
    Resource(
        "scale down: still-running pods being deleted are ignored",
        5,
        FIVE,
        50,
        3,
        28,
        280,
        ready="TTTTTFF",
        phase="RRRRRRR",
        deleted=".....xx",
        container=C2,
    ),
    Resource(
        "DisjointResourcesMetrics",
        1,
        [100],
        100,
        None,
        names=("an-older-pod-name",),
        error="no metrics returned matched known pods",
    ),
    Resource("Tolerance", 3, [1010, 1030, 1020], 100, 3, 102, both(1020), requests=UNEVEN),
    Resource(
        "outside of a 0% tolerance",
        3,
        [909, 1010, 1111],
        100,
        4,
        101,
        both(1010),
        requests=UNEVEN,
        behavior=tolerances(0.0, 0.0),
    ),
    Resource(
        "within a 200% scale-up tolerance",
        3,
        [1890, 1910, 1900],
        100,
        3,
        190,
        both(1900),
        requests=UNEVEN,
        behavior=tolerances(0.1, 2.0),
    ),
    Resource(
        "outside 8% scale-up tolerance (and superfluous scale-down tolerance)",
        3,
        [1100, 1080, 1090],
        100,
        4,
        109,
        both(1090),
        requests=UNEVEN,
        behavior=tolerances(2.0, 0.08),
    ),
    Resource(
        "within a 36% scale-down tolerance",
        3,
        [660, 640, 650],
        100,
        3,
        65,
        both(650),
        requests=UNEVEN,
        behavior=tolerances(0.36, 0.1),
    ),
    Resource(
        "outside a 34% scale-down tolerance",
        3,
        [660, 640, 650],
        100,
        2,
        65,
        both(650),
        requests=UNEVEN,
        behavior=tolerances(0.34, 0.1),
    ),
    Resource("SuperfluousMetrics", 4, [4000, 9500, 3000, 7000, 3200, 2000], 100, 24, 587, both(5875)),
    Resource("MissingMetrics", 4, [400, 95], 100, 3, 24, 495),
    Resource(
        "EmptyMetrics",
        4,
        [],
        100,
        None,
        error="unable to get metrics for resource cpu: no metrics returned from resource metrics API",
    ),
    Resource("EmptyCPURequest", 1, [200], 100, None, requests=[], error="missing request for"),
    Resource("MissingMetricsNoChangeEq", 2, [1000], 100, 2, 100, both(1000)),
    Resource("MissingMetricsNoChangeGt", 2, [1900], 100, 2, 190, both(1900)),
    Resource("MissingMetricsNoChangeLt", 2, [600], 100, 2, 60, both(600)),
    Resource("MissingMetricsUnreadyChange", 3, [100, 450], 50, 3, 45, both(450), ready="FTT"),
    Resource("MissingMetricsHotCpuNoChange", 3, [100, 450], 50, 3, 45, both(450), start="hcc"),
    Resource("MissingMetricsUnreadyScaleUp", 3, [100, 2000], 50, 4, 200, both(2000), ready="FTT"),
    Resource("MissingMetricsHotCpuScaleUp", 3, [100, 2000], 50, 4, 200, both(2000), ready="FTT", start="hcc"),
    Resource("MissingMetricsUnreadyScaleDown", 4, [100, 100, 100], 50, 3, 10, both(100), ready="FTTT"),
    Resource(
        "MissingMetricsScaleDownTargetOver100",
        4,
        [200, 100, 100],
        300,
        2,
        6,
        both(100),
        requests=[1000, 1000, 2000, 2000],
        ready="FTTT",
    ),
    Resource("DuringRollingUpdateWithMaxSurge", 2, [100, 100], 50, 2, 10, both(100), phase="RRR"),
]

# ComputedToleranceAlgImplementation: 150 of 300 milli-cores a pod; targets just beyond and just within the tolerance.
JITTERED = [400, 200, 310, 290, 302, 298, 301, 299, 300, 300]
RESOURCE += [
    Resource("ComputedTolerance: beyond", 10, [150] * 10, 56, 9, 50, both(150), requests=JITTERED),
    Resource("ComputedTolerance: within", 10, [150] * 10, 55, 10, 50, both(150), requests=JITTERED),
]


def proposed(current, metric, reading, pods, behavior=None):
    snapshot = HpaSnapshot(
        HpaSpec(MAX_INT32, 1, (metric,), behavior), Scale(current, current), pods, (reading,), controller()
    )
    _, decision = decide(HpaState(recommendations=()), snapshot, NOW)
    (proposal,) = decision.proposals
    return proposal


@pytest.mark.parametrize("case", RESOURCE, ids=lambda case: case.name)
def test_resource_replicas(case):
    count = max(case.current, len(case.phase))
    requests = [1000] * count if case.requests is None else case.requests
    pods = make_pods(
        count,
        requests,
        ready=case.ready,
        start=case.start,
        phase=case.phase,
        deleted=case.deleted,
        transition=0,
    )
    metric = cpu(case.target, case.container)
    proposal = proposed(case.current, metric, usage(case.levels, case.names), pods, case.behavior)
    if case.error:
        assert proposal.replicas is None
        assert case.error in proposal.error
        return
    assert proposal.replicas == case.replicas
    assert proposal.status.average_utilization_percent == case.utilization
    assert proposal.status.average_value_milli == case.value


def metric_case(name, kind, current, levels, target, replicas, value, **more):
    return pytest.param(kind, current, levels, target, replicas, value, more, id=name)


METRIC = [
    metric_case("ScaleUpOverflow", "Object", 3, [MAX_INT64], 1, MAX_INT32, MAX_INT64),
    metric_case(
        "ExternalPerPodMetricReplicaOverflow", "ExternalPerPod", 1, [MAX_INT64], 1, MAX_INT32, MAX_INT64
    ),
    metric_case(
        "ExternalPerPodMetricUsageOverflow", "ExternalPerPod", 1, [MAX_INT64], MAX_INT64, 1, MAX_INT64
    ),
    metric_case(
        "ExternalMetricUsageOverflow",
        "External",
        3,
        [MAX_INT64 // 2 + 1, MAX_INT64 // 2 + 1],
        MAX_INT64,
        3,
        MAX_INT64,
    ),
    metric_case("ScaleUpCM", "Pods", 3, [20000, 10000, 30000], 15000, 4, 20000),
    metric_case(
        "ScaleUpCMUnreadyHotCpuNoLessScale",
        "Pods",
        3,
        [50000, 10000, 30000],
        15000,
        6,
        30000,
        ready="TTF",
        start="cch",
    ),
    metric_case(
        "ScaleUpCMUnreadyHotCpuScaleWouldScaleDown",
        "Pods",
        3,
        [50000, 15000, 30000],
        15000,
        7,
        31666,
        ready="FTF",
        start="hch",
    ),
    metric_case("ScaleUpCMObject", "Object", 3, [20000], 15000, 4, 20000),
    metric_case("ScaleUpCMPerPodObject", "ObjectPerPod", 3, [20000], 5000, 4, 6667),
    metric_case("ScaleUpCMObjectIgnoresUnreadyPods", "Object", 3, [50000], 10000, 5, 50000, ready="FTF"),
    metric_case("ScaleUpCMExternalIgnoresUnreadyPods", "External", 3, [8600], 4400, 2, 8600, ready="FTF"),
    metric_case("ScaleUpPerPodCMExternal", "ExternalPerPod", 3, [8600], 2150, 4, 2867),
    metric_case("ScaleDownCM", "Pods", 5, [12000] * 5, 20000, 3, 12000),
    metric_case("ScaleDownPerPodCMObject", "ObjectPerPod", 5, [6000], 2000, 3, 1200),
    metric_case("ScaleDownCMObject", "Object", 5, [12000], 20000, 3, 12000),
    metric_case("ScaleDownCMExternal", "External", 5, [8600], 14334, 3, 8600),
    metric_case("ScaleDownPerPodCMExternal", "ExternalPerPod", 5, [8600], 2867, 3, 1720),
    metric_case("ToleranceCM", "Pods", 3, [20000, 21000, 21000], 20000, 3, 20666),
    metric_case("ToleranceCMObject", "Object", 3, [20666], 20000, 3, 20666),
    metric_case("TolerancePerPodCMObject", "ObjectPerPod", 4, [20166], 5000, 4, 5042),
    metric_case("ToleranceCMExternal", "External", 3, [8600], 8888, 3, 8600),
    metric_case("TolerancePerPodCMExternal", "ExternalPerPod", 3, [8600], 2900, 3, 2867),
    metric_case("ConfigurableToleranceCM", "Pods", 3, [20000, 21000, 21000], 20000, 4, 20666, up=0.01),
    metric_case("ConfigurableToleranceCMObject", "Object", 3, [20666], 20000, 4, 20666, up=0.01),
    metric_case("ConfigurableTolerancePerPodCMObject", "ObjectPerPod", 4, [20208], 5000, 5, 5052, up=0.01),
    metric_case("ConfigurableToleranceCMExternal", "External", 3, [8900], 8800, 4, 8900, up=0.01),
    metric_case("ConfigurableTolerancePerPodCMExternal", "ExternalPerPod", 3, [8600], 2800, 4, 2867, up=0.01),
    metric_case("PlainMetricMissingMetricsNoChangeEq", "Pods", 5, [20000, 19000, 21000], 20000, 5, 20000),
    metric_case("DuringRollingUpdateWithMaxSurgeCM", "Pods", 2, [10000, 10000], 17000, 2, 10000, phase="RRR"),
]


def reading(kind, levels):
    if kind == "Pods":
        return PodSamples({f"p{index}": Sample(level) for index, level in enumerate(levels)})
    return ObjectValue(levels[0]) if kind.startswith("Object") else ExternalValues(tuple(levels))


@pytest.mark.parametrize(("kind", "current", "levels", "target", "replicas", "value", "more"), METRIC)
def test_metric_replicas(kind, current, levels, target, replicas, value, more):
    up = more.pop("up", None)
    pods = make_pods(max(current, len(more.get("phase", ""))), transition=0, **more)
    behavior = None if up is None else tolerances(0.1, up)
    proposal = proposed(current, qps(kind, target), reading(kind, levels), pods, behavior)
    assert proposal.replicas == replicas
    status = proposal.status
    shown = status.value_milli if kind in ("Object", "External") else status.average_value_milli
    assert shown == value


def pod(name, start=None, transition=None, ready="True", phase="Running", deletion=None):
    """Times are seconds before now."""
    return Pod(
        name,
        phase=phase,
        deletion_ps=deletion,
        start_ps=None if start is None else NOW - start * S,
        ready=None if transition is None else ReadyCondition(ready, NOW - transition * S),
    )


def sample(age=None, window=0):
    """Age in seconds; without one, Go's zero time."""
    return Sample(1, 0 if age is None else NOW - age * S, window * S)


GROUPS = [
    ("void", [], {}, "cpu", 0, ""),
    ("count in a ready pod - memory", [pod("a")], {"a": sample(0, 60)}, "memory", 1, ""),
    ("unready a pod without ready condition", [pod("a", 0)], {"a": sample()}, "cpu", 0, "a:unready"),
    ("count in a ready pod with fresh metrics", [pod("a", 60, 30)], {"a": sample(0, 30)}, "cpu", 1, ""),
    (
        "unready a ready pod without fresh metrics",
        [pod("a", 60, 30)],
        {"a": sample(0, 60)},
        "cpu",
        0,
        "a:unready",
    ),
    (
        "unready an unready pod during initialization",
        [pod("a", 600, 594, "False")],
        {"a": sample()},
        "cpu",
        0,
        "a:unready",
    ),
    (
        "count in a ready pod without fresh metrics after initialization",
        [pod("a", 180, 180)],
        {"a": sample(120, 60)},
        "cpu",
        1,
        "",
    ),
    (
        "count in an unready pod that was ready after initialization",
        [pod("a", 600, 540, "False")],
        {"a": sample()},
        "cpu",
        1,
        "",
    ),
    (
        "unready pod that has never been ready after initialization",
        [pod("a", 600, 590, "False")],
        {"a": sample()},
        "cpu",
        1,
        "",
    ),
    ("a missing pod", [pod("a", 180)], {}, "cpu", 0, "a:missing"),
    (
        "several pods",
        [pod("a", 0), pod("b", 180, 180), pod("c", 180)],
        {"a": sample(), "b": sample()},
        "cpu",
        1,
        "a:unready c:missing",
    ),
    ("pending pods are unreadied", [pod("a", phase="Pending")], {}, "cpu", 0, "a:unready"),
    (
        "ignore pods with deletion timestamps",
        [pod("a", phase="Pending", deletion=S)],
        {"a": sample()},
        "cpu",
        0,
        "a:ignored",
    ),
    (
        "ignore pods in a failed state",
        [pod("a", phase="Failed")],
        {"a": sample()},
        "cpu",
        0,
        "a:ignored",
    ),
]


@pytest.mark.parametrize(
    ("pods", "samples", "resource", "ready", "others"),
    [pytest.param(*case[1:], id=case[0]) for case in GROUPS],
)
def test_group_pods(pods, samples, resource, ready, others):
    groups = group_pods(pods, samples, resource, FLAGS, NOW)
    assert groups.ready_count == ready
    found = {name: kind for kind in ("unready", "missing", "ignored") for name in getattr(groups, kind)}
    assert found == dict(entry.split(":") for entry in others.split())


def test_section13_finished_pods_are_ignored_since_1_37():
    """Upstream's table marks pods Succeeded and counts them; the v1.37 line ignores every finished pod."""
    pods = [pod("a", 180, 180, phase="Succeeded")]
    assert group_pods(pods, {"a": sample()}, "cpu", FLAGS, NOW).ignored == ("a",)
    assert group_pods(pods, {"a": sample()}, "cpu", FLAGS, NOW, ("Failed",)).ready == ("a",)


TWO = (Container("container1", {"cpu": 100}), Container("container2", {"cpu": 50}))
LACKING = (Container("container1"), Container("container2", {"cpu": 50}))
POD_LEVEL = {"cpu": 800}
REQUESTS = [
    ("containers are summed with the gate off", Pod("t", containers=TWO), "", False, 150),
    ("containers are summed without pod-level requests", Pod("t", containers=TWO), "", True, 150),
    (
        "pod-level requests override",
        Pod("t", containers=TWO, pod_requests_milli=POD_LEVEL),
        "",
        True,
        800,
    ),
    (
        "a container without request",
        Pod("t", containers=LACKING),
        "",
        False,
        "missing request for cpu in container container1 of Pod t",
    ),
    (
        "pod-level requests override missing ones",
        Pod("t", containers=LACKING, pod_requests_milli=POD_LEVEL),
        "",
        True,
        800,
    ),
    ("only the named container", Pod("t", containers=TWO), "container1", False, 100),
    (
        "the named container before pod-level requests",
        Pod("t", containers=TWO, pod_requests_milli=POD_LEVEL),
        "container1",
        True,
        100,
    ),
    (
        "restartable init containers",
        Pod(
            "t",
            containers=(Container("container1", {"cpu": 100}),),
            sidecars=(Container("restartable-container1", {"cpu": 50}),),
        ),
        "",
        False,
        150,
    ),
    (
        "a container that does not exist",
        Pod("t", containers=TWO),
        "non-existent-container",
        False,
        "container non-existent-container not found in Pod t",
    ),
]


@pytest.mark.parametrize(
    ("pod", "container", "gate", "want"), [pytest.param(*case[1:], id=case[0]) for case in REQUESTS]
)
def test_calculate_requests(pod, container, gate, want):
    if isinstance(want, str):
        with pytest.raises(MetricUnavailableError, match=want):
            pod_request_milli(pod, "cpu", container, gate)
    else:
        assert pod_request_milli(pod, "cpu", container, gate) == want

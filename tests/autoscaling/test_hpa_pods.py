"""Sorting the pods and their requests and samples (sections 5 and 6)."""

import pytest

from simulator.autoscaling.hpa_controller import HpaFlags
from simulator.autoscaling.hpa_pods import (
    MetricUnavailableError,
    group_pods,
    pod_request_milli,
    ready_pod_count,
    requests_milli,
    resource_samples,
)
from simulator.autoscaling.hpa_types import (
    Container,
    ContainerUsage,
    Pod,
    ReadyCondition,
    ResourceUsage,
    Sample,
)
from simulator.units import PS_PER_S

S = PS_PER_S
NOW = 10_000 * S
FLAGS = HpaFlags()


def ready(since_s=0):
    return ReadyCondition("True", since_s * S)


def unready(since_s=0):
    return ReadyCondition("False", since_s * S)


def group_of(pod, sample=None, resource="cpu", now=NOW):
    samples = {} if sample is None else {pod.name: sample}
    groups = group_pods([pod], samples, resource, FLAGS, now)
    return next(n for n in ("ready", "unready", "missing", "ignored") if getattr(groups, n))


SAMPLE = Sample(1000, timestamp_ps=NOW, window_ps=30 * S)


@pytest.mark.parametrize(
    "pod",
    [
        Pod("p", "Running", deletion_ps=NOW, start_ps=0, ready=ready()),
        Pod("p", "Pending", deletion_ps=NOW),
        Pod("p", "Failed", start_ps=0, ready=ready()),
        Pod("p", "Succeeded", start_ps=0, ready=ready()),
    ],
)
@pytest.mark.parametrize("sample", [None, SAMPLE])
@pytest.mark.parametrize("resource", ["cpu", "memory", ""])
def test_section5_rule_1_deleted_failed_and_succeeded_pods_are_ignored(pod, sample, resource):
    assert group_of(pod, sample, resource) == "ignored"


@pytest.mark.parametrize("sample", [None, SAMPLE])
@pytest.mark.parametrize("resource", ["cpu", "memory", ""])
def test_section5_rule_2_pending_pods_are_unready_for_every_metric_kind(sample, resource):
    assert group_of(Pod("p", "Pending"), sample, resource) == "unready"


@pytest.mark.parametrize("resource", ["cpu", "memory", ""])
def test_section5_rule_3_a_running_pod_without_a_sample_is_missing(resource):
    assert group_of(Pod("p", start_ps=0, ready=ready()), None, resource) == "missing"
    assert group_of(Pod("p", start_ps=0, ready=unready()), None, resource) == "missing"


@pytest.mark.parametrize("pod", [Pod("p", start_ps=0, ready=None), Pod("p", start_ps=None, ready=ready())])
def test_section5_rule_4_cpu_without_ready_condition_or_start_time_is_unready(pod):
    assert group_of(pod, SAMPLE) == "unready"
    assert group_of(pod, SAMPLE, "memory") == "ready"


@pytest.mark.parametrize(
    ("start_s", "condition", "sample_s", "group"),
    [
        (9_900, unready(9_901), 10_000, "unready"),  # in the period and not ready
        (9_900, ready(9_950), 9_980, "ready"),  # window began at 9,950, exactly when it became ready
        (9_900, ready(9_951), 9_980, "unready"),  # window began a second before
        (9_701, ready(9_975), 10_000, "unready"),  # 299 s old: still in the period
        (9_700, ready(9_975), 10_000, "ready"),  # 300 s old: the period is over
    ],
)
def test_section5_rule_4_cpu_in_the_initialization_period(start_s, condition, sample_s, group):
    pod = Pod("p", start_ps=start_s * S, ready=condition)
    assert group_of(pod, Sample(1, sample_s * S, 30 * S)) == group


@pytest.mark.parametrize(
    ("transition_s", "group"),
    [
        (5_029, "unready"),  # last changed 29 s after its start: it has never been ready
        (5_030, "ready"),  # changed after the first 30 s: it was ready once, its sample counts
        (9_000, "ready"),
    ],
)
def test_section5_rule_4_cpu_after_the_initialization_period_only_never_ready_pods_are_unready(
    transition_s, group
):
    pod = Pod("p", start_ps=5_000 * S, ready=unready(transition_s))
    assert group_of(pod, SAMPLE) == group


def test_section5_rule_4_unknown_readiness_is_not_false():
    assert group_of(Pod("p", start_ps=9_900 * S, ready=ReadyCondition("Unknown", 0)), SAMPLE) == "ready"


@pytest.mark.parametrize("resource", ["memory", "", "nvidia.com/gpu"])
def test_section5_rule_5_anything_but_cpu_counts_a_running_unready_pod_with_a_sample_in_full(resource):
    assert group_of(Pod("p", start_ps=NOW, ready=unready(9_999)), SAMPLE, resource) == "ready"


def test_section5_gpu_pod_loading_weights_is_missing_and_pending_is_unready():
    loading = Pod("loading", "Running", start_ps=NOW, ready=unready(9_999))
    pulling = Pod("pulling", "Pending")
    groups = group_pods([loading, pulling], {}, "", FLAGS, NOW)
    assert groups.missing == ("loading",)
    assert groups.unready == ("pulling",)
    assert groups.ready_count == 0


def test_section8_ready_count_wants_running_and_ready_and_keeps_deleted_pods():
    pods = [
        Pod("a", ready=ready()),
        Pod("b", ready=ready(), deletion_ps=1),
        Pod("c", ready=unready()),
        Pod("d", "Pending", ready=ready()),
        Pod("e", ready=ReadyCondition("Unknown")),
        Pod("f", ready=None),
    ]
    assert ready_pod_count(pods) == 2


POD = Pod(
    "p",
    containers=(Container("vllm", {"cpu": 4000}), Container("proxy", {"cpu": 500})),
    sidecars=(Container("logs", {"cpu": 100}),),
)


def test_section6_request_sums_containers_and_restartable_init_containers():
    assert pod_request_milli(POD, "cpu") == 4600


def test_section6_container_resource_uses_only_its_container_even_with_pod_level_requests():
    pod = Pod("p", containers=POD.containers, sidecars=POD.sidecars, pod_requests_milli={"cpu": 9000})
    assert pod_request_milli(pod, "cpu", "proxy") == 500
    assert pod_request_milli(pod, "cpu", "logs") == 100
    with pytest.raises(MetricUnavailableError, match="container other not found in Pod p"):
        pod_request_milli(pod, "cpu", "other")


def test_section6_pod_level_requests_replace_the_sum_under_their_gate():
    pod = Pod("p", containers=POD.containers, pod_requests_milli={"cpu": 9000})
    assert pod_request_milli(pod, "cpu", pod_level_resources=True) == 9000
    assert pod_request_milli(pod, "cpu", pod_level_resources=False) == 4500


def test_section6_a_container_without_a_request_fails_the_whole_metric():
    lacking = Pod("q", containers=(Container("vllm", {"cpu": 1}), Container("proxy", {"memory": 1})))
    with pytest.raises(MetricUnavailableError, match="missing request for cpu in container proxy of Pod q"):
        requests_milli([POD, lacking], "cpu")


def test_section6_ignored_pods_are_asked_for_requests_too():
    leaving = Pod("q", "Failed", deletion_ps=1, containers=(Container("vllm"),))
    with pytest.raises(MetricUnavailableError, match="missing request"):
        requests_milli([POD, leaving], "cpu")


def test_section6_resource_sample_sums_containers_and_needs_them_all():
    usage = ResourceUsage(
        {
            "a": ContainerUsage({"x": {"cpu": 100, "memory": 5}, "y": {"cpu": 50}}, 7, 3),
            "b": ContainerUsage({"x": {"cpu": 100}, "y": {"memory": 5}}),
            "c": ContainerUsage({}),
        }
    )
    assert resource_samples(usage, "cpu") == {"a": Sample(150, 7, 3)}
    assert resource_samples(usage, "memory") == {}


def test_section6_container_sample_takes_one_container():
    usage = ResourceUsage({"a": ContainerUsage({"x": {"cpu": 100}, "y": {"cpu": 50}})})
    assert resource_samples(usage, "cpu", "y") == {"a": Sample(50)}
    assert resource_samples(usage, "memory", "y") == {}
    assert resource_samples(usage, "cpu", "z") == {}
    with pytest.raises(MetricUnavailableError, match="container z not present"):
        resource_samples(usage, "cpu", "z", strict=True)  # before v1.37

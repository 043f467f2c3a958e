"""Which pods count for a per-pod metric, what they request, and what each of them reports.

Follows the sorting, request and sampling rules of the controller's replica calculator
(kubernetes/kubernetes, pkg/controller/podautoscaler/replica_calculator.go and metrics/client.go).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from simulator.autoscaling.hpa_controller import FINISHED_PHASES, HpaFlags
from simulator.autoscaling.hpa_types import Container, Pod, ResourceUsage, Sample


class MetricUnavailableError(Exception):
    """A metric gives no proposal; the text is the controller's."""


@dataclass(frozen=True, slots=True)
class PodGroups:
    """The pods of a target, each in one group, in the order of the list.

    Attributes:
        ready: counted with their sample.
        unready: sample dropped; they may count as 0 on the way up.
        missing: no sample; filled in.
        ignored: leaving or finished; sample dropped.
    """

    ready: tuple[str, ...]
    unready: tuple[str, ...]
    missing: tuple[str, ...]
    ignored: tuple[str, ...]

    @property
    def ready_count(self) -> int:
        return len(self.ready)


def _cpu_sample_is_unready(pod: Pod, sample: Sample, flags: HpaFlags, now: int) -> bool:
    if pod.ready is None or pod.start_ps is None:
        return True
    is_false = pod.ready.status == "False"
    if pod.start_ps + flags.cpu_initialization_period_ps > now:
        return is_false or sample.timestamp_ps < pod.ready.last_transition_ps + sample.window_ps
    # After the initialisation period only a pod that has never been ready is left out.
    return is_false and pod.start_ps + flags.initial_readiness_delay_ps > pod.ready.last_transition_ps


def group_pods(
    pods: Sequence[Pod],
    samples: Mapping[str, Sample],
    resource: str,
    flags: HpaFlags,
    now: int,
    finished_phases: Collection[str] = FINISHED_PHASES,
) -> PodGroups:
    """Each pod into the first group that fits: ignored, unready, missing, unready by CPU rules, ready.

    Args:
        pods: the pods of the target.
        samples: the metric by pod name; names of no pod are allowed.
        resource: ``cpu`` applies the initialisation rules; any other name, also empty, does not.
        flags: the CPU initialisation period and the initial readiness delay.
        now: time in picoseconds.
        finished_phases: phases of pods that are ignored; see `HpaController.finished_phases`.
    """
    ready: list[str] = []
    unready: list[str] = []
    missing: list[str] = []
    ignored: list[str] = []
    for pod in pods:
        if pod.deletion_ps is not None or pod.phase in finished_phases:
            ignored.append(pod.name)
        elif pod.phase == "Pending":
            unready.append(pod.name)
        elif pod.name not in samples:
            missing.append(pod.name)
        elif resource == "cpu" and _cpu_sample_is_unready(pod, samples[pod.name], flags, now):
            unready.append(pod.name)
        else:
            ready.append(pod.name)
    return PodGroups(tuple(ready), tuple(unready), tuple(missing), tuple(ignored))


def ready_pod_count(pods: Sequence[Pod]) -> int:
    """Pods that are Running and Ready; leaving ones count while they are both."""
    return sum(
        1 for pod in pods if pod.phase == "Running" and pod.ready is not None and pod.ready.status == "True"
    )


def _container_request(pod: Pod, container: Container, resource: str) -> int:
    request = container.requests_milli.get(resource)
    if request is None:
        raise MetricUnavailableError(
            f"missing request for {resource} in container {container.name} of Pod {pod.name}"
        )
    return request


def pod_request_milli(pod: Pod, resource: str, container: str = "", pod_level_resources: bool = True) -> int:
    """What a pod requests of a resource, in milli-units.

    Args:
        pod: the pod.
        resource: name of the resource.
        container: take this container alone; empty for the whole pod.
        pod_level_resources: whether requests at the pod level stand for the containers' sum.

    Raises:
        MetricUnavailableError: a request is not set, or the pod has no such container.
    """
    containers = (*pod.containers, *pod.sidecars)
    if container:
        for candidate in containers:
            if candidate.name == container:
                return _container_request(pod, candidate, resource)
        raise MetricUnavailableError(f"container {container} not found in Pod {pod.name}")
    if pod_level_resources and pod.pod_requests_milli:
        request = pod.pod_requests_milli.get(resource)
        if request is None:
            # A resource that is not set at the pod level is still summed over the containers.
            summed = [c.requests_milli[resource] for c in containers if resource in c.requests_milli]
            if not summed:
                raise MetricUnavailableError(f"missing pod-level request for {resource} in Pod {pod.name}")
            return sum(summed)
        return request
    return sum(_container_request(pod, candidate, resource) for candidate in containers)


def requests_milli(
    pods: Sequence[Pod], resource: str, container: str = "", pod_level_resources: bool = True
) -> dict[str, int]:
    """Requests of all listed pods, ignored ones too, by pod name; arguments and errors of `pod_request_milli`."""
    return {pod.name: pod_request_milli(pod, resource, container, pod_level_resources) for pod in pods}


def resource_samples(
    usage: ResourceUsage, resource: str, container: str = "", strict: bool = False
) -> dict[str, Sample]:
    """Samples of a Resource metric (containers summed) or of a ContainerResource metric (one container).

    A pod of which one container lacks the resource has no sample.

    Args:
        usage: what the resource metrics API has.
        resource: name of the resource.
        container: of a ContainerResource metric; empty for the whole pod.
        strict: whether a pod's entry without the named container fails the metric (before v1.37) or leaves the pod
            without a sample.

    Raises:
        MetricUnavailableError: there are no entries at all, or strictly the above.
    """
    if not usage.pods:
        raise MetricUnavailableError(
            f"unable to get metrics for resource {resource}: no metrics returned from resource metrics API"
        )
    samples: dict[str, Sample] = {}
    for name, pod in usage.pods.items():
        if container:
            if strict and container not in pod.containers:
                raise MetricUnavailableError(f"container {container} not present in metrics for pod {name}")
            used = [pod.containers[container]] if container in pod.containers else []
        else:
            used = list(pod.containers.values())
        if used and all(resource in by_resource for by_resource in used):
            value = sum(by_resource[resource] for by_resource in used)
            samples[name] = Sample(value, pod.timestamp_ps, pod.window_ps)
    return samples

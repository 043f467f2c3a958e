"""The pod template of a workload: containers, probes, hooks and where its pods may run (core/v1).

What decides how a replica starts, is judged ready and stops is typed, with Kubernetes' defaults. The rest of
PodSpec and Container is accepted as it is; their keys are all listed, so that a misspelt one is refused.
Source: the core/v1 API reference, and the defaults in pkg/apis/core/v1/defaults.go.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from simulator.scenario.manifests.kubernetes import (
    Bool,
    FreeForm,
    Int,
    KubernetesObject,
    LabelSelector,
    MilliQuantity,
    NonNegativeInt,
    PositiveInt,
    Seconds,
    refuse,
)

GPU_RESOURCE: Final = "nvidia.com/gpu"

_SLEEP: Final = re.compile(r"(?:^|[;&|\s])sleep\s+(\d+(?:\.\d+)?)([smh]?)(?=$|[;&|\s])")
_SLEEP_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class ExecAction(KubernetesObject):
    """A command run inside the container."""

    command: list[str] = []


class HttpHeader(KubernetesObject):
    """A header of an HTTP probe."""

    name: str
    value: str


class HttpGetAction(KubernetesObject):
    """An HTTP GET of the container."""

    path: str = "/"
    port: int | str
    host: str | None = None
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    http_headers: list[HttpHeader] = []


class TcpSocketAction(KubernetesObject):
    """A TCP connection to the container."""

    port: int | str
    host: str | None = None


class GrpcAction(KubernetesObject):
    """A gRPC health check of the container."""

    port: Int
    service: str | None = None


class SleepAction(KubernetesObject):
    """A pause made by the kubelet itself."""

    seconds: Seconds


class Probe(KubernetesObject):
    """A check of a container, with Kubernetes' defaults."""

    exec: ExecAction | None = None
    http_get: HttpGetAction | None = None
    tcp_socket: TcpSocketAction | None = None
    grpc: GrpcAction | None = None
    initial_delay_seconds: NonNegativeInt = 0
    timeout_seconds: PositiveInt = 1
    period_seconds: PositiveInt = 10
    success_threshold: PositiveInt = 1
    failure_threshold: PositiveInt = 3
    termination_grace_period_seconds: PositiveInt | None = None

    @model_validator(mode="after")
    def _has_one_handler(self) -> Self:
        handlers = (self.exec, self.http_get, self.tcp_socket, self.grpc)
        if sum(handler is not None for handler in handlers) != 1:
            raise refuse("expected exactly one of exec, httpGet, tcpSocket, grpc")
        return self


class LifecycleHandler(KubernetesObject):
    """What to do before a container stops, or after it started."""

    exec: ExecAction | None = None
    http_get: HttpGetAction | None = None
    tcp_socket: TcpSocketAction | None = None
    sleep: SleepAction | None = None

    @model_validator(mode="after")
    def _has_one_handler(self) -> Self:
        handlers = (self.exec, self.http_get, self.tcp_socket, self.sleep)
        if sum(handler is not None for handler in handlers) != 1:
            raise refuse("expected exactly one of exec, httpGet, tcpSocket, sleep")
        return self

    @property
    def sleep_s(self) -> float | None:
        """How long the hook sleeps, in seconds; None if its duration cannot be told from the manifest."""
        if self.sleep is not None:
            return float(self.sleep.seconds)
        if self.exec is not None:
            sleeps = _SLEEP.findall(" ".join(self.exec.command))
            if sleeps:
                return sum(float(number) * _SLEEP_UNITS[unit] for number, unit in sleeps)
        return None


class Lifecycle(KubernetesObject):
    """A container's hooks."""

    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
    stop_signal: str | None = None


class ResourceRequirements(KubernetesObject):
    """Requests and limits in milli-units, by resource name."""

    requests: dict[str, MilliQuantity] = {}
    limits: dict[str, MilliQuantity] = {}
    claims: list[FreeForm] = []

    @model_validator(mode="after")
    def _gpus_are_whole(self) -> Self:
        request, maximum = self.requests.get(GPU_RESOURCE), self.limits.get(GPU_RESOURCE)
        for key, gpus in (("requests", request), ("limits", maximum)):
            if gpus is not None and (gpus < 0 or gpus % 1000):
                raise refuse("expected a whole number of GPUs", key, GPU_RESOURCE)
        if request is not None and maximum is None:
            raise refuse("required where GPUs are requested", "limits", GPU_RESOURCE)
        if request is not None and request != maximum:
            raise refuse(f"expected the same as the request ({request // 1000})", "limits", GPU_RESOURCE)
        return self

    @property
    def effective_requests_milli(self) -> dict[str, int]:
        """Requests as the API server completes them: a limit without a request is also the request."""
        return {**self.limits, **self.requests}


class ContainerPort(KubernetesObject):
    """A port that a container listens on."""

    container_port: Int
    name: str | None = None
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    host_port: Int | None = None
    host_ip: Annotated[str | None, Field(alias="hostIP")] = None


class Container(KubernetesObject):
    """A container of a pod."""

    name: Annotated[str, Field(min_length=1)]
    image: str | None = None
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    command: list[str] = []
    args: list[str] = []
    working_dir: str | None = None
    ports: list[ContainerPort] = []
    env: list[FreeForm] = []
    env_from: list[FreeForm] = []
    resources: ResourceRequirements = ResourceRequirements()
    resize_policy: list[FreeForm] = []
    restart_policy: Literal["Always", "OnFailure", "Never"] | None = None
    restart_policy_rules: list[FreeForm] = []
    volume_mounts: list[FreeForm] = []
    volume_devices: list[FreeForm] = []
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    termination_message_path: str | None = None
    termination_message_policy: str | None = None
    security_context: FreeForm = {}
    stdin: Bool = False
    stdin_once: Bool = False
    tty: Bool = False

    @model_validator(mode="after")
    def _probes_succeed_once(self) -> Self:
        for key, probe in (("livenessProbe", self.liveness_probe), ("startupProbe", self.startup_probe)):
            if probe is not None and probe.success_threshold != 1:
                raise refuse(f"must be 1 for a {key}", key, "successThreshold")
        if self.readiness_probe is not None and self.readiness_probe.termination_grace_period_seconds:
            raise refuse(
                "not allowed for a readinessProbe", "readinessProbe", "terminationGracePeriodSeconds"
            )
        return self

    @property
    def gpus(self) -> int:
        return self.resources.effective_requests_milli.get(GPU_RESOURCE, 0) // 1000


class Toleration(KubernetesObject):
    """A taint that the pod puts up with."""

    key: str | None = None
    operator: Literal["Exists", "Equal", "Lt", "Gt"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: Annotated[int, Field(strict=True)] | None = None


class TopologySpreadConstraint(KubernetesObject):
    """How pods spread over a topology."""

    max_skew: PositiveInt
    topology_key: str
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"]
    label_selector: LabelSelector | None = None
    min_domains: PositiveInt | None = None
    node_affinity_policy: Literal["Honor", "Ignore"] | None = None
    node_taints_policy: Literal["Honor", "Ignore"] | None = None
    match_label_keys: list[str] = []


class Affinity(KubernetesObject):
    """Where a pod wants or needs to be; its parts are not looked into."""

    node_affinity: FreeForm | None = None
    pod_affinity: FreeForm | None = None
    pod_anti_affinity: FreeForm | None = None


class PodSpec(KubernetesObject):
    """The spec of a pod."""

    containers: Annotated[list[Container], Field(min_length=1)]
    init_containers: list[Container] = []
    ephemeral_containers: list[FreeForm] = []
    termination_grace_period_seconds: Seconds = 30
    active_deadline_seconds: Seconds | None = None
    restart_policy: Literal["Always", "OnFailure", "Never"] = "Always"
    node_selector: dict[str, str] = {}
    node_name: str | None = None
    affinity: Affinity | None = None
    tolerations: list[Toleration] = []
    topology_spread_constraints: list[TopologySpreadConstraint] = []
    scheduler_name: str | None = None
    scheduling_gates: list[FreeForm] = []
    priority: Int | None = None
    priority_class_name: str | None = None
    preemption_policy: str | None = None
    runtime_class_name: str | None = None
    resources: ResourceRequirements | None = None
    resource_claims: list[FreeForm] = []
    overhead: dict[str, MilliQuantity] = {}
    volumes: list[FreeForm] = []
    image_pull_secrets: list[FreeForm] = []
    service_account: str | None = None
    service_account_name: str | None = None
    automount_service_account_token: Bool | None = None
    security_context: FreeForm = {}
    host_network: Bool = False
    host_pid: Annotated[bool, Field(alias="hostPID", strict=True)] = False
    host_ipc: Annotated[bool, Field(alias="hostIPC", strict=True)] = False
    host_users: Bool | None = None
    hostname: str | None = None
    hostname_override: str | None = None
    subdomain: str | None = None
    set_hostname_as_fqdn: Annotated[bool | None, Field(alias="setHostnameAsFQDN")] = None
    host_aliases: list[FreeForm] = []
    share_process_namespace: Bool = False
    dns_policy: str | None = None
    dns_config: FreeForm = {}
    enable_service_links: Bool | None = None
    readiness_gates: list[FreeForm] = []
    os: FreeForm | None = None

    @property
    def gpus(self) -> int:
        """GPUs that one pod takes."""
        return sum(container.gpus for container in self.containers)

    @property
    def sidecars(self) -> list[Container]:
        """Init containers that run as long as the pod."""
        return [container for container in self.init_containers if container.restart_policy == "Always"]

    @property
    def pre_stop_s(self) -> float:
        """Longest preStop pause of its containers, in seconds; hooks of unknown duration count as 0."""
        return max((_pre_stop_s(container) for container in (*self.containers, *self.sidecars)), default=0.0)


def _pre_stop_s(container: Container) -> float:
    if container.lifecycle is None or container.lifecycle.pre_stop is None:
        return 0.0
    return container.lifecycle.pre_stop.sleep_s or 0.0


class PodTemplateMeta(KubernetesObject):
    """``template.metadata``: labels and annotations; the rest is not looked into."""

    name: str | None = None
    namespace: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: Any = None
    finalizers: list[str] = []


class PodTemplate(KubernetesObject):
    """What the pods of a workload look like."""

    metadata: PodTemplateMeta = PodTemplateMeta()
    spec: PodSpec

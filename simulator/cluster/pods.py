"""A pod: what Kubernetes' API shows of it, and the replica that runs in it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from simulator.cluster.back_off import RestartBackOff
from simulator.cluster.probes import Probe

if TYPE_CHECKING:
    from simpy import Process

    from simulator.cluster.nodes import Node
    from simulator.cluster.replica import Replica
    from simulator.outcomes import Cause

PodPhase = Literal["Pending", "Running", "Succeeded", "Failed"]


@dataclass(frozen=True, slots=True)
class PodSpec:
    """What every pod of one version of the Deployment asks for, with Kubernetes' and vLLM's defaults.

    Attributes:
        version: of the Deployment's pod template.
        image: of its server's container.
        model: whose weights it reads.
        gpus: nvidia.com/gpu of the pod (tensor times pipeline parallel size).
        termination_grace_period_s: terminationGracePeriodSeconds.
        pre_stop_s: duration of the preStop hook (a sleep); 0 for none.
        shutdown_timeout_s: vLLM's --shutdown-timeout: how long in-flight requests may go on after SIGTERM; 0
            aborts them at once.
        readiness_probe: without one a pod is ready, and gets requests, as soon as its container runs.
        startup_probe: restarts a container that takes too long; holds the other probes back until it succeeds.
        liveness_probe: without a startup probe it restarts a container that takes too long.
        eager: vLLM's --enforce-eager.
        weight_bytes: bytes of weights that a replica reads.
        slowdown: GPU time of a step over what it should be, of a bad version.
        crash_after_s: its containers end so long after their start, of a bad version; None for a good one.
    """

    version: str = "v1"
    image: str = "v1"
    model: str = "model"
    gpus: int = 1
    termination_grace_period_s: float = 30.0
    pre_stop_s: float = 0.0
    shutdown_timeout_s: float = 0.0
    readiness_probe: Probe | None = Probe()  # noqa: RUF009 (frozen)
    startup_probe: Probe | None = None
    liveness_probe: Probe | None = None
    eager: bool = False
    weight_bytes: int = 0
    slowdown: Fraction = Fraction(1)
    crash_after_s: float | None = None


class Pod:
    """A pod of the Deployment. Times are picoseconds.

    Attributes:
        name: unique in the run.
        ordinal: how many pods were created before it; the entity of its draws.
        spec: what it asks for.
        uid: stands for the random UID by which the ReplicaSet breaks ties; 0 to 1.
        created_ps: creationTimestamp.
        phase: the pod's phase.
        node: the node it is bound to, or None.
        reserved: the node in provisioning that it waits for, or None.
        start_ps: status.startTime: when a kubelet took it.
        container_ps: when its container last started; None before.
        running: whether its container runs.
        back_off: the kubelet's memory of its restarts.
        ready: status of the Ready condition; the condition exists from ``start_ps`` on.
        ready_transition_ps: the condition's lastTransitionTime.
        restarts: of the container.
        deletion_ps: when its deletion was asked for, or None.
        gone_ps: when the object was removed, or None.
        replica: the replica, from the start of its server; without a readiness probe, from the container's.
        cut_cause: what breaks the streams that are left when the process ends.
        nodes_requested: nodes that were asked for on its behalf.
        deletion_cost: its annotation controller.kubernetes.io/pod-deletion-cost.
        slowdown: how much longer than they should steps take on its GPUs now.
        throttling: by how much its GPUs' clocks are lowered now, a part of the slowdown.
        gpu_temperature_c: of its GPUs, while a fault makes it matter; else None.
        partitions: partitions that keep the gateway from it now, by their connect timeouts.
    """

    __slots__ = (
        "back_off",
        "container_ps",
        "created_ps",
        "cut_cause",
        "deletion_cost",
        "deletion_ps",
        "endpoint",
        "gone_ps",
        "gpu_temperature_c",
        "life",
        "name",
        "node",
        "nodes_requested",
        "ordinal",
        "partitions",
        "phase",
        "ready",
        "ready_transition_ps",
        "replica",
        "reserved",
        "restarts",
        "running",
        "slowdown",
        "spec",
        "start_ps",
        "throttling",
        "uid",
    )

    def __init__(
        self, name: str, ordinal: int, uid: float, created_ps: int, spec: PodSpec = PodSpec()
    ) -> None:
        self.name = name
        self.ordinal = ordinal
        self.uid = uid
        self.spec = spec
        self.created_ps = created_ps
        self.phase: PodPhase = "Pending"
        self.node: Node | None = None
        self.reserved: Node | None = None
        self.start_ps: int | None = None
        self.container_ps: int | None = None
        self.running = False
        self.back_off = RestartBackOff()
        self.ready = False
        self.ready_transition_ps: int | None = None
        self.restarts = 0
        self.deletion_ps: int | None = None
        self.gone_ps: int | None = None
        self.replica: Replica | None = None
        self.cut_cause: Cause | None = None
        self.nodes_requested = 0
        self.slowdown = spec.slowdown
        self.throttling = Fraction(1)
        self.deletion_cost = 0
        self.gpu_temperature_c: float | None = None
        self.partitions: list[int] = []
        self.life: Process | None = None  # of the start, later of the termination
        self.endpoint: Literal["none", "listed", "stale", "leaving", "left"] = "none"

    @property
    def active(self) -> bool:
        """Whether the ReplicaSet counts it: neither finished nor being deleted."""
        return self.deletion_ps is None and self.phase not in ("Failed", "Succeeded")

    @property
    def terminating(self) -> bool:
        return self.deletion_ps is not None and self.gone_ps is None

    def slow_down(self, factor: Fraction) -> None:
        """Steps take so many times as long as until now, from the next one on."""
        self.slowdown *= factor
        if self.replica is not None:
            self.replica.set_slowdown(self.slowdown)

    def throttle(self, factor: Fraction) -> None:
        """Its GPUs' clocks fall by a factor, or rise again by one below 1; steps take longer by as much."""
        self.throttling *= factor
        self.slow_down(factor)

    def isolate(self, cause: Cause, connect_timeout_ps: int) -> int:
        """The network to the pod breaks, perhaps not for the first time; returns how many streams did."""
        self.partitions.append(connect_timeout_ps)
        return 0 if self.replica is None else self.replica.isolate(cause, connect_timeout_ps)

    def reconnect(self, cause: Cause, connect_timeout_ps: int) -> None:
        """The cause that `isolate` was told of has gone; another may go on."""
        self.partitions.remove(connect_timeout_ps)
        if self.replica is not None and not self.partitions:
            self.replica.isolate(cause, None)

    def set_ready(self, ready: bool, now: int) -> None:
        """Set the Ready condition; its transition time moves only on a change."""
        if self.ready != ready or self.ready_transition_ps is None:
            self.ready_transition_ps = now
        self.ready = ready
        if self.node is not None:
            self.node.account()

    def __repr__(self) -> str:
        return f"<Pod {self.name} {self.phase}{' ready' if self.ready else ''}>"

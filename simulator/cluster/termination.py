"""How a pod ends: deleted with grace, or lost with its node.

Deletion, as the kubelet does it: preStop runs inside the grace period; then SIGTERM; then, when the rest of the
grace period is over (never less than 2 s after SIGTERM), SIGKILL. Endpoint removal goes on in parallel, so new
requests still come for a while. On SIGTERM vLLM aborts what is in flight (--shutdown-timeout 0) or refuses what is
new and goes on for at most that long (v0.32, entrypoints/launchers/launcher.py, v1/engine/core.py). A vLLM that is
still loading ends at once.

Sources: Kubernetes documentation, "Pod Lifecycle: Termination of Pods"; kubelet pkg/kubelet/kuberuntime
(killContainer, minimumGracePeriodInSeconds). The teardown of the process itself takes no time here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Final

from simpy import Interrupt

from simulator.outcomes import Cause
from simulator.units import PS_PER_S, to_ps, to_s

if TYPE_CHECKING:
    from simpy import Event

    from simulator.clock import Clock
    from simulator.cluster.endpoints import Endpoints
    from simulator.cluster.pods import Pod
    from simulator.cluster.replica import Replica
    from simulator.records.sink import RecordSink

_LEAST_AFTER_SIGTERM_PS: Final = 2 * PS_PER_S
_ORPHAN_KEPT_PS: Final = 40 * PS_PER_S
"""The pod garbage collector's quarantine for pods of nodes that no longer exist."""


class Terminator:
    """Ends pods.

    Args:
        env: the run's clock.
        sink: gets the events.
        endpoints: hears of pods that leave.
        on_stopped: called when a pod's process has ended and its GPUs are free.
        on_gone: called when the pod's object is removed.
    """

    def __init__(
        self,
        env: Clock,
        sink: RecordSink,
        endpoints: Endpoints,
        on_stopped: Callable[[Pod], None],
        on_gone: Callable[[Pod], None],
    ) -> None:
        self._env = env
        self._sink = sink
        self._endpoints = endpoints
        self._on_stopped = on_stopped
        self._on_gone = on_gone

    def delete(self, pod: Pod, grace_ps: int, cause: Cause) -> None:
        """Ask for the pod's deletion; of a pod that is being deleted already it changes nothing.

        Args:
            pod: any pod.
            grace_ps: its grace period.
            cause: of what is cut when the process ends.
        """
        if pod.deletion_ps is not None or pod.gone_ps is not None:
            return
        now = self._env.now
        pod.deletion_ps = now
        pod.cut_cause = cause
        if pod.node is not None:
            pod.node.account()
        self._endpoints.withdraw(pod)
        self._interrupt(pod)
        if pod.node is not None and pod.node.gone_ps is not None:
            self._gone(pod)  # its process went with its node
        elif pod.running:
            self._tell(
                pod, "Killing", f"Stopping the pod with {to_s(grace_ps):g} s of grace.", to_s(grace_ps)
            )
            pod.life = self._env.process(self._terminate(pod, grace_ps))
        else:
            self._stopped(pod, cause)
            self._gone(pod)

    def process_lost(self, pod: Pod, cause: Cause) -> None:
        """The pod's node has gone, and its process with it. The API learns of it later, by `failed`."""
        self._interrupt(pod)
        self._stopped(pod, cause)
        if pod.deletion_ps is not None:
            self._gone(pod)

    def failed(self, pod: Pod) -> None:
        """The control plane gives up a pod whose node has gone; its object is collected a while later."""
        if pod.gone_ps is not None or pod.phase == "Failed":
            return
        now = self._env.now
        pod.phase = "Failed"
        pod.set_ready(False, now)
        self._endpoints.withdraw(pod)
        self._tell(pod, "NodeLost", "The pod's node is gone; the pod has failed.")
        self._env.call_at(now + _ORPHAN_KEPT_PS, lambda _: self._gone(pod))

    def _terminate(self, pod: Pod, grace_ps: int) -> Generator[Event, None, None]:
        env = self._env
        assert pod.cut_cause is not None
        pre_stop_ps = min(to_ps(pod.spec.pre_stop_s), grace_ps)
        try:
            if pre_stop_ps:
                yield env.timeout(pre_stop_ps)
            replica = pod.replica
            if replica is not None and replica.listening:
                sigkill_in_ps = max(grace_ps - pre_stop_ps, _LEAST_AFTER_SIGTERM_PS)
                drain_ps = min(to_ps(pod.spec.shutdown_timeout_s), sigkill_in_ps)
                if drain_ps:
                    yield from self._drain(replica, drain_ps)
        except Interrupt:
            return  # the node has gone first
        self._stopped(pod, pod.cut_cause)
        self._gone(pod)

    def _drain(self, replica: Replica, drain_ps: int) -> Generator[Event, None, None]:
        replica.drain()
        empty = self._env.event()
        replica.when_empty(lambda: _fire(empty))
        yield empty | self._env.timeout(drain_ps)

    def _stopped(self, pod: Pod, cause: Cause) -> None:
        cut = pod.replica.kill(cause) if pod.replica is not None else 0
        pod.running = False
        if pod.container_ps is not None:
            since_s = 0.0 if pod.deletion_ps is None else to_s(self._env.now - pod.deletion_ps)
            self._tell(pod, "Stopped", f"The process has ended; {cut} streams were cut.", since_s)
        self._on_stopped(pod)

    def _gone(self, pod: Pod) -> None:
        if pod.gone_ps is None:
            pod.gone_ps = self._env.now
            self._on_gone(pod)

    def _interrupt(self, pod: Pod) -> None:
        life = pod.life
        if life is not None and life.is_alive and life is not self._env.active_process:
            life.interrupt()

    def _tell(self, pod: Pod, reason: str, message: str, value: float | None = None) -> None:
        self._sink.event(self._env.now, "pod", pod.name, reason, message, value)


def _fire(event: Event) -> None:
    event.succeed()

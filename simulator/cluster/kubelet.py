"""The life of a pod on its node, from binding to readiness: image, container, engine start-up, probes.

    bound ─ image ─► container runs ─ process, weights, compile, graphs ─► server listens ─ probe ─► Ready

A container that its startup or liveness probe gives up is restarted: the first time at once, then after 10 s,
20 s, ... up to 300 s (the kubelet's crash-loop back-off). The phases are drawn anew on each restart.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Final

from simpy import Interrupt

from simulator.cluster.cold_start import Phase, image_ps, process_steps
from simulator.cluster.probes import start_up
from simulator.units import PS_PER_S, to_s

if TYPE_CHECKING:
    from simpy import Event

    from simulator.clock import Clock
    from simulator.cluster.endpoints import Endpoints
    from simulator.cluster.nodes import Node
    from simulator.cluster.pods import Pod, PodSpec
    from simulator.cluster.replica import Replica
    from simulator.draws import Draws
    from simulator.records.sink import RecordSink
    from simulator.scenario.cold_start import ColdStart

_FIRST_BACK_OFF_S: Final = 10
_LONGEST_BACK_OFF_S: Final = 300

_TOLD: Final = {
    Phase.PROCESS_START: ("Started", "Container, Python imports and engine initialisation"),
    Phase.WEIGHTS: ("WeightsLoaded", "Reading the weights to the GPU"),
    Phase.COMPILE: ("Compiled", "torch.compile"),
    Phase.GRAPH_CAPTURE: ("GraphsCaptured", "Memory profiling and CUDA graph capture"),
    Phase.PROFILING: ("Profiled", "Memory profiling"),
}


def back_off_ps(restarts: int) -> int:
    """Pause before the restart of this number, from 1."""
    if restarts <= 1:
        return 0
    doubled_s = _FIRST_BACK_OFF_S << min(restarts - 2, 5)
    return min(doubled_s, _LONGEST_BACK_OFF_S) * PS_PER_S


class Kubelet:
    """Starts pods on all nodes.

    Args:
        env: the run's clock.
        config: the scenario's cold start.
        spec: what every pod asks for.
        draws: the run's draws.
        sink: gets the events.
        endpoints: hears of pods that turn ready.
        make_replica: makes the replica of a pod.
    """

    def __init__(
        self,
        env: Clock,
        config: ColdStart,
        spec: PodSpec,
        draws: Draws,
        sink: RecordSink,
        endpoints: Endpoints,
        make_replica: Callable[[Pod], Replica],
    ) -> None:
        self._env = env
        self._config = config
        self._spec = spec
        self._draws = draws
        self._sink = sink
        self._endpoints = endpoints
        self._make_replica = make_replica

    def run(self, pod: Pod) -> None:
        """Start a pod that has just been bound; its ``life`` is the process of it, to be interrupted."""
        pod.life = self._env.process(self._start(pod))

    def adopt(self, pod: Pod) -> None:
        """A bound pod that has been ready since before the run."""
        assert pod.node is not None
        pod.node.image_cached = True
        self._container_starts(pod)
        pod.replica = self._make_replica(pod)
        self._turn_ready(pod, at_once=True)

    def _start(self, pod: Pod) -> Generator[Event, None, None]:
        assert pod.node is not None
        try:
            yield from self._get_image(pod, pod.node)
            while not (yield from self._start_container(pod)):
                pause_ps = back_off_ps(pod.restarts)
                if pause_ps:
                    yield self._env.timeout(pause_ps)
        except Interrupt:
            pass  # deleted, or its node is gone; who interrupts sees to the rest

    def _get_image(self, pod: Pod, node: Node) -> Generator[Event, None, None]:
        began = self._env.now
        while not node.image_cached and node.pull is not None:
            yield node.pull  # another pod of the node pulls; the kubelet pulls an image once
        if not node.image_cached:
            node.pull = self._env.event()
            self._tell(pod, "Pulling", "The image is pulled to the node.")
            try:
                yield self._env.timeout(image_ps(self._config, self._draws, pod.ordinal, on_node=False))
                node.image_cached = True
            finally:
                ended, node.pull = node.pull, None
                ended.succeed()
        else:
            yield self._env.timeout(image_ps(self._config, self._draws, pod.ordinal, on_node=True))
        took_s = to_s(self._env.now - began)
        self._tell(pod, "Pulled", f"The image was there after {took_s:.1f} s.", took_s)

    def _start_container(self, pod: Pod) -> Generator[Event, None, bool]:
        """One start of the container; whether it went well."""
        env, spec = self._env, self._spec
        self._container_starts(pod)
        steps = process_steps(
            self._config,
            self._draws,
            pod.ordinal,
            eager=spec.eager,
            weight_bytes=spec.weight_bytes,
            attempt=pod.restarts,
        )
        started = env.now
        listening = started + sum(step.duration_ps for step in steps)
        fate = start_up(
            spec.readiness_probe, spec.startup_probe, started, listening, liveness=spec.liveness_probe
        )
        if fate.ready_ps == started:
            # Nothing probes it: it gets requests that nobody answers before its server listens.
            pod.replica = self._make_replica(pod)
            pod.replica.listening = False
            self._turn_ready(pod)
        for phase, duration_ps in steps:
            if fate.killed_ps is not None and env.now + duration_ps > fate.killed_ps:
                yield env.timeout(fate.killed_ps - env.now)
                pod.restarts += 1
                probe = "startup" if spec.startup_probe is not None else "liveness"
                self._tell(
                    pod,
                    "Unhealthy",
                    f"The {probe} probe gave up after {to_s(env.now - started):.0f} s; the container is restarted.",
                    to_s(env.now - started),
                )
                return False
            yield env.timeout(duration_ps)
            reason, what = _TOLD[phase]
            self._tell(pod, reason, f"{what} took {to_s(duration_ps):.1f} s.", to_s(duration_ps))
        if pod.replica is None:
            pod.replica = self._make_replica(pod)
        pod.replica.listening = True
        if not pod.ready:
            assert fate.ready_ps is not None
            yield env.timeout(fate.ready_ps - env.now)
            self._turn_ready(pod)
        return True

    def _container_starts(self, pod: Pod) -> None:
        pod.phase = "Running"
        pod.container_ps = self._env.now

    def _turn_ready(self, pod: Pod, *, at_once: bool = False) -> None:
        now = self._env.now
        pod.set_ready(True, now)
        age_s = to_s(now - pod.created_ps)
        self._tell(pod, "Ready", f"The pod is ready {age_s:.1f} s after its creation.", age_s)
        self._endpoints.publish(pod, at_once=at_once)

    def _tell(self, pod: Pod, reason: str, message: str, value: float | None = None) -> None:
        self._sink.event(self._env.now, "pod", pod.name, reason, message, value)

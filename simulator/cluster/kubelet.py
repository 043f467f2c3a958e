"""The life of a pod on its node, from binding to readiness: image, container, engine start-up, probes.

    bound ─ image ─► container runs ─ process, weights, compile, graphs ─► server listens ─ probe ─► Ready

What a node keeps makes the next start on it faster: images, weights in the page cache, compiled kernels. A container
that its startup or liveness probe gives up while it loads, or that crashes, is restarted after the kubelet's back-off
(`simulator.cluster.back_off`); the phases are drawn anew on each restart.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Final

from simpy import Interrupt

from simulator.cluster.cold_start import Phase, Step, image_ps, process_steps
from simulator.cluster.link import Link
from simulator.cluster.probes import given_up_ps, ready_ps
from simulator.units import to_s

if TYPE_CHECKING:
    from simpy import Event

    from simulator.clock import Clock
    from simulator.cluster.endpoints import Endpoints
    from simulator.cluster.nodes import Node
    from simulator.cluster.pods import Pod
    from simulator.cluster.replica import Replica
    from simulator.draws import Draws
    from simulator.outcomes import Cause
    from simulator.records.sink import RecordSink
    from simulator.scenario.cold_start import ColdStart

_TOLD: Final = {
    Phase.PROCESS_START: ("Started", "Container, Python imports and engine initialisation"),
    Phase.WEIGHTS: ("WeightsLoaded", "Reading the weights to the GPU"),
    Phase.COMPILE: ("Compiled", "torch.compile"),
    Phase.GRAPH_CAPTURE: ("GraphsCaptured", "Memory profiling and CUDA graph capture"),
    Phase.PROFILING: ("Profiled", "Memory profiling"),
    Phase.RESTORE: ("Restored", "Restoring the snapshot"),
    Phase.WAKE: ("Woken", "Waking the sleeping process"),
}


class Kubelet:
    """Starts pods on all nodes.

    Args:
        env: the run's clock.
        config: the scenario's cold start.
        draws: the run's draws.
        sink: gets the events.
        endpoints: hears of pods that turn ready.
        make_replica: makes the replica of a pod.

    Attributes:
        on_container: called with each pod whose container starts.
        on_ready: called when a pod has turned ready.
        restarts: of all containers so far.
    """

    def __init__(
        self,
        env: Clock,
        config: ColdStart,
        draws: Draws,
        sink: RecordSink,
        endpoints: Endpoints,
        make_replica: Callable[[Pod], Replica],
    ) -> None:
        self._env = env
        self._config = config
        self._draws = draws
        self._sink = sink
        self._endpoints = endpoints
        self._make_replica = make_replica
        self.on_container: Callable[[Pod], None] | None = None
        self.on_ready: Callable[[], None] = lambda: None
        self.restarts = 0
        self._compiled: set[str] = set()  # on the volume that all pods share

    def run(self, pod: Pod) -> None:
        """Start a pod that has just been bound; its ``life`` is the process of it, to be interrupted."""
        pod.life = self._env.process(self._start(pod))

    def adopt(self, pod: Pod) -> None:
        """A bound pod that has been ready since before the run."""
        node = pod.node
        assert node is not None
        node.images.add(pod.spec.image)
        node.weights.add(pod.spec.model)
        node.compiled.add(self._compile_key(pod, node))
        self._compiled.add(self._compile_key(pod, node))
        self._container_starts(pod)
        pod.replica = self._make_replica(pod)
        self._turn_ready(pod, at_once=True)

    def crash(self, pod: Pod, cause: Cause, reason: str) -> int:
        """The container of a pod ends by itself, and is started again; returns the streams that broke.

        A pod that is being deleted, or whose container does not run, is left alone.
        """
        if not pod.running or pod.deletion_ps is not None:
            return 0
        if pod.life is not None and pod.life.is_alive:
            pod.life.interrupt()
        cut = pod.replica.kill(cause) if pod.replica is not None else 0
        self._tell(
            pod, reason, f"The container ended ({reason}); {cut} streams were cut.", float(pod.restarts + 1)
        )
        self._ended(pod)
        pod.life = self._env.process(self._restart(pod))
        return cut

    # --- one life -------------------------------------------------------------------------------------------

    def _start(self, pod: Pod) -> Generator[Event, None, None]:
        assert pod.node is not None
        try:
            yield from self._get_image(pod, pod.node)
            if not (yield from self._start_container(pod)):
                yield from self._start_again(pod)
        except Interrupt:
            pass  # deleted, crashed, or its node is gone; who interrupts sees to the rest

    def _restart(self, pod: Pod) -> Generator[Event, None, None]:
        with contextlib.suppress(Interrupt):
            yield from self._start_again(pod)

    def _start_again(self, pod: Pod) -> Generator[Event, None, None]:
        while True:
            pause_ps = pod.back_off.ended(self._env.now)
            if pause_ps:
                told = f"The container is restarted in {to_s(pause_ps):g} s."
                self._tell(pod, "BackOff", told, to_s(pause_ps))
                yield self._env.timeout(pause_ps)
            if (yield from self._start_container(pod)):
                return

    def _get_image(self, pod: Pod, node: Node) -> Generator[Event, None, None]:
        began, image = self._env.now, pod.spec.image
        while image not in node.images and image in node.pulls:
            yield node.pulls[image]  # another pod of the node pulls; the kubelet pulls an image once
        there = image in node.images
        duration_ps = image_ps(self._config, self._draws, pod.ordinal, there, other_version=bool(node.images))
        if there:
            yield self._env.timeout(duration_ps)
        else:
            node.pulls[image] = self._env.event()
            self._tell(pod, "Pulling", "The image is pulled to the node.")
            try:
                yield self._env.timeout(duration_ps)
                node.images.add(image)
            finally:
                node.pulls.pop(image).succeed()
        took_s = to_s(self._env.now - began)
        self._tell(pod, "Pulled", f"The image was there after {took_s:.1f} s.", took_s)

    def _start_container(self, pod: Pod) -> Generator[Event, None, bool]:
        """One start of the container; whether it went well."""
        env, spec, node = self._env, pod.spec, pod.node
        assert node is not None
        self._container_starts(pod)
        started = env.now
        steps = process_steps(
            self._config,
            self._draws,
            pod.ordinal,
            eager=spec.eager,
            weight_bytes=spec.weight_bytes,
            attempt=pod.restarts,
            compiled=self._is_compiled(pod, node),
            sleeper=node.ready_ps is not None and node.ready_ps < pod.created_ps,
        )
        if spec.readiness_probe is None and spec.startup_probe is None:
            # Nothing probes it: it gets requests that nobody answers before its server listens.
            pod.replica = self._make_replica(pod)
            pod.replica.listening = False
            self._turn_ready(pod)
        deadline_ps = given_up_ps(spec.startup_probe, spec.liveness_probe, started)
        for step in steps:
            began = env.now
            if not (yield from self._do(step, node, spec.model, deadline_ps)):
                probe = "startup" if spec.startup_probe is not None else "liveness"
                after_s = to_s(env.now - started)
                message = f"The {probe} probe gave up after {after_s:.0f} s; the container is restarted."
                self._tell(pod, "Unhealthy", message, after_s)
                self._ended(pod)
                return False
            took_s = to_s(env.now - began)
            reason, what = _TOLD[step.phase]
            self._tell(pod, reason, f"{what} took {took_s:.1f} s.", took_s)
            if step.phase is Phase.COMPILE:
                node.compiled.add(self._compile_key(pod, node))
                self._compiled.add(self._compile_key(pod, node))
        if pod.replica is None:
            pod.replica = self._make_replica(pod)
        pod.replica.listening = True
        if not pod.ready:
            yield env.timeout(ready_ps(spec.readiness_probe, spec.startup_probe, started, env.now) - env.now)
            self._turn_ready(pod)
        return True

    def _do(
        self, step: Step, node: Node, model: str, deadline_ps: int | None
    ) -> Generator[Event, None, bool]:
        """One phase; whether it ended before the probes gave the container up."""
        env = self._env
        if not step.read_bytes:
            late = deadline_ps is not None and env.now + step.duration_ps > deadline_ps
            yield env.timeout(deadline_ps - env.now if late and deadline_ps is not None else step.duration_ps)
            return not late
        cached = self._config.page_cache and model in node.weights
        link, limit = self._link(node, cached)
        transfer = link.transfer(step.read_bytes, limit)
        try:
            if deadline_ps is None:
                yield transfer.done
            else:
                yield transfer.done | env.timeout(deadline_ps - env.now)
            if not transfer.finished():
                return False
        finally:
            transfer.cancel()
        node.weights.add(model)
        return True

    def _link(self, node: Node, cached: bool) -> tuple[Link, int]:
        """What weights are read over, and how fast one replica can."""
        config = self._config
        if cached:
            if node.memory is None:  # the page cache is wide enough for all
                limit = round(config.page_cache_gb_per_s * 1e9)
                node.memory = Link(self._env, limit * node.slots)
            return node.memory, round(config.page_cache_gb_per_s * 1e9)
        if node.storage is None:
            node.storage = Link(self._env, config.node_bytes_per_s)
        return node.storage, config.reader_bytes_per_s

    def _is_compiled(self, pod: Pod, node: Node) -> bool:
        match self._config.compile_cache:
            case "node":
                return self._compile_key(pod, node) in node.compiled
            case "shared":
                return self._compile_key(pod, node) in self._compiled
            case "warm":
                return True
            case "cold":
                return False

    @staticmethod
    def _compile_key(pod: Pod, node: Node) -> str:
        return f"{pod.spec.version}/{node.pool.config.gpu or ''}"

    def _container_starts(self, pod: Pod) -> None:
        pod.phase = "Running"
        pod.running = True
        pod.container_ps = self._env.now
        if self.on_container is not None:
            self.on_container(pod)

    def _ended(self, pod: Pod) -> None:
        """The container has ended and will be restarted; its pod is not ready for now."""
        pod.running = False
        pod.restarts += 1
        self.restarts += 1
        pod.set_ready(False, self._env.now)
        self._endpoints.suspend(pod)
        if pod.replica is not None:
            pod.replica.kill(pod.replica.death)
            pod.replica = None

    def _turn_ready(self, pod: Pod, *, at_once: bool = False) -> None:
        now = self._env.now
        pod.set_ready(True, now)
        age_s = to_s(now - pod.created_ps)
        self._tell(pod, "Ready", f"The pod is ready {age_s:.1f} s after its creation.", age_s)
        self._endpoints.publish(pod, at_once=at_once)
        self.on_ready()

    def _tell(self, pod: Pod, reason: str, message: str, value: float | None = None) -> None:
        self._sink.event(self._env.now, "pod", pod.name, reason, message, value)

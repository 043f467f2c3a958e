"""metrics-server: CPU and memory of pods as the resource metrics API has them.

One process asks all kubelets every ``resolution``. CPU is the use between two answers a window apart, so a container
that has just started has no sample: until then its pod is *missing* for the autoscaler. Memory is the working set at
the answer. What pods use is declared by the scenario (`simulator.scenario.resource_metrics`): the CPU of the server's
container follows the engine's busy time, everything else is constant.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from simulator.autoscaling.hpa_types import Container, ContainerUsage, ResourceUsage
from simulator.units import to_ps

if TYPE_CHECKING:
    from simpy import Event

    from simulator.autoscaling.autoscaler import ScaleTarget
    from simulator.clock import Clock
    from simulator.cluster.pods import Pod
    from simulator.draws import Draws
    from simulator.scenario.manifests.deployment import DeploymentManifest
    from simulator.scenario.manifests.pod_template import Container as ContainerManifest
    from simulator.scenario.resource_metrics import ResourceMetrics

RESOURCES: Final = ("cpu", "memory")
"""Resources that the API has."""

_SERVER: Final = "vllm"
"""Name of the container where no manifest names it."""


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """Containers of a pod, with their requests.

    Attributes:
        containers: by the manifest.
        sidecars: init containers that go on running.
        pod_requests_milli: requests at the pod level, or None.
        server: name of the container that runs vLLM.
    """

    containers: tuple[Container, ...] = (Container(_SERVER),)
    sidecars: tuple[Container, ...] = ()
    pod_requests_milli: Mapping[str, int] | None = None
    server: str = _SERVER


def pod_template(deployment: DeploymentManifest | None) -> PodTemplate:
    """The template of a Deployment; without one a single container without requests."""
    if deployment is None:
        return PodTemplate()

    def requests(container: ContainerManifest) -> Container:
        return Container(container.name, container.resources.effective_requests_milli)

    pod = deployment.pod
    server = next((container for container in pod.containers if container.gpus), pod.containers[0])
    return PodTemplate(
        tuple(requests(container) for container in pod.containers),
        tuple(requests(container) for container in pod.sidecars),
        None if pod.resources is None else pod.resources.effective_requests_milli,
        server.name,
    )


@dataclass(slots=True)
class _Measured:
    """What is known of one container start.

    Attributes:
        started_ps: which start.
        cpu: (time, CPU used since the start in core-picoseconds), oldest first.
        last_busy_ps: the engine's busy time at the last measurement.
        samples: (time, window, cores in milli-units) of which one may be visible.
    """

    started_ps: int
    cpu: deque[tuple[int, float]] = field(default_factory=deque)
    last_busy_ps: int = 0
    samples: deque[tuple[int, int, int]] = field(default_factory=deque)


class MetricsServer:
    """Measures the pods of a target; to be made before the run begins.

    Args:
        env: the run's clock.
        target: whose pods.
        draws: the run's draws, for the offset of its ticks.
        config: usage and timing.
        template: the containers of a pod.

    Attributes:
        template: as given.
    """

    def __init__(
        self, env: Clock, target: ScaleTarget, draws: Draws, config: ResourceMetrics, template: PodTemplate
    ) -> None:
        self.template = template
        self._env = env
        self._target = target
        self._config = config
        self._resolution_ps = to_ps(config.resolution)
        self._ticks = max(1, math.ceil(config.window / config.resolution))
        self._delay_ps = to_ps(config.delay)
        self._offset_ps = int(draws.uniform("metrics-server", 0) * self._resolution_ps)
        self._measured: dict[str, _Measured] = {}
        others = [c for c in (*template.containers, *template.sidecars) if c.name != template.server]
        self._others = {
            c.name: {name: int(c.requests_milli.get(name, 0) * config.other_containers) for name in RESOURCES}
            for c in others
        }
        env.process(self._run())

    def usage(self, now: int) -> ResourceUsage:
        """What the API answers at ``now``, by pod name; pods that are gone are not in it."""
        visible_ps = now - self._delay_ps
        found = {}
        for name, measured in self._measured.items():
            for timestamp_ps, window_ps, cores_milli in reversed(measured.samples):
                if timestamp_ps <= visible_ps:
                    memory = 1000 * self._config.server.memory
                    server = {"cpu": cores_milli, "memory": memory}
                    containers = {self.template.server: server, **self._others}
                    found[name] = ContainerUsage(containers, timestamp_ps, window_ps)
                    break
        return ResourceUsage(found)

    def _run(self) -> Generator[Event, None, None]:
        yield self._env.timeout(self._offset_ps)
        while True:
            self._measure(self._env.now)
            yield self._env.timeout(self._resolution_ps)

    def _measure(self, now: int) -> None:
        pods = {pod.name: pod for pod in self._target.pods() if pod.container_ps is not None}
        for name in [name for name in self._measured if name not in pods]:
            del self._measured[name]
        for name, pod in pods.items():
            assert pod.container_ps is not None
            measured = self._measured.get(name)
            if measured is None or measured.started_ps != pod.container_ps:
                measured = self._measured[name] = _Measured(pod.container_ps)
            self._measure_pod(pod, measured, now)

    def _measure_pod(self, pod: Pod, measured: _Measured, now: int) -> None:
        server, history = self._config.server, measured.cpu
        since_ps, used = history[-1] if history else (measured.started_ps, 0.0)
        replica = pod.replica
        if replica is None or not replica.listening:
            used += server.cpu_loading * (now - since_ps)
        else:
            busy_ps = replica.peek().counters.busy_ps
            busy, measured.last_busy_ps = busy_ps - measured.last_busy_ps, busy_ps
            used += server.cpu_idle * (now - since_ps) + (server.cpu_busy - server.cpu_idle) * busy
        history.append((now, used))
        if len(history) <= self._ticks:
            return
        began_ps, used_before = history.popleft()
        cores = (used - used_before) / (now - began_ps)
        measured.samples.append((now, now - began_ps, round(1000 * cores)))
        while len(measured.samples) > 1 and measured.samples[1][0] <= now - self._delay_ps:
            measured.samples.popleft()

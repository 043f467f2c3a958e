"""Knative's and Ray Serve's autoscalers at work: both count the requests in flight, each in its own rhythm.

Concurrency is what the gateway has sent and has not seen end, and what it holds: Knative's queue-proxies and activator,
Ray's handles count there too.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from simulator.autoscaling import kpa, ray_serve
from simulator.autoscaling.decision import Decision
from simulator.autoscaling.exporters import GATEWAY_QUEUE, GATEWAY_REQUESTS, GATEWAY_RUNNING
from simulator.autoscaling.reporting import Reporter
from simulator.units import to_ps, to_s

if TYPE_CHECKING:
    from simpy import Event

    from simulator.autoscaling.autoscaler import Services
    from simulator.scenario.manifests.knative import KnativeAutoscaling
    from simulator.scenario.ray_serve_config import RayServeDeployment

_SAMPLE_S: Final = 1.0
"""Knative's metric collector scrapes every second; Ray's handles record every half."""


def _sum(*parts: Mapping[str, float]) -> float | None:
    """Sum over metrics and targets; None if nothing was sampled."""
    values = [value for part in parts for value in part.values()]
    return sum(values) if values else None


class KpaLoop:
    """Knative's pod autoscaler.

    Args:
        services: what it works with.
        name: of the autoscaler.
        revision: its settings.
    """

    writes_size: Final = True

    def __init__(self, services: Services, name: str, revision: KnativeAutoscaling) -> None:
        self.name = name
        self.state = kpa.KpaState()
        self._services = services
        self._revision = revision
        spec = revision.spec
        self._stable_s, self._panic_s = to_s(spec.stable_window_ps), to_s(spec.panic_window_ps)
        self._reader = services.new_reader(f"knative/{name}", _SAMPLE_S, 0.0)
        self._reader.keep(max(self._stable_s, self._panic_s))
        self._report = Reporter(services, "knative", name)

    def start(self) -> None:
        services = self._services
        self.state = kpa.initial_state(services.target.counts().ready, services.clock.now)
        services.clock.process(self._run())

    def _run(self) -> Generator[Event, None, None]:
        clock = self._services.clock
        while True:
            yield clock.timeout(self._revision.spec.tick_ps)
            self.tick()

    def tick(self) -> None:
        """One tick."""
        services = self._services
        now, counts = services.clock.now, services.target.counts()
        spec = self._revision.spec
        floor = services.floors.minimum
        if floor > spec.min_scale:
            spec = replace(spec, min_scale=min(floor, spec.max_scale) if spec.max_scale else floor)
        snapshot = kpa.KpaSnapshot(
            spec,
            counts.ready,
            counts.desired,
            self._average(self._stable_s, now),
            self._average(self._panic_s, now),
        )
        self.state, decision = kpa.decide(self.state, snapshot, now)
        self._report.apply(decision)

    def _average(self, window_s: float, now: int) -> float | None:
        reader = self._reader
        if self._revision.metric == "rps":
            return _sum(reader.rate(GATEWAY_REQUESTS, window_s, now))
        return _sum(
            reader.avg_over_time(GATEWAY_RUNNING, window_s, now),
            reader.avg_over_time(GATEWAY_QUEUE, window_s, now),
        )


class RayServeLoop:
    """Ray Serve's autoscaler.

    The controller ticks ten times a second, on metrics that are pushed every ``metrics_interval_s``. Ten ticks are
    taken together, on what there is at their beginning; a tick that acts does so at its own time.

    Args:
        services: what it works with.
        name: of the autoscaler.
        deployment: its settings.
    """

    writes_size: Final = True

    def __init__(self, services: Services, name: str, deployment: RayServeDeployment) -> None:
        self.name = name
        self.state = ray_serve.RayServeState()
        self._services = services
        self._spec = deployment.spec
        self._reader = services.new_reader(f"ray-serve/{name}", _SAMPLE_S, 0.0)
        self._reader.keep(self._spec.look_back_period_s)
        self._pushed_ps: int | None = None
        self._total = 0.0
        self._report = Reporter(services, "ray-serve", name)

    def start(self) -> None:
        self._services.clock.process(self._run())

    def _run(self) -> Generator[Event, None, None]:
        clock, tick_ps = self._services.clock, to_ps(self._spec.control_loop_interval_s)
        ticks = max(1, round(_SAMPLE_S / self._spec.control_loop_interval_s))
        while True:
            for number in range(1, ticks + 1):
                decision = self._tick()
                if decision.replicas is not None or number == ticks:
                    yield clock.timeout(number * tick_ps)
                    self._report.apply(decision)
                    break

    def _tick(self) -> Decision:
        services = self._services
        now, counts = services.clock.now, services.target.counts()
        if self._pushed_ps is None or now - self._pushed_ps >= to_ps(self._spec.metrics_interval_s):
            self._pushed_ps = now
            window_s = self._spec.look_back_period_s
            running = self._reader.avg_over_time(GATEWAY_RUNNING, window_s, now)
            queued = self._reader.avg_over_time(GATEWAY_QUEUE, window_s, now)
            self._total = _sum(running, queued) or 0.0
        floor = services.floors.raised(self._spec.min_replicas, self._spec.max_replicas)
        spec = self._spec
        if floor != spec.min_replicas:
            spec = replace(spec, min_replicas=floor)
        snapshot = ray_serve.RayServeSnapshot(spec, counts.ready, counts.desired, self._total)
        self.state, decision = ray_serve.decide(self.state, snapshot, now)
        return decision

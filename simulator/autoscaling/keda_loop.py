"""A KEDA ScaledObject at work: the operator's polls, and the HPA that reads from KEDA's metrics server.

The HPA's reads run the query at that instant, unless a trigger uses cached metrics; the polling interval bounds only
how soon the target leaves zero, or goes there.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from simulator.autoscaling import cron
from simulator.autoscaling import hpa_types as types
from simulator.autoscaling.hpa_loop import HpaLoop
from simulator.autoscaling.keda import KedaSnapshot, KedaState, decide, hpa_spec_of, read_trigger
from simulator.autoscaling.reporting import Reporter
from simulator.scenario.errors import ScenarioError
from simulator.scenario.manifests.kubernetes import place_in_manifest

if TYPE_CHECKING:
    from simpy import Event

    from simulator.autoscaling.autoscaler import Services
    from simulator.scenario.autoscaling_kinds import KedaPolicy
    from simulator.scenario.manifests.keda import ScaledObjectManifest, TriggerSource


class KedaLoop:
    """One ScaledObject.

    Args:
        services: what it works with.
        policy: the scenario's entry.
        manifest: the ScaledObject.
        path: its file, for error messages.
        ambiguous: whether another HorizontalPodAutoscaler selects the same pods.

    Raises:
        ScenarioError: a query names a metric that nothing exports.
    """

    writes_size: Final = True

    def __init__(
        self,
        services: Services,
        policy: KedaPolicy,
        manifest: ScaledObjectManifest,
        path: Path,
        *,
        ambiguous: bool = False,
    ) -> None:
        self.name = policy.name or manifest.metadata.name
        self.spec = manifest.keda_spec()
        self.state = KedaState(created_ps=services.clock.now)
        self._services = services
        self._started_at = policy.starts_at
        self._sources = manifest.sources()
        self._polled: list[float | None] = [None] * len(self._sources)
        self._report = Reporter(services, "keda", self.name)
        for index, source in enumerate(self._sources):
            self._check(source, index, path)
        served = {
            trigger.name: partial(self._served, index) for index, trigger in enumerate(self.spec.triggers)
        }
        name = f"keda-hpa-{self.name}"
        self.hpa = HpaLoop(
            services, name, hpa_spec_of(self.spec), policy.hpa, ambiguous=ambiguous, external=served
        )

    def _check(self, source: TriggerSource, index: int, path: Path) -> None:
        if source.query is None:
            return
        for metric in source.query.metrics:
            if self._services.metrics.exported(metric) is None:
                steps: list[str | int] = ["spec", "triggers", index, "metadata", "query"]
                file, key = place_in_manifest(path, "ScaledObject", steps)
                known = ", ".join(self._services.metrics.names())
                raise ScenarioError(
                    f"nothing exports {metric!r}: expected one of {known}, or a mapping for it under "
                    "fleet.autoscaling.scrape.metrics in the scenario",
                    file=file,
                    key=key,
                )
        if source.query.window_s:
            self._services.metrics.keep(source.query.window_s)

    def start(self) -> None:
        """The operator's first poll falls anywhere within an interval; the HPA begins at once.

        A paused ScaledObject has neither: its size is set once.
        """
        if self.spec.pause.paused:
            self.poll()
            return
        self._services.clock.process(self._run())
        self.hpa.start()

    def _run(self) -> Generator[Event, None, None]:
        clock, interval_ps = self._services.clock, self.spec.polling_interval_ps
        phase = self._services.draws.uniform(f"keda-poll/{self.name}", 0)
        yield clock.timeout(int(phase * interval_ps))
        while True:
            self.poll()
            yield clock.timeout(interval_ps)

    def poll(self) -> None:
        """One poll of the operator."""
        services = self._services
        now, counts = services.clock.now, services.target.counts()
        self._polled = [self._query(source, now) for source in self._sources]
        for index, value in enumerate(self._polled):
            self.state, _ = read_trigger(self.state, self.spec, index, value, counts.desired, counts.ready)
        minimum = services.floors.raised(self.spec.min_replicas, self.spec.max_replicas)
        spec = self.spec if minimum == self.spec.min_replicas else replace(self.spec, min_replicas=minimum)
        snapshot = KedaSnapshot(spec, tuple(self._polled), counts.desired)
        self.state, decision = decide(self.state, snapshot, now)
        self._report.apply(decision)

    def _served(self, index: int, now: int) -> types.Reading:
        """What the metrics server answers the HPA."""
        source = self._sources[index]
        value = self._polled[index] if source.use_cached_metrics else self._query(source, now)
        counts = self._services.target.counts()
        self.state, reading = read_trigger(self.state, self.spec, index, value, counts.desired, counts.ready)
        return reading

    def _query(self, source: TriggerSource, now: int) -> float | None:
        """A trigger's value; None in error, as KEDA's scalers have it."""
        if source.schedule is not None:
            assert self._started_at is not None  # the loader has seen to it
            return cron.value(source.schedule, self._started_at, now)
        assert source.query is not None
        result = source.query.value(self._services.metrics, now)
        empty = 0.0 if source.ignore_null_values else None
        if isinstance(result, dict):
            if len(result) > 1:
                return None  # "returned multiple elements"
            if not result:
                return empty
            result = next(iter(result.values()))
        return result if math.isfinite(result) else empty

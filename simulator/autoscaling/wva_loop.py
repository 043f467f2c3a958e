"""llm-d's workload variant autoscaler at work."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from simulator.autoscaling import hpa_types as types
from simulator.autoscaling import wva
from simulator.autoscaling.exporters import KV_CACHE_USAGE, NUM_REQUESTS_WAITING
from simulator.autoscaling.hpa import hpa_spec
from simulator.autoscaling.hpa_loop import HpaLoop
from simulator.autoscaling.reporting import Reporter
from simulator.scenario.policy_files import WVA_METRICS
from simulator.units import to_ps

if TYPE_CHECKING:
    from simpy import Event

    from simulator.autoscaling.autoscaler import Services
    from simulator.scenario.autoscaling_kinds import WvaPolicy
    from simulator.scenario.policy_files import WvaFiles

_PEAK_S: Final = 60.0
_VARIANT: Final = "fleet"


class WvaLoop:
    """The saturation engine of one variant, and the HPA that follows it.

    Args:
        services: what it works with.
        policy: the scenario's entry.
        files: the HPA and the thresholds.
        path: the HPA's file, for error messages.
        ambiguous: whether another HorizontalPodAutoscaler selects the same pods.
    """

    writes_size: Final = True

    def __init__(
        self, services: Services, policy: WvaPolicy, files: WvaFiles, path: Path, *, ambiguous: bool = False
    ) -> None:
        self.name = policy.name or files.hpa.metadata.name
        self.state = wva.WvaState()
        self._services = services
        self._config = files.config
        self._delay_ps = to_ps(policy.metric_delay)
        self._published: deque[tuple[int, int]] = deque()
        services.metrics.keep(_PEAK_S)
        self._report = Reporter(services, "wva", self.name)
        served = dict.fromkeys(WVA_METRICS, self._read)
        self.hpa = HpaLoop(
            services,
            f"{self.name}-hpa",
            hpa_spec(files.hpa),
            policy.hpa,
            manifest=path,
            ambiguous=ambiguous,
            external=served,
        )

    def start(self) -> None:
        self._services.clock.process(self._run())
        self.hpa.start()

    def _run(self) -> Generator[Event, None, None]:
        while True:
            yield self._services.clock.timeout(self._config.interval_ps)
            self.optimize()

    def optimize(self) -> None:
        """One pass."""
        services = self._services
        now, counts = services.clock.now, services.target.counts()
        kv = services.metrics.max_over_time(KV_CACHE_USAGE, _PEAK_S, now)
        waiting = services.metrics.max_over_time(NUM_REQUESTS_WAITING, _PEAK_S, now)
        alive = {pod.name for pod in services.target.pods() if not pod.terminating}
        loads = tuple(
            wva.ReplicaLoad(_VARIANT, kv[pod], waiting[pod])
            for pod in sorted(alive & kv.keys() & waiting.keys())
        )
        variant = wva.Variant(_VARIANT, 1.0, counts.provisioned, counts.provisioned - counts.ready)
        before = self.state.of(_VARIANT)
        self.state, decision = wva.decide(self.state, wva.WvaSnapshot(self._config, (variant,), loads), now)
        desired = self.state.of(_VARIANT)
        self._published.append((now, desired))
        if desired != before:
            self._report.tell(decision.reason, f"{decision.text}; publishes {desired}", float(desired))
        else:
            self._report.apply(replace(decision, replicas=None))

    def _read(self, now: int) -> types.Reading:
        """What the HPA finds: the newest number that has been scraped."""
        published = self._published
        while len(published) > 1 and published[1][0] + self._delay_ps <= now:
            published.popleft()
        if not published or published[0][0] + self._delay_ps > now:
            return types.MetricError("no metrics returned from external metrics API")
        return types.ExternalValues((published[0][1] * 1000,))

"""llm-d's workload variant autoscaler and Dynamo's planner at work."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from simulator.autoscaling import dynamo, wva
from simulator.autoscaling import hpa_types as types
from simulator.autoscaling.exporters import (
    GATEWAY,
    GATEWAY_REQUESTS,
    KV_CACHE_USAGE,
    NUM_REQUESTS_WAITING,
)
from simulator.autoscaling.hpa import hpa_spec
from simulator.autoscaling.hpa_loop import HpaLoop
from simulator.autoscaling.reporting import Reporter
from simulator.scenario.policy_files import WVA_METRICS
from simulator.units import to_ps

if TYPE_CHECKING:
    from simpy import Event

    from simulator.autoscaling.autoscaler import Knowledge, MetricsReader, Services
    from simulator.scenario.autoscaling_kinds import WvaPolicy
    from simulator.scenario.dynamo_config import PlannerConfig
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


class DynamoLoop:
    """Dynamo's planner for a fleet of aggregated engines.

    Args:
        services: what it works with.
        name: of the autoscaler.
        config: the planner's.
        knowledge: what one engine can do.
    """

    writes_size: Final = True

    def __init__(self, services: Services, name: str, config: PlannerConfig, knowledge: Knowledge) -> None:
        self.name = name
        self.state = dynamo.DynamoState()
        self._services = services
        self._config = config
        self._engine_rate = knowledge.engine_rate
        self._spec = (
            config.spec if config.gpus_given else replace(config.spec, gpus_per_engine=knowledge.gpus)
        )
        self._reader: MetricsReader = services.new_reader(f"dynamo/{name}", 5.0, 0.0)
        self._before: dict[str, dict[str, float]] = {}
        self._report = Reporter(services, "dynamo", name)

    def start(self) -> None:
        self._services.clock.process(self._run())

    def _run(self) -> Generator[Event, None, None]:
        while True:
            yield self._services.clock.timeout(self._spec.adjustment_interval_ps)
            self.adjust()

    def adjust(self) -> None:
        """One pass."""
        services = self._services
        now = services.clock.now
        requests = self._increase(GATEWAY_REQUESTS, now).get(GATEWAY, math.nan)
        finished = sum(self._increase("vllm:request_success_total", now).values())
        prompt = sum(self._increase("vllm:prompt_tokens_total", now).values())
        output = sum(self._increase("vllm:generation_tokens_total", now).values())
        floor = services.floors.minimum
        snapshot = dynamo.DynamoSnapshot(
            replace(self._spec, min_endpoint=max(self._spec.min_endpoint, floor)),
            lambda isl, osl: self._engine_rate(isl, osl, self._config.ttft_s, self._config.itl_s),
            requests,
            prompt / finished if finished else math.nan,
            output / finished if finished else math.nan,
            services.target.counts().desired,
        )
        self.state, decision = dynamo.decide(self.state, snapshot, now)
        self._report.apply(decision)

    def _increase(self, metric: str, now: int) -> dict[str, float]:
        """By how much a counter has risen since the last pass; one that has started anew counts from 0."""
        points = {target: point.value for target, point in self._reader.latest(metric, now).items()}
        before, self._before[metric] = self._before.get(metric, {}), points
        return {t: v - before.get(t, 0.0) if v >= before.get(t, 0.0) else v for t, v in points.items()}

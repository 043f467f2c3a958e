"""NVIDIA Dynamo's planner at work, for a fleet of aggregated engines."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from simulator.autoscaling import dynamo, dynamo_load
from simulator.autoscaling.dynamo_plan import DynamoSpec, Inventory
from simulator.autoscaling.exporters import (
    GATEWAY,
    GATEWAY_REQUESTS,
    KV_CACHE_USAGE,
    NUM_REQUESTS_RUNNING,
    NUM_REQUESTS_WAITING,
)
from simulator.autoscaling.reporting import Reporter

if TYPE_CHECKING:
    from simpy import Event

    from simulator.autoscaling.autoscaler import Knowledge, MetricsReader, Services
    from simulator.scenario.dynamo_config import PlannerConfig

_FRONTEND_SCRAPE_S: Final = 5.0
_ENGINE_SCRAPE_S: Final = 1.0


class DynamoLoop:
    """Dynamo's planner.

    Throughput-based scaling reads counters as they were scraped in the last 5 s. Load-based scaling reads the engines
    once a second, where the real planner gets a message of every step: the KV tokens are the share of KV blocks in
    use (so those of prompts being computed count in full), the waiting prompts are as long as the mean so far.

    Args:
        services: what it works with.
        name: of the autoscaler.
        config: the planner's.
        knowledge: what one engine can do and hold.
    """

    writes_size: Final = True

    def __init__(self, services: Services, name: str, config: PlannerConfig, knowledge: Knowledge) -> None:
        self.name = name
        self.state = dynamo.DynamoState()
        self.load_state = dynamo_load.LoadState()
        self._services = services
        self._config = config
        self._engine_rate = knowledge.engine_rate
        self._kv_tokens = knowledge.kv_tokens
        self._spec = (
            config.spec if config.gpus_given else replace(config.spec, gpus_per_engine=knowledge.gpus)
        )
        self._by_load = self._spec.target != "sla"
        scrape_s = _ENGINE_SCRAPE_S if self._by_load else _FRONTEND_SCRAPE_S
        self._reader: MetricsReader = services.new_reader(f"dynamo/{name}", scrape_s, 0.0)
        self._before: dict[str, dict[str, float]] = {}
        self._report = Reporter(services, "dynamo", name)

    def start(self) -> None:
        self._services.clock.process(self._run())

    def _run(self) -> Generator[Event, None, None]:
        spec = self._spec
        interval_ps = spec.load_interval_ps if self._by_load else spec.adjustment_interval_ps
        while True:
            yield self._services.clock.timeout(interval_ps)
            if self._by_load:
                self.follow_load()
            else:
                self.adjust()

    def _floored(self) -> DynamoSpec:
        """The settings with the floors of other policies."""
        return replace(self._spec, min_endpoint=max(self._spec.min_endpoint, self._services.floors.minimum))

    def _inventory(self) -> Inventory:
        target = self._services.target
        counts = target.counts()
        ending = any(pod.terminating for pod in target.pods())
        return Inventory(counts.ready, max(0, counts.desired - counts.ready), ending)

    def adjust(self) -> None:
        """One pass of throughput-based scaling."""
        now = self._services.clock.now
        requests = self._increase(GATEWAY_REQUESTS, now).get(GATEWAY, math.nan)
        finished = sum(self._increase("vllm:request_success_total", now).values())
        prompt = sum(self._increase("vllm:prompt_tokens_total", now).values())
        output = sum(self._increase("vllm:generation_tokens_total", now).values())
        snapshot = dynamo.DynamoSnapshot(
            self._floored(),
            lambda isl, osl: self._engine_rate(isl, osl, self._config.ttft_s, self._config.itl_s),
            requests,
            prompt / finished if finished else math.nan,
            output / finished if finished else math.nan,
            self._inventory(),
        )
        self.state, decision = dynamo.decide(self.state, snapshot, now)
        self._report.apply(decision)

    def follow_load(self) -> None:
        """One pass of load-based scaling."""
        now = self._services.clock.now
        serving = {pod.name for pod in self._services.target.pods() if pod.active and pod.ready}
        snapshot = dynamo_load.LoadSnapshot(self._floored(), self._loads(serving, now), self._inventory())
        self.load_state, decision = dynamo_load.decide(self.load_state, snapshot, now)
        self._report.apply(decision)

    def _loads(self, serving: set[str], now: int) -> tuple[float, ...]:
        used = self._reader.latest(KV_CACHE_USAGE, now)
        waiting = self._reader.latest(NUM_REQUESTS_WAITING, now)
        started = sum(
            point.value
            for metric in ("vllm:request_success_total", NUM_REQUESTS_RUNNING)
            for point in self._reader.latest(metric, now).values()
        )
        prompts = sum(point.value for point in self._reader.latest("vllm:prompt_tokens_total", now).values())
        mean_prompt = prompts / started if started else 0.0
        return tuple(
            used[pod].value + waiting[pod].value * mean_prompt / self._kv_tokens
            for pod in sorted(serving & used.keys() & waiting.keys())
        )

    def _increase(self, metric: str, now: int) -> dict[str, float]:
        """By how much a counter has risen since the last pass; one that has started anew counts from 0."""
        points = {target: point.value for target, point in self._reader.latest(metric, now).items()}
        before, self._before[metric] = self._before.get(metric, {}), points
        return {t: v - before.get(t, 0.0) if v >= before.get(t, 0.0) else v for t, v in points.items()}

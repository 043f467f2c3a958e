"""llm-d's workload variant autoscaler at work."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from simulator.autoscaling import hpa_types as types
from simulator.autoscaling import wva, wva_tokens
from simulator.autoscaling.autoscaler import total
from simulator.autoscaling.exporters import GATEWAY_QUEUE, KV_CACHE_USAGE, NUM_REQUESTS_WAITING
from simulator.autoscaling.hpa import hpa_spec
from simulator.autoscaling.hpa_loop import HpaLoop
from simulator.autoscaling.reporting import Reporter
from simulator.scenario.policy_files import WVA_METRICS
from simulator.units import PS_PER_S, to_ps, to_s

if TYPE_CHECKING:
    from simpy import Event

    from simulator.autoscaling.autoscaler import Knowledge, Services
    from simulator.scenario.autoscaling_kinds import WvaPolicy
    from simulator.scenario.policy_files import WvaFiles

_FINISHED: Final = "vllm:request_success_total"
_PEAK_S: Final = 60.0
_LENGTHS_S: Final = 300.0
_WAKE_PS: Final = PS_PER_S // 10
_VARIANT: Final = "fleet"


class WvaLoop:
    """The saturation engine of one variant, the loop that leaves zero, and the HPA that follows.

    The loop that leaves zero asks the gateway itself ten times a second, not through Prometheus; it runs where a size
    of 0 can come about: with scaling to zero on, or a fleet that starts at 0.

    Args:
        services: what it works with.
        policy: the scenario's entry.
        files: the HPA and the thresholds.
        path: the HPA's file, for error messages.
        knowledge: what one replica's KV cache holds.
        engine: what the deployment's arguments say.
        ambiguous: whether another HorizontalPodAutoscaler selects the same pods.
    """

    writes_size: Final = True

    def __init__(
        self,
        services: Services,
        policy: WvaPolicy,
        files: WvaFiles,
        path: Path,
        knowledge: Knowledge,
        engine: wva_tokens.EngineArguments,
        *,
        ambiguous: bool = False,
    ) -> None:
        self.name = policy.name or files.hpa.metadata.name
        self.state = wva.WvaState()
        self._services = services
        self._config = files.config
        self._delay_ps = to_ps(policy.metric_delay)
        self._kv_tokens = knowledge.kv_tokens
        self._engine = engine
        self._published: deque[tuple[int, int]] = deque()
        services.metrics.keep(_LENGTHS_S if files.config.by_tokens else _PEAK_S)
        if files.config.scale_to_zero:
            services.metrics.keep(to_s(files.config.retention_ps))
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
        clock = self._services.clock
        clock.process(self._run())
        if self._config.scale_to_zero or not self._services.target.counts().desired:
            clock.process(self._wake())
        self.hpa.start()

    def _run(self) -> Generator[Event, None, None]:
        while True:
            yield self._services.clock.timeout(self._config.interval_ps)
            if self._services.target.counts().desired:  # a variant at zero is the other loop's
                self.optimize()

    def _wake(self) -> Generator[Event, None, None]:
        services = self._services
        while True:
            yield services.clock.timeout(_WAKE_PS)
            queued = services.gateway().get(GATEWAY_QUEUE)
            if wva.wakes(services.target.counts().desired, queued):
                self.state = replace(self.state, desired=((_VARIANT, 1),))
                text = f"{queued:g} requests wait at the gateway: from 0 to 1"
                self._report.apply(wva.WvaDecision(1, "ScaleFromZero", text))

    def optimize(self) -> None:
        """One pass."""
        services = self._services
        now, counts = services.clock.now, services.target.counts()
        variant = wva.Variant(_VARIANT, 1.0, counts.provisioned, counts.provisioned - counts.ready)
        finished = None
        if self._config.scale_to_zero:
            rates = services.metrics.rate(_FINISHED, to_s(self._config.retention_ps), now)
            finished = total(rates)
        snapshot = wva.WvaSnapshot(self._config, (variant,), finished=finished, engine=self._engine)
        if self._config.by_tokens:
            snapshot = replace(snapshot, tokens=self._tokens(now))
        else:
            snapshot = replace(snapshot, replicas=self._loads(now))
        before = self.state.desired
        self.state, decision = wva.decide(self.state, snapshot, now)
        desired = self.state.of(_VARIANT)
        if self.state.desired:
            self._published.append((now, desired))
        if self.state.desired != before:
            self._report.tell(decision.reason, f"{decision.text}; publishes {desired}", float(desired))
        else:
            self._report.apply(replace(decision, replicas=None))

    def _peaks(self, now: int) -> list[tuple[str, float, float]]:
        """Pod, KV use and queue of the replicas that report: peaks of the last minute."""
        services = self._services
        kv = services.metrics.max_over_time(KV_CACHE_USAGE, _PEAK_S, now)
        waiting = services.metrics.max_over_time(NUM_REQUESTS_WAITING, _PEAK_S, now)
        alive = {pod.name for pod in services.target.pods() if not pod.terminating}
        return [(pod, kv[pod], waiting[pod]) for pod in sorted(alive & kv.keys() & waiting.keys())]

    def _loads(self, now: int) -> tuple[wva.ReplicaLoad, ...]:
        return tuple(wva.ReplicaLoad(_VARIANT, kv, waiting) for _, kv, waiting in self._peaks(now))

    def _tokens(self, now: int) -> tuple[wva_tokens.ReplicaTokens, ...]:
        metrics = self._services.metrics
        prompts = metrics.rate("vllm:prompt_tokens_total", _LENGTHS_S, now)
        outputs = metrics.rate("vllm:generation_tokens_total", _LENGTHS_S, now)
        finished = metrics.rate(_FINISHED, _LENGTHS_S, now)

        def mean(tokens: Mapping[str, float], pod: str) -> float:
            return tokens[pod] / finished[pod] if finished.get(pod) and pod in tokens else 0.0

        return tuple(
            wva_tokens.ReplicaTokens(
                round(kv * self._kv_tokens),
                self._kv_tokens,
                int(waiting),
                mean(prompts, pod),
                mean(outputs, pod),
            )
            for pod, kv, waiting in self._peaks(now)
        )

    def _read(self, now: int) -> types.Reading:
        """What the HPA finds: the newest number that has been scraped."""
        published = self._published
        while len(published) > 1 and published[1][0] + self._delay_ps <= now:
            published.popleft()
        if not published or published[0][0] + self._delay_ps > now:
            return types.MetricError("no metrics returned from external metrics API")
        return types.ExternalValues((published[0][1] * 1000,))

"""The wiring: a loaded scenario becomes an engine per pod, a cluster, a gateway and clients on one clock.

    workload ──► client ──► gateway ──► replica (engine) ──► client ──► records
                                          ▲ cluster ◄── autoscaler ◄── scraped metrics

Only this module knows all the parts; each part knows its neighbours by a protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Final

from simulator.attempts import Attempt, request_id_of
from simulator.autoscaling.autoscaler import Knowledge, Services
from simulator.autoscaling.engine_rate import EngineLimits, best_rate
from simulator.autoscaling.exporters import GpuFacts, PodExporters, gateway_exporter
from simulator.autoscaling.floors import Floors
from simulator.autoscaling.latencies import Latencies, ServerLatencies
from simulator.autoscaling.metrics_server import MetricsServer, pod_template
from simulator.autoscaling.scrape import Scraper
from simulator.autoscaling.wiring import initial_replicas, make_autoscalers, series_labels
from simulator.clients.client import Client
from simulator.clock import Clock
from simulator.cluster.availability import load_availabilities
from simulator.cluster.cluster import Cluster
from simulator.cluster.faults import FaultInjector
from simulator.cluster.measured_start import with_measured_phases
from simulator.cluster.replica import Replica
from simulator.cluster.rollout import RolloutController
from simulator.cluster.version_monitor import VersionMonitor
from simulator.draws import Draws
from simulator.engines.vllm.factory import make_engine
from simulator.gateway.gateway import Gateway
from simulator.gateway.policies import routing_policy
from simulator.gateway.split import TrafficSplit
from simulator.interrupts import deferred_signals
from simulator.metrics.summary import summarise
from simulator.outcomes import Cause
from simulator.pricing import price_pools
from simulator.resolve import ReplicaPlan, resolve_replica
from simulator.run_facts import run_facts
from simulator.timeline import TimelineSampler
from simulator.units import to_ps, to_s
from simulator.versions import drawn_versions, resolve_versions, rollout_bounds
from simulator.workload import WorkloadSource

if TYPE_CHECKING:
    from simulator.attempts import AttemptListener
    from simulator.autoscaling.autoscaler import Autoscaler
    from simulator.cluster.pods import Pod
    from simulator.engines.protocol import ItlSink, StepTime
    from simulator.records.recorder import Recorder
    from simulator.scenario.load import LoadedScenario
    from simulator.workload.request import RequestSpec

ProgressCallback = Callable[[float, int], None]
"""Called now and then with (simulated seconds, requests so far)."""

_PROGRESS_SLICES: Final = 500


class Simulation:
    """One replication of a scenario; runs once.

    Args:
        loaded: the scenario with its files.
        recorder: takes the records; workload names as in the scenario.
        seed: of every draw; the scenario's own if None.
        replication: index of the replication; each has draws of its own.
        profile_draw: which draw of the step times' uncertainty; their best estimate if None.

    Attributes:
        versions: plans of the Deployment's versions by name, in the order of their rollouts.
        plan: of the first version on the scenario's GPU.
        prices: by pool.
        cold_start_note: where start-up times were taken from the profile.

    Raises:
        ScenarioError: the parts of the scenario do not fit together.
    """

    def __init__(
        self,
        loaded: LoadedScenario,
        recorder: Recorder,
        *,
        seed: int | None = None,
        replication: int = 0,
        profile_draw: int | None = None,
    ) -> None:
        scenario = loaded.scenario
        self.loaded = loaded
        self.recorder = recorder
        self.seed = scenario.seed if seed is None else seed
        self.versions = resolve_versions(loaded)
        if profile_draw is not None:
            self.versions = drawn_versions(loaded, self.versions, self.seed, profile_draw)
        first = next(iter(self.versions.values()))
        self.plan: ReplicaPlan = first.plans[scenario.engine.gpu]
        cold_start, self.cold_start_note = with_measured_phases(
            scenario.cluster.cold_start,
            self.plan.step_time.profile.startup,
            eager=self.plan.enforce_eager,
        )
        self.prices = price_pools(
            loaded,
            {pool.name: first.plans.get(pool.gpu or "", self.plan).gpu.id for pool in scenario.cluster.pools},
        )
        self._duration_ps = to_ps(scenario.duration)
        self._end_ps = self._duration_ps + to_ps(scenario.drain)

        clock = self.clock = Clock()
        draws = Draws(self.seed, replication)
        split = TrafficSplit(lambda: routing_policy(scenario.gateway, draws, self._scraped), draws)
        policy = split if scenario.rollouts else routing_policy(scenario.gateway, draws, self._scraped)
        self.gateway = Gateway(clock, scenario.gateway, policy)
        self.cluster = Cluster(
            clock,
            scenario.cluster.model_copy(update={"cold_start": cold_start}),
            first.spec,
            draws=draws,
            sink=recorder,
            gateway=self.gateway,
            make_replica=self._make_replica,
            rates={name: priced.rates for name, priced in self.prices.items()},
            deployment="vllm" if loaded.deployment is None else loaded.deployment.metadata.name,
            availability=load_availabilities(loaded.base_dir, scenario.cluster.zones),
            budget=scenario.fleet.disruption_budget,
            deletion_cost_interval_s=None
            if (cost := scenario.fleet.deletion_cost) is None
            else cost.interval,
        )
        split.version_of = self.cluster.version_of
        monitor = VersionMonitor(clock, self.gateway, scenario.slo, self.cluster.version_of)
        bounds, min_ready_ps = rollout_bounds(loaded)
        self._rollouts = RolloutController(
            clock,
            scenario.rollouts,
            {name: version.spec for name, version in self.versions.items()},
            bounds,
            min_ready_ps,
            deployment=self.cluster.deployment,
            split=split,
            monitor=monitor,
            sink=recorder,
        )
        self._faults = FaultInjector(clock, scenario.faults, draws, recorder, self.cluster)
        self._draws = draws
        self._latencies = Latencies()
        self._labels = series_labels(loaded)
        self._router_scraper = self._scraper_for_router()
        self.client = Client(
            clock,
            scenario.clients,
            monitor if scenario.rollouts else self.gateway,
            draws,
            recorder,
            [workload.name for workload in scenario.workload],
            [workload.slo or scenario.slo for workload in scenario.workload],
            WorkloadSource(scenario.workload, draws, self._duration_ps, loaded.base_dir),
            self.plan.engine.max_model_len,
        )
        if scenario.rollouts:
            monitor.connect(self.client)
        self.gateway.connect(monitor if scenario.rollouts else self.client)
        self.autoscalers = self._autoscalers()
        self.timeline = TimelineSampler(
            clock,
            to_ps(scenario.timeline_interval),
            recorder,
            self.cluster,
            self.gateway,
            self.client,
            self.plan.gpu_memory_used_bytes,
        )

    # --- the run ----------------------------------------------------------------------------------------

    def run(self, progress: ProgressCallback | None = None) -> dict[str, Any]:
        """Run to the end and close the recorder; returns the summary."""
        clock = self.clock
        self.cluster.start(initial_replicas(self.loaded))
        self._faults.start()
        if self.loaded.scenario.rollouts:
            self.clock.process(self._rollouts.process())
        for autoscaler in self.autoscalers:
            autoscaler.start()
        clock.process(self.timeline.process())
        self.client.start()
        step_ps = max(1, self._duration_ps // _PROGRESS_SLICES)
        with deferred_signals() as deliver_signals:
            while clock.now < self._end_ps:
                if clock.now >= self._duration_ps and self.client.idle:
                    break
                boundary = self._duration_ps if clock.now < self._duration_ps else self._end_ps
                clock.run(until=min(clock.now + step_ps, boundary))
                deliver_signals()
                if progress is not None:
                    progress(to_s(clock.now), self.client.totals.arrivals)
            for pod in self.cluster.pods():
                if pod.replica is not None:
                    pod.replica.catch_up()
        self.client.finish()  # before the last row: it counts what ends at this instant and bills streams left
        self.timeline.sample()
        self.cluster.finish(clock.now)
        return summarise(self.recorder.tables(), self.recorder.itl, run_facts(self))

    # --- between the parts ------------------------------------------------------------------------------

    def _autoscalers(self) -> list[Autoscaler]:
        if not self.loaded.policies:
            return []
        scrape = self.loaded.scenario.fleet.autoscaling.scrape
        services = Services(
            clock=self.clock,
            target=self.cluster,
            floors=Floors(),
            metrics=self._scraper("prometheus", scrape.interval, scrape.adapter_delay),
            new_reader=self._scraper,
            draws=self._draws,
            sink=self.recorder,
            gateway=gateway_exporter(self.gateway, self.client),
            resources=cache(self._metrics_server),
        )
        knowledge = Knowledge(self._engine_rate, self._arrivals, self.plan.gpus, self._kv_tokens)
        return make_autoscalers(self.loaded, services, knowledge)

    @property
    def _kv_tokens(self) -> int:
        """Tokens that the KV cache of one replica holds; one block is vLLM's null block."""
        engine = self.plan.engine
        return (engine.num_gpu_blocks - 1) * engine.block_size

    def _engine_rate(self, input_tokens: float, output_tokens: float, ttft_s: float, itl_s: float) -> float:
        engine = self.plan.engine
        limits = EngineLimits(
            engine.max_num_seqs,
            engine.max_num_batched_tokens,
            self._kv_tokens,
        )
        return best_rate(self._planning_times, limits, input_tokens, output_tokens, ttft_s, itl_s)

    @cached_property
    def _planning_times(self) -> StepTime:
        """The replicas' step times again: what planners ask must not count among the steps of the run."""
        return resolve_replica(self.loaded).step_time.step_time

    def _arrivals(self) -> Iterator[RequestSpec]:
        scenario = self.loaded.scenario
        return WorkloadSource(
            scenario.workload, self._draws, self._duration_ps, self.loaded.base_dir
        ).arrivals()

    def _metrics_server(self) -> MetricsServer:
        config, template = self.loaded.scenario.fleet.resource_metrics, pod_template(self.loaded.deployment)
        return MetricsServer(self.clock, self.cluster, self._draws, config, template)

    def _scraper(self, job: str, interval_s: float, delay_s: float) -> Scraper:
        scrape = self.loaded.scenario.fleet.autoscaling.scrape
        return Scraper(
            self.clock,
            self.cluster,
            self._draws,
            interval_s=interval_s,
            delay_s=delay_s,
            staleness_s=scrape.staleness,
            exporters=PodExporters(self._gpu_of, self._latencies),
            gateway=gateway_exporter(self.gateway, self.client),
            aliases=scrape.metrics,
            labels=self._labels,
            job=job,
        )

    def _scraper_for_router(self) -> Scraper | None:
        section = self.loaded.scenario.gateway
        if section.routing != "least-kv":
            return None
        return Scraper(
            self.clock, self.cluster, self._draws, interval_s=section.metrics_interval, job="gateway"
        )

    def _scraped(self, metric: str, pod: str) -> float | None:
        """What the router knows of a pod."""
        return None if self._router_scraper is None else self._router_scraper.value(metric, pod)

    def _plan_of(self, pod: Pod) -> ReplicaPlan:
        assert pod.node is not None
        plans = self.versions[pod.spec.version].plans
        return plans[pod.node.pool.config.gpu or self.loaded.scenario.engine.gpu]

    def _gpu_of(self, pod: Pod) -> GpuFacts:
        plan = self._plan_of(pod)
        return GpuFacts(round(plan.gpu_memory_used_bytes), plan.gpu.tdp_w, plan.gpu.sm_clock_mhz)

    def _make_replica(self, pod: Pod) -> Replica:
        plan = self._plan_of(pod)
        listener: AttemptListener = self.gateway
        itl: ItlSink = self.recorder.itl
        if self._latencies.wanted:
            server = ServerLatencies(listener, itl, plan.frontend_in_of)
            self._latencies.serve(pod.name, server)
            listener = itl = server
        engine = make_engine(
            plan.engine,
            plan.step_time.step_time,
            itl,
            skipping=self.loaded.scenario.engine.engine_impl == "skipping",
        )
        replica = Replica(
            self.clock,
            pod.name,
            engine,
            listener,
            frontend_in_ps=plan.frontend_in_ps,
            frontend_in_ps_per_token=plan.frontend_in_ps_per_token,
            frontend_out_ps=plan.frontend_out_ps,
            on_preemption=self._preempted,
            step_time=plan.step_time.step_time,
        )
        if pod.slowdown != 1:
            replica.set_slowdown(pod.slowdown)
        if pod.partitions:
            replica.isolate(Cause.CUT_PARTITION, pod.partitions[-1])
        self.timeline.watch(replica)
        return replica

    def _preempted(self, pod: str, attempt: Attempt) -> None:
        self.recorder.event(
            self.clock.now,
            "preemption",
            pod,
            "Preempted",
            f"request {request_id_of(attempt.attempt_id)} lost its KV blocks and is computed again",
        )

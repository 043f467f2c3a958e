"""The HorizontalPodAutoscaler at work: passes on the clock, the snapshot of each, and what is done with its answer.

The decision itself is `simulator.autoscaling.hpa.decide`. Metric names of the manifest are mapped to exported ones
by the scenario (the job of prometheus-adapter's rules); a name that is exported needs no mapping. A Pods metric is
read per pod; an Object metric is the sum over pods; an External metric has one series for each pod.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from simulator.autoscaling import hpa_types as types
from simulator.autoscaling.hpa import (
    HpaController,
    HpaFlags,
    HpaSnapshot,
    HpaSpec,
    HpaState,
    decide,
    record_write,
)
from simulator.autoscaling.scrape import EXPORTED
from simulator.scenario.errors import ScenarioError
from simulator.scenario.manifests.kubernetes import place_in_manifest
from simulator.units import PS_PER_S, to_ps

if TYPE_CHECKING:
    from simpy import Event

    from simulator.autoscaling.hpa_spec import MetricSpec
    from simulator.autoscaling.scrape import Scraper
    from simulator.clock import Clock
    from simulator.cluster.cluster import Cluster
    from simulator.cluster.pods import Pod
    from simulator.draws import Draws
    from simulator.records.sink import RecordSink
    from simulator.scenario.cluster import Autoscaling

_TOLD_OTHERWISE: Final = ("SucceededRescale", "SucceededGetScale", "ReadyForNewScale")
"""Reasons of AbleToScale that every quiet pass and every rescale brings; the rescale has its own event."""


def exported_name(name: str, mapping: Mapping[str, str]) -> str | None:
    """The exported metric that a manifest's name stands for; None if there is none."""
    exported = mapping.get(name, name)
    return exported if exported in EXPORTED else None


def validate_metrics(
    metrics: Sequence[MetricSpec], mapping: Mapping[str, str], *, manifest: Path | None = None
) -> None:
    """Refuse a manifest whose metrics no pod of the simulation has.

    Args:
        metrics: ``spec.metrics`` of the autoscaler.
        mapping: the scenario's ``scrape.metrics``.
        manifest: the autoscaler's file, for the message.

    Raises:
        ScenarioError: names the metric's key and what there is.
    """
    for name, exported in mapping.items():
        if exported not in EXPORTED:
            raise ScenarioError(
                f"pods do not export {exported!r}; they export {', '.join(EXPORTED)}",
                key=f"fleet.autoscaling.scrape.metrics.{name}",
            )
    for index, metric in enumerate(metrics):
        if metric.type in ("Resource", "ContainerResource"):
            reason = (
                f"the simulator has no {metric.name} usage of pods; use a Pods, Object or External metric"
            )
        elif exported_name(metric.name, mapping) is None:
            known = ", ".join((*mapping, *EXPORTED))
            reason = (
                f"nothing exports {metric.name!r}: expected one of {known}, or a mapping for it under "
                "fleet.autoscaling.scrape.metrics in the scenario"
            )
        else:
            continue
        file, key = None, f"spec.metrics[{index}]"
        if manifest is not None:
            file, key = place_in_manifest(manifest, "HorizontalPodAutoscaler", ["spec", "metrics", index])
        raise ScenarioError(reason, file=file, key=key)


def _whole_seconds(t_ps: int) -> int:
    """The API keeps pod times to the second."""
    return t_ps // PS_PER_S * PS_PER_S


def _pod(pod: Pod) -> types.Pod:
    ready = None
    if pod.ready_transition_ps is not None:
        ready = types.ReadyCondition(
            "True" if pod.ready else "False", _whole_seconds(pod.ready_transition_ps)
        )
    return types.Pod(
        name=pod.name,
        phase=pod.phase,
        deletion_ps=pod.deletion_ps,
        start_ps=None if pod.start_ps is None else _whole_seconds(pod.start_ps),
        ready=ready,
    )


def controller(config: Autoscaling, version: str = "1.37") -> HpaController:
    """The controller that a scenario describes."""
    return HpaController(
        version=version,
        flags=HpaFlags(
            sync_period_ps=to_ps(config.sync_period),
            tolerance=config.tolerance,
            downscale_stabilization_ps=to_ps(config.downscale_stabilization),
            cpu_initialization_period_ps=to_ps(config.cpu_initialization_period),
            initial_readiness_delay_ps=to_ps(config.initial_readiness_delay),
        ),
    )


class HpaLoop:
    """One HorizontalPodAutoscaler and its controller.

    Args:
        env: the run's clock.
        name: of the autoscaler.
        spec: what it asks for.
        config: the scenario's autoscaling: the controller's flags and the metrics' names.
        cluster: whose Deployment it scales.
        scraper: where its metrics come from.
        draws: the run's draws, for how long passes take.
        sink: gets the events.
        manifest: the autoscaler's file, for error messages.

    Raises:
        ScenarioError: the spec names a metric that nothing exports.
    """

    def __init__(
        self,
        env: Clock,
        name: str,
        spec: HpaSpec,
        config: Autoscaling,
        *,
        cluster: Cluster,
        scraper: Scraper,
        draws: Draws,
        sink: RecordSink,
        manifest: Path | None = None,
    ) -> None:
        validate_metrics(spec.metrics, config.scrape.metrics, manifest=manifest)
        self.state = HpaState()
        self.passes = 0
        self._env = env
        self._name = name
        self._spec = spec
        self._config = config
        self._controller = controller(config)
        self._cluster = cluster
        self._scraper = scraper
        self._draws = draws
        self._sink = sink
        self._warnings: tuple[types.HpaEvent, ...] = ()

    def start(self) -> None:
        """Begin with the first pass: at once in v1.37, which sees what the cluster is at this instant."""
        self._env.process(self._run())

    def _run(self) -> Generator[Event, None, None]:
        yield self._env.timeout(self._controller.first_pass_delay_ps)
        while True:
            self.sync()
            took_s = self._config.pass_duration.quantile_s(self._draws.uniform("hpa-pass", self.passes))
            self.passes += 1
            yield self._env.timeout(self._controller.flags.sync_period_ps + to_ps(took_s))

    def snapshot(self) -> HpaSnapshot:
        """What a pass sees now."""
        counts = self._cluster.counts()
        return HpaSnapshot(
            spec=self._spec,
            scale=types.Scale(counts.desired, counts.provisioned),
            pods=tuple(_pod(pod) for pod in self._cluster.pods()),
            readings=tuple(self._reading(metric) for metric in self._spec.metrics),
            controller=self._controller,
        )

    def sync(self) -> types.HpaDecision:
        """One pass."""
        now = self._env.now
        before = self.state.conditions
        snapshot = self.snapshot()
        state, decision = decide(self.state, snapshot, now)
        if decision.rescale:
            assert decision.desired_replicas is not None
            self._cluster.set_replicas(decision.desired_replicas, now, self._name)
            state, event = record_write(state, snapshot, decision, now)
            self._tell(event.reason, self._describe(decision), float(decision.desired_replicas))
        self.state = state
        self._tell_conditions(before)
        if decision.events != self._warnings:
            for warning in dict.fromkeys(decision.events):  # two metrics may fail alike
                self._tell(warning.reason, warning.message)
            self._warnings = decision.events
        return decision

    def _reading(self, metric: MetricSpec) -> types.Reading:
        exported = exported_name(metric.name, self._config.scrape.metrics)
        samples: dict[str, types.Sample] = {}
        for pod in self._cluster.pods() if exported is not None else ():
            sample = self._scraper.latest(exported or "", pod.name, self._env.now)
            if sample is not None:
                samples[pod.name] = sample
        if metric.type == "External":
            return types.ExternalValues(tuple(sample.value_milli for sample in samples.values()))
        if not samples:
            return types.MetricError("no metrics returned from custom metrics API")
        if metric.type == "Object":
            return types.ObjectValue(sum(sample.value_milli for sample in samples.values()))
        return types.PodSamples(samples)

    def _describe(self, decision: types.HpaDecision) -> str:
        values = "; ".join(_metric_text(status) for status in decision.current_metrics)
        read = f" Read: {values}." if values else ""
        return f"From {decision.current_replicas} to {decision.desired_replicas}: {decision.text}.{read}"

    def _tell_conditions(self, before: tuple[types.Condition, ...]) -> None:
        known = {condition.type: (condition.status, condition.reason) for condition in before}
        for condition in self.state.conditions:
            new = (condition.status, condition.reason)
            if condition.status and condition.reason in _TOLD_OTHERWISE:
                continue
            if known.get(condition.type) != new:
                message = f"{condition.type} is {condition.status}: {condition.message}."
                self._tell(condition.reason, message)

    def _tell(self, reason: str, message: str, value: float | None = None) -> None:
        sentence = message if message.endswith(".") else f"{message}."
        self._sink.event(self._env.now, "hpa", self._name, reason, sentence, value)


def _metric_text(status: types.MetricStatus) -> str:
    value = status.average_value_milli if status.average_value_milli is not None else status.value_milli
    return f"{status.name} {value / 1000:g}" if value is not None else status.name

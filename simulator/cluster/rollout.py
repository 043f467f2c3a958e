"""Brings new versions out, one after the other, and calls them back if they are bad.

A canary goes as Argo Rollouts' does with traffic routing: the old version keeps its size, the new one gets pods for
its share and then the share of the traffic; at the end it gets all pods, all traffic, and the old one goes. An aborted
one loses its traffic first. A rolling update is the Deployment's own; calling it back is another one, to the old
version, as ``kubectl rollout undo``. A version with an analysis is also called back if it is not there within
progressDeadlineSeconds (600 s, the default of both).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from simulator.units import PS_PER_S, to_ps

if TYPE_CHECKING:
    from simpy import Event

    from simulator.clock import Clock
    from simulator.cluster.deployment import Deployment
    from simulator.cluster.pods import PodSpec
    from simulator.cluster.rolling import Bounds
    from simulator.cluster.version_monitor import VersionMonitor
    from simulator.gateway.split import TrafficSplit
    from simulator.records.sink import RecordSink
    from simulator.scenario.rollout import Rollout

_LOOK_PS: Final = PS_PER_S
_PROGRESS_DEADLINE_PS: Final = 600 * PS_PER_S


class RolloutController:
    """Rollouts of a run.

    Args:
        env: the run's clock.
        rollouts: the scenario's, in the order of their times.
        specs: by version.
        bounds: of each rolling update, in the order of ``rollouts``.
        min_ready_ps: likewise.
        deployment: whose versions.
        split: shares of the traffic.
        monitor: counts good attempts by version.
        sink: gets the events.
    """

    def __init__(
        self,
        env: Clock,
        rollouts: Sequence[Rollout],
        specs: Mapping[str, PodSpec],
        bounds: Sequence[Bounds],
        min_ready_ps: Sequence[int],
        *,
        deployment: Deployment,
        split: TrafficSplit,
        monitor: VersionMonitor,
        sink: RecordSink,
    ) -> None:
        self._env = env
        self._rollouts = rollouts
        self._specs = specs
        self._bounds = bounds
        self._min_ready_ps = min_ready_ps
        self._deployment = deployment
        self._split = split
        self._monitor = monitor
        self._sink = sink

    def process(self) -> Generator[Event, None, None]:
        """The SimPy process: one rollout after the other; one that is due waits for the one before."""
        for rollout, bounds, min_ready_ps in zip(
            self._rollouts, self._bounds, self._min_ready_ps, strict=True
        ):
            at_ps = to_ps(rollout.at)
            if at_ps > self._env.now:
                yield self._env.timeout(at_ps - self._env.now)
            before = self._specs[self._deployment.version]
            if rollout.canary:
                yield from self._canary(rollout, before, min_ready_ps)
            else:
                yield from self._rolling(rollout, before, bounds, min_ready_ps)

    # --- rolling updates ----------------------------------------------------------------------------------

    def _rolling(
        self, rollout: Rollout, before: PodSpec, bounds: Bounds, min_ready_ps: int
    ) -> Generator[Event, None, None]:
        deployment, version = self._deployment, rollout.version.name
        deployment.roll_out(self._specs[version], bounds, min_ready_ps)
        self._monitor.take(version)
        began_ps = looked_ps = self._env.now
        done_ps: int | None = None
        bad: str | None = None
        while bad is None:
            yield self._env.timeout(_LOOK_PS)
            now = self._env.now
            if done_ps is None and not deployment.rolling:
                done_ps = now
            if rollout.rollback is None:
                if done_ps is not None:
                    return
                continue
            if now - looked_ps >= to_ps(rollout.rollback.interval):
                looked_ps = now
                bad, conclusive = self._look(rollout)
                if conclusive and bad is None and done_ps is not None:
                    return  # the first look after the end that says something is good
            if done_ps is None and now - began_ps >= _PROGRESS_DEADLINE_PS:
                bad = "it is not there after 600 s"
        self._call_back(version, bad)
        deployment.roll_out(before, bounds, min_ready_ps)
        while deployment.rolling:
            yield self._env.timeout(_LOOK_PS)

    # --- canaries -----------------------------------------------------------------------------------------

    def _canary(self, rollout: Rollout, before: PodSpec, min_ready_ps: int) -> Generator[Event, None, None]:
        deployment, version = self._deployment, rollout.version.name
        bad: str | None = None
        for weight, hold in [*((step.weight, step.hold) for step in rollout.canary), (1.0, 0.0)]:
            deployment.canary(self._specs[version], weight, min_ready_ps)
            bad = yield from self._until_available(rollout)
            if bad is not None:
                break
            self._split.set_weights({before.version: 1.0 - weight, version: weight})
            self._monitor.take(version)
            bad = yield from self._hold(rollout, to_ps(hold))
            if bad is not None:
                break
        if bad is None:
            deployment.end_canary(promote=True)
            self._sink.event(
                self._env.now, "scale", deployment.name, "RolloutComplete", f"All replicas run {version}."
            )
        else:
            self._call_back(version, bad)
            self._split.set_weights({before.version: 1.0})
            deployment.end_canary(promote=False)
        gone = before.version if bad is None else version
        while any(pod.spec.version == gone and pod.endpoint == "listed" for pod in deployment.pods.values()):
            yield self._env.timeout(_LOOK_PS)
        self._split.set_weights({})

    def _until_available(self, rollout: Rollout) -> Generator[Event, None, str | None]:
        version, began_ps = rollout.version.name, self._env.now
        while self._deployment.available(version) < self._deployment.wanted(version):
            yield self._env.timeout(_LOOK_PS)
            if rollout.rollback is not None and self._env.now - began_ps >= _PROGRESS_DEADLINE_PS:
                return "it is not there after 600 s"
        return None

    def _hold(self, rollout: Rollout, hold_ps: int) -> Generator[Event, None, str | None]:
        ends_ps = self._env.now + hold_ps
        while self._env.now < ends_ps:
            left_ps = ends_ps - self._env.now
            if rollout.rollback is None:
                yield self._env.timeout(left_ps)
                return None
            yield self._env.timeout(min(left_ps, to_ps(rollout.rollback.interval)))
            bad, _ = self._look(rollout)
            if bad is not None:
                return bad
        return None

    # --- judgement ----------------------------------------------------------------------------------------

    def _look(self, rollout: Rollout) -> tuple[str | None, bool]:
        """Why the version is bad by the attempts since the last look, or None; and whether they were enough."""
        assert rollout.rollback is not None
        good, count = self._monitor.take(rollout.version.name)
        if count < rollout.rollback.min_attempts:
            return None, False
        if good >= rollout.rollback.min_good * count:
            return None, True
        return f"{good} of {count} attempts were good", True

    def _call_back(self, version: str, why: str) -> None:
        name = self._deployment.name
        self._sink.event(self._env.now, "scale", name, "RolledBack", f"{version} is called back: {why}.")

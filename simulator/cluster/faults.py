"""Injects the scenario's faults into pods.

When the n-th strike of a fault comes by chance and in which order pods are hit is addressed by the fault's place in
the scenario, n and the pods' ordinals: two policies face the same faults as far as their pods are the same. A pod that
is being deleted, or whose container does not run, is not hit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from simulator.outcomes import Cause
from simulator.scenario.faults import Crash, CrashLoop, Partition, Slow, Thermal
from simulator.scenario.lifecycle import pods_of
from simulator.units import to_ps

if TYPE_CHECKING:
    from simpy import Event

    from simulator.clock import Clock
    from simulator.cluster.cluster import Cluster
    from simulator.cluster.pods import Pod
    from simulator.draws import Draws
    from simulator.records.sink import RecordSink
    from simulator.scenario.faults import Fault


def temperature_after(now_c: float, target_c: float, elapsed_s: float, time_constant_s: float) -> float:
    """A body's temperature on its exponential way to a target."""
    return target_c + (now_c - target_c) * math.exp(-elapsed_s / time_constant_s)


class FaultInjector:
    """Faults of a run.

    Args:
        env: the run's clock.
        faults: the scenario's.
        draws: the run's draws.
        sink: gets the events.
        cluster: whose pods.
    """

    def __init__(
        self, env: Clock, faults: Sequence[Fault], draws: Draws, sink: RecordSink, cluster: Cluster
    ) -> None:
        self._env = env
        self._faults = faults
        self._draws = draws
        self._sink = sink
        self._cluster = cluster
        self._looping: dict[int, list[CrashLoop]] = {}  # by ordinal of the pod
        cluster.on_container(self._container_started)

    def start(self) -> None:
        """Arm all faults, at time 0."""
        for index, fault in enumerate(self._faults):
            for number, at_s in enumerate(fault.at):
                self._env.call_at(to_ps(at_s), self._striker(index, fault, number))
            if fault.mean_time_between is not None:
                self._env.process(self._by_chance(index, fault, fault.mean_time_between))

    def _striker(self, index: int, fault: Fault, number: int) -> Callable[[object], None]:
        return lambda _: self._strike(index, fault, number)

    def _by_chance(self, index: int, fault: Fault, mean_s: float) -> Generator[Event, None, None]:
        number = len(fault.at)
        while True:
            yield self._env.timeout(to_ps(self._draws.exponential(f"fault/{index}", number) * mean_s))
            self._strike(index, fault, number)
            number += 1

    def _strike(self, index: int, fault: Fault, number: int) -> None:
        pods = self._targets(index, fault, number)
        names = ", ".join(pod.name for pod in pods) or "no pod"
        self._sink.event(
            self._env.now,
            "fault",
            fault.kind,
            "FaultInjected",
            f"{fault.kind} hits {names}.",
            float(len(pods)),
        )
        for pod in pods:
            match fault:
                case Crash():
                    self._cluster.crash(pod, Cause.CUT_FAILURE, fault.reason)
                case CrashLoop():
                    self._loop(pod, fault)
                case Slow():
                    self._slow(pod, fault)
                case Thermal():
                    self._env.process(self._heat(pod, fault))
                case Partition():
                    self._isolate(pod, fault)

    def _targets(self, index: int, fault: Fault, number: int) -> list[Pod]:
        pods = [
            pod
            for pod in self._cluster.pods()
            if pod.running
            and pod.active
            and pod.node is not None
            and (fault.pool is None or pod.node.pool.name == fault.pool)
        ]
        purpose = f"fault/{index}/pod"
        pods.sort(key=lambda pod: self._draws.uniform(purpose, pod.ordinal, number))
        return pods[: pods_of(fault.pods, len(pods))]

    # --- crash loops --------------------------------------------------------------------------------------

    def _loop(self, pod: Pod, fault: CrashLoop) -> None:
        self._looping.setdefault(pod.ordinal, []).append(fault)
        self._env.call_at(self._env.now + to_ps(fault.duration), lambda _: self._unloop(pod, fault))
        self._crash_later(pod, fault)

    def _unloop(self, pod: Pod, fault: CrashLoop) -> None:
        loops = self._looping[pod.ordinal]
        loops.remove(fault)
        if not loops:
            del self._looping[pod.ordinal]

    def _container_started(self, pod: Pod) -> None:
        for fault in self._looping.get(pod.ordinal, ()):
            self._crash_later(pod, fault)
        if pod.spec.crash_after_s is not None:
            restarts = pod.restarts
            self._env.call_at(
                self._env.now + to_ps(pod.spec.crash_after_s), lambda _: self._crash_again(pod, restarts)
            )

    def _crash_again(self, pod: Pod, restarts: int) -> None:
        if pod.restarts == restarts:
            self._cluster.crash(pod, Cause.CUT_FAILURE, "Error")

    def _crash_later(self, pod: Pod, fault: CrashLoop) -> None:
        restarts = pod.restarts

        def crash(_: object) -> None:
            if pod.restarts == restarts and fault in self._looping.get(pod.ordinal, ()):
                self._cluster.crash(pod, Cause.CUT_FAILURE, fault.reason)

        self._env.call_at(self._env.now + to_ps(fault.after), crash)

    # --- slower steps -------------------------------------------------------------------------------------

    def _slow(self, pod: Pod, fault: Slow) -> None:
        factor = _ratio(fault.factor)
        pod.slow_down(factor)
        self._env.call_at(self._env.now + to_ps(fault.duration), lambda _: pod.slow_down(1 / factor))

    def _heat(self, pod: Pod, fault: Thermal) -> Generator[Event, None, None]:
        env, factor = self._env, _ratio(fault.factor)
        ends_ps = env.now + to_ps(fault.duration)
        busy_ps, replica = _busy_ps(pod), pod.replica
        temperature_c = fault.busy if replica is not None else fault.idle
        hot = False
        while pod.gone_ps is None and (env.now < ends_ps or hot):
            before_ps, rise = env.now, fault.rise if env.now < ends_ps else 0.0
            yield env.timeout(to_ps(fault.sample))
            if pod.replica is not replica:
                busy_ps, replica = 0, pod.replica
            now_busy_ps = _busy_ps(pod)
            share = min(1.0, (now_busy_ps - busy_ps) / (env.now - before_ps))
            busy_ps = now_busy_ps
            target_c = fault.idle + (fault.busy - fault.idle) * share + rise
            temperature_c = temperature_after(temperature_c, target_c, fault.sample, fault.time_constant)
            pod.gpu_temperature_c = temperature_c
            if not hot and temperature_c >= fault.throttle_at:
                hot = True
                pod.throttle(factor)
                self._throttles(pod, "ThermalThrottling", "clocks fall", temperature_c)
            elif hot and temperature_c <= fault.recover_at:
                hot = False
                pod.throttle(1 / factor)
                self._throttles(pod, "ThermalRecovered", "clocks rise again", temperature_c)
        if hot:
            pod.throttle(1 / factor)
        pod.gpu_temperature_c = None

    def _throttles(self, pod: Pod, reason: str, what: str, temperature_c: float) -> None:
        message = f"The GPU has {temperature_c:.1f} degrees Celsius: {what}."
        self._sink.event(self._env.now, "fault", pod.name, reason, message, temperature_c)

    # --- partitions ---------------------------------------------------------------------------------------

    def _isolate(self, pod: Pod, fault: Partition) -> None:
        timeout_ps = to_ps(fault.connect_timeout)
        cut = pod.isolate(Cause.CUT_PARTITION, timeout_ps)
        message = f"The gateway cannot reach the pod for {fault.duration:g} s; {cut} streams were cut."
        self._sink.event(self._env.now, "fault", pod.name, "Partitioned", message, float(cut))
        ends_ps = self._env.now + to_ps(fault.duration)
        self._env.call_at(ends_ps, lambda _: pod.reconnect(Cause.CUT_PARTITION, timeout_ps))


def _ratio(factor: float) -> Fraction:
    return Fraction(factor).limit_denominator(1000)


def _busy_ps(pod: Pod) -> int:
    return 0 if pod.replica is None else pod.replica.peek().counters.busy_ps

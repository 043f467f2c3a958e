"""Application Auto Scaling at work: CloudWatch's periods, the delivery of their values, and the look at the alarms.

Invocations are what clients have sent to the gateway in a period, over the instances in service at its end; concurrent
requests are what it has sent and not seen end and what it holds, likewise. A period without an invocation has no value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import TYPE_CHECKING, Final

from simulator.autoscaling.exporters import GATEWAY, GATEWAY_QUEUE, GATEWAY_REQUESTS, GATEWAY_RUNNING
from simulator.autoscaling.reporting import Reporter
from simulator.autoscaling.sagemaker import (
    SageMakerSnapshot,
    SageMakerState,
    StepScaling,
    TargetTracking,
    decide,
)
from simulator.units import PS_PER_S, to_ps

if TYPE_CHECKING:
    from simpy import Event

    from simulator.autoscaling.autoscaler import Services
    from simulator.scenario.application_auto_scaling import ScalableTarget, SourcedPolicy
    from simulator.scenario.autoscaling_kinds import SageMakerPolicy


class _Series:
    """One policy's metric: its values by period, as they are delivered."""

    def __init__(self, sourced: SourcedPolicy, delivery_ps: int) -> None:
        policy = sourced.policy
        if isinstance(policy, TargetTracking):
            length = max(policy.periods_high, policy.periods_low)
        else:
            assert isinstance(policy, StepScaling)
            length = policy.alarm.periods
        self.sourced = sourced
        self.delivery_ps = delivery_ps
        self.measured: deque[tuple[int, float | None]] = deque()  # not yet delivered
        self.values: deque[float | None] = deque(maxlen=length)
        self.before = 0.0  # the counter at the period's beginning

    def deliver(self, now: int) -> None:
        while self.measured and self.measured[0][0] + self.delivery_ps <= now:
            self.values.append(self.measured.popleft()[1])


class SageMakerLoop:
    """A scalable target and its policies.

    Args:
        services: what it works with.
        policy: the scenario's entry.
        target: the scalable target.
    """

    writes_size: Final = True

    def __init__(self, services: Services, policy: SageMakerPolicy, target: ScalableTarget) -> None:
        self.name = policy.name or target.policies[0].policy.name
        self.state = SageMakerState()
        self._services = services
        self._target = target
        self._reader = services.new_reader(f"cloudwatch/{self.name}", 1.0, 0.0)
        delays = {60: to_ps(policy.delivery), 10: to_ps(policy.delivery_high_resolution)}
        self._series = [_Series(sourced, delays[sourced.period_s]) for sourced in target.policies]
        if any(sourced.metric == "concurrency-per-instance" for sourced in target.policies):
            self._reader.keep(10.0)
        self._step_ps = min(sourced.period_s for sourced in target.policies) * PS_PER_S
        self._report = Reporter(services, "sagemaker", self.name)

    def start(self) -> None:
        self._services.clock.process(self._run())

    def _run(self) -> Generator[Event, None, None]:
        while True:
            yield self._services.clock.timeout(self._step_ps)
            self.look()

    def look(self) -> None:
        """The end of a period: measure, deliver, and look at the alarms."""
        services = self._services
        now = services.clock.now
        for series in self._series:
            if now % (series.sourced.period_s * PS_PER_S) == 0:
                series.measured.append((now, self._measure(series, now)))
            series.deliver(now)
        minimum = services.floors.raised(self._target.min_capacity, self._target.max_capacity)
        counts = services.target.counts()
        if counts.desired < minimum:
            services.target.set_replicas(minimum, now, self.name)
            self._report.tell(
                "BelowMinCapacity", f"from {counts.desired} to the minimum of {minimum}", float(minimum)
            )
            return
        snapshot = SageMakerSnapshot(
            tuple(series.sourced.policy for series in self._series),
            tuple(tuple(series.values) for series in self._series),
            counts.desired,
            minimum,
            self._target.max_capacity,
        )
        self.state, decision = decide(self.state, snapshot, now)
        self._report.apply(decision)

    def _measure(self, series: _Series, now: int) -> float | None:
        ready = self._services.target.counts().ready
        if series.sourced.metric == "concurrency-per-instance":
            if not ready:
                return None
            running = self._reader.avg_over_time(GATEWAY_RUNNING, 10.0, now).get(GATEWAY, 0.0)
            queued = self._reader.avg_over_time(GATEWAY_QUEUE, 10.0, now).get(GATEWAY, 0.0)
            return (running + queued) / ready
        point = self._reader.latest(GATEWAY_REQUESTS, now).get(GATEWAY)
        if point is None:
            return None
        sent, series.before = point.value - series.before, point.value
        if series.sourced.metric == "no-capacity-failures":
            return sent if sent and not ready else None
        return sent / ready if sent and ready else None

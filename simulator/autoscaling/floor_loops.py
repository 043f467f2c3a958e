"""Policies that look at a schedule, a curve or a load and set a floor, and the perfect autoscaler."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Final

from simulator.autoscaling import forecast, perfect, standby
from simulator.autoscaling.autoscaler import total
from simulator.autoscaling.query import Query
from simulator.autoscaling.reporting import Reporter
from simulator.units import to_ps

if TYPE_CHECKING:
    from simpy import Event

    from simulator.autoscaling.autoscaler import Services
    from simulator.autoscaling.forecast import Curve
    from simulator.scenario.autoscaling_kinds import ForecastPolicy, StandbyPolicy


class ForecastFloor:
    """A floor from last period's curve.

    Args:
        services: what it works with.
        policy: the scenario's entry.
        curve: the curve.
    """

    writes_size: Final = False

    def __init__(self, services: Services, policy: ForecastPolicy, curve: Curve) -> None:
        self.name = policy.name or policy.kind
        self._services = services
        self._spec = forecast.ForecastSpec(
            curve,
            lead_ps=to_ps(policy.lead),
            rate_per_replica=policy.rate_per_replica,
            offset_ps=to_ps(policy.offset),
            margin=policy.margin,
            min_replicas=policy.min_replicas,
            max_replicas=policy.max_replicas,
            interval_ps=to_ps(policy.interval),
        )
        self._report = Reporter(services, "floor", self.name)

    def start(self) -> None:
        self._services.clock.process(self._run())

    def _run(self) -> Generator[Event, None, None]:
        clock, state = self._services.clock, forecast.ForecastState()
        while True:
            state, decision = forecast.decide(state, forecast.ForecastSnapshot(self._spec), clock.now)
            self._report.apply(decision, floor=True)
            yield clock.timeout(self._spec.interval_ps)


class StandbyFloor:
    """A floor of the need and some more.

    Args:
        services: what it works with.
        policy: the scenario's entry.
        query: of the load; its metrics are exported.
    """

    writes_size: Final = False

    def __init__(self, services: Services, policy: StandbyPolicy, query: Query) -> None:
        self.name = policy.name or policy.kind
        self._services = services
        self._query = query
        if query.window_s:
            services.metrics.keep(query.window_s)
        self._interval_ps = to_ps(policy.interval)
        self._spec = standby.StandbySpec(
            policy.target, policy.standby, policy.max_replicas, to_ps(policy.stabilization)
        )
        self._report = Reporter(services, "floor", self.name)

    def start(self) -> None:
        self._services.clock.process(self._run())

    def _run(self) -> Generator[Event, None, None]:
        clock, state = self._services.clock, standby.StandbyState()
        while True:
            result = self._query.value(self._services.metrics, clock.now)
            load = total(result) if isinstance(result, dict) else result
            state, decision = standby.decide(state, standby.StandbySnapshot(self._spec, load), clock.now)
            self._report.apply(decision, floor=True)
            yield clock.timeout(self._interval_ps)


class PerfectLoop:
    """The perfect autoscaler.

    Args:
        services: what it works with.
        name: of the autoscaler.
        plan: its sizes over time.
    """

    writes_size: Final = True

    def __init__(self, services: Services, name: str, plan: perfect.Plan) -> None:
        self.name = name
        self._services = services
        self._plan = plan
        self._report = Reporter(services, "perfect", name)

    def start(self) -> None:
        self._services.clock.process(self._run())

    def _run(self) -> Generator[Event, None, None]:
        clock, state = self._services.clock, perfect.PerfectState()
        for time in self._plan.times_ps:
            yield clock.timeout(time - clock.now)
            state, decision = perfect.decide(state, self._plan, clock.now)
            self._report.apply(decision)

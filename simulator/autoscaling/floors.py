"""Minimum sizes that policies give each other, and what holds the size when nobody else writes it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Final

from simulator.units import to_ps

if TYPE_CHECKING:
    from simpy import Event

    from simulator.autoscaling.autoscaler import Services
    from simulator.scenario.autoscaling import CronFloorPolicy


class Floors:
    """The floors in force, by who set them; the largest holds."""

    def __init__(self) -> None:
        self._floors: dict[str, int] = {}
        self._listeners: list[Callable[[], None]] = []

    @property
    def minimum(self) -> int:
        """The largest floor; 0 without any."""
        return max(self._floors.values(), default=0)

    def set(self, name: str, replicas: int) -> bool:
        """Set one's floor; 0 takes it away. Listeners hear of it when the largest floor has changed.

        Returns:
            Whether it was another before.
        """
        before = self.minimum
        changed = self._floors.get(name, 0) != replicas
        self._floors[name] = replicas
        if self.minimum != before:
            for listener in self._listeners:
                listener()
        return changed

    def raised(self, minimum: int, maximum: int) -> int:
        """A scaler's minimum with the floors: not below its own, not above its maximum."""
        return max(minimum, min(self.minimum, maximum))

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have a change of the largest floor told at once."""
        self._listeners.append(listener)


class HeldSize:
    """Writes the size where no scaler does: the starting size, or the floor if that is larger.

    Args:
        services: what it works with.
        replicas: the starting size.
    """

    name: Final = "floor"
    writes_size: Final = True

    def __init__(self, services: Services, replicas: int) -> None:
        self._services = services
        self._replicas = replicas
        services.floors.on_change(self._write)

    def start(self) -> None:
        self._write()

    def _write(self) -> None:
        services = self._services
        wanted = max(self._replicas, services.floors.minimum)
        if services.target.counts().desired != wanted:
            services.target.set_replicas(wanted, services.clock.now, self.name)


class CronFloor:
    """A floor by the clock.

    Args:
        services: what it works with.
        policy: the schedule.
    """

    writes_size: Final = False

    def __init__(self, services: Services, policy: CronFloorPolicy) -> None:
        self.name = policy.name or policy.kind
        self._services = services
        self._period_ps = to_ps(policy.period)
        self._offset_ps = to_ps(policy.offset)
        self._entries = [(to_ps(e.start), to_ps(e.end), e.replicas) for e in policy.schedule]

    def start(self) -> None:
        self._services.clock.process(self._run())

    def floor_at(self, t_ps: int) -> int:
        """The floor at an instant of the run."""
        at = (t_ps + self._offset_ps) % self._period_ps
        return max(
            (
                replicas
                for start, end, replicas in self._entries
                if (start <= at < end if start < end else at >= start or at < end)
            ),
            default=0,
        )

    def _run(self) -> Generator[Event, None, None]:
        services, period = self._services, self._period_ps
        instants = sorted({t % period for start, end, _ in self._entries for t in (start, end)})
        before = 0
        while True:
            now = services.clock.now
            floor = self.floor_at(now)
            if floor != before:
                text = f"The floor is {floor} replicas now, it was {before}."
                services.sink.event(now, "floor", self.name, "FloorChanged", text, float(floor))
                services.floors.set(self.name, floor)
                before = floor
            at = (now + self._offset_ps) % period
            yield services.clock.timeout(min((t - at) % period or period for t in instants))

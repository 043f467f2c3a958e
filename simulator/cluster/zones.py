"""Availability zones: when they grant no node, and when they take many back at once.

Everything here happens at instants that depend on the seed alone, so that two policies face the same market: the
n-th event of a zone, the chance of each node in it by its ordinal, the n-th stock-out.

Mass events are shocks: a zone has its own, at rate ``(1 - region_share) / mean_time_between``, and sees those of its
region. These come at the highest rate that one of the region's zones asks for, and each zone takes part with the
probability that gives it its own rate.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from simulator.units import to_ps, to_s

if TYPE_CHECKING:
    from simpy import Event

    from simulator.clock import Clock
    from simulator.cluster.availability import Availability
    from simulator.cluster.nodes import Node, Pool
    from simulator.draws import Draws
    from simulator.records.sink import RecordSink
    from simulator.scenario.capacity import MassEvents, StockOuts
    from simulator.scenario.capacity import Zone as ZoneSection
    from simulator.scenario.cluster import Cluster as ClusterSection

Capacity = Literal["on-demand", "spot"]


class Zone:
    """One zone's market.

    Attributes:
        config: its entry in the scenario.
        pools: that buy in it.
        availability: of spot nodes over time, if it is replayed.
    """

    def __init__(self, config: ZoneSection, availability: Availability | None) -> None:
        self.config = config
        self.name = config.name
        self.pools: list[Pool] = []
        self.availability = availability
        self._closed: dict[Capacity, int] = {"on-demand": 0, "spot": 0}  # outages that go on

    def refusal(self, capacity: Capacity, now: int) -> str | None:
        """Why the zone grants no node of a kind now; None if it does."""
        if self._closed[capacity]:
            return f"zone {self.name} has no {capacity} capacity"
        if capacity == "spot" and self.availability is not None:
            held = len(self.held())
            if held >= self.availability.at(now):
                return f"zone {self.name} has no spot capacity beyond {held} nodes"
        return None

    def held(self) -> list[Node]:
        """Spot nodes in the zone that are not being taken back."""
        return [
            node
            for pool in self.pools
            if pool.config.capacity == "spot"
            for node in pool.nodes
            if not node.claimed
        ]

    def close(self, *capacities: Capacity) -> None:
        """An outage begins."""
        for capacity in capacities:
            self._closed[capacity] += 1

    def reopen(self, *capacities: Capacity) -> None:
        """It ends."""
        for capacity in capacities:
            self._closed[capacity] -= 1


class Zones:
    """All zones of a run.

    Args:
        env: the run's clock.
        sections: the scenario's zones.
        availability: by name of a zone, where it is replayed.
        draws: the run's draws.
        sink: gets the events.
        take_back: has the cloud claim a node now.
    """

    def __init__(
        self,
        env: Clock,
        sections: Sequence[ZoneSection],
        availability: Mapping[str, Availability],
        draws: Draws,
        sink: RecordSink,
    ) -> None:
        self._env = env
        self._draws = draws
        self._sink = sink
        self.take_back: Callable[[Node], None]
        self._zones = {section.name: Zone(section, availability.get(section.name)) for section in sections}

    def of(self, pool: Pool) -> Zone | None:
        """The zone of a pool, which from now on knows the pool."""
        if pool.config.zone is None:
            return None
        zone = self._zones[pool.config.zone]
        zone.pools.append(pool)
        return zone

    def start(self) -> None:
        """Let the markets run, from time 0."""
        env = self._env
        regions: dict[str, list[Zone]] = {}
        for zone in self._zones.values():
            events = zone.config.mass_events
            if events is not None:
                if zone.config.region is not None and events.region_share:
                    regions.setdefault(zone.config.region, []).append(zone)
                own = 1.0 - (events.region_share if zone.config.region is not None else 0.0)
                if own > 0:
                    env.process(self._zone_events(zone, events, own))
            for number, stock_outs in enumerate(zone.config.stock_outs):
                self._start_stock_outs(zone, stock_outs, number)
            if zone.availability is not None:
                env.process(self._replay(zone, zone.availability))
        for region, zones in regions.items():
            env.process(self._region_events(region, zones))

    # --- mass events --------------------------------------------------------------------------------------

    def _zone_events(self, zone: Zone, events: MassEvents, own: float) -> Generator[Event, None, None]:
        purpose = f"mass-event/zone/{zone.name}"
        number = 0
        while True:
            mean_units = self._draws.exponential(purpose, number)
            yield self._env.timeout(to_ps(mean_units * events.mean_time_between / own))
            self._strike(zone, events, purpose, number)
            number += 1

    def _region_events(self, region: str, zones: list[Zone]) -> Generator[Event, None, None]:
        purpose = f"mass-event/region/{region}"
        rates = {}
        for zone in zones:
            assert zone.config.mass_events is not None
            rates[zone.name] = (
                zone.config.mass_events.region_share / zone.config.mass_events.mean_time_between
            )
        highest = max(rates.values())
        number = 0
        while True:
            yield self._env.timeout(to_ps(self._draws.exponential(purpose, number) / highest))
            for zone in zones:
                assert zone.config.mass_events is not None
                if self._draws.uniform(f"{purpose}/{zone.name}", number) * highest < rates[zone.name]:
                    self._strike(zone, zone.config.mass_events, purpose, number)
            number += 1

    def _strike(self, zone: Zone, events: MassEvents, purpose: str, number: int) -> None:
        draws = self._draws
        all_of_them = draws.uniform(purpose, number, word=1) < events.take_all
        outage_ps = to_ps(events.outage.quantile_s(draws.uniform(purpose, number, word=2)))
        hit = [
            node
            for node in zone.held()
            if all_of_them
            or draws.uniform(f"{purpose}/{zone.name}/{node.pool.name}", node.ordinal, number)
            < events.take_share
        ]
        what = "all" if all_of_them else "some"
        self._tell(
            zone,
            "MassReclaim",
            f"The cloud takes {what} spot nodes of the zone back: {len(hit)} of {len(zone.held())} held here.",
            float(len(hit)),
        )
        if outage_ps:
            zone.close("spot")
            self._env.call_at(self._env.now + outage_ps, lambda _: self._reopen(zone, "spot"))
        for node in hit:
            self.take_back(node)

    # --- stock-outs ---------------------------------------------------------------------------------------

    def _start_stock_outs(self, zone: Zone, config: StockOuts, number: int) -> None:
        kinds: tuple[Capacity, ...] = (
            ("on-demand", "spot") if config.capacity == "any" else (config.capacity,)
        )
        for interval in config.intervals:
            if interval.start == 0:
                self._close(zone, *kinds)  # before the first nodes are asked for
            else:
                self._env.call_at(to_ps(interval.start), lambda _: self._close(zone, *kinds))
            self._env.call_at(to_ps(interval.end), lambda _: self._reopen(zone, *kinds))
        if config.mean_time_between is not None:
            self._env.process(self._stock_outs(zone, config, config.mean_time_between, kinds, number))

    def _stock_outs(
        self,
        zone: Zone,
        config: StockOuts,
        mean_s: float,
        kinds: tuple[Capacity, ...],
        number: int,
    ) -> Generator[Event, None, None]:
        purpose = f"stock-out/{zone.name}/{number}"
        draws, event = self._draws, 0
        while True:
            yield self._env.timeout(to_ps(draws.exponential(purpose, event) * mean_s))
            self._close(zone, *kinds)
            yield self._env.timeout(to_ps(config.duration.quantile_s(draws.uniform(purpose, event, word=1))))
            self._reopen(zone, *kinds)
            event += 1

    def _close(self, zone: Zone, *kinds: Capacity) -> None:
        zone.close(*kinds)
        self._tell(zone, "StockOut", f"The zone grants no new {' or '.join(kinds)} nodes.")

    def _reopen(self, zone: Zone, *kinds: Capacity) -> None:
        zone.reopen(*kinds)
        self._tell(zone, "StockOutEnded", f"The zone grants new {' and '.join(kinds)} nodes again.")

    # --- replay -------------------------------------------------------------------------------------------

    def _replay(self, zone: Zone, availability: Availability) -> Generator[Event, None, None]:
        draws, env = self._draws, self._env
        for change, (t_ps, nodes) in enumerate(zip(*availability, strict=True)):
            yield env.timeout(t_ps - env.now)
            held = zone.held()
            excess = len(held) - nodes
            if excess <= 0:
                continue
            purpose = f"replayed-reclaim/{zone.name}"
            held.sort(key=lambda n: draws.uniform(f"{purpose}/{n.pool.name}", n.ordinal, change))
            self._tell(
                zone,
                "CapacityFell",
                f"The zone has {nodes} spot nodes from {to_s(t_ps):g} s on; {excess} of those held are taken back.",
                float(nodes),
            )
            for node in held[:excess]:
                self.take_back(node)

    def _tell(self, zone: Zone, reason: str, message: str, value: float | None = None) -> None:
        self._sink.event(self._env.now, "zone", zone.name, reason, message, value)


def market_notes(config: ClusterSection) -> list[str]:
    """What a reader must know of spot pools whose market is not described."""
    alone = [pool.name for pool in config.pools if pool.capacity == "spot" and pool.zone is None]
    if not alone:
        return []
    return [
        f"spot nodes of {', '.join(alone)} are reclaimed one by one; real zones lose many at once (cluster.zones)"
    ]

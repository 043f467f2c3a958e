"""Samples the whole system at a fixed interval: one row of timeline.parquet a time.

Gauges are read at the end of an interval; rates and counts cover it. Looking changes nothing: engines are
peeked, never advanced.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from simpy import Event

from simulator.billing import usd
from simulator.clock import LAST, Clock
from simulator.engines.protocol import EngineCounters, EngineSnapshot
from simulator.units import PS_PER_S_FLOAT, to_s

if TYPE_CHECKING:
    from simulator.clients.client import Client
    from simulator.cluster.cluster import Cluster
    from simulator.cluster.replica import Replica
    from simulator.gateway.gateway import Gateway
    from simulator.records.sink import RecordSink


@dataclass(slots=True)
class FleetTotals:
    """Engine counters summed over every replica there ever was."""

    steps: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    prefix_cache_queries: int = 0
    prefix_cache_hits: int = 0
    num_preemptions: int = 0

    def add(self, now: EngineCounters, before: EngineCounters) -> None:
        """Add what changed between two readings of one engine."""
        self.steps += now.steps - before.steps
        self.prompt_tokens += now.prompt_tokens - before.prompt_tokens
        self.generation_tokens += now.generation_tokens - before.generation_tokens
        self.prefix_cache_queries += now.prefix_cache_queries - before.prefix_cache_queries
        self.prefix_cache_hits += now.prefix_cache_hits - before.prefix_cache_hits
        self.num_preemptions += now.num_preemptions - before.num_preemptions


class TimelineSampler:
    """Writes a row every ``interval_ps`` and keeps the fleet's counters.

    Args:
        clock: the run's clock.
        interval_ps: spacing of the rows.
        sink: takes the rows.
        cluster: pods, nodes, money.
        gateway: its queue.
        client: arrivals, ends, first tokens.
        gpu_memory_used_bytes: what a serving replica's GPU holds; vLLM reserves it whole at start.
    """

    def __init__(
        self,
        clock: Clock,
        interval_ps: int,
        sink: RecordSink,
        cluster: Cluster,
        gateway: Gateway,
        client: Client,
        gpu_memory_used_bytes: float,
    ) -> None:
        self.totals = FleetTotals()
        self._clock = clock
        self._interval_ps = interval_ps
        self._sink = sink
        self._cluster = cluster
        self._gateway = gateway
        self._client = client
        self._gpu_memory_used_bytes = gpu_memory_used_bytes
        self._seen: dict[Replica, tuple[EngineCounters, int]] = {}
        self._last_ps = 0
        self._restarts = 0

    def watch(self, replica: Replica) -> None:
        """A new replica: its counters start at zero now."""
        self._seen[replica] = (EngineCounters(), self._clock.now)

    def process(self) -> Generator[Event, None, None]:
        """The SimPy process: samples until the run ends."""
        while True:
            yield self._clock.event_at(self._last_ps + self._interval_ps, LAST)
            self.sample()

    def sample(self) -> None:
        """Write the row of the interval that ends now; nothing if it is empty."""
        now = self._clock.now
        interval_ps = now - self._last_ps
        if interval_ps <= 0:
            return
        before = replace(self.totals)
        running = waiting = busy_ps = serving_ps = 0
        usage: list[float] = []
        for replica in list(self._seen):
            replica_busy_ps, replica_serving_ps, snapshot = self._read(replica)
            busy_ps += replica_busy_ps
            serving_ps += replica_serving_ps
            if not replica.alive:
                del self._seen[replica]  # its engine will not move any more
            elif replica.listening:
                running += snapshot.running
                waiting += snapshot.waiting
                usage.append(snapshot.kv_cache_usage)
        self._last_ps = now
        totals, counts, stats = self.totals, self._cluster.counts(), self._client.drain_interval()
        ttft_s = sorted(stats.ttft_s)
        row: tuple[Any, ...] = (
            to_s(now),
            interval_ps / PS_PER_S_FLOAT,
            stats.arrivals,
            stats.attempts,
            stats.completed,
            stats.fell_back,
            stats.errors,
            stats.slo_good,
            _quantile(ttft_s, 0.5),
            _quantile(ttft_s, 0.99),
            _quantile(sorted(stats.tpot_s), 0.5),
            self._gateway.queue_length,
            running,
            waiting,
            running / len(usage) if usage else None,
            sum(usage) / len(usage) if usage else None,
            max(usage) if usage else None,
            float(busy_ps) / serving_ps if serving_ps else None,
            self._gpu_memory_used_bytes if usage else None,
            totals.prompt_tokens - before.prompt_tokens,
            totals.generation_tokens - before.generation_tokens,
            totals.prefix_cache_queries - before.prefix_cache_queries,
            totals.prefix_cache_hits - before.prefix_cache_hits,
            totals.num_preemptions - before.num_preemptions,
            counts.desired,
            counts.provisioned,
            counts.ready,
            counts.terminating,
            counts.nodes_on_demand,
            counts.nodes_spot,
            usd(self._cluster.micro_usd(now) + self._client.fallback_bill.micro_usd),
            counts.restarts - self._restarts,
            counts.slowdown_max,
            counts.temperature_max_c,
        )
        self._restarts = counts.restarts
        self._sink.timeline(row)

    def _read(self, replica: Replica) -> tuple[int, int, EngineSnapshot]:
        """What the replica did since it was last looked at; its counters go into the totals."""
        counters, since_ps = self._seen[replica]
        snapshot = replica.peek()
        until_ps = self._clock.now if replica.stopped_ps is None else replica.stopped_ps
        self.totals.add(snapshot.counters, counters)
        self._seen[replica] = (snapshot.counters, until_ps)
        return snapshot.counters.busy_ps - counters.busy_ps, until_ps - since_ps, snapshot


def _quantile(rising: list[float], share: float) -> float | None:
    """``np.quantile`` of values in rising order, bit by bit; None without a value.

    An interval has few values, for which numpy's own takes longer than everything else in a row.
    """
    if not rising:
        return None
    position = share * (len(rising) - 1)
    low = int(position)
    part = position - low
    below, above = rising[low], rising[min(low + 1, len(rising) - 1)]
    if part < 0.5:  # numpy keeps the result between the two whatever is rounded
        return below + (above - below) * part
    return above - (above - below) * (1 - part)

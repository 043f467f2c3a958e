"""Metrics as autoscalers and routers see them: scraped now and then, late, and gone when their source is.

Each target is scraped once per interval at an offset of its own (Prometheus spreads its targets so). What a target
answers is `simulator.autoscaling.exporters`; a pod's two exporters are scraped together.

A query at ``now`` is evaluated at ``now`` less the adapter's delay. An instant query gets a series' newest sample,
unless it is older than the staleness limit (Prometheus' lookback, 5 minutes). A scrape that finds no exporter, or no
pod any more, ends the series, as Prometheus' staleness markers do; what was sampled before still counts in a window.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from simulator.autoscaling import promql
from simulator.autoscaling.autoscaler import Point
from simulator.autoscaling.exporters import EXPORTED, GATEWAY, PodExporters, Values
from simulator.autoscaling.latencies import BOUNDS_S, bucket_names, histogram_of
from simulator.units import to_ps, to_s

if TYPE_CHECKING:
    from simpy import Event

    from simulator.clock import Clock
    from simulator.cluster.cluster import Cluster
    from simulator.cluster.pods import Pod
    from simulator.draws import Draws


class _Scrape(NamedTuple):
    timestamp_ps: int
    window_ps: int
    values: Values


class Scraper:
    """Scrapes the pods of a cluster and the gateway; to be made before the cluster starts.

    Args:
        env: the run's clock.
        cluster: whose pods.
        draws: the run's draws, for the targets' offsets.
        interval_s: the scrape interval.
        delay_s: from a scrape until a reader can have it.
        staleness_s: how long a sample can be read.
        exporters: what pods answer.
        gateway: what the gateway answers; None leaves it out.
        aliases: other names of metrics, mapped to exported ones.
        labels: labels that every pod's series have.
        job: tells the offsets of two scrapers of one run apart.
    """

    def __init__(
        self,
        env: Clock,
        cluster: Cluster,
        draws: Draws,
        *,
        interval_s: float,
        delay_s: float = 0.0,
        staleness_s: float = 300.0,
        exporters: PodExporters | None = None,
        gateway: Callable[[], Values] | None = None,
        aliases: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        job: str = "prometheus",
    ) -> None:
        self._env = env
        self._draws = draws
        self._interval_ps = to_ps(interval_s)
        self._delay_ps = to_ps(delay_s)
        self._staleness_ps = to_ps(staleness_s)
        self._exporters = exporters or PodExporters()
        self._aliases = {} if aliases is None else aliases
        self._labels = {} if labels is None else labels
        self._purpose = f"scrape-offset/{job}"
        self._series: dict[str, deque[_Scrape]] = {}
        self._kept_ps = 0
        self._began = False
        cluster.on_pod(self._watch)
        if gateway is not None:
            env.process(self._scrape_gateway(gateway))

    # --- what can be read -----------------------------------------------------------------------------------

    def exported(self, metric: str) -> str | None:
        """The exporter's name of a metric; None if nothing exports it.

        Latency histograms and symptoms of faults are kept from the first question for them on; to be asked before the
        run begins.
        """
        name = self._aliases.get(metric, metric)
        if name not in EXPORTED:
            return None
        self._exporters.wanted.add(name)
        if histogram_of(name) is not None:
            self._exporters.latencies.wanted = True
        return name

    def names(self) -> Iterable[str]:
        """All names that can be read, aliases first; single buckets of histograms left out."""
        return (*self._aliases, *(name for name in EXPORTED if "{" not in name))

    def labels(self, target: str) -> Mapping[str, str]:
        """The labels of a target's series that are known."""
        return {} if target == GATEWAY else {**self._labels, "pod": target}

    def keep(self, window_s: float) -> None:
        """Keep samples for windows of this length; to be called before the run begins.

        Raises:
            RuntimeError: the run has begun.
        """
        if self._began:
            raise RuntimeError("windows are to be named before the run begins: what was sampled may be gone")
        self._kept_ps = max(self._kept_ps, to_ps(window_s))

    # --- queries --------------------------------------------------------------------------------------------

    def latest(self, metric: str, now: int) -> dict[str, Point]:
        """The newest sample of each series, by target.

        ``now`` may not lie before that of an earlier call by more than the adapter's delay.
        """
        found = {}
        for target in self._series:
            point = self.point(metric, target, now)
            if point is not None:
                found[target] = point
        return found

    def point(self, metric: str, target: str, now: int) -> Point | None:
        """The newest sample of one target; None if there is nothing."""
        series = self._series.get(target)
        if series is None:
            return None
        name = self._aliases.get(metric, metric)
        visible_ps = now - self._delay_ps
        for scrape in reversed(series):
            if scrape.timestamp_ps <= visible_ps:
                value = scrape.values.get(name)
                if value is None or visible_ps - scrape.timestamp_ps > self._staleness_ps:
                    return None
                return Point(value, scrape.timestamp_ps, scrape.window_ps)
        return None

    def rate(self, metric: str, window_s: float, now: int) -> dict[str, float]:
        """``rate(metric[window])``, per second, by target; needs two samples in the window."""
        end_s = to_s(now - self._delay_ps)
        return self._over(metric, window_s, now, lambda s: promql.rate(s, end_s - window_s, end_s))

    def avg_over_time(self, metric: str, window_s: float, now: int) -> dict[str, float]:
        """``avg_over_time(metric[window])``, by target."""
        return self._over(metric, window_s, now, promql.avg_over_time)

    def max_over_time(self, metric: str, window_s: float, now: int) -> dict[str, float]:
        """``max_over_time(metric[window])``, by target."""
        return self._over(metric, window_s, now, promql.max_over_time)

    def quantile(self, q: float, histogram: str, window_s: float, now: int) -> float | None:
        """``histogram_quantile(q, sum by (le) (rate(histogram_bucket[window])))``; None without observations.

        Raises:
            ValueError: no such histogram.
        """
        name = histogram_of(self._aliases.get(histogram, histogram))
        if name is None:
            raise ValueError(f"no histogram {histogram!r}: expected one of {', '.join(BOUNDS_S)}")
        cumulative = [sum(self.rate(bucket, window_s, now).values()) for bucket in bucket_names(name)]
        found = promql.histogram_quantile(q, BOUNDS_S[name], cumulative)
        return None if math.isnan(found) else found

    def value(self, metric: str, target: str) -> float | None:
        """The newest sample now, as a plain number: for routers."""
        point = self.point(metric, target, self._env.now)
        return None if point is None else point.value

    def _over(
        self, metric: str, window_s: float, now: int, function: Callable[[promql.Samples], float | None]
    ) -> dict[str, float]:
        window_ps = to_ps(window_s)
        if window_ps > self._kept_ps:
            raise ValueError(
                f"samples are kept for {to_s(self._kept_ps):g} s, not for a window of {window_s:g} s"
            )
        name = self._aliases.get(metric, metric)
        visible_ps = now - self._delay_ps
        found = {}
        for target, series in self._series.items():
            samples = [
                (to_s(scrape.timestamp_ps), scrape.values[name])
                for scrape in series
                if visible_ps - window_ps < scrape.timestamp_ps <= visible_ps and name in scrape.values
            ]
            value = function(samples)
            if value is not None:
                found[target] = value
        return found

    # --- scraping -------------------------------------------------------------------------------------------

    def _watch(self, pod: Pod) -> None:
        self._env.process(self._scrape_pod(pod))

    def _scrape_pod(self, pod: Pod) -> Generator[Event, None, None]:
        env, interval_ps = self._env, self._interval_ps
        series = self._begin(pod.name)
        last_ps, last_busy_ps = env.now, 0
        yield env.timeout(self._until_first(self._purpose, pod.ordinal))
        while pod.gone_ps is None:
            now = env.now
            values, busy_ps = self._exporters.read(pod, now - last_ps, last_busy_ps)
            self._add(series, _Scrape(now, now - last_ps, values))
            last_ps, last_busy_ps = now, busy_ps
            yield env.timeout(interval_ps)
        if self._kept_ps:
            self._add(series, _Scrape(env.now, env.now - last_ps, {}))
            yield env.timeout(self._kept_ps + self._delay_ps)
        del self._series[pod.name]
        self._exporters.latencies.forget(pod.name)

    def _scrape_gateway(self, read: Callable[[], Values]) -> Generator[Event, None, None]:
        env = self._env
        series = self._begin(GATEWAY)
        last_ps = env.now
        yield env.timeout(self._until_first(f"{self._purpose}/{GATEWAY}", 0))
        while True:
            now = env.now
            self._add(series, _Scrape(now, now - last_ps, read()))
            last_ps = now
            yield env.timeout(self._interval_ps)

    def _begin(self, target: str) -> deque[_Scrape]:
        self._began = self._began or self._env.now > 0
        series = self._series[target] = deque()
        return series

    def _until_first(self, purpose: str, ordinal: int) -> int:
        offset_ps = int(self._draws.uniform(purpose, ordinal) * self._interval_ps)
        return (offset_ps - self._env.now) % self._interval_ps

    def _add(self, series: deque[_Scrape], scrape: _Scrape) -> None:
        self._began = True
        series.append(scrape)
        # Only the newest scrape that is visible now can still be read, what came after it, and what is in a window.
        oldest_ps = scrape.timestamp_ps - self._delay_ps - self._kept_ps
        while len(series) > 1 and series[1].timestamp_ps <= oldest_ps:
            series.popleft()

"""Metrics as autoscalers and routers see them: scraped now and then, late, and gone when their source is.

Each pod is scraped once per interval at an offset of its own (Prometheus spreads its targets so). Two exporters
answer, and differ in when a pod has a sample:

- vLLM's API server, from the moment it listens until its process ends. A pod that loads has no vLLM metrics, so
  for an HPA Pods metric it is *missing*.
- dcgm-exporter, a DaemonSet on the node. It labels a GPU with the pod that the kubelet has allocated it to, which
  happens when the pod is bound; so a pod that loads *has* a sample, with a utilisation of 0 and no memory in use.
  A GPU-utilisation autoscaler thus sees idle pods where a queue-length autoscaler sees missing ones.

``DCGM_FI_DEV_GPU_UTIL`` here is the busy share between two scrapes in whole per cent. The real field covers the
last second or less; the share has the same mean and less noise.

A reader at ``now`` gets the newest scrape that is at least the adapter's delay old, unless it is older than the
staleness limit. A scrape that finds no exporter, or no pod any more, ends the series, as Prometheus' staleness
markers do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import TYPE_CHECKING, Final, NamedTuple

from simulator.autoscaling.hpa_types import Sample
from simulator.units import to_ps

if TYPE_CHECKING:
    from simpy import Event

    from simulator.clock import Clock
    from simulator.cluster.cluster import Cluster
    from simulator.cluster.pods import Pod
    from simulator.draws import Draws

NUM_REQUESTS_WAITING: Final = "vllm:num_requests_waiting"
NUM_REQUESTS_RUNNING: Final = "vllm:num_requests_running"
KV_CACHE_USAGE: Final = "vllm:kv_cache_usage_perc"
GPU_UTILIZATION: Final = "DCGM_FI_DEV_GPU_UTIL"
GPU_MEMORY_USED: Final = "DCGM_FI_DEV_FB_USED"

EXPORTED: Final = (
    NUM_REQUESTS_WAITING,
    NUM_REQUESTS_RUNNING,
    KV_CACHE_USAGE,
    GPU_UTILIZATION,
    GPU_MEMORY_USED,
)
"""Names of the metrics that a pod has, as their exporters spell them. DCGM's memory is in MiB."""


class _Scrape(NamedTuple):
    timestamp_ps: int
    window_ps: int
    values_milli: dict[str, int]


class Scraper:
    """Scrapes the pods of a cluster; to be made before the cluster starts.

    Args:
        env: the run's clock.
        cluster: whose pods.
        draws: the run's draws, for the pods' offsets.
        interval_s: the scrape interval.
        delay_s: from a scrape until a reader can have it.
        staleness_s: how long a sample can be read.
        gpu_memory_used_bytes: device memory that a running vLLM holds, per GPU.
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
        gpu_memory_used_bytes: int = 0,
        job: str = "prometheus",
    ) -> None:
        self._env = env
        self._draws = draws
        self._interval_ps = to_ps(interval_s)
        self._delay_ps = to_ps(delay_s)
        self._staleness_ps = to_ps(staleness_s)
        self._memory_mib = gpu_memory_used_bytes // 2**20
        self._purpose = f"scrape-offset/{job}"
        self._series: dict[str, deque[_Scrape]] = {}
        cluster.on_pod(self._watch)

    def latest(self, metric: str, pod: str, now: int) -> Sample | None:
        """What a reader at ``now`` gets of a pod's metric, by its exported name; None if there is nothing.

        ``now`` may not lie before that of an earlier call by more than the adapter's delay.
        """
        series = self._series.get(pod)
        if series is None:
            return None
        visible_ps = now - self._delay_ps
        for scrape in reversed(series):
            if scrape.timestamp_ps <= visible_ps:
                value = scrape.values_milli.get(metric)
                if value is None or visible_ps - scrape.timestamp_ps > self._staleness_ps:
                    return None
                return Sample(value, scrape.timestamp_ps, scrape.window_ps)
        return None

    def value(self, metric: str, pod: str) -> float | None:
        """The same now, as a plain number: for routers."""
        sample = self.latest(metric, pod, self._env.now)
        return None if sample is None else sample.value_milli / 1000

    def _watch(self, pod: Pod) -> None:
        self._env.process(self._scrape_pod(pod))

    def _scrape_pod(self, pod: Pod) -> Generator[Event, None, None]:
        env, interval_ps = self._env, self._interval_ps
        offset_ps = int(self._draws.uniform(self._purpose, pod.ordinal) * interval_ps)
        series = self._series[pod.name] = deque()
        last_ps, last_busy_ps = env.now, 0
        yield env.timeout((offset_ps - env.now) % interval_ps)
        while pod.gone_ps is None:
            now = env.now
            values, busy_ps = self._read(pod, now - last_ps, last_busy_ps)
            series.append(_Scrape(now, now - last_ps, values))
            last_ps, last_busy_ps = now, busy_ps
            # Only the newest scrape that is visible now can still be read, and what came after it.
            while len(series) > 1 and series[1].timestamp_ps <= now - self._delay_ps:
                series.popleft()
            yield env.timeout(interval_ps)
        del self._series[pod.name]

    def _read(self, pod: Pod, window_ps: int, last_busy_ps: int) -> tuple[dict[str, int], int]:
        """Values in milli-units, and the engine's busy time so far."""
        node = pod.node
        if node is None or node.gone_ps is not None:
            return {}, 0
        replica = pod.replica
        if replica is None or not replica.alive or not replica.listening:
            return {GPU_UTILIZATION: 0, GPU_MEMORY_USED: 0}, 0
        state = replica.peek()
        busy_ps = state.counters.busy_ps
        percent = min(100, 100 * (busy_ps - last_busy_ps) // window_ps) if window_ps else 0
        return {
            NUM_REQUESTS_WAITING: 1000 * state.waiting,
            NUM_REQUESTS_RUNNING: 1000 * state.running,
            KV_CACHE_USAGE: 1000 * state.kv_blocks_used // state.kv_blocks_total,
            GPU_UTILIZATION: 1000 * percent,
            GPU_MEMORY_USED: 1000 * self._memory_mib,
        }, busy_ps

"""What an autoscaler is, what it reads and what it writes to.

An autoscaler is a loop on the clock with its system's own timing around a pure decision. It reads the target's size
and pods (`ScaleTarget`), metrics as they were scraped (`MetricsReader`) and the floor that others set (`Floors`);
it writes the target's size, or sets a floor. Several act on one target:

- a **scaler** (``writes_size``) writes the size. With several the last write stands and each sees what is there,
  as in a cluster. Two that own a HorizontalPodAutoscaler see each other's selector and do nothing, as upstream.
- a **floor** writes nothing to the target. Its value raises the minimum that every scaler works with (never above
  that scaler's own maximum) from the scaler's next pass on, as if somebody had patched ``minReplicas``. The largest
  of several floors holds. What a scaler reads (sizes, pods, metrics) is the truth with the extra pods in it.
- without a scaler the size is the starting size or the floor, whichever is larger (`HeldSize`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.autoscaling.floors import Floors
    from simulator.autoscaling.metrics_server import MetricsServer
    from simulator.clock import Clock
    from simulator.cluster.pods import Pod
    from simulator.draws import Draws
    from simulator.records.sink import RecordSink
    from simulator.workload.request import RequestSpec


class Autoscaler(Protocol):
    """One autoscaling policy at work.

    Attributes:
        name: in events and in the record of who scaled.
        writes_size: whether it writes the target's size (a scaler) or only sets a floor.
    """

    @property
    def name(self) -> str: ...

    @property
    def writes_size(self) -> bool: ...

    def start(self) -> None:
        """Begin, at the clock's time; to be called once, after the cluster has started."""


class Sizes(Protocol):
    """Sizes of the target at an instant."""

    @property
    def desired(self) -> int:
        """Replicas that it is asked to have (spec.replicas)."""

    @property
    def provisioned(self) -> int:
        """Pods that exist and neither end nor have failed (status.replicas)."""

    @property
    def ready(self) -> int:
        """Of these ready."""


class ScaleTarget(Protocol):
    """What is scaled: the cluster's Deployment."""

    def counts(self) -> Sizes:
        """Sizes now."""

    def pods(self) -> tuple[Pod, ...]:
        """All pods that exist, oldest first: also terminating ones, and failed ones not yet collected."""

    def set_replicas(self, replicas: int, now: int, by: str) -> None:
        """Write the size; ``now`` is the clock's time, ``by`` the name of who does it."""


class Point(NamedTuple):
    """A value of one series.

    Attributes:
        value: in the metric's own unit.
        timestamp_ps: when it was scraped.
        window_ps: time since the scrape before it.
    """

    value: float
    timestamp_ps: int
    window_ps: int


class MetricsReader(Protocol):
    """Metrics as a query at ``now`` finds them: scraped, late by the adapter's delay, gone when stale.

    A metric is named as its exporter names it or by an alias of the scenario. Results are by target: a pod's name, or
    ``gateway``. A target without the metric is not in the result; `total` of nothing is None.
    """

    def exported(self, metric: str) -> str | None:
        """The exporter's name of a metric; None if nothing exports it.

        Latency histograms are collected only if somebody has asked for one of their series before the run begins.
        """

    def names(self) -> Iterable[str]:
        """All names that can be read, aliases included."""

    def labels(self, target: str) -> Mapping[str, str]:
        """The labels of a target's series that are known."""

    def keep(self, window_s: float) -> None:
        """Keep samples for windows of this length; to be called before the run begins.

        Raises:
            RuntimeError: the run has begun.
        """

    def latest(self, metric: str, now: int) -> Mapping[str, Point]:
        """The newest sample of each series (an instant query)."""

    def rate(self, metric: str, window_s: float, now: int) -> Mapping[str, float]:
        """``rate(metric[window])``, per second; needs two samples in the window."""

    def avg_over_time(self, metric: str, window_s: float, now: int) -> Mapping[str, float]:
        """``avg_over_time(metric[window])``."""

    def max_over_time(self, metric: str, window_s: float, now: int) -> Mapping[str, float]:
        """``max_over_time(metric[window])``."""

    def quantile(self, q: float, histogram: str, window_s: float, now: int) -> float | None:
        """``histogram_quantile(q, sum by (le) (rate(histogram_bucket[window])))``; None without observations."""


def total(by_target: Mapping[str, float] | Mapping[str, Point]) -> float | None:
    """``sum()`` over the series; None without any, as a query without a result."""
    if not by_target:
        return None
    return sum(value.value if isinstance(value, Point) else value for value in by_target.values())


@dataclass(frozen=True, slots=True)
class Services:
    """What autoscalers work with.

    Attributes:
        clock: the run's clock.
        target: what they scale.
        floors: minimum sizes that they give each other.
        metrics: the scenario's Prometheus.
        new_reader: makes another reader of the same targets for a system that collects by itself: job name (unique),
            interval in seconds, delay in seconds from a sample until a query finds it.
        draws: the run's draws.
        sink: gets the events.
        resources: the cluster's metrics-server, which begins to measure when it is first asked for; None without one.
        gateway: what the gateway itself answers now, by metric: for a system that asks it without Prometheus.
    """

    clock: Clock
    target: ScaleTarget
    floors: Floors
    metrics: MetricsReader
    new_reader: Callable[[str, float, float], MetricsReader]
    draws: Draws
    sink: RecordSink
    resources: Callable[[], MetricsServer] | None = None
    gateway: Callable[[], Mapping[str, float]] = dict


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What only planners know beside the metrics.

    Attributes:
        engine_rate: requests a second that one engine serves, from its step times: by mean input and output tokens, and
            the limits of TTFT and of the time between tokens, in seconds.
        arrivals: the run's requests in time order.
        gpus: of one replica.
        kv_tokens: that one replica's KV cache holds.
    """

    engine_rate: Callable[[float, float, float, float], float]
    arrivals: Callable[[], Iterable[RequestSpec]]
    gpus: int
    kv_tokens: int

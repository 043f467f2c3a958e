"""vLLM's latency histograms, pod by pod: for queries such as the p95 of TTFT.

They cost a little for every request, so they are kept only where somebody reads them. Bounds are those of vLLM 0.33
(v1/metrics/buckets.py). A server observes TTFT and end-to-end latency from the arrival at its HTTP front end, without
the gateway's queue and the wire; inter-token latencies count from step to step. The engine tells of its tokens stretch
by stretch, so a scrape may miss the gaps of the stretch it falls into; the next one has them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from simulator.records.itl import ItlHistogram, bin_edges_ps
from simulator.units import PS_PER_S, to_ps

if TYPE_CHECKING:
    from simulator.attempts import Attempt, AttemptListener
    from simulator.engines.protocol import Finish, ItlSink
    from simulator.outcomes import Cause

TTFT: Final = "vllm:time_to_first_token_seconds"
ITL: Final = "vllm:inter_token_latency_seconds"
E2E: Final = "vllm:e2e_request_latency_seconds"

BOUNDS_S: Final[Mapping[str, tuple[float, ...]]] = {
    TTFT: (
        *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0),
        *(40.0, 80.0, 160.0, 640.0, 2560.0),
    ),
    ITL: (
        *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0),
        *(40.0, 80.0),
    ),
    E2E: (
        *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0),
        *(480.0, 960.0, 1920.0, 7680.0),
    ),
}
"""Upper bounds of the buckets but for +Inf."""

_BOUNDS_PS: Final = {name: tuple(map(to_ps, bounds)) for name, bounds in BOUNDS_S.items()}


def bucket_names(histogram: str) -> tuple[str, ...]:
    """Names of a histogram's cumulative buckets, the last one for +Inf."""
    bounds = (*(f"{bound:g}" for bound in BOUNDS_S[histogram]), "+Inf")
    return tuple(f'{histogram}_bucket{{le="{bound}"}}' for bound in bounds)


_BUCKETS: Final = {name: bucket_names(name) for name in BOUNDS_S}


class _Observed:
    """One histogram; what lies in the future of a scrape is kept back."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bounds_ps = _BOUNDS_PS[name]
        self._counts = [0] * (len(self._bounds_ps) + 1)
        self._sum_ps = 0
        self._pending: list[tuple[int, int]] = []

    def add(self, seen_ps: int, value_ps: int) -> None:
        self._pending.append((seen_ps, value_ps))

    def write(self, values: dict[str, float], now: int) -> None:
        later = []
        for seen_ps, value_ps in self._pending:
            if seen_ps > now:
                later.append((seen_ps, value_ps))
                continue
            self._counts[bisect_left(self._bounds_ps, value_ps)] += 1
            self._sum_ps += value_ps
        self._pending = later
        _write(values, self._name, self._counts, self._sum_ps)


def _write(values: dict[str, float], name: str, counts: list[int], sum_ps: int) -> None:
    total = 0
    for bucket, count in zip(_BUCKETS[name], counts, strict=True):
        total += count
        values[bucket] = float(total)
    values[f"{name}_count"] = float(total)
    values[f"{name}_sum"] = sum_ps / PS_PER_S


class ServerLatencies:
    """The histograms of one server process: between its replica and who listens to it.

    Args:
        inner: hears everything unchanged.
        inner_itl: gets the inter-token latencies too.
        frontend_in_ps: time from the server's HTTP front end to the engine's queue, by prompt tokens.
    """

    def __init__(
        self, inner: AttemptListener, inner_itl: ItlSink, frontend_in_ps: Callable[[int], int]
    ) -> None:
        self._inner = inner
        self._inner_itl = inner_itl
        self._in_ps = frontend_in_ps
        self._ttft, self._e2e = _Observed(TTFT), _Observed(E2E)
        self._itl = ItlHistogram(("all",))
        self._bucket_of: dict[int, int] = {}

    # --- an AttemptListener ---------------------------------------------------------------------------------

    def first_token(self, attempt: Attempt, seen_ps: int) -> None:
        self._ttft.add(seen_ps, seen_ps - self._arrival_ps(attempt))
        self._inner.first_token(attempt, seen_ps)

    def finished(self, attempt: Attempt, seen_ps: int, finish: Finish) -> None:
        self._e2e.add(seen_ps, seen_ps - self._arrival_ps(attempt))
        self._inner.finished(attempt, seen_ps, finish)

    def failed(self, attempt: Attempt, seen_ps: int, cause: Cause, output_tokens: int) -> None:
        self._inner.failed(attempt, seen_ps, cause, output_tokens)

    # --- an ItlSink -----------------------------------------------------------------------------------------

    def add(self, workload: int, first_gap_ps: int, increment_ps: int, count: int, weight: int) -> None:
        self._itl.add(0, first_gap_ps, increment_ps, count, weight)
        self._inner_itl.add(workload, first_gap_ps, increment_ps, count, weight)

    # --- a scrape -------------------------------------------------------------------------------------------

    def write(self, values: dict[str, float], now: int) -> None:
        """Put the histograms' series, as of now, among a scrape's values."""
        self._ttft.write(values, now)
        self._e2e.write(values, now)
        pool, bounds = self._itl.pool("all"), _BOUNDS_PS[ITL]
        counts = [0] * (len(bounds) + 1)
        for index, tokens in pool.bins.items():
            bucket = self._bucket_of.get(index)
            if bucket is None:
                bucket = self._bucket_of[index] = bisect_left(bounds, bin_edges_ps(index)[0])
            counts[bucket] += tokens
        _write(values, ITL, counts, pool.sum_ps)

    def _arrival_ps(self, attempt: Attempt) -> int:
        assert attempt.engine_ps is not None
        return attempt.engine_ps - self._in_ps(attempt.engine_request.prompt_tokens)


class Latencies:
    """The latency histograms of all pods of a run.

    Attributes:
        wanted: whether somebody reads them.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._servers: dict[str, ServerLatencies] = {}

    def serve(self, pod: str, server: ServerLatencies) -> None:
        """A server process has started in a pod."""
        self._servers[pod] = server

    def write(self, pod: str, values: dict[str, float], now: int) -> None:
        """Put a pod's series among a scrape's values."""
        server = self._servers.get(pod)
        if server is not None:
            server.write(values, now)

    def forget(self, pod: str) -> None:
        """A pod has gone."""
        self._servers.pop(pod, None)


HISTOGRAM_SERIES: Final = tuple(
    series
    for name, buckets in _BUCKETS.items()
    for series in (f"{name}_count", f"{name}_sum", f"{name}_bucket", *buckets)
)
"""Names under which the histograms can be read; ``_bucket`` alone is for quantiles."""


def histogram_of(series: str) -> str | None:
    """The histogram that a series belongs to; None if it is none."""
    return next((name for name in BOUNDS_S if series == name or series.startswith(f"{name}_")), None)

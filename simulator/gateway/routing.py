"""Which replica gets a request: the protocol of routing policies, and those that look at load alone.

A policy is a small deterministic object that knows nothing of the clock. It sees what a real gateway sees: its
own counts of requests in flight, which are exact, and scraped metrics, which are stale.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Final, Protocol

from simulator.attempts import Attempt, request_id_of
from simulator.draws import Draws
from simulator.gateway.endpoint import Endpoint

LatestMetric = Callable[[str, str], float | None]
"""``latest(metric, pod)``: the newest scraped value, None if there is none yet."""

KV_USAGE: Final = "vllm:kv_cache_usage_perc"

_order = attrgetter("order")


class RoutingPolicy(Protocol):
    """Chooses an endpoint for each attempt."""

    def add(self, endpoint: Endpoint) -> None:
        """New requests may go to this endpoint."""

    def remove(self, endpoint: Endpoint) -> None:
        """No new requests go to this endpoint."""

    def choose(self, candidates: Sequence[Endpoint], attempt: Attempt) -> Endpoint:
        """The endpoint that gets the attempt.

        Args:
            candidates: endpoints that can take it, at least one, sorted by ``order``.
            attempt: what is to be sent; a policy that keeps a memory notes where it went.
        """


class Stateless:
    """Base of the policies that keep nothing per endpoint."""

    def add(self, endpoint: Endpoint) -> None:
        pass

    def remove(self, endpoint: Endpoint) -> None:
        pass


class RoundRobin(Stateless):
    """Each endpoint in turn, in the order they were added; one that cannot take the request is skipped."""

    def __init__(self) -> None:
        self._last = -1

    def choose(self, candidates: Sequence[Endpoint], attempt: Attempt) -> Endpoint:
        position = bisect_right(candidates, self._last, key=_order)
        chosen = candidates[position if position < len(candidates) else 0]
        self._last = chosen.order
        return chosen


class LeastOutstanding(Stateless):
    """Fewest requests in flight; ties go round (as nginx's ``least_conn`` does), so an idle fleet is spread."""

    def __init__(self) -> None:
        self._last = -1

    def choose(self, candidates: Sequence[Endpoint], attempt: Attempt) -> Endpoint:
        last, chosen = self._last, candidates[0]
        least = chosen.outstanding
        for endpoint in candidates:
            load = endpoint.outstanding
            if load < least or (load == least and chosen.order <= last < endpoint.order):
                chosen, least = endpoint, load
        self._last = chosen.order
        return chosen


class LeastKv(Stateless):
    """Lowest scraped KV cache usage; ties by requests in flight, then by age.

    A pod that was never scraped counts as empty. Between two scrapes the same pod stays the lowest, so bursts
    herd onto it: that is what stale metrics do, and why the interval is an input.
    """

    def __init__(self, latest: LatestMetric) -> None:
        self._latest = latest

    def choose(self, candidates: Sequence[Endpoint], attempt: Attempt) -> Endpoint:
        return min(candidates, key=self._load)

    def _load(self, endpoint: Endpoint) -> tuple[float, int]:
        return self._latest(KV_USAGE, endpoint.name) or 0.0, endpoint.outstanding


class RandomOfTwo(Stateless):
    """Two distinct endpoints at random; the one with fewer requests in flight, the first drawn on a tie.

    Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 12(10), 2001; Envoy's
    ``LEAST_REQUEST``. The draw is addressed by request and attempt number.
    """

    PURPOSE: Final = "gateway.random-of-two"
    _PAGE: Final = 512
    _PAGES_KEPT: Final = 64

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self._pages: dict[int, list[list[float]]] = {}

    def choose(self, candidates: Sequence[Endpoint], attempt: Attempt) -> Endpoint:
        n = len(candidates)
        if n == 1:
            return candidates[0]
        u, v = self._two(request_id_of(attempt.attempt_id), attempt.number)
        i = int(u * n)
        j = int(v * (n - 1))
        j += j >= i
        first, second = candidates[i], candidates[j]
        return second if second.outstanding < first.outstanding else first

    def _two(self, request_id: int, number: int) -> tuple[float, float]:
        if number:
            row = self._draws.uniforms(self.PURPOSE, request_id, 1, number)[0]
            return float(row[0]), float(row[1])
        # First attempts come with nearly consecutive ids: one call of the generator serves a page of them.
        page, offset = divmod(request_id, self._PAGE)
        rows = self._pages.get(page)
        if rows is None:
            if len(self._pages) >= self._PAGES_KEPT:
                del self._pages[next(iter(self._pages))]
            drawn = self._draws.uniforms(self.PURPOSE, page * self._PAGE, self._PAGE)
            rows = self._pages[page] = drawn[:, :2].tolist()
        u, v = rows[offset]
        return u, v

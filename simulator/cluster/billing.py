"""What nodes cost when prices change with time: the time is exact integers, money one product per price."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

_PS_PER_HOUR = 3600 * 10**12


class Meter:
    """Node time by price.

    Args:
        prices: (from when in picoseconds, dollars per GPU-hour), rising; the first holds from time 0.
        gpus_per_node: GPUs that a node is paid for.
    """

    def __init__(self, prices: Sequence[tuple[int, float]], gpus_per_node: int) -> None:
        self._starts = [0, *(start for start, _ in prices[1:])]
        self._usd = [usd for _, usd in prices]
        self._gpus = gpus_per_node
        self._closed_ps = [0] * len(prices)

    def price(self, now: int) -> float:
        """Dollars per GPU-hour at an instant."""
        return self._usd[bisect_right(self._starts, now) - 1]

    def close(self, since_ps: int, until_ps: int) -> None:
        """A node that was paid for in this time has gone."""
        self._add(self._closed_ps, since_ps, until_ps)

    def node_ps(self, alive_since_ps: Sequence[int], now: int) -> int:
        """Node-picoseconds up to ``now`` of nodes that have gone and of those alive since the given instants."""
        return sum(self._closed_ps) + sum(now - since for since in alive_since_ps)

    def cost_usd(self, alive_since_ps: Sequence[int], now: int) -> float:
        """The bill up to ``now``."""
        spent_ps = self._closed_ps.copy()
        for since_ps in alive_since_ps:
            self._add(spent_ps, since_ps, now)
        # As GPU-hours times price: what a bill says, to the last bit where there is one price.
        return sum(
            node_ps * self._gpus / _PS_PER_HOUR * usd
            for node_ps, usd in zip(spent_ps, self._usd, strict=True)
        )

    def _add(self, spent_ps: list[int], since_ps: int, until_ps: int) -> None:
        starts = self._starts
        index = bisect_right(starts, since_ps) - 1
        while since_ps < until_ps:
            end_ps = until_ps if index + 1 == len(starts) else min(starts[index + 1], until_ps)
            spent_ps[index] += end_ps - since_ps
            since_ps = end_ps
            index += 1

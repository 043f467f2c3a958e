"""What a pool pays: the market's price over time, a commitment, an adder for each node, and how time is rounded."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from simulator.billing.money import nano_usd
from simulator.units import PS_PER_S, to_ps

if TYPE_CHECKING:
    from simulator.scenario.capacity import NodePool


class PriceSchedule:
    """A price that changes at given instants.

    Args:
        prices: (from when in picoseconds, nano-dollars per GPU-hour), rising; the first holds from time 0.

    Raises:
        ValueError: no price, or instants that do not rise.
    """

    def __init__(self, prices: Sequence[tuple[int, int]]) -> None:
        starts = [start for start, _ in prices]
        if not prices or any(later <= earlier for earlier, later in itertools.pairwise(starts)):
            raise ValueError("a price schedule needs a price, and instants that rise")
        self._starts = [0, *starts[1:]]
        self._nano_usd = [price for _, price in prices]

    def at(self, now: int) -> int:
        """Nano-dollars per GPU-hour at an instant."""
        return self._nano_usd[bisect_right(self._starts, now) - 1]

    def integral(self, since_ps: int, until_ps: int) -> int:
        """Price times time: the amount for one GPU."""
        starts, prices = self._starts, self._nano_usd
        if len(starts) == 1:
            return prices[0] * (until_ps - since_ps)
        amount = 0
        index = bisect_right(starts, since_ps) - 1
        while since_ps < until_ps:
            end_ps = until_ps if index + 1 == len(starts) else min(starts[index + 1], until_ps)
            amount += prices[index] * (end_ps - since_ps)
            since_ps = end_ps
            index += 1
        return amount


@dataclass(frozen=True, slots=True)
class Commitment:
    """Nodes that are paid for whether they are used or not.

    Attributes:
        nodes: how many.
        nano_usd_per_gpu_hour: their price.
    """

    nodes: int
    nano_usd_per_gpu_hour: int


@dataclass(frozen=True, slots=True)
class PoolRates:
    """What nodes of a pool cost.

    Attributes:
        capacity: what is bought on the market.
        gpus_per_node: GPUs that a node is paid for.
        market: price of what no commitment covers.
        commitment: or None.
        node_nano_usd_per_hour: paid for each node on top.
        minimum_ps: a node is paid for at least this long.
        granularity_ps: the time that a node is paid for is rounded up to a multiple of this.
    """

    capacity: Literal["on-demand", "spot"]
    gpus_per_node: int
    market: PriceSchedule
    commitment: Commitment | None = None
    node_nano_usd_per_hour: int = 0
    minimum_ps: int = 60 * PS_PER_S
    granularity_ps: int = PS_PER_S

    @classmethod
    def of(cls, pool: NodePool, usd_per_gpu_hour: float, committed_usd_per_gpu_hour: float = 0.0) -> Self:
        """The rates of a scenario's pool.

        Args:
            pool: the pool.
            usd_per_gpu_hour: market price at the start.
            committed_usd_per_gpu_hour: price of its commitment, if it has one.
        """
        changes = [(to_ps(change.at), nano_usd(change.usd_per_gpu_hour)) for change in pool.price_changes]
        if changes and changes[0][0] == 0:
            market = PriceSchedule(changes)
        else:
            market = PriceSchedule([(0, nano_usd(usd_per_gpu_hour)), *changes])
        return cls(
            capacity=pool.capacity,
            gpus_per_node=pool.gpus_per_node,
            market=market,
            commitment=None
            if pool.commitment is None
            else Commitment(pool.commitment.nodes, nano_usd(committed_usd_per_gpu_hour)),
            node_nano_usd_per_hour=nano_usd(pool.usd_per_node_hour),
            minimum_ps=to_ps(pool.billing.minimum),
            granularity_ps=to_ps(pool.billing.granularity),
        )

    def billed_ps(self, life_ps: int) -> int:
        """Time that a node is billed which lived so long."""
        at_least = max(life_ps, self.minimum_ps)
        return -(-at_least // self.granularity_ps) * self.granularity_ps

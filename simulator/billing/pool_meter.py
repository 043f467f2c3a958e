"""Meters the nodes of a pool: what their GPUs were doing, at what price, for how long.

A node is metered from its grant to its end. Its GPUs are split by what they do; whenever that changes, the time since
the last change is booked. A commitment covers the oldest nodes; when one of these goes, the next oldest is covered from
that instant on. Time that is billed beyond a node's end (minimum, granularity) is booked when it ends, at the price of
that moment: nodes that outlive the run pay for their time in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Final, Literal

from simulator.billing.money import micro_usd
from simulator.billing.rates import PoolRates
from simulator.billing.statement import Line, Purchase, Statement

Phase = Literal["serving", "starting", "idle", "terminating"]
PHASES: Final[tuple[Phase, ...]] = ("serving", "starting", "idle", "terminating")

Use = tuple[int, int, int, int]
"""GPUs of a node in each of `PHASES`."""


class _Node:
    """A node that is being paid for."""

    __slots__ = ("covered", "opened_ps", "since_ps", "use")

    def __init__(self, now: int, use: Use, covered: bool) -> None:
        self.opened_ps = now
        self.since_ps = now
        self.use = use
        self.covered = covered


class PoolMeter:
    """The books of one pool. Times are picoseconds and never run backwards.

    Args:
        rates: what its nodes cost.
        usable_gpus_per_node: GPUs of a node that pods fit on.
        on_serving: called when the number of serving GPUs has changed.
    """

    def __init__(
        self,
        rates: PoolRates,
        usable_gpus_per_node: int,
        on_serving: Callable[[], None] = lambda: None,
    ) -> None:
        self.rates = rates
        self.serving_gpus = 0
        self.on_serving = on_serving
        self._usable = usable_gpus_per_node
        self._nodes: dict[int, _Node] = {}  # oldest first
        self._covered = 0
        self._gpu_ps: dict[Phase, int] = dict.fromkeys(PHASES, 0)
        self._amounts: dict[tuple[Purchase, Line], int] = defaultdict(int)
        self._closed_node_ps = 0

    # --- what nodes do ------------------------------------------------------------------------------------

    def open(self, node: int, now: int, use: Use) -> None:
        """A node is granted; its GPUs do this."""
        commitment = self.rates.commitment
        covered = commitment is not None and self._covered < commitment.nodes
        self._covered += covered
        self._nodes[node] = _Node(now, use, covered)
        self._serves(use[0])

    def change(self, node: int, now: int, use: Use) -> None:
        """Its GPUs do this from now on."""
        metered = self._nodes[node]
        if use == metered.use:
            return
        self._book(metered, now)
        before, metered.use = metered.use, use
        self._serves(use[0] - before[0])

    def close(self, node: int, now: int) -> None:
        """A node has gone."""
        metered = self._nodes.pop(node)
        self._book(metered, now)
        life_ps = now - metered.opened_ps
        self._closed_node_ps += life_ps
        if metered.covered:
            self._cover_next(now)
        else:
            beyond_ps = self.rates.billed_ps(life_ps) - life_ps
            amount = self.rates.gpus_per_node * beyond_ps * self.rates.market.at(now)
            self._amounts[self.rates.capacity, "rounding"] += amount
        self._serves(-metered.use[0])

    def _cover_next(self, now: int) -> None:
        for metered in self._nodes.values():
            if not metered.covered:
                self._book(metered, now)
                metered.covered = True
                return
        self._covered -= 1

    def _serves(self, more_gpus: int) -> None:
        if more_gpus:
            self.serving_gpus += more_gpus
            self.on_serving()

    def _book(self, metered: _Node, now: int) -> None:
        self._add(self._amounts, self._gpu_ps, metered, now)
        metered.since_ps = now

    def _add(
        self,
        amounts: dict[tuple[Purchase, Line], int],
        gpu_ps: dict[Phase, int],
        metered: _Node,
        now: int,
    ) -> None:
        since_ps = metered.since_ps
        if now == since_ps:
            return
        commitment = self.rates.commitment
        purchase: Purchase
        if metered.covered and commitment is not None:
            purchase, amount = "reserved", commitment.nano_usd_per_gpu_hour * (now - since_ps)
        else:
            purchase, amount = self.rates.capacity, self.rates.market.integral(since_ps, now)
        for phase, gpus in zip(PHASES, metered.use, strict=True):
            if gpus:
                gpu_ps[phase] += gpus * (now - since_ps)
                amounts[purchase, phase] += gpus * amount

    # --- the bill -----------------------------------------------------------------------------------------

    def gpu_ps(self, now: int) -> dict[Phase, int]:
        """GPU-picoseconds up to an instant, by what the GPUs did."""
        return self._up_to(now)[1]

    def statement(self, now: int) -> Statement:
        """The bill up to an instant that is not before the last change."""
        amounts, _ = self._up_to(now)
        commitment = self.rates.commitment
        if commitment is not None:
            due = commitment.nodes * self.rates.gpus_per_node * commitment.nano_usd_per_gpu_hour * now
            used = sum(amount for (purchase, _), amount in amounts.items() if purchase == "reserved")
            amounts["reserved", "unused_commitment"] = due - used
        if self.rates.node_nano_usd_per_hour:
            node_ps = self._closed_node_ps + sum(now - node.opened_ps for node in self._nodes.values())
            amounts[self.rates.capacity, "node_overhead"] = node_ps * self.rates.node_nano_usd_per_hour
        return Statement({cell: micro_usd(amount) for cell, amount in amounts.items()})

    def _up_to(self, now: int) -> tuple[dict[tuple[Purchase, Line], int], dict[Phase, int]]:
        amounts, gpu_ps = self._amounts.copy(), self._gpu_ps.copy()
        for metered in self._nodes.values():
            self._add(amounts, gpu_ps, metered, now)
        return amounts, gpu_ps

    def standing(self, serving_gpus: int, now: int) -> int:
        """Micro-dollars for so many serving GPUs that stand from time 0 to an instant, and nothing else."""
        rates, commitment = self.rates, self.rates.commitment
        nodes = -(-serving_gpus // self._usable)
        committed = 0 if commitment is None else commitment.nodes
        amount = max(0, nodes - committed) * rates.gpus_per_node * rates.market.integral(0, now)
        if commitment is not None:
            amount += committed * rates.gpus_per_node * commitment.nano_usd_per_gpu_hour * now
        return micro_usd(amount + nodes * rates.node_nano_usd_per_hour * now)

"""A pool's bill computed anew, from what its nodes lived and what the scenario says that they cost.

In floating point, interval by interval, with the covered nodes looked up in each: slow, and unlike the meter that it is
held against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.cluster.nodes import Node
    from simulator.scenario.capacity import NodePool

_PS_PER_S = 10**12
_PS_PER_HOUR = 3600 * _PS_PER_S


def bill_usd(
    pool: NodePool, price: Mapping[str, float | None], nodes: Sequence[Node], ended: Sequence[Node], now: int
) -> float:
    """Dollars up to an instant.

    Args:
        pool: the scenario's entry.
        price: what was paid at the start per GPU-hour, as the summary states it.
        nodes: the pool's, in the order in which they were granted.
        ended: those that have gone, in the order of their ends.
        now: the instant, in picoseconds.
    """
    committed = 0 if pool.commitment is None else pool.commitment.nodes
    steps = [(0, price["usd_per_gpu_hour"] or 0.0)]
    steps += [(round(change.at * _PS_PER_S), change.usd_per_gpu_hour) for change in pool.price_changes]
    ends = {id(node): now if node.gone_ps is None else node.gone_ps for node in nodes}
    instants = {0, now, *ends.values(), *(node.created_ps for node in nodes), *(at for at, _ in steps)}
    node_ps = gpu_usd = 0.0
    for since_ps, until_ps in pairwise(sorted(instant for instant in instants if instant <= now)):
        alive = sum(node.created_ps <= since_ps and ends[id(node)] >= until_ps for node in nodes)
        node_ps += alive * (until_ps - since_ps)
        gpu_usd += max(0, alive - committed) * (until_ps - since_ps) * _at(steps, since_ps)
    for index, node in enumerate(ended):
        older = [
            other for other in nodes[: nodes.index(node)] if other not in ended[:index]
        ]  # that were still there; the oldest are those that the commitment covers
        if len(older) >= committed:
            end_ps = ends[id(node)]
            gpu_usd += _beyond_ps(pool, end_ps - node.created_ps) * _at(steps, end_ps)
    reserved_usd = committed * now * (price["committed_usd_per_gpu_hour"] or 0.0)
    return (pool.gpus_per_node * (gpu_usd + reserved_usd) + node_ps * pool.usd_per_node_hour) / _PS_PER_HOUR


def _at(steps: Sequence[tuple[int, float]], now: int) -> float:
    return [price for start_ps, price in steps if start_ps <= now][-1]


def _beyond_ps(pool: NodePool, life_ps: int) -> int:
    """Time that is billed beyond a node's end."""
    granularity_ps = round(pool.billing.granularity * _PS_PER_S)
    billed_ps = max(life_ps, round(pool.billing.minimum * _PS_PER_S))
    return -(-billed_ps // granularity_ps) * granularity_ps - life_ps

"""What each pool of a scenario pays: its own price, or the catalogue's with its date and source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from simulator.billing import PoolRates
from simulator.catalog import CatalogError, Quote, find_price

if TYPE_CHECKING:
    from simulator.catalog.prices import PriceKind
    from simulator.scenario.capacity import NodePool
    from simulator.scenario.load import LoadedScenario

_TERMS: Final[dict[str, PriceKind]] = {"1-year": "reserved-1y", "3-year": "reserved-3y"}


@dataclass(frozen=True)
class PricedPool:
    """A pool with its prices.

    Attributes:
        rates: what its nodes cost.
        usd_per_gpu_hour: market price at the start.
        quote: where that is from; None if the scenario states it.
        committed_usd_per_gpu_hour: price of its commitment, if it has one.
        committed_quote: where that is from; None if the scenario states it.
    """

    rates: PoolRates
    usd_per_gpu_hour: float
    quote: Quote | None
    committed_usd_per_gpu_hour: float | None
    committed_quote: Quote | None


def price_pools(loaded: LoadedScenario, gpus: Mapping[str, str]) -> dict[str, PricedPool]:
    """The prices of all pools, by name.

    Args:
        loaded: the scenario.
        gpus: GPU id of each pool, by its name.

    Raises:
        ScenarioError: a pool without a price of its own, for which the catalogue has none.
    """
    return {
        pool.name: _price(loaded, index, pool, gpus[pool.name])
        for index, pool in enumerate(loaded.scenario.cluster.pools)
    }


def _price(loaded: LoadedScenario, index: int, pool: NodePool, gpu: str) -> PricedPool:
    quote = None
    market = pool.usd_per_gpu_hour
    if market is None:
        quote = _quote(loaded, index, pool, gpu, pool.capacity, "usd_per_gpu_hour")
        market = quote.usd_per_gpu_hour
    committed: float | None = None
    committed_quote = None
    if pool.commitment is not None:
        terms = pool.commitment
        if terms.share is not None:
            committed = market * terms.share
        elif terms.usd_per_gpu_hour is not None:
            committed = terms.usd_per_gpu_hour
        else:
            committed_quote = _quote(
                loaded,
                index,
                pool,
                gpu,
                _TERMS[terms.term],
                "commitment.usd_per_gpu_hour or commitment.share",
            )
            committed = committed_quote.usd_per_gpu_hour
    return PricedPool(PoolRates.of(pool, market, committed or 0.0), market, quote, committed, committed_quote)


def _quote(
    loaded: LoadedScenario, index: int, pool: NodePool, gpu: str, kind: PriceKind, instead: str
) -> Quote:
    try:
        return find_price(
            gpu, kind, cloud=pool.cloud, region=pool.region, instance=pool.instance, zone=pool.zone
        )
    except CatalogError as error:
        # The error names what was not found; the narrowest key that was given is the likeliest to be at fault.
        at_fault = [name for name in ("cloud", "region", "instance") if f"unknown {name}" in str(error)]
        raise loaded.error(f"{error}; give {instead}", "cluster", "pools", index, *at_fault) from None


def price_notes(pools: Mapping[str, PricedPool]) -> tuple[str, ...]:
    """A sentence for each price of the catalogue that is used, with its date and source."""
    lines = []
    for name, pool in pools.items():
        for quote, what in ((pool.quote, ""), (pool.committed_quote, ", committed")):
            if quote is None:
                continue
            dated = "undated" if quote.row.as_of is None else f"as of {quote.row.as_of}"
            lines.append(
                f"pool {name}{what}: ${quote.usd_per_gpu_hour:.4f} per GPU-hour, {quote.row.where}, {dated} "
                f"({quote.rule}; {quote.row.source})"
            )
    return tuple(lines)

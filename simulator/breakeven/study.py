"""Runs a scenario at several loads and prices the same tokens both ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from simulator.billing import ApiPrices
from simulator.breakeven.crossing import Crossing, break_even
from simulator.runs import replicate
from simulator.scenario.load import LoadedScenario
from simulator.workload.scaling import scaled

FleetMode = Literal["configured", "smallest"]
OnRun = Callable[[float, int | None], None]
"""Told of each load, and the replicas if they are fixed, before it is run."""


@dataclass(frozen=True)
class Point:
    """One load.

    Attributes:
        load: factor on the scenario's traffic.
        replicas: of the fixed fleet; None for the fleet as configured.
        slo_met: in every replication.
        summaries: one per replication.
        own_usd_per_million: dollars of the own fleet per million tokens served, one per replication.
        api_usd_per_million: what the API asks for the same tokens.
    """

    load: float
    replicas: int | None
    slo_met: bool
    summaries: tuple[dict[str, Any], ...]
    own_usd_per_million: tuple[float, ...]
    api_usd_per_million: tuple[float, ...]


@dataclass(frozen=True)
class Study:
    """All loads, and where the curves cross.

    Attributes:
        fleet: as configured, or the smallest of fixed size that meets the SLO.
        points: by rising load; with ``smallest`` they end where even the largest fleet misses the SLO.
        crossing: over the points that meet the SLO.
    """

    fleet: FleetMode
    points: tuple[Point, ...]
    crossing: Crossing


def study(
    loaded: LoadedScenario,
    prices: ApiPrices,
    loads: Sequence[float],
    *,
    fleet: FleetMode,
    seed: int | None = None,
    replications: int = 3,
    jobs: int | None = None,
    on_run: OnRun = lambda _load, _replicas: None,
) -> Study:
    """Run every load and find the break-even.

    Args:
        loaded: the scenario.
        prices: of the API.
        loads: factors on the scenario's traffic.
        fleet: ``configured`` keeps the scenario's fleet and autoscaler at every load; ``smallest`` takes the
            autoscaler away and looks for the fewest replicas that meet the SLO in every replication.
        seed: of every draw; the scenario's own if None.
        replications: runs of each load; those of the same number share their draws at every load.
        jobs: worker processes.
        on_run: told of what is run.

    Raises:
        ScenarioError: the scenario does not run.
    """
    if seed is None:
        seed = loaded.scenario.seed

    def run(at: Sequence[tuple[float, int | None]]) -> list[Point]:
        for load, replicas in at:
            on_run(load, replicas)
        runs = replicate([_at(loaded, *each) for each in at], seed=seed, replications=replications, jobs=jobs)
        return [_point(*each, summaries, prices) for each, summaries in zip(at, runs, strict=True)]

    rising = sorted(set(loads))
    if fleet == "configured":
        points = run([(load, None) for load in rising])
    else:
        points = _smallest_fleets(run, rising, _most(loaded))
    good = [made for made in points if made.slo_met and made.own_usd_per_million]
    ratios = [
        [made.own_usd_per_million[i] / made.api_usd_per_million[i] for made in good]
        for i in range(replications)
    ]
    return Study(fleet, tuple(points), break_even([made.load for made in good], ratios))


def _smallest_fleets(
    run: Callable[[Sequence[tuple[float, int | None]]], list[Point]], rising: Sequence[float], most: int
) -> list[Point]:
    points: list[Point] = []
    fewest = 1  # more traffic never needs fewer
    for load in rising:

        def point(replicas: int, load: float = load) -> Point:
            return run([(load, replicas)])[0]

        found = _smallest(point, fewest, most)
        points.append(found)
        if not found.slo_met:
            break
        fewest = found.replicas or 1
    return points


def _at(loaded: LoadedScenario, load: float, replicas: int | None) -> LoadedScenario:
    scenario = loaded.scenario
    changes: dict[str, Any] = {"workload": [scaled(entry, load) for entry in scenario.workload]}
    if replicas is None:
        return replace(loaded, scenario=scenario.model_copy(update=changes))
    changes["fleet"] = scenario.fleet.model_copy(update={"replicas": replicas})
    return replace(loaded, scenario=scenario.model_copy(update=changes), policies=())


def _most(loaded: LoadedScenario) -> int:
    """Replicas that the pools have room for."""
    gpus = loaded.vllm.tensor_parallel_size * loaded.vllm.pipeline_parallel_size
    return sum(pool.max_nodes * (pool.gpus_per_node // gpus) for pool in loaded.scenario.cluster.pools)


def _smallest(point: Callable[[int], Point], fewest: int, most: int) -> Point:
    """The smallest fleet that meets the SLO, by doubling and bisection; the largest if none does."""
    low, high = fewest - 1, fewest  # low is known, or taken, to miss
    best = point(high)
    while not best.slo_met:
        if high >= most:
            return best
        low, high = high, min(2 * high, most)
        best = point(high)
    while high - low > 1:
        middle = (low + high) // 2
        tried = point(middle)
        if tried.slo_met:
            best, high = tried, middle
        else:
            low = middle
    return best


def _point(
    load: float, replicas: int | None, summaries: Sequence[dict[str, Any]], prices: ApiPrices
) -> Point:
    own, api = [], []
    for summary in summaries:
        cost = summary["cost"]
        tokens = cost["input_tokens"] + cost["output_tokens"]
        if tokens:
            bill = prices.bill(cost["input_tokens"], cost["output_tokens"])
            own.append(cost["total_usd"] * 1e6 / tokens)
            api.append(bill.micro_usd / tokens)
    met = all(summary["slo"]["verdict"] == "met" for summary in summaries)
    if len(own) < len(summaries):  # a replication that served nothing has no cost per token
        own, api = [], []
    return Point(load, replicas, met, tuple(summaries), tuple(own), tuple(api))

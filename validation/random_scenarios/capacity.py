"""Where nodes come from and what they cost: zones with their stock-outs and mass events, pools with their prices."""

from __future__ import annotations

from random import Random
from typing import Any


def draw_zones(rng: Random, files: dict[str, Any]) -> list[dict[str, Any]]:
    """The scenario's ``cluster.zones``."""
    return [_zone(rng, name, files) for name in ("a", "b")[: rng.randint(1, 2)]]


def _zone(rng: Random, name: str, files: dict[str, Any]) -> dict[str, Any]:
    one = rng.choice
    zone: dict[str, Any] = {"name": name, "region": one((None, "r"))}
    if rng.random() < 0.3:
        zone["availability"] = f"{name}.csv"
        zone["availability_start"] = one((0, 10))
        files[f"{name}.csv"] = _availability(rng, name)
    elif rng.random() < 0.7:
        zone["mass_events"] = {
            "mean_time_between": one((30, 90)),
            "take_all": one((0.0, 0.5, 1.0)),
            "region_share": one((0.0, 0.5, 1.0)),
            "outage": one((0, 5, {"median": 10, "sigma": 1.0})),
        }
    if rng.random() < 0.5:
        zone["stock_outs"] = [
            {
                "capacity": one(("spot", "on-demand", "any")),
                "mean_time_between": one((None, 40)),
                "duration": one((10, {"median": 10, "sigma": 0.5})),
                "intervals": one(([], [{"start": 0, "end": 5}, {"start": 30, "end": 50}])),
            }
        ]
    return zone


def _availability(rng: Random, zone: str) -> str:
    rows = [f"{t},{zone},{rng.randint(0, 5)}" for t in range(0, 300, rng.choice((7, 20)))]
    return "\n".join(["t_s,zone,nodes_available", *rows]) + "\n"


def draw_pools(rng: Random, zones: list[dict[str, Any]], gpus: int) -> list[dict[str, Any]]:
    """The scenario's ``cluster.pools``, whose nodes hold pods of so many GPUs."""
    pools = [
        _pool(rng, f"pool-{index}", zones, gpus, spot=rng.random() < 0.6)
        for index in range(rng.randint(1, 3))
    ]
    if all(pool["share"] == 0 and pool["base"] == 0 for pool in pools):
        pools[0]["share"] = 1
    return pools


def _pool(rng: Random, name: str, zones: list[dict[str, Any]], gpus: int, *, spot: bool) -> dict[str, Any]:
    one = rng.choice
    zone = one((None, *zones))
    pool: dict[str, Any] = {
        "name": name,
        "zone": None if zone is None else zone["name"],
        "capacity": "spot" if spot else "on-demand",
        "gpu": one((None, None, "A100-80GB-SXM", "H200-SXM")),
        "gpus_per_node": one(tuple(count for count in (1, 2, 4, 5) if count >= gpus)),
        "share": one((0, 1, 3)),
        "base": one((0, 0, 2)),
        "max_nodes": one((1, 3, 10)),
        "warm_nodes": one((0, 0, 1)),
        "provisioning": one(("5s", {"median": "8s", "sigma": 0.5})),
        "empty_node_ttl": one(("0s", "10s")),
        **_prices(rng, spot=spot),
    }
    if spot:
        reclaim: dict[str, Any] = {
            "notice": one((None, "0s", "5s", "30s")),
            "detection": one((None, "1s", "10s")),
            "pod_grace": one((None, None, "3s")),
            "replacement": one((True, True, True, False)),
        }
        if zone is None or not zone.get("availability"):
            reclaim["mean_time_between"] = one(("20s", "60s", "10m"))
            reclaim["median_time_between"] = one((None, "5s"))
            reclaim["rebalance"] = one(
                (
                    None,
                    {"lead": "10s", "action": "ignore", "share": 0.5},
                    {"lead": {"median": 10, "sigma": 1.0}, "action": "drain"},
                    {"lead": "20s", "action": "replace"},
                )
            )
        pool["reclaim"] = reclaim
    return pool


def _prices(rng: Random, *, spot: bool) -> dict[str, Any]:
    one = rng.choice
    prices: dict[str, Any] = {
        "cloud": one((None, None, "aws")),
        "usd_per_gpu_hour": one((0.0, 1.0, 2.5)),
        "usd_per_node_hour": one((0.0, 0.0, 1.7)),
        "price_changes": one(
            ([], [{"at": 20, "usd_per_gpu_hour": 9}, {"at": 45.5, "usd_per_gpu_hour": 0.3}])
        ),
        "billing": one(
            ({}, {"minimum": "0s", "granularity": "1s"}, {"granularity": "1m"}, {"granularity": "1h"})
        ),
    }
    if not spot:
        if rng.random() < 0.2:
            del prices["usd_per_gpu_hour"]  # the catalogue's
        if rng.random() < 0.3:
            prices["commitment"] = {
                "nodes": one((1, 2)),
                **one(({"usd_per_gpu_hour": 0.7}, {"share": 0.6})),
            }
    return prices

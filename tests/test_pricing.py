"""What pools pay."""

from pathlib import Path
from typing import Any

import pytest

from simulator.billing import Commitment
from simulator.catalog import find_price
from simulator.pricing import PricedPool, price_notes, price_pools
from simulator.scenario.errors import ScenarioError
from simulator.scenario.load import load_scenario
from tests.small import write


def priced(folder: Path, *pools: dict[str, Any], gpu: str = "H100-SXM") -> dict[str, PricedPool]:
    loaded = load_scenario(write(folder, {"cluster": {"pools": list(pools)}}))
    return price_pools(loaded, {pool["name"]: gpu for pool in pools})


def test_prices_of_the_catalogue_are_named(tmp_path: Path) -> None:
    pools = priced(tmp_path, {"name": "a"}, {"name": "b", "usd_per_gpu_hour": 1.5})
    assert pools["b"].usd_per_gpu_hour == 1.5
    assert pools["b"].quote is None
    assert pools["a"].usd_per_gpu_hour == find_price("H100-SXM").usd_per_gpu_hour
    (note,) = price_notes(pools)
    assert note.startswith(f"pool a: ${pools['a'].usd_per_gpu_hour:.4f} per GPU-hour")
    assert "as of 2026-" in note
    assert "median of" in note


def test_zone_of_the_market_has_its_own_price(tmp_path: Path) -> None:
    cluster = {
        "zones": [{"name": "use1-az1"}, {"name": "anything"}],
        "pools": [
            {"name": "a", "capacity": "spot", "cloud": "aws", "region": "us-east-1", "zone": "use1-az1"},
            {"name": "b", "capacity": "spot", "cloud": "aws", "region": "us-east-1", "zone": "anything"},
        ],
    }
    loaded = load_scenario(write(tmp_path, {"cluster": cluster}))
    pools = price_pools(loaded, dict.fromkeys(("a", "b"), "A100-40GB-SXM"))
    assert pools["a"].usd_per_gpu_hour == 0.3082
    assert pools["b"].usd_per_gpu_hour == 1.015  # upper median of az1, az2, az4 and az6


@pytest.mark.parametrize(
    ("terms", "usd"),
    [
        ({"usd_per_gpu_hour": 1.25}, 1.25),
        ({"share": 0.5}, 1.7154),
        ({}, 2.1752),  # p4de, one year: 17.401365 / 8
    ],
)
def test_price_of_a_commitment(tmp_path: Path, terms: dict[str, Any], usd: float) -> None:
    pool = {"name": "a", "cloud": "aws", "region": "us-east-1", "commitment": {"nodes": 3, **terms}}
    made = priced(tmp_path, pool, gpu="A100-80GB-SXM")["a"]
    assert made.committed_usd_per_gpu_hour == pytest.approx(usd, abs=1e-4)
    assert made.rates.commitment == Commitment(3, round((made.committed_usd_per_gpu_hour or 0) * 1e9))
    assert (made.committed_quote is None) == bool(terms)


def test_a_price_that_nobody_lists_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(
        ScenarioError, match=r"no spot price is known for A10G.*give usd_per_gpu_hour"
    ) as caught:
        priced(tmp_path, {"name": "a", "capacity": "spot"}, gpu="A10G")
    assert caught.value.key == "cluster.pools.0"
    with pytest.raises(ScenarioError, match=r"no reserved-3y price.*give commitment.usd_per_gpu_hour or"):
        priced(tmp_path, {"name": "a", "commitment": {"nodes": 1, "term": "3-year"}})
    with pytest.raises(
        ScenarioError, match="unknown region for H100-SXM 'us-east-9'; did you mean"
    ) as caught:
        priced(tmp_path, {"name": "a", "cloud": "aws", "region": "us-east-9"})
    assert caught.value.key == "cluster.pools.0.region"

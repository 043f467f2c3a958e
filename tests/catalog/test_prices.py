import datetime

import pytest

from simulator.catalog import CatalogError, find_gpu, find_price, gpu_ids, prices


def test_rows_are_of_known_gpus_dated_and_sourced() -> None:
    for row in prices():
        assert find_gpu(row.gpu).id == row.gpu
        assert row.on_demand is not None or row.spot is not None
        assert row.source
        if row.as_of is not None:
            assert datetime.date.fromisoformat(row.as_of).year == 2026


def test_spot_and_commitments_are_never_dearer_than_on_demand() -> None:
    for row in prices():
        for other in (row.spot, row.reserved_1y, row.reserved_3y):
            if row.on_demand is not None and other is not None:
                assert other < row.on_demand


def test_every_gpu_has_an_on_demand_price() -> None:
    for gpu in gpu_ids():
        assert find_price(gpu).usd_per_gpu_hour > 0


def test_without_a_cloud_the_median_of_the_clouds_medians() -> None:
    # aws 6.88, azure 12.29, gcp 10.9791, lambda 4.29 (the dearer of two), nebius 3.85, runpod 3.99, verda 2.29
    quote = find_price("H100")
    assert (quote.row.cloud, quote.usd_per_gpu_hour) == ("lambda", 4.29)
    assert quote.rule == "median of 7 clouds' on-demand list prices"
    # aws 7.9120, gcp 10.4365, nebius 4.5, runpod 4.59, verda 3.39
    assert find_price("H200").usd_per_gpu_hour == 4.59


def test_one_even_pair_takes_the_dearer() -> None:
    assert find_price("RTX4090").rule == "on-demand list price of runpod"
    # aws 3.4309, lambda 2.79, runpod 1.79
    assert find_price("A100-80GB-SXM").usd_per_gpu_hour == 2.79
    assert find_price("H200", "spot", cloud="aws", region="eu-north-1").usd_per_gpu_hour == 1.9192


def test_lookup_narrows_by_cloud_region_zone_and_instance() -> None:
    quote = find_price(
        "H100-SXM", "spot", cloud="AWS", instance="p5.48xlarge", region="us-east-2", zone="use2-az1"
    )
    assert quote.usd_per_gpu_hour == 1.4068
    assert quote.row.where == "aws p5.48xlarge us-east-2 (use2-az1)"
    assert find_price("H100-SXM", cloud="aws", instance="p5.48xlarge").usd_per_gpu_hour == 6.88
    # An unknown zone is left aside, and a row for all regions fits any.
    assert find_price("H100", cloud="aws", region="us-east-2", zone="z").usd_per_gpu_hour == 6.88
    assert find_price("H100", cloud="lambda", region="us-east-2").usd_per_gpu_hour == 4.29


def test_reserved() -> None:
    assert find_price("L4", "reserved-1y", cloud="aws", region="us-east-1").usd_per_gpu_hour == pytest.approx(
        0.5239
    )
    with pytest.raises(CatalogError, match="no reserved-3y price is known for L4; state it in the scenario"):
        find_price("L4", "reserved-3y")


def test_a_kind_without_a_price_says_so() -> None:
    with pytest.raises(CatalogError, match=r"no spot price is known for L4 \(aws\).*known for A100-40GB-SXM"):
        find_price("L4", "spot", cloud="aws")


def test_unknown_cloud_region_or_instance() -> None:
    with pytest.raises(CatalogError, match="unknown cloud for H100-SXM 'awz'; did you mean aws"):
        find_price("H100", cloud="awz")
    with pytest.raises(CatalogError, match="unknown instance type for H100-SXM"):
        find_price("H100", instance="p6")
    with pytest.raises(CatalogError, match="unknown region for H100-SXM"):
        find_price("H100", cloud="aws", region="mars-1")

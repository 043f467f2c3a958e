import pytest

from simulator.catalog import CatalogError, find_gpu, find_price, prices


def test_rows_are_of_known_gpus_and_sourced() -> None:
    for row in prices():
        assert find_gpu(row.gpu).id == row.gpu
        assert row.on_demand_usd_per_gpu_h is not None or row.spot_usd_per_gpu_h is not None
        assert row.source
        assert row.as_of


def test_spot_is_never_dearer_than_on_demand() -> None:
    for row in prices():
        if row.on_demand_usd_per_gpu_h is not None and row.spot_usd_per_gpu_h is not None:
            assert row.spot_usd_per_gpu_h <= row.on_demand_usd_per_gpu_h


def test_lookup_narrows_by_cloud_and_instance() -> None:
    assert find_price("H100").instance == "a3-highgpu-1g"
    price = find_price("H100-SXM", cloud="AWS", instance="p5.48xlarge")
    assert (price.on_demand_usd_per_gpu_h, price.spot_usd_per_gpu_h) == (6.88, 1.4068)


@pytest.mark.parametrize("gpu", ["L4", "A10G", "L40S", "RTX4090", "RTXPRO6000"])
def test_gpus_without_a_price_say_so(gpu: str) -> None:
    with pytest.raises(CatalogError, match=f"no price is known for {gpu}; state it in the scenario"):
        find_price(gpu)


def test_unknown_cloud_or_instance() -> None:
    with pytest.raises(CatalogError, match="unknown cloud for H100-SXM 'awz'; did you mean aws"):
        find_price("H100", cloud="awz")
    with pytest.raises(CatalogError, match="unknown instance type for H100-SXM"):
        find_price("H100", instance="p6")

import numpy as np
import pandas as pd
import pytest

from calibration.gemm_times import GemmTimes
from simulator.catalog import find_gpu

H100 = find_gpu("H100-SXM")


def table(us: dict[tuple[int, int, int], float]) -> GemmTimes:
    """From (m, n, k) to microseconds."""
    rows = [{"m": m, "n": n, "k": k, "latency_ms": v / 1e3} for (m, n, k), v in us.items()]
    return GemmTimes(pd.DataFrame(rows), H100, 2)


GRID = {(m, n, k): 100.0 * m + n + 10 * k for m in (1, 3) for n in (100, 200) for k in (10, 20)}


def at(gemm: GemmTimes, n: int, k: int, m: float) -> float:
    return float(gemm.us(n, k, np.array([m]))[0])


def test_a_measured_product_is_returned_as_it_is() -> None:
    assert at(table(GRID), 200, 10, 3) == pytest.approx(600)


def test_between_measured_points_time_is_linear_in_all_three() -> None:
    assert at(table(GRID), 150, 15, 2) == pytest.approx(200 + 150 + 150)


def test_above_the_grid_time_grows_in_proportion() -> None:
    gemm = table(GRID)
    assert at(gemm, 400, 10, 1) == pytest.approx(2 * (100 + 200 + 100))
    assert at(gemm, 100, 10, 6) == pytest.approx(2 * (300 + 100 + 100))


def test_below_the_grid_the_smallest_product_stands_for_all() -> None:
    assert at(table(GRID), 50, 5, 1) == at(table(GRID), 100, 10, 1)


def test_weights_that_stay_in_cache_are_read_from_memory_all_the_same() -> None:
    # 1 us for 32 MiB would be ten times the memory's bandwidth.
    gemm = table({(1, 4096, 4096): 1.0})
    traffic = 2 * (4096 * 4096 + 4096) + 2 * 4096
    assert at(gemm, 4096, 4096, 1) == pytest.approx(traffic / H100.hbm_bytes_per_s * 1e6)


def test_the_floor_is_the_best_rate_of_large_products() -> None:
    # 512 MiB in 268 us are 2 TB/s: less than the data sheet says, and what the small product is held to.
    gemm = table({(1, 16384, 16384): 268.0, (1, 4096, 4096): 1.0})
    assert gemm.bytes_per_us == pytest.approx(2.0e6, rel=0.01)
    assert at(gemm, 4096, 4096, 1) == pytest.approx(2 * 4096 * 4096 / 2.0e6, rel=0.01)


def test_a_column_can_be_left_out() -> None:
    rows = {(1, n, 10): float(us) for n, us in ((100, 50), (200, 90), (300, 70))}
    gemm = table(rows)
    assert float(gemm.us(200, 10, np.array([1.0]), without_n=200)[0]) == pytest.approx(60)
    assert gemm.columns(12) == [100, 200, 300]

import numpy as np
import pandas as pd
import pytest

from calibration.experts import measured_experts, visited_experts, visited_experts_us
from calibration.operator_tables import OperatorTables, TablesError
from simulator.catalog import find_model

SHAPE = find_model("Qwen/Qwen3-30B-A3B").shape


def test_visited_experts_by_hand() -> None:
    visited = visited_experts(SHAPE, np.array([0.0, 1.0, 2.0, 1e6]))
    assert visited == pytest.approx([0, 8, 8 + 8 * 120 / 128, 128])


def test_visited_experts_agree_with_drawing_them() -> None:
    rng = np.random.default_rng(1)
    draws = [
        len({int(e) for _ in range(20) for e in rng.choice(128, size=8, replace=False)}) for _ in range(400)
    ]
    assert visited_experts(SHAPE, np.array([20.0]))[0] == pytest.approx(np.mean(draws), rel=0.01)


def test_time_is_linear_in_tokens_and_in_visited_experts() -> None:
    rows = [(m, e, 10.0 * e + m) for m in (1, 1001) for e in (8, 128)]
    table = pd.DataFrame(rows, columns=["tokens", "activated_experts", "time_us"])
    one, many = visited_experts_us(table, SHAPE, np.array([1.0, 501.0]))
    assert one == pytest.approx(81)
    assert many == pytest.approx(1280 + 501, rel=1e-3)


class _Rows(OperatorTables):
    """Two measured shapes of experts."""

    def __init__(self) -> None:
        pass

    def read(self, table: str, gpu_id: str) -> pd.DataFrame:
        assert table == "moe"
        shapes = [(2048, 768, 128, 8, 1), (2048, 768, 128, 8, 2), (4096, 14336, 8, 2, 1)]
        columns = ["hidden_size", "inter_size", "num_experts", "topk", "moe_tp_size"]
        rows = pd.DataFrame(shapes, columns=columns).assign(moe_ep_size=1, moe_dtype="bfloat16")
        rows = rows.assign(distribution="power_law_1.01", key=0)
        times = pd.DataFrame({"num_tokens": [1, 64], "latency_ms": [0.05, 0.4], "key": 0})
        return rows.merge(times, on="key")


def test_measured_experts_are_found_by_shape_and_degree() -> None:
    tokens, us = measured_experts(_Rows(), "H100-SXM", SHAPE, 2, "bfloat16")
    assert tokens.tolist() == [1, 64]
    assert us == pytest.approx([50, 400])


@pytest.mark.parametrize(
    ("shape", "tp", "dtype", "reason"),
    [
        (
            {"intermediate": 1000},
            1,
            "bfloat16",
            "were not measured; there are .*: 2048/768/128/8, 4096/14336/8/2",
        ),
        ({}, 4, "bfloat16", "not measured at tp 4; there are: 1, 2"),
        ({}, 1, "fp8", "experts with fp8 weights were not measured on H100-SXM"),
    ],
)
def test_experts_that_were_not_measured_are_an_error(
    shape: dict[str, int], tp: int, dtype: str, reason: str
) -> None:
    with pytest.raises(TablesError, match=reason):
        measured_experts(_Rows(), "H100-SXM", SHAPE.model_copy(update=shape), tp, dtype)

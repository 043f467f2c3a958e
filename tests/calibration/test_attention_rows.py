from typing import Any

import pandas as pd
import pytest

from calibration.attention_rows import attention_rows
from calibration.operator_tables import TablesError


def table(heads: list[tuple[int, int]]) -> pd.DataFrame:
    """Time is 1 us per batch and KV head, and 0.1 us per batch and query head, for every 1,000 tokens."""
    return pd.DataFrame(
        [
            {"batch_size": b, "isl": length, "num_heads": h, "num_key_value_heads": kv, "head_dim": 128}
            | {"kv_cache_dtype": "bfloat16", "latency_ms": b * length / 1000 * (kv + 0.1 * h) / 1000}
            for h, kv in heads
            for b in (1, 2, 4, 8, 16)
            for length in (1000, 2000)
        ]
    )


def us(rows: pd.DataFrame) -> dict[tuple[Any, Any], float]:
    return {(r.batch_size, r.isl): r.latency_ms * 1000 for r in rows.itertuples()}


def test_measured_heads_are_taken_as_they_are() -> None:
    times = us(attention_rows(table([(32, 8), (16, 8)]), "isl", 32, 8, 128, "bfloat16"))
    assert times[4, 2000] == pytest.approx(4 * 2 * (8 + 3.2))
    assert len(times) == 10


def test_between_measured_query_heads_time_is_linear() -> None:
    times = us(attention_rows(table([(24, 4), (32, 4)]), "isl", 28, 4, 128, "bfloat16"))
    assert times[2, 1000] == pytest.approx(2 * (4 + 2.8))


@pytest.mark.parametrize("split", [4, 5])
def test_more_heads_are_a_larger_batch(split: int) -> None:
    rows = attention_rows(table([(8, 8)]), "isl", 8 * split, 8 * split, 128, "bfloat16")
    times = us(rows)
    assert times[2, 1000] == pytest.approx(2 * split * (8 + 0.8))
    assert max(batch for batch, _ in times) * split <= 16


def test_heads_that_nothing_is_near_are_an_error() -> None:
    with pytest.raises(TablesError, match=r"12 heads and 3 KV heads was not measured; .*: 32/8"):
        attention_rows(table([(32, 8)]), "isl", 12, 3, 128, "bfloat16")
    with pytest.raises(
        TablesError, match=r"head size 64 and bfloat16 KV cache was not measured; .*: 128/bfloat16"
    ):
        attention_rows(table([(32, 8)]), "isl", 32, 8, 64, "bfloat16")

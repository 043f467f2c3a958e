"""Attention tables for a number of heads that was not measured itself.

Heads are independent of each other, so a batch of b with s times the heads is a batch of b s: shapes with more
KV heads than any measured one are taken so. Between two measured numbers of query heads on the same KV heads
the time is interpolated linearly: the KV read is the same, the arithmetic grows with the heads.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from calibration.operator_tables import TablesError, unique_pairs


def attention_rows(
    table: pd.DataFrame, length: str, heads: int, kv_heads: int, head_dim: int, kv_cache_dtype: str
) -> pd.DataFrame:
    """Rows ``batch_size``, ``length``, ``latency_ms`` for these heads on one GPU.

    Args:
        table: one GPU's attention table.
        length: its column of lengths.
        heads: query heads per GPU.
        kv_heads: KV heads per GPU.
        head_dim: their width.
        kv_cache_dtype: ``bfloat16`` or ``fp8``.

    Raises:
        TablesError: nothing near these heads was measured; lists what was.
    """
    rows = table[(table.head_dim == head_dim) & (table.kv_cache_dtype == kv_cache_dtype)]
    if rows.empty:
        there = unique_pairs(table, ["head_dim", "kv_cache_dtype"])
        raise TablesError(
            f"attention with head size {head_dim} and {kv_cache_dtype} KV cache was not measured; there are: "
            f"{there}"
        )
    measured = {(int(h), int(kv)) for h, kv in zip(rows.num_heads, rows.num_key_value_heads)}
    for split in range(1, kv_heads + 1):
        if kv_heads % split or heads % split:
            continue
        q, kv = heads // split, kv_heads // split
        if (q, kv) in measured:
            return _batches(_times(rows, length, q, kv), length, split)
        same_kv = sorted(h for h, group in measured if group == kv)
        below, above = [h for h in same_kv if h < q], [h for h in same_kv if h > q]
        if below and above:
            low, high = _times(rows, length, below[-1], kv), _times(rows, length, above[0], kv)
            share = (q - below[-1]) / (above[0] - below[-1])
            return _batches((low * (1 - share) + high * share).dropna(), length, split)
    raise TablesError(
        f"attention with {heads} heads and {kv_heads} KV heads was not measured; there are (per GPU): "
        f"{unique_pairs(rows, ['num_heads', 'num_key_value_heads'])}"
    )


def _times(rows: pd.DataFrame, length: str, heads: int, kv_heads: int) -> pd.Series:
    mine = rows[(rows.num_heads == heads) & (rows.num_key_value_heads == kv_heads)]
    return mine.groupby(["batch_size", length]).latency_ms.min()


def _batches(times: pd.Series, length: str, split: int) -> pd.DataFrame:
    """The same times as of batches ``split`` times smaller."""
    if split == 1:
        return times.reset_index()
    grid = times.unstack("batch_size")
    batches = grid.columns.to_numpy(dtype=np.float64)
    parts = []
    for wanted in (b for b in grid.columns if b * split <= batches[-1]):
        column = grid.apply(
            lambda row, at=wanted * split: np.interp(
                at, batches[row.notna()], row.dropna(), right=np.nan, left=np.nan
            ),
            axis=1,
        )
        parts.append(pd.DataFrame({"batch_size": wanted, "latency_ms": column}).dropna().reset_index())
    return pd.concat(parts, ignore_index=True)

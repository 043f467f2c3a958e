"""Mixture of experts: time of one layer's routed experts against tokens.

Experts are read from memory as far as tokens visit them, so the time hangs on the routing, which no table
knows. aiconfigurator's ``power_law_1.01`` rows are taken, the mildest skew there: its ``balanced`` rows deal
tokens out in turn, so that 16 tokens already visit all 128 experts, which routed tokens do not. LLMServingSim's
table has the number of visited experts as a column; there each token picks its experts evenly at random.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from calibration.fitting import Floats
from calibration.operator_tables import OperatorTables, TablesError, unique_pairs
from simulator.catalog import ModelShape

ROUTING: Final = "power_law_1.01"
NOTE: Final = {
    "aiconfigurator": (
        f"experts: routed as aiconfigurator's {ROUTING} rows; more skew visits fewer experts and is faster"
    ),
    "llmservingsim": (
        "experts: each token picks its experts evenly at random; more skew visits fewer and is faster"
    ),
}
_SHAPE: Final = ["hidden_size", "inter_size", "num_experts", "topk"]


def measured_experts(
    tables: OperatorTables, gpu_id: str, shape: ModelShape, tp: int, dtype: str
) -> tuple[Floats, Floats]:
    """Tokens and microseconds of one layer's experts, each split over ``tp`` GPUs.

    Raises:
        TablesError: the shape, weight type or degree was not measured; lists what was.
    """
    rows = tables.read("moe", gpu_id)
    rows = rows[(rows.moe_dtype == dtype) & (rows.moe_ep_size == 1) & (rows.distribution == ROUTING)]
    if rows.empty:
        raise TablesError(f"experts with {dtype} weights were not measured on {gpu_id}")
    mine = rows[
        (rows.hidden_size == shape.hidden)
        & (rows.inter_size == shape.intermediate)
        & (rows.num_experts == shape.experts)
        & (rows.topk == shape.top_k)
    ]
    if mine.empty:
        raise TablesError(
            f"{gpu_id}: {shape.experts} experts of {shape.hidden} x {shape.intermediate} with top-{shape.top_k} "
            f"and {dtype} weights were not measured; there are (hidden/intermediate/experts/top-k): "
            f"{unique_pairs(rows, _SHAPE)}"
        )
    split = mine[mine.moe_tp_size == tp]
    if split.empty:
        degrees = ", ".join(str(d) for d in sorted(mine.moe_tp_size.unique()))
        raise TablesError(f"{gpu_id}: these experts were not measured at tp {tp}; there are: {degrees}")
    best = split.groupby("num_tokens").latency_ms.min()
    return best.index.to_numpy(dtype=np.float64), best.to_numpy(dtype=np.float64) * 1e3


def visited_experts(shape: ModelShape, tokens: Floats) -> Floats:
    """Expected number of distinct experts when every token picks ``top_k`` evenly at random."""
    return np.asarray(shape.experts * (1.0 - (1.0 - shape.top_k / shape.experts) ** tokens), dtype=np.float64)


def visited_experts_us(rows: pd.DataFrame, shape: ModelShape, tokens: Floats) -> Floats:
    """Microseconds of one layer from a table with columns tokens, activated_experts, time_us.

    Linear in the tokens for each number of visited experts, then linear between those.
    """
    levels = sorted(int(v) for v in rows.activated_experts.unique())
    curves = []
    for level in levels:
        mine = rows[rows.activated_experts == level].sort_values("tokens")
        curves.append(np.interp(tokens, mine.tokens.to_numpy(float), mine.time_us.to_numpy(float)))
    visited = visited_experts(shape, tokens)
    times = np.stack(curves)
    return np.array([np.interp(v, levels, times[:, i]) for i, v in enumerate(visited)], dtype=np.float64)

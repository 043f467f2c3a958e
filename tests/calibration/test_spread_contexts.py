from collections.abc import Iterable

import numpy as np
import pandas as pd
import pytest

from calibration.spread_contexts import (
    excess_ns,
    table_scale,
    unsplit_from,
    with_assumed_spread,
    with_spread_decode,
    with_spread_mixed,
)
from simulator.catalog import find_gpu
from simulator.step_time.profile import DecodeAttention, MixedAttention


def _rows(cost_ns: dict[int, float], kvs: Iterable[int] = (256, 1024)) -> pd.DataFrame:
    """One long context of four times the others' length; a step is 10 us + 5 ns per context token."""
    rows = []
    for n, ns in cost_ns.items():
        for small in kvs:
            mean = (4 * small + (n - 1) * small) / n
            equal = 10 + 5e-3 * n * mean
            skewed = equal + ns * 1e-3 * (4 * small - mean)
            rows.append((n, 0, 4 * small, mean, equal, skewed))
    return pd.DataFrame(rows, columns=["n", "kp", "kv_big", "kv_mean", "t_mean_us", "t_skew_us"])


def _decode(requests: list[int]) -> DecodeAttention:
    size = len(requests)
    return DecodeAttention(
        requests=requests, base_us=[20.0] * size, per_context_token_ns=[10.0] * size, max_context_tokens=4096
    )


def test_the_cost_of_the_longest_context_is_found() -> None:
    assert excess_ns(_rows({8: 20.0, 64: 15.0})).to_dict() == pytest.approx({8: 20.0, 64: 15.0})


def test_never_below_nothing() -> None:
    assert excess_ns(_rows({8: -3.0})).to_dict() == {8: 0.0}


@pytest.mark.parametrize(
    ("gpu", "kv_heads", "first"),
    # 0.8 x 2 x 188 multiprocessors / 8 heads = 37.6: graphs of 40 are the first; on the 4090, 25.6 and 32.
    [("RTXPRO6000", 8, 33), ("RTXPRO6000", 4, 73), ("RTXPRO6000", 2, 145), ("RTX4090", 8, 25)],
)
def test_contexts_are_split_until_the_gpu_is_full(gpu: str, kv_heads: int, first: int) -> None:
    assert unsplit_from(find_gpu(gpu), kv_heads) == first


def test_the_step_lies_where_contexts_are_no_longer_split() -> None:
    term = with_spread_decode(
        _decode([1, 32, 64, 128]), _rows({16: 0.0, 32: 0.0, 64: 16.0, 128: 12.0}), 2.0, 33
    )
    assert term.requests == [1, 32, 33, 64, 128]
    assert term.longest_context_ns == pytest.approx([0, 0, 32, 32, 24], abs=1e-6)
    assert term.base_us == [20.0] * 5


def test_without_an_edge_in_the_table_no_batch_is_added() -> None:
    term = with_spread_decode(_decode([1, 8]), _rows({2: 1.0, 8: 3.0}), 1.0, 33)
    assert term.requests == [1, 8]
    assert term.longest_context_ns == pytest.approx([1.0, 3.0])


def test_batches_that_cannot_be_or_lie_above_the_knee_are_left_out() -> None:
    rows = pd.concat([_rows({8: 10.0}), _rows({8: 90.0}, [8192])])
    term = MixedAttention(
        requests=[1, 8],
        chunk_tokens=[16],
        base_us=[[0.0], [0.0]],
        per_context_token_ns=[1.0, 1.0],
        knee_context_tokens=50_000,
        above_knee_ns=[2.0, 2.0],
        max_context_tokens=8192,
    )
    for limit, changed in ((10**6, {}), (50_000, {"knee_context_tokens": None, "above_knee_ns": None})):
        found = with_spread_mixed(term.model_copy(update=changed), rows, 1.0, limit)
        assert found.longest_context_ns == pytest.approx([10.0, 10.0])


def test_the_tables_scale_is_a_median() -> None:
    rows = _rows({8: 1.0, 16: 1.0})
    assert table_scale(rows, rows.t_mean_us.to_numpy() * np.array([0.3, 0.34, 0.33, 9.0])) == pytest.approx(
        0.335
    )


def test_what_is_assumed_where_nothing_was_measured() -> None:
    mixed = MixedAttention(
        requests=[1, 8],
        chunk_tokens=[1],
        base_us=[[0.0], [0.0]],
        per_context_token_ns=[1.0, 1.0],
        max_context_tokens=64,
    )
    # A100: 0.8 x 2 x 108 multiprocessors / 8 heads = 21.6, and a graph of 24 is the first whose contexts are not split.
    decode, mixed = with_assumed_spread(_decode([1, 8, 54, 108]), mixed, find_gpu("A100-80GB-SXM"), 8, 100.0)
    assert decode.requests == [1, 8, 16, 17, 54, 108]
    # 54 requests x 8 heads are two waves of 2 x 108 blocks, 108 are four.
    assert decode.longest_context_ns == [0, 0, 0, 68, 68, 68]
    assert mixed.longest_context_ns == [75, 75]
    term, _ = with_assumed_spread(_decode([1, 8]), mixed, find_gpu("A100-80GB-SXM"), 8, 100.0)
    assert (term.requests, term.longest_context_ns) == ([1, 8], [0, 0])

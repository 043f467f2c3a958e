"""What contexts that differ within a batch cost: a kernel that does not split contexts ends with the longest one.

LLMServingSim's ``skew.csv`` has batches of n decoding requests of which some have a context four times (up to 16
times) as long as the rest: ``t_skew_us``, beside ``t_mean_us`` of n contexts of the same mean. What the first
exceeds the second by is a constant times (longest - mean), nearly the same for all n that are not split: the
streaming multiprocessor that has the longest context works on when the others are done.

In pure decode FlashAttention 2 splits contexts over blocks as long as the batch does not fill the GPU: below
0.8 x 2 blocks per multiprocessor, of sequences x KV heads (``num_splits_heuristic`` in
``csrc/flash_attn/flash_api.cpp`` of github.com/vllm-project/flash-attention). The tables show that very edge with
8, 4 and 2 KV heads per GPU. A CUDA graph decides by the captured batch. Beside a prompt nothing is split.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from calibration.fitting import Floats, rounded
from simulator.catalog import Gpu
from simulator.step_time.profile import DecodeAttention, MixedAttention
from simulator.step_time.tables import cudagraph_capture_sizes

_FULL: Final = 0.8
_BLOCKS_PER_SM: Final = 2
_MIN_GAP_TOKENS: Final = 64
_MOST_REQUESTS: Final = 1024

_ALONE_DECODE: Final = 0.68
_ALONE_MIXED: Final = 0.75
_WAVES: Final = (4.0, 16.0)
_SHARE_AT_WAVES: Final = (1.0, 0.27)


def unsplit_from(gpu: Gpu, kv_heads: int) -> int:
    """Smallest batch of pure decode whose contexts are not split, as a CUDA graph pads it.

    Args:
        gpu: with its number of multiprocessors.
        kv_heads: on one GPU.
    """
    full = _FULL * _BLOCKS_PER_SM * gpu.sms / kv_heads
    sizes = [0, *cudagraph_capture_sizes(_MOST_REQUESTS)]
    below = [size for size in sizes if size < full]
    return below[-1] + 1


def excess_ns(rows: pd.DataFrame) -> pd.Series:
    """Nanoseconds per token by which the longest context exceeds the mean, by number of requests, one layer.

    Args:
        rows: of ``skew.csv``; least squares on relative errors, not below 0.
    """
    gap = rows.kv_big - rows.kv_mean
    rows = rows.assign(gap=gap, excess=rows.t_skew_us - rows.t_mean_us)[gap >= _MIN_GAP_TOKENS]
    weight = rows.t_mean_us**-2
    products = pd.DataFrame(
        {"n": rows.n, "over": rows.gap * rows.excess * weight, "under": rows.gap**2 * weight}
    )
    sums = products.groupby("n").sum()
    return (1e3 * sums.over / sums.under).clip(lower=0.0)


def with_spread_decode(
    term: DecodeAttention, rows: pd.DataFrame, scale: float, first: int
) -> DecodeAttention:
    """The term with its ``longest_context_ns``.

    Args:
        term: fitted to equal contexts.
        rows: of ``skew.csv``, without prompts.
        scale: from the table's microseconds to those of all layers.
        first: smallest batch whose contexts are not split; a step lies between the batch before and this one.
    """
    excess = excess_ns(rows) * scale
    measured = excess.index.to_numpy(dtype=np.float64)
    split = measured < first
    if split.all() or not split.any():
        requests, longest = list(term.requests), np.interp(term.requests, measured, excess)
    else:
        requests = sorted({*term.requests, first - 1, first})
        at = np.array(requests, dtype=np.float64)
        longest = np.where(
            at < first,
            np.interp(at, measured[split], excess[split]),
            np.interp(at, measured[~split], excess[~split]),
        )
    return _with_longest(term, requests, longest)


def _with_longest(term: DecodeAttention, requests: list[int], longest_ns: Floats) -> DecodeAttention:
    return term.model_copy(
        update={
            "requests": requests,
            "base_us": rounded(np.interp(requests, term.requests, term.base_us)),
            "per_context_token_ns": rounded(np.interp(requests, term.requests, term.per_context_token_ns)),
            "longest_context_ns": rounded(np.asarray(longest_ns)),
        }
    )


def with_spread_mixed(
    term: MixedAttention, rows: pd.DataFrame, scale: float, kv_cache_tokens: int
) -> MixedAttention:
    """The term with its ``longest_context_ns``.

    Args:
        term: fitted to equal contexts.
        rows: of ``skew.csv``, with prompts; those that do not fit the cache, or lie above the knee, where unequal
            contexts fall on both its sides, are left out.
        scale: from the table's microseconds to those of all layers.
        kv_cache_tokens: what the cache can hold.
    """
    limit = min(kv_cache_tokens, term.knee_context_tokens or kv_cache_tokens)
    excess = excess_ns(rows[rows.n * rows.kv_mean + rows.kp <= limit]) * scale
    longest = np.interp(term.requests, excess.index.to_numpy(dtype=np.float64), excess)
    return term.model_copy(update={"longest_context_ns": rounded(longest)})


def table_scale(rows: pd.DataFrame, equal_us: Floats) -> float:
    """What ``skew.csv``'s times must be multiplied by: it sums up the repetitions that the other tables average.

    Args:
        rows: of ``skew.csv``.
        equal_us: time of n contexts of the mean length each, from the other tables, all layers.
    """
    return float(np.median(equal_us / rows.t_mean_us.to_numpy(dtype=np.float64)))


def with_assumed_spread(
    decode: DecodeAttention, mixed: MixedAttention, gpu: Gpu, kv_heads: int, alone_ns: float
) -> tuple[DecodeAttention, MixedAttention]:
    """The terms of FlashAttention 2 where no batches of differing contexts were measured.

    In LLMServingSim's tables a token of the longest context costs 0.66 (RTX PRO 6000) and 0.70 (RTX 4090) of what it
    takes one thread block alone, whatever the model and the tensor-parallel degree (0.38 with two KV heads per GPU),
    and less from four waves of blocks on; 0.65 to 0.9 of it beside prompts.

    Args:
        decode: fitted to equal contexts.
        mixed: fitted to, or assumed for, equal contexts.
        gpu: with its number of multiprocessors.
        kv_heads: on one GPU.
        alone_ns: what a token of context takes a single thread block, all layers.
    """
    first = unsplit_from(gpu, kv_heads)
    requests = list(decode.requests)
    if requests[0] < first <= requests[-1]:
        requests = sorted({*requests, first - 1, first})
    at = np.array(requests, dtype=np.float64)
    waves = at * kv_heads / (gpu.sms * _BLOCKS_PER_SM)
    share = np.interp(waves, _WAVES, _SHARE_AT_WAVES)
    longest = np.where(at < first, 0.0, _ALONE_DECODE * alone_ns * share)
    size = len(mixed.requests)
    return (
        _with_longest(decode, requests, longest),
        mixed.model_copy(update={"longest_context_ns": rounded([_ALONE_MIXED * alone_ns] * size)}),
    )

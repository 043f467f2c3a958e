"""Terms of a profile composed from NVIDIA aiconfigurator's operator tables.

Source: PyPI ``aiconfigurator-core`` (ai-dynamo/aiconfigurator, Apache-2.0), ``systems/data``: GEMM,
attention and all-reduce calls of vLLM's kernels, each measured alone. Files here: ``aic_gemm_vllm.csv``,
``aic_context_attention_vllm.csv``, ``aic_generation_attention_vllm.csv``, ``aic_custom_allreduce_vllm.csv``,
``aic_nccl.csv`` with the columns of the source (latency in milliseconds; all-reduce sizes in elements).

What the tables leave out, and what is done about it:

- shapes off the grid (14,336, 28,672): linear in n and k at fixed m, which is how GEMM time grows;
- weights that stay in L2 between repeats: every GEMM is floored at its bytes over the memory bandwidth;
- norms, rotary embedding, activation, KV write: bytes over bandwidth, at least 2.7 µs a kernel (the least
  that such kernels take in LLMServingSim's RTX PRO 6000 tables);
- prefill behind a cached context (``past_kv`` is always 0): attention of a prompt of L tokens grows as L², so
  a chunk of c behind k costs 2 p2 c k more than alone, p2 from the long prompts; never less than one pass
  over the context takes a single request;
- decode beside a prefill chunk: assumed factors on the context term, see ``MIXED_FACTOR``;
- sampler: the RTX PRO 6000 table's, assumed equal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from calibration.fitting import Floats, fit_error, fit_line, fit_nonnegative, rounded, select_knots
from calibration.llmservingsim_tables import MeasuredTerms, read_csv
from simulator.catalog import Gpu, ModelShape
from simulator.step_time.profile import (
    DecodeAttention,
    FitError,
    MixedAttention,
    PrefillAttention,
    SequenceKnots,
    TokenKnots,
)

SYSTEMS: Final = {
    "A100-80GB-SXM": "a100_sxm",
    "H100-SXM": "h100_sxm",
    "H200-SXM": "h200_sxm",
    "B200-SXM": "b200_sxm",
    "L40S": "l40s",
}
"""GPU id to the tables' ``system``."""

MIXED_FACTOR: Final = {"vllm_flash_attn": 1.6, "vllm_flash_attn_fa2": 1.6}
"""Cost of a context token of a decoding request beside a prefill chunk, over pure decode, by kernel. Assumed:
FlashAttention 2 does not split the context in a mixed batch (1.5 to 1.8 on RTX PRO 6000 at 32 to 64
requests)."""

_MIXED_FACTOR_OTHER: Final = 1.3
_HETEROGENEITY: Final = 1.02
_KERNEL_FLOOR_US: Final = 2.7
_SAMPLER_BASE_US: Final = 25.0
_SAMPLER_PER_SEQUENCE_US: Final = 0.54
# One CTA reads a context on its own where the kernel does not split it: 80 ns a token with two CTAs per SM,
# from the 16,384-token prompt of the A100 table; half of it when it has the SM to itself.
_UNSPLIT_NS_PER_TOKEN: Final = 40.0
_CUSTOM_ALLREDUCE_MAX_BYTES: Final = 8 << 20


class AiconfiguratorTables:
    """The tables of one GPU, for one model shape and tensor-parallel degree.

    Args:
        folder: where the ``aic_*.csv`` files are.
        gpu: GPU of the catalog.
        shape: model; dense models only.
        tp: tensor-parallel degree; must divide the heads and the MLP.

    Raises:
        ValueError: a GPU without tables, an MoE shape, a degree that does not divide the shape, or attention
            heads that were not measured.
    """

    def __init__(self, folder: Path, gpu: Gpu, shape: ModelShape, tp: int) -> None:
        if gpu.id not in SYSTEMS:
            raise ValueError(f"no aiconfigurator tables for {gpu.id}; there are: {', '.join(SYSTEMS)}")
        if shape.experts:
            raise ValueError("composition from aiconfigurator tables covers dense models only")
        if shape.heads % tp or shape.kv_heads % tp or shape.intermediate % tp:
            raise ValueError(f"tp {tp} does not divide {shape.heads} heads, {shape.kv_heads} KV heads")
        self.gpu, self.shape, self.tp = gpu, shape, tp
        system = SYSTEMS[gpu.id]
        gemm = read_csv(folder, "aic_gemm_vllm")
        self.gemm = gemm[(gemm.system == system) & (gemm.gemm_dtype == "bfloat16")]
        self.version = str(self.gemm.vllm_version.iloc[0])
        heads, kv_heads = shape.heads // tp, shape.kv_heads // tp
        self.context = self._attention(
            read_csv(folder, "aic_context_attention_vllm"), system, heads, kv_heads
        )
        self.generation = self._attention(
            read_csv(folder, "aic_generation_attention_vllm"), system, heads, kv_heads
        )
        self.kernel = str(self.generation.kernel_source.iloc[0])
        allreduce = read_csv(folder, "aic_custom_allreduce_vllm")
        self.custom = allreduce[
            (allreduce.system == system)
            & (allreduce.num_gpus == tp)
            & (allreduce.kernel_source == "vLLM_custom_graph")
        ]
        nccl = read_csv(folder, "aic_nccl")
        self.nccl = nccl[
            (nccl.system == system)
            & (nccl.num_gpus == tp)
            & (nccl.op_name == "all_reduce")
            & (nccl.nccl_dtype == "half")
        ]

    @staticmethod
    def _attention(table: pd.DataFrame, system: str, heads: int, kv_heads: int) -> pd.DataFrame:
        rows = table[
            (table.system == system)
            & (table.num_heads == heads)
            & (table.num_key_value_heads == kv_heads)
            & (table.kv_cache_dtype == "bfloat16")
        ]
        if rows.empty:
            raise ValueError(
                f"{system}: attention with {heads} heads and {kv_heads} KV heads was not measured"
            )
        return rows

    def _gemm_us(self, n: int, k: int, tokens: Floats) -> Floats:
        """One GEMM against tokens: interpolated in n, then k, floored at its traffic."""
        at_n = {}
        for grid_k in self._neighbours(sorted(self.gemm.k.unique()), k):
            columns = {}
            same_k = self.gemm[self.gemm.k == grid_k]
            for grid_n in self._neighbours(sorted(same_k.n.unique()), n):
                rows = same_k[same_k.n == grid_n].groupby("m").latency_ms.min()
                columns[grid_n] = np.interp(tokens, rows.index.to_numpy(dtype=np.float64), rows * 1e3)
            at_n[grid_k] = self._linear(columns, n)
        time = self._linear(at_n, k)
        traffic = 2.0 * (n * k + tokens * (n + k)) / self.gpu.hbm_bytes_per_s * 1e6
        return np.maximum(time, traffic)

    @staticmethod
    def _neighbours(grid: list[int], x: int) -> list[int]:
        """The grid's points around x; x itself if it is one; the largest alone if x is above."""
        if x in grid or x > grid[-1] or x < grid[0]:
            return [min(max(x, grid[0]), grid[-1])]
        right = int(np.searchsorted(grid, x))
        return [grid[right - 1], grid[right]]

    @staticmethod
    def _linear(columns: dict[int, Floats], x: int) -> Floats:
        points = sorted(columns)
        if len(points) == 1:
            return columns[points[0]] * max(x / points[0], 1.0)
        low, high = points
        share = (x - low) / (high - low)
        return columns[low] * (1 - share) + columns[high] * share

    def _tokens(self) -> Floats:
        """Token counts that were measured for every weight of a large GEMM."""
        rows = self.gemm[(self.gemm.n >= 4096) & (self.gemm.k >= 4096) & (self.gemm.n <= 16384)]
        counts = rows.groupby("m").size()
        return counts[counts == counts.max()].index.to_numpy(dtype=np.float64)

    def _layer_us(self, tokens: Floats) -> Floats:
        """One layer outside attention."""
        shape, tp = self.shape, self.tp
        heads = shape.heads // tp * shape.head_dim
        keys = shape.kv_heads // tp * shape.head_dim
        mlp = shape.intermediate // tp
        total = (
            self._gemm_us(heads + 2 * keys, shape.hidden, tokens)
            + self._gemm_us(shape.hidden, heads, tokens)
            + self._gemm_us(2 * mlp, shape.hidden, tokens)
            + self._gemm_us(shape.hidden, mlp, tokens)
        )
        norm, rotary, activation = 4 * shape.hidden, 2 * (heads + keys), 3 * mlp
        for elements in (norm, norm, rotary, activation, 4 * keys):
            traffic = 2.0 * elements * tokens / self.gpu.hbm_bytes_per_s * 1e6
            total = total + np.maximum(traffic, _KERNEL_FLOOR_US)
        return total + 2 * self._allreduce_us(tokens)

    def _allreduce_us(self, tokens: Floats) -> Floats:
        if self.tp == 1:
            return np.zeros_like(tokens)
        elements = tokens * self.shape.hidden
        times = []
        for table in (self.custom, self.nccl):
            rows = table.groupby("message_size").latency_ms.min()
            times.append(np.interp(elements, rows.index.to_numpy(dtype=np.float64), rows * 1e3))
        small = 2 * elements <= _CUSTOM_ALLREDUCE_MAX_BYTES
        return np.asarray(np.where(small, times[0], times[1]), dtype=np.float64)

    def terms(self) -> MeasuredTerms:
        """Compose everything."""
        tokens = self._tokens()
        dense_us = self.shape.layers * self._layer_us(tokens) + 2 * _KERNEL_FLOOR_US
        keep = select_knots(tokens, dense_us, 0.005)
        held_out = np.arange(len(tokens)) % 2 == 1
        held_out[-1] = False
        dense_error = fit_error(
            "dense",
            np.interp(tokens[held_out], tokens[~held_out], dense_us[~held_out]),
            dense_us[held_out],
            "the composed dense time",
        )
        sequences = np.array([1, 8, 16, 32, 64, 128, 256, 512, 1024], dtype=np.float64)
        head_us = self._gemm_us(self.shape.vocab // self.tp, self.shape.hidden, sequences)
        head_us = head_us + _SAMPLER_BASE_US + _SAMPLER_PER_SEQUENCE_US * sequences
        # Time outside attention by tokens of a decode step and of a lone prompt: what attention is weighed
        # against.
        grid = np.arange(tokens[-1] + 1)
        dense_by_tokens: Floats = np.interp(grid, tokens, dense_us)
        decode, decode_error = self._decode(dense_by_tokens + np.interp(grid, sequences, head_us))
        prefill, prefill_error = self._prefill(decode, dense_by_tokens + head_us[0])
        return MeasuredTerms(
            dense=TokenKnots(tokens=[int(t) for t in tokens[keep]], us=rounded(dense_us[keep])),
            per_sequence=SequenceKnots(sequences=[int(s) for s in sequences], us=rounded(head_us)),
            decode_attention=decode,
            prefill_attention=prefill,
            mixed_attention=self._mixed(decode),
            fit_error=[dense_error, decode_error, prefill_error],
            engine_version=self.version,
            measured_on="not stated",
        )

    def _decode(self, rest_us: Floats) -> tuple[DecodeAttention, FitError]:
        requests, base, slope = [], [], []
        predicted, measured = [], []
        capacity = 1.1 * self.gpu.memory_bytes * self.tp / self.shape.kv_bytes_per_token()
        for n, rows in self.generation.groupby("batch_size"):
            count = int(str(n))
            table = rows.groupby("kv_len_minus_1").latency_ms.min() * 1e3 * self.shape.layers
            total = (table.index.to_numpy(dtype=np.float64) + 1.0) * count
            us = table.to_numpy(dtype=np.float64)
            # Short contexts all cost the launch; batches beyond the KV cache's size cannot occur.
            keep = (total >= 64 * count) & (total <= capacity)
            if keep.sum() < 3 or count > 1024:
                continue
            total, us = total[keep], us[keep]
            held_out = np.arange(len(us)) % 2 == 1
            weight = 1.0 / (us + rest_us[count])
            line = fit_line(total[~held_out], us[~held_out], weight[~held_out])
            requests.append(count)
            base.append(line.base)
            slope.append(line.slope * 1e3)
            predicted.append(line(total[held_out]) + rest_us[count])
            measured.append(us[held_out] + rest_us[count])
        term = DecodeAttention(
            requests=requests,
            base_us=rounded(base),
            per_context_token_ns=rounded(slope),
            max_context_tokens=32768,
            heterogeneity=_HETEROGENEITY,
        )
        error = fit_error(
            "pure_decode", np.concatenate(predicted), np.concatenate(measured), "the step's time"
        )
        return term, error

    def _prefill(self, decode: DecodeAttention, rest_us: Floats) -> tuple[PrefillAttention, FitError]:
        rows = self.context[self.context.batch_size == 1]
        table = rows.groupby("isl").latency_ms.min() * 1e3 * self.shape.layers
        lengths = table.index.to_numpy(dtype=np.float64)
        us = table.to_numpy(dtype=np.float64)
        keep = lengths >= 16
        lengths, us = lengths[keep], us[keep]
        long = lengths >= 2048
        columns = np.column_stack([np.ones(long.sum()), lengths[long], lengths[long] ** 2])
        square_us = float(fit_nonnegative(columns, us[long], 1.0 / us[long])[2])
        one_pass_ns = decode.per_context_token_ns[0]
        if self.kernel in MIXED_FACTOR:
            one_pass_ns = max(one_pass_ns, _UNSPLIT_NS_PER_TOKEN * self.shape.layers)
        slopes = np.maximum(2.0 * square_us * lengths * 1e3, one_pass_ns)
        # Measured points alternate between fit and check; all of them are shipped.
        held_out = np.arange(len(us)) % 2 == 1
        held_out[-1] = False
        held_out &= lengths < len(rest_us)
        rest = rest_us[lengths[held_out].astype(int)]
        checked = np.interp(lengths[held_out], lengths[~held_out], us[~held_out])
        error = fit_error("pure_prefill", checked + rest, us[held_out] + rest, "the step's time, no context")
        term = PrefillAttention(
            chunk_tokens=[int(v) for v in lengths],
            base_us=rounded(us),
            per_context_token_ns=rounded(slopes),
            launch_us=float(f"{us.min():.6g}"),
            max_context_tokens=32768,
        )
        return term, error

    def _mixed(self, decode: DecodeAttention) -> MixedAttention:
        factor = MIXED_FACTOR.get(self.kernel, _MIXED_FACTOR_OTHER)
        launch = decode.base_us[0]
        return MixedAttention(
            requests=decode.requests,
            chunk_tokens=[1],
            base_us=[rounded([max(base - launch, 0.0)]) for base in decode.base_us],
            per_context_token_ns=rounded([factor * v for v in decode.per_context_token_ns]),
            max_context_tokens=decode.max_context_tokens,
        )

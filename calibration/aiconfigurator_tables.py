"""Terms of a profile composed from NVIDIA aiconfigurator's operator tables.

Source: `calibration.operator_tables`: GEMM, attention, expert and all-reduce calls of vLLM's kernels, each
measured alone. What the tables leave out, and what is done about it:

- shapes off the grid (14,336, 28,672) and small weights in L2: `calibration.gemm_times`;
- head counts off the grid: `calibration.attention_rows`;
- norms, rotary embedding, activation, KV write, quantisation: bytes over bandwidth, at least 2.7 µs a kernel
  (the least that such kernels take in LLMServingSim's RTX PRO 6000 tables; the package's own tables of fp8
  quantisation give 2.1 to 2.6 µs below 300 tokens on H100 and bytes over bandwidth above 1,000);
- fp8 weights: vLLM compiles the quantisation of the activations into the norms and the activation function;
  the attention's output takes a kernel of its own. The output head stays in 16 bits, as is usual;
- prefill behind a cached context (``past_kv`` is always 0): attention of a prompt of L tokens grows as L², so
  a chunk of c behind k costs 2 p2 c k more than alone, p2 from the long prompts; never less than one pass
  over the context takes a single request;
- decode beside a prefill chunk: assumed factors on the context term, see ``MIXED_FACTOR``;
- sampler: the RTX PRO 6000 table's, assumed equal.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration.attention_rows import attention_rows
from calibration.collectives import Collectives
from calibration.experts import measured_experts
from calibration.fitting import Floats, fit_line, fit_nonnegative, rounded, select_knots
from calibration.gemm_times import GemmTimes
from calibration.measured_terms import HeldOut, MeasuredTerms, decode_us
from calibration.operator_tables import OperatorTables, TablesError, fingerprint
from calibration.spread_contexts import with_assumed_spread
from calibration.tiles import COARSE, with_edges
from simulator.catalog import DTYPE_BYTES, Gpu, ModelShape
from simulator.step_time.profile import (
    DecodeAttention,
    MixedAttention,
    PrefillAttention,
    SequenceKnots,
    TokenKnots,
)

MIXED_FACTOR: Final = {"vllm_flash_attn": 1.6, "vllm_flash_attn_fa2": 1.6}
"""Cost of a context token of a decoding request beside a prefill chunk, over pure decode, by kernel. Assumed:
FlashAttention 2 does not split the context in a mixed batch (1.5 to 1.8 on RTX PRO 6000 at 32 to 64
requests)."""

KNOT_TOLERANCE: Final = 0.005
"""Largest error that leaving out measured token counts makes (TOKEN knots of the dense term)."""

_MIXED_FACTOR_OTHER: Final = 1.3
_HETEROGENEITY: Final = 1.02
_KERNEL_FLOOR_US: Final = 2.7
_SAMPLER_BASE_US: Final = 25.0
_SAMPLER_PER_SEQUENCE_US: Final = 0.54
# One CTA reads a context on its own where the kernel does not split it: 80 ns a token with two CTAs per SM,
# from the 16,384-token prompt of the A100 table; half of it when it has the SM to itself.
_UNSPLIT_NS_PER_TOKEN: Final = 40.0
# Of it, what a token of equal contexts takes beside a prompt as long as there are fewer requests than blocks fit: 14.5
# of 22 ns on RTX PRO 6000.
_UNSPLIT_SHARE: Final = 0.66
_SEQUENCES: Final = (1, 8, 16, 32, 64, 128, 256, 512, 1024)
_STEP: Final = "the step's time"
_EDGE_TOKENS: Final = 256
_EDGES: Final = (64, 65, 128, 129, 256)


def _has_edges(tokens: Floats) -> bool:
    """Whether the token counts have both sides of tiles' edges."""
    return bool(np.isin(tokens + 1, tokens)[tokens > _EDGE_TOKENS].any())


def _left_out(tokens: Floats) -> NDArray[np.bool_]:
    """Which token counts are left out to see how well the others give them: every second one.

    Tables of vLLM 0.24 have both sides of every tile's edge (256 and 257, 512 and 513), where the time jumps,
    by a factor of 2 with fp8 weights. A table without an edge says nothing of the steps beside it, so there
    only counts between edges are left out; the counts from 129 to 256 are the densest of them, and the time
    runs straight there.
    """
    paired = _has_edges(tokens)
    inner = np.ones(len(tokens), dtype=np.bool_)
    if paired:
        inner = (tokens <= _EDGE_TOKENS) & ~np.isin(tokens, _EDGES)
    inner[[0, -1]] = False
    # A count and its successor go together.
    candidates = tokens[inner]
    together = (np.diff(candidates, prepend=0) == 1) & (candidates > 16) & paired
    inner[inner] = np.cumsum(~together) % 2 == 1
    return inner


class AiconfiguratorTables:
    """The tables of one GPU, for one model shape, weight type and tensor-parallel degree.

    Args:
        tables: where the rows come from.
        gpu: GPU of the catalog.
        shape: model; experts where their shape was measured.
        tp: tensor-parallel degree; must divide the heads and the MLP.
        dtype: of the weights: ``bfloat16`` or ``fp8``.
        kv_cache_dtype: ``bfloat16`` or ``fp8``.

    Raises:
        TablesError: a GPU, weight type, degree or shape without tables; says what there is.
    """

    def __init__(
        self,
        tables: OperatorTables,
        gpu: Gpu,
        shape: ModelShape,
        tp: int,
        dtype: str = "bfloat16",
        kv_cache_dtype: str = "bfloat16",
    ) -> None:
        divides = shape.heads % tp == 0 and shape.intermediate % tp == 0
        if not divides or (shape.kv_heads % tp and tp % shape.kv_heads):
            raise TablesError(
                f"tp {tp} does not divide {shape.heads} heads, {shape.kv_heads} KV heads and an MLP of "
                f"{shape.intermediate}"
            )
        self.gpu, self.shape, self.tp, self.dtype = gpu, shape, tp, dtype
        gemm = tables.read("gemm", gpu.id)
        self.version = str(gemm.vllm_version.iloc[0])
        kinds = sorted(set(gemm.gemm_dtype) & set(DTYPE_BYTES))
        if dtype not in kinds or (dtype == "fp8" and gpu.fp8_flop_per_s is None):
            why = f"; {gpu.id} has no fp8 tensor cores" if gpu.fp8_flop_per_s is None else ""
            raise TablesError(f"{gpu.id} has GEMM tables of {', '.join(kinds)}, not of {dtype}{why}")
        own = gemm[gemm.gemm_dtype == dtype]
        self.gemm = GemmTimes(own, gpu, DTYPE_BYTES[dtype])
        self.head_gemm = (
            self.gemm if dtype == "bfloat16" else GemmTimes(gemm[gemm.gemm_dtype == "bfloat16"], gpu, 2)
        )
        self.heads, self.kv_heads = shape.heads // tp, max(shape.kv_heads // tp, 1)
        context = tables.read("context_attention", gpu.id)
        generation = tables.read("generation_attention", gpu.id)
        heads = (self.heads, self.kv_heads, shape.head_dim, kv_cache_dtype)
        self.context = attention_rows(context, "isl", *heads)
        self.generation = attention_rows(generation, "kv_len_minus_1", *heads)
        self.files = {
            "gemm": fingerprint(own),
            "context_attention": fingerprint(self.context),
            "generation_attention": fingerprint(self.generation),
        }
        self.kernel = str(generation[generation.kv_cache_dtype == kv_cache_dtype].kernel_source.iloc[0])
        kv_room = 1.1 * gpu.memory_bytes * tp
        self.kv_tokens = kv_room / shape.kv_bytes_per_token(kv_cache_dtype)
        self.collectives = Collectives(tables, gpu.id, tp)
        self.experts = measured_experts(tables, gpu.id, shape, tp, dtype) if shape.experts else None

    @property
    def unsplit(self) -> bool:
        """Whether contexts of large batches, and beside prompts, are read by one thread block each."""
        return self.kernel in MIXED_FACTOR

    def products(self) -> list[tuple[int, int]]:
        """(n, k) of one layer's matrix products on one GPU, experts aside."""
        shape = self.shape
        queries, keys = self.heads * shape.head_dim, self.kv_heads * shape.head_dim
        attention = [(queries + 2 * keys, shape.hidden), (shape.hidden, queries)]
        if shape.experts:
            return [*attention, (shape.experts, shape.hidden)]
        mlp = shape.intermediate // self.tp
        return [*attention, (2 * mlp, shape.hidden), (shape.hidden, mlp)]

    def _layer_us(self, tokens: Floats) -> Floats:
        """One layer outside attention."""
        shape = self.shape
        total = np.zeros_like(tokens)
        for n, k in self.products():
            router = bool(shape.experts) and n == shape.experts
            total = total + (self.head_gemm if router else self.gemm).us(n, k, tokens)
        queries, keys = self.heads * shape.head_dim, self.kv_heads * shape.head_dim
        elements: list[float] = [4 * shape.hidden, 4 * shape.hidden, 2 * (queries + keys), 4 * keys]
        if shape.qk_norm:
            elements += [2 * queries, 2 * keys]
        if self.dtype == "fp8":
            elements.append(1.5 * queries)
        if self.experts is None:
            elements.append(3 * shape.intermediate // self.tp)
        else:
            measured_tokens, us = self.experts
            total = total + np.interp(tokens, measured_tokens, us) * np.maximum(
                tokens / measured_tokens[-1], 1.0
            )
        for count in elements:
            total = total + np.maximum(2.0 * count * tokens / self.gemm.bytes_per_us, _KERNEL_FLOOR_US)
        return total + 2 * self.collectives.allreduce_us(tokens, shape.hidden)

    def terms(self) -> MeasuredTerms:
        """Compose everything."""
        held_out = HeldOut()
        tokens = self.gemm.tokens()
        # The embedding and the last norm; with tensor parallelism the embedding is summed, too.
        dense_us = self.shape.layers * self._layer_us(tokens) + 2 * _KERNEL_FLOOR_US
        dense_us = dense_us + self.collectives.allreduce_us(tokens, self.shape.hidden)
        out = _left_out(tokens)
        predicted = np.interp(tokens[out], tokens[~out], dense_us[~out])
        held_out.add("dense", predicted, dense_us[out], "the composed dense time, between the edges of tiles")
        if not _has_edges(tokens):
            tokens, dense_us = with_edges(tokens, dense_us, COARSE)
        sequences = np.array(_SEQUENCES, dtype=np.float64)
        head_us = self.head_gemm.us(self.shape.vocab // self.tp, self.shape.hidden, sequences)
        head_us = head_us + _SAMPLER_BASE_US + _SAMPLER_PER_SEQUENCE_US * sequences
        head_us = head_us + self.collectives.gather_us(sequences, self.shape.vocab)
        # Time outside attention by tokens of a decode step and of a lone prompt: what attention is weighed
        # against.
        grid = np.arange(int(tokens[-1]) + 1)
        dense_by_tokens: Floats = np.interp(grid, tokens, dense_us)
        decode = self._decode(dense_by_tokens + np.interp(grid, sequences, head_us), held_out)
        prefill = self._prefill(decode, dense_by_tokens + head_us[0], held_out)
        mixed = self._mixed(decode)
        if self.unsplit:
            alone_ns = _UNSPLIT_NS_PER_TOKEN * self.shape.layers
            decode, mixed = with_assumed_spread(decode, mixed, self.gpu, self.kv_heads, alone_ns)
        keep = select_knots(tokens, dense_us, KNOT_TOLERANCE)
        return MeasuredTerms(
            dense=TokenKnots(tokens=[int(t) for t in tokens[keep]], us=rounded(dense_us[keep])),
            per_sequence=SequenceKnots(sequences=list(_SEQUENCES), us=rounded(head_us)),
            decode_attention=decode,
            prefill_attention=prefill,
            mixed_attention=mixed,
            held_out=held_out,
            engine_version=self.version,
            measured_on="not stated",
        )

    def _decode(self, rest_us: Floats, held_out: HeldOut) -> DecodeAttention:
        rows = self.generation
        context = (rows.kv_len_minus_1 + 1.0) * rows.batch_size
        # Short contexts all cost the launch; batches beyond the KV cache's size cannot occur.
        rows = rows[(rows.kv_len_minus_1 >= 63) & (context <= self.kv_tokens) & (rows.batch_size <= 1024)]
        counts = rows.groupby("batch_size").size()
        rows = rows[rows.batch_size.isin(counts[counts >= 3].index)]
        columns = sorted(rows.kv_len_minus_1.unique())
        kept = rows[rows.kv_len_minus_1.isin(columns[::2])]
        for n in sorted(rows.batch_size.unique())[1:-1]:
            out = rows[(rows.batch_size == n) & ~rows.kv_len_minus_1.isin(columns[::2])]
            others = kept[kept.batch_size != n]
            if out.empty or others.groupby("batch_size").size().min() < 2:
                continue
            context = (out.kv_len_minus_1.to_numpy(dtype=np.float64) + 1.0) * n
            predicted = decode_us(self._fit_decode(others, rest_us), np.full_like(context, float(n)), context)
            measured = out.latency_ms.to_numpy(dtype=np.float64) * 1e3 * self.shape.layers
            held_out.add("pure_decode", predicted + rest_us[n], measured + rest_us[n], _STEP)
        return self._fit_decode(rows, rest_us)

    def _fit_decode(self, rows: pd.DataFrame, rest_us: Floats) -> DecodeAttention:
        requests, base, slope = [], [], []
        for n, mine in rows.groupby("batch_size"):
            count = int(str(n))
            us = mine.latency_ms.to_numpy(dtype=np.float64) * 1e3 * self.shape.layers
            total = (mine.kv_len_minus_1.to_numpy(dtype=np.float64) + 1.0) * count
            line = fit_line(total, us, 1.0 / (us + rest_us[count]))
            requests.append(count)
            base.append(line.base)
            slope.append(line.slope * 1e3)
        return DecodeAttention(
            requests=requests,
            base_us=rounded(base),
            per_context_token_ns=rounded(slope),
            max_context_tokens=32768,
            heterogeneity=1.0 if self.unsplit else _HETEROGENEITY,
        )

    def _prefill(self, decode: DecodeAttention, rest_us: Floats, held_out: HeldOut) -> PrefillAttention:
        rows = self.context[self.context.batch_size == 1].sort_values("isl")
        lengths = rows.isl.to_numpy(dtype=np.float64)
        us = rows.latency_ms.to_numpy(dtype=np.float64) * 1e3 * self.shape.layers
        keep = lengths >= 16
        lengths, us = lengths[keep], us[keep]
        long = lengths >= 2048
        columns = np.column_stack([np.ones(long.sum()), lengths[long], lengths[long] ** 2])
        square_us = float(fit_nonnegative(columns, us[long], 1.0 / us[long])[2])
        one_pass_ns = decode.per_context_token_ns[0]
        if self.unsplit:
            one_pass_ns = max(one_pass_ns, _UNSPLIT_NS_PER_TOKEN * self.shape.layers)
        slopes = np.maximum(2.0 * square_us * lengths * 1e3, one_pass_ns)
        # Every second measured length is left out for the error; all of them are shipped.
        out = np.arange(len(us)) % 2 == 1
        out[-1] = False
        out &= lengths < len(rest_us)
        rest = rest_us[lengths[out].astype(int)]
        checked = np.interp(lengths[out], lengths[~out], us[~out])
        held_out.add("pure_prefill", checked + rest, us[out] + rest, f"{_STEP}, no context")
        return PrefillAttention(
            chunk_tokens=[int(v) for v in lengths],
            base_us=rounded(us),
            per_context_token_ns=rounded(slopes),
            launch_us=float(f"{us.min():.6g}"),
            max_context_tokens=32768,
        )

    def _mixed(self, decode: DecodeAttention) -> MixedAttention:
        factor = MIXED_FACTOR.get(self.kernel, _MIXED_FACTOR_OTHER)
        launch = decode.base_us[0]
        alone_ns = _UNSPLIT_SHARE * _UNSPLIT_NS_PER_TOKEN * self.shape.layers if self.unsplit else 0.0
        return MixedAttention(
            requests=decode.requests,
            chunk_tokens=[1],
            base_us=[rounded([max(base - launch, 0.0)]) for base in decode.base_us],
            per_context_token_ns=rounded(
                [
                    max(factor * ns, alone_ns / n)
                    for n, ns in zip(decode.requests, decode.per_context_token_ns, strict=True)
                ]
            ),
            max_context_tokens=decode.max_context_tokens,
        )

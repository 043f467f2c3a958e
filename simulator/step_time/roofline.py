"""Step times from data sheets, for what nobody has measured.

Each component takes the larger of its arithmetic over the GPU's peak rate and its bytes over the memory
bandwidth, both times a stated efficiency, plus a launch per kernel (Williams, Waterman, Patterson,
"Roofline", CACM 52(4), 2009). Tensor parallelism divides the work and adds two all-reduces a layer, at a
latency plus the ring's traffic over the interconnect. The result is a profile like any other, so the engine
sees no difference; its ``source`` says ``roofline``.

The efficiencies were chosen beforehand from what such kernels usually reach and were not fitted to the
shipped profiles. `ERROR_NOTE` states the difference from those profiles; ``tests/step_time/test_roofline.py``
recomputes it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from simulator.catalog import DTYPE_BYTES, Gpu, Model, canonical_dtype
from simulator.step_time.assumed import (
    EAGER_FLOOR_US_PER_LAYER,
    EAGER_NOTE,
    FRONT_END,
    HOST,
    OVERHEAD_NOTE,
    OVERHEAD_US_PER_LAYER,
)
from simulator.step_time.profile import (
    DecodeAttention,
    Identity,
    MixedAttention,
    PrefillAttention,
    SequenceKnots,
    StepTimeProfile,
    Terms,
    TokenKnots,
)

MEMORY_EFFICIENCY: Final = 0.80
COMPUTE_EFFICIENCY: Final = 0.70
PREFILL_ATTENTION_EFFICIENCY: Final = 0.45
KERNEL_US: Final = 3.0
ALLREDUCE_LATENCY_US: Final = 10.0
INTERCONNECT_EFFICIENCY: Final = 0.70
MIXED_FACTOR: Final = 1.5
HETEROGENEITY: Final = 1.02

ERROR_BOUNDS: Final = {"pure_decode": (-0.17, 0.13), "pure_prefill": (-0.24, 0.43), "mixed": (-0.29, 0.12)}
"""Mean signed difference from the shipped profiles with 16-bit weights by regime, as fractions: lowest and
highest profile."""

FP8_ERROR_BOUNDS: Final = {
    "pure_decode": (-0.14, 0.02),
    "pure_prefill": (-0.16, 0.03),
    "mixed": (-0.41, -0.29),
}
"""The same with fp8 weights, whose measured products cost up to twice as much just above a tile's edge."""

ERROR_NOTE: Final = (
    "rough: against the shipped profiles (8B to 70B, TP 1 to 8, RTX 4090 to H200), mean by regime and profile: "
    "pure decode -17 to +13 %, prefill -24 to +43 %, mixed steps -29 to +12 % (with fp8 weights -41 to -29 %); "
    "elsewhere unknown"
)

_MAX_CONTEXT: Final = 131072
_TOKENS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192, 16384, 32768)
_REQUESTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_CHUNKS: Final = (1, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


class _Roofline:
    """Component times of one model on one GPU group, microseconds."""

    def __init__(self, gpu: Gpu, model: Model, dtype: str, kv_cache_dtype: str, tp: int) -> None:
        self.shape, self.tp = model.shape, tp
        self.weight_width = DTYPE_BYTES[dtype]
        self.activation_width = max(self.weight_width, 2)
        self.flop_per_us = gpu.flop_per_s(dtype) * COMPUTE_EFFICIENCY / 1e6
        self.attention_flop_per_us = gpu.bf16_flop_per_s * PREFILL_ATTENTION_EFFICIENCY / 1e6
        self.bytes_per_us = gpu.hbm_bytes_per_s * MEMORY_EFFICIENCY / 1e6
        self.link_bytes_per_us = gpu.interconnect_bytes_per_s * INTERCONNECT_EFFICIENCY / 1e6
        self.kv_token_bytes = self.shape.kv_bytes_per_token(kv_cache_dtype) / min(tp, self.shape.kv_heads)

    def _gemm_us(self, tokens: float, rows: float, columns: float, weights: float | None = None) -> float:
        """``weights``: parameters read, if not rows x columns."""
        traffic = (rows * columns if weights is None else weights) * self.weight_width
        traffic += tokens * (rows + columns) * self.activation_width
        flops = 2.0 * tokens * rows * columns
        return max(flops / self.flop_per_us, traffic / self.bytes_per_us) + KERNEL_US

    def dense_us(self, tokens: int) -> float:
        """All layers outside attention."""
        shape, tp = self.shape, self.tp
        queries = shape.heads * shape.head_dim / tp
        keys = shape.kv_heads * shape.head_dim / min(tp, shape.kv_heads)
        time = self._gemm_us(tokens, shape.hidden, queries + 2 * keys)
        time += self._gemm_us(tokens, queries, shape.hidden)
        mlp = shape.intermediate / tp
        if shape.experts:
            # Tokens choose top_k of the experts; those that nobody chose are not read (uniform routing).
            visited = shape.experts * (1.0 - (1.0 - shape.top_k / shape.experts) ** tokens)
            for rows, columns in ((shape.hidden, 2 * mlp), (mlp, shape.hidden)):
                time += self._gemm_us(tokens * shape.top_k, rows, columns, visited * rows * columns)
            time += self._gemm_us(tokens, shape.hidden, shape.experts)
        else:
            time += self._gemm_us(tokens, shape.hidden, 2 * mlp) + self._gemm_us(tokens, mlp, shape.hidden)
        active_mlp = mlp * max(shape.top_k, 1)
        for elements in (4 * shape.hidden, 4 * shape.hidden, 2 * (queries + keys), 3 * active_mlp, 4 * keys):
            time += max(tokens * elements * self.activation_width / self.bytes_per_us, KERNEL_US)
        return shape.layers * (time + 2 * self._allreduce_us(tokens))

    def _allreduce_us(self, tokens: int) -> float:
        if self.tp == 1:
            return 0.0
        traffic = 2.0 * (self.tp - 1) / self.tp * tokens * self.shape.hidden * self.activation_width
        return ALLREDUCE_LATENCY_US + traffic / self.link_bytes_per_us

    def sequence_us(self, sequences: int) -> float:
        """Output head (16 bits) and a sampler that makes some ten passes over the logits."""
        vocab = self.shape.vocab / self.tp
        weights = self.shape.hidden * vocab * max(self.weight_width, 2) / self.weight_width
        head = self._gemm_us(sequences, self.shape.hidden, vocab, weights)
        return head + 10 * KERNEL_US + 10 * 4 * sequences * self.shape.vocab / self.bytes_per_us

    def prefill_base_us(self, chunk: int) -> float:
        """Causal attention of a chunk without context."""
        flops = 2.0 * chunk * chunk * self.shape.layers * self.shape.heads * self.shape.head_dim / self.tp
        return self.shape.layers * 2 * KERNEL_US + flops / self.attention_flop_per_us

    def prefill_per_context_ns(self, chunk: int) -> float:
        """Attention of a chunk to one token of context: arithmetic or the KV read, whichever is more."""
        flops = 4.0 * chunk * self.shape.layers * self.shape.heads * self.shape.head_dim / self.tp
        return 1e3 * max(flops / self.attention_flop_per_us, self.kv_token_bytes / self.bytes_per_us)


def roofline_profile(
    gpu: Gpu, model: Model, *, dtype: str = "bfloat16", kv_cache_dtype: str = "auto", tp: int = 1
) -> StepTimeProfile:
    """A profile made of data-sheet figures.

    Args:
        gpu: GPU of the catalog.
        model: model of the catalog.
        dtype: of the weights.
        kv_cache_dtype: ``auto`` is 16 bits.
        tp: tensor-parallel degree.
    """
    dtype = canonical_dtype(dtype)
    cache_dtype = "bfloat16" if kv_cache_dtype == "auto" else canonical_dtype(kv_cache_dtype)
    roof = _Roofline(gpu, model, dtype, cache_dtype, tp)
    layers = model.shape.layers
    per_token_ns = 1e3 * roof.kv_token_bytes / roof.bytes_per_us
    base_us = layers * 3 * KERNEL_US
    return StepTimeProfile(
        name=f"roofline--{gpu.id}--{model.name.rsplit('/', 1)[-1]}--{dtype}--tp{tp}".lower(),
        source="roofline",
        known_error=ERROR_NOTE,
        identity=Identity(
            gpu=gpu.id,
            model=model.name,
            shape=model.shape,
            dtype=dtype,
            kv_cache_dtype=cache_dtype,
            tp=tp,
            pp=1,
            engine_version="any",
        ),
        terms=Terms(
            dense=TokenKnots(tokens=list(_TOKENS), us=[roof.dense_us(t) for t in _TOKENS]),
            per_sequence=SequenceKnots(
                sequences=list(_REQUESTS), us=[roof.sequence_us(n) for n in _REQUESTS]
            ),
            decode_attention=DecodeAttention(
                requests=list(_REQUESTS),
                base_us=[base_us for _ in _REQUESTS],
                per_context_token_ns=[per_token_ns for _ in _REQUESTS],
                max_context_tokens=_MAX_CONTEXT,
                heterogeneity=HETEROGENEITY,
            ),
            prefill_attention=PrefillAttention(
                chunk_tokens=list(_CHUNKS),
                base_us=[roof.prefill_base_us(c) for c in _CHUNKS],
                per_context_token_ns=[roof.prefill_per_context_ns(c) for c in _CHUNKS],
                launch_us=layers * 2 * KERNEL_US,
                max_context_tokens=_MAX_CONTEXT,
            ),
            mixed_attention=MixedAttention(
                requests=list(_REQUESTS),
                chunk_tokens=[1],
                base_us=[[0.0] for _ in _REQUESTS],
                per_context_token_ns=[MIXED_FACTOR * per_token_ns for _ in _REQUESTS],
                max_context_tokens=_MAX_CONTEXT,
            ),
            overhead_us=OVERHEAD_US_PER_LAYER * layers,
            eager_floor_us=EAGER_FLOOR_US_PER_LAYER * layers,
        ),
        host=HOST,
        front_end=FRONT_END,
        assumptions=[
            f"memory efficiency {MEMORY_EFFICIENCY}, compute efficiency {COMPUTE_EFFICIENCY}, prefill "
            f"attention {PREFILL_ATTENTION_EFFICIENCY}, {KERNEL_US} us a kernel",
            f"all-reduce {ALLREDUCE_LATENCY_US} us + traffic at {INTERCONNECT_EFFICIENCY} of the link",
            f"mixed steps {MIXED_FACTOR} x decode attention, unequal contexts {HETEROGENEITY} x",
            OVERHEAD_NOTE,
            EAGER_NOTE,
            HOST.source,
            FRONT_END.source,
        ],
        provenance={"records": "none", "gpu_facts": gpu.source, "model_facts": model.source},
    )


def relative_errors(profile: StepTimeProfile, reference: StepTimeProfile) -> dict[str, float]:
    """Mean signed difference of ``profile`` from ``reference`` by regime, as a fraction, on a fixed grid.

    The grid: pure decode of 1, 8, 32, 128 requests at 1,000 tokens of context; prompts of 512, 1,024, 2,048
    tokens; 16 and 64 decoding requests at 1,000 tokens beside chunks of 256 and 1,024.
    """
    from simulator.step_time.tables import ProfileStepTime  # noqa: PLC0415  (tables do not need the roofline)

    ours, theirs = ProfileStepTime(profile), ProfileStepTime(reference)
    grid: dict[str, list[tuple[int, int, list[tuple[int, int]]]]] = {
        "pure_decode": [(n, 1000 * n, []) for n in (1, 8, 32, 128)],
        "pure_prefill": [(0, 0, [(c, 0)]) for c in (512, 1024, 2048)],
        "mixed": [(n, 1000 * n, [(c, 0)]) for n in (16, 64) for c in (256, 1024)],
    }
    return {
        regime: float(np.mean([ours.step_ps(*step) / theirs.step_ps(*step) - 1.0 for step in steps]))
        for regime, steps in grid.items()
    }

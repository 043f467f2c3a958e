"""Terms of a profile from LLMServingSim's per-layer tables of a real vLLM.

Source: casys-kaist/LLMServingSim (MIT), ``profiler/``: vLLM is started with one layer and dummy weights, and
each operator's GPU time is recorded. Files of one GPU, model, dtype and tensor-parallel degree:

- ``dense.csv``: layer, tokens, microseconds, for one call;
- ``moe.csv``: the whole block of experts against tokens and visited experts (tensor-parallel degree 1);
- ``per_sequence.csv``: output head and sampler against sequences;
- ``attention.csv``: one prefill chunk behind ``kv_prefill`` cached tokens beside ``n_decode`` requests with
  ``kv_decode`` cached tokens each, one layer;
- ``skew.csv``: the same with unequal contexts (``t_skew_us``) against equal ones of the same mean; see
  `calibration.spread_contexts`.

They were measured on one GPU with a degree's share of the heads, so communication is not in them: it is added
from aiconfigurator's tables. Experts split over GPUs were not measured: the time of degree 1 times the ratio
of aiconfigurator's rows of that degree to those of degree 1, at the same tokens.

The coefficients are fitted to all rows; their error is that of refits with whole rows (a number of requests, a
chunk size) and whole columns (every second context) left out. The dense table is small enough to be the fit
itself: every second token count is left out for the error only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import yaml

from calibration.collectives import Collectives
from calibration.experts import measured_experts, visited_experts_us
from calibration.fitting import Floats, fit_line, fit_nonnegative, hat_basis, rounded, select_knots
from calibration.measured_terms import HeldOut, MeasuredTerms, decode_us, mixed_us, prefill_us
from calibration.operator_tables import OperatorTables, TablesError, read_csv
from calibration.spread_contexts import table_scale, unsplit_from, with_spread_decode, with_spread_mixed
from calibration.tiles import FINE, with_edges
from simulator.catalog import Gpu, ModelShape
from simulator.step_time.profile import (
    DecodeAttention,
    MixedAttention,
    PrefillAttention,
    SequenceKnots,
    TokenKnots,
)

# Calls of each operator in one transformer layer; the rest are called once per step.
_CALLS_PER_LAYER: Final = {
    "qkv_proj": 1,
    "o_proj": 1,
    "gate_up_proj": 1,
    "down_proj": 1,
    "act_fn": 1,
    "rotary_emb": 1,
    "layernorm": 2,
    "qk_norm": 2,
}
_CALLS_PER_STEP: Final = {"embedding": 1, "final_layernorm": 1}
_MIXED_MAX_CONTEXT: Final = 8192
_MIXED_CHUNKS: Final = [16, 128, 256, 512, 1024, 2048]
# Candidates for the summed context from which a token of a mixed batch costs more; the best of them is taken.
_MIXED_KNEES: Final = [65536, 98304, 131072, 163840, 196608, 262144]
_MIXED_MIN_CONTEXT: Final = 64
_KNOT_TOLERANCE: Final = 0.005
_STEP: Final = "the step's time"


class LlmServingSimTables:
    """The tables of one GPU, model, dtype and tensor-parallel degree.

    Args:
        folder: the folder that holds ``meta.yaml`` and ``tp<N>/``.
        gpu: of the catalog.
        shape: of the whole model (the tables are of one layer).
        tp: tensor-parallel degree.
        kv_cache_tokens: what the GPUs' KV cache can hold; mixed batches beyond it are not fitted, since they
            cannot occur.
        operators: aiconfigurator's tables, for communication and split experts.

    Raises:
        TablesError: no tables of this degree, or layers that are not known.
    """

    def __init__(
        self,
        folder: Path,
        gpu: Gpu,
        shape: ModelShape,
        tp: int,
        kv_cache_tokens: int,
        operators: OperatorTables | None,
    ) -> None:
        self.gpu = gpu
        self.shape = shape
        self.tp = tp
        self.kv_cache_tokens = kv_cache_tokens
        self.meta = yaml.safe_load((folder / "meta.yaml").read_text(encoding="utf-8"))
        tables = folder / f"tp{tp}"
        if not tables.is_dir():
            there = sorted(path.name for path in folder.glob("tp*"))
            raise TablesError(f"{folder}: no tables of tp {tp}; there are: {', '.join(there)}")
        self.collectives = Collectives(operators, gpu.id, tp)
        self.tokens, self.dense_us = self._read_dense(tables)
        if shape.experts:
            self.dense_us = self.dense_us + shape.layers * self._experts_us(folder, gpu, operators)
        layers = 2 * shape.layers + 1
        self.dense_us = self.dense_us + layers * self.collectives.allreduce_us(self.tokens, shape.hidden)
        sequence = read_csv(tables, "per_sequence").pivot_table(
            index="sequences", columns="layer", values="time_us"
        )
        self.sequences = sequence.index.to_numpy(dtype=np.float64)
        self.sequence_us = sequence.sum(axis=1).to_numpy(dtype=np.float64)
        self.sequence_us = self.sequence_us + self.collectives.gather_us(self.sequences, shape.vocab)
        attention = read_csv(tables, "attention")
        attention["time_us"] *= shape.layers
        self.decode_rows = attention[(attention.prefill_chunk == 0) & (attention.n_decode > 0)]
        self.prefill_rows = attention[(attention.n_decode == 0) & (attention.prefill_chunk > 0)]
        self.mixed_rows = attention[
            (attention.prefill_chunk > 0)
            & (attention.n_decode > 0)
            & (attention.kv_decode >= _MIXED_MIN_CONTEXT)
            & (attention.kv_decode <= _MIXED_MAX_CONTEXT)
            & (attention.kv_prefill <= _MIXED_MAX_CONTEXT)
            & (attention.n_decode * attention.kv_decode + attention.kv_prefill <= kv_cache_tokens)
        ]
        try:
            self.skew: pd.DataFrame | None = read_csv(tables, "skew")
        except FileNotFoundError:
            self.skew = None

    def _read_dense(self, tables: Path) -> tuple[Floats, Floats]:
        """Tokens, and microseconds of all layers' operators outside attention and experts."""
        dense = read_csv(tables, "dense").pivot_table(index="tokens", columns="layer", values="time_us")
        calls = {**{k: v * self.shape.layers for k, v in _CALLS_PER_LAYER.items()}, **_CALLS_PER_STEP}
        unknown = [layer for layer in dense.columns if layer not in calls]
        if unknown:
            raise TablesError(f"{tables}: dense table has unknown layers {', '.join(unknown)}")
        total: Floats = sum(
            (dense[layer].to_numpy(dtype=np.float64) * calls[layer] for layer in dense.columns),
            start=np.zeros(len(dense)),
        )
        return dense.index.to_numpy(dtype=np.float64), total

    def _experts_us(self, folder: Path, gpu: Gpu, operators: OperatorTables | None) -> Floats:
        """One layer's experts at every token count of the dense table."""
        try:
            return visited_experts_us(read_csv(folder / f"tp{self.tp}", "moe"), self.shape, self.tokens)
        except FileNotFoundError:
            if self.tp == 1 or operators is None:
                raise
        whole = visited_experts_us(read_csv(folder / "tp1", "moe"), self.shape, self.tokens)
        curves = [
            measured_experts(operators, gpu.id, self.shape, degree, "bfloat16") for degree in (self.tp, 1)
        ]
        split, alone = (np.interp(self.tokens, *curve) for curve in curves)
        return np.asarray(whole * split / alone, dtype=np.float64)

    def terms(self) -> MeasuredTerms:
        """Fit everything; the errors are of refits without the rows that they are measured on."""
        held_out = HeldOut()
        self._dense_error(held_out)
        decode = self._fit_decode(self.decode_rows)
        self._decode_error(held_out)
        prefill = self._fit_prefill(self.prefill_rows)
        self._prefill_error(held_out)
        mixed = self._fit_mixed(self.mixed_rows, prefill)
        self._mixed_error(held_out)
        decode, mixed = self._with_spread(decode, mixed)
        tokens, dense_us = with_edges(self.tokens, self.dense_us, FINE)
        dense_keep = select_knots(tokens, dense_us, _KNOT_TOLERANCE)
        keep = select_knots(self.sequences, self.sequence_us, _KNOT_TOLERANCE)
        return MeasuredTerms(
            dense=TokenKnots(tokens=[int(v) for v in tokens[dense_keep]], us=rounded(dense_us[dense_keep])),
            per_sequence=SequenceKnots(
                sequences=[int(v) for v in self.sequences[keep]], us=rounded(self.sequence_us[keep])
            ),
            decode_attention=decode,
            prefill_attention=prefill,
            mixed_attention=mixed,
            held_out=held_out,
            engine_version=str(self.meta["vllm_version"]),
            measured_on=str(self.meta["profiled_at"])[:10],
        )

    def _rest_us(self, tokens: Floats, sequences: Floats) -> Floats:
        """Measured time of a step outside attention: what attention errors are weighed against."""
        rest: Floats = np.interp(tokens, self.tokens, self.dense_us)
        rest += np.interp(sequences, self.sequences, self.sequence_us)
        return rest

    def _dense_error(self, held_out: HeldOut) -> None:
        out = np.zeros(len(self.tokens), dtype=bool)
        out[1:-1:2] = True
        predicted = np.interp(self.tokens[out], self.tokens[~out], self.dense_us[~out])
        held_out.add("dense", predicted, self.dense_us[out], "the time outside attention, by tokens")

    def _fit_decode(self, rows: pd.DataFrame) -> DecodeAttention:
        requests = sorted(int(n) for n in rows.n_decode.unique())
        lines = []
        for n in requests:
            mine = rows[rows.n_decode == n]
            us = mine.time_us.to_numpy(dtype=np.float64)
            rest = float(self._rest_us(np.array([n]), np.array([n]))[0])
            lines.append(fit_line(mine.kv_decode.to_numpy(dtype=np.float64) * n, us, 1.0 / (us + rest)))
        return DecodeAttention(
            requests=requests,
            base_us=rounded([line.base for line in lines]),
            per_context_token_ns=rounded([line.slope * 1e3 for line in lines]),
            max_context_tokens=int(rows.kv_decode.max()),
        )

    def _decode_error(self, held_out: HeldOut) -> None:
        rows = self.decode_rows
        for out, kept in _left_out(rows, "n_decode", "kv_decode"):
            n = out.n_decode.to_numpy(dtype=np.float64)
            rest = self._rest_us(n, n)
            predicted = decode_us(self._fit_decode(kept), n, out.kv_decode.to_numpy(dtype=np.float64) * n)
            held_out.add(
                "pure_decode", predicted + rest, out.time_us.to_numpy(dtype=np.float64) + rest, _STEP
            )

    def _with_spread(
        self, decode: DecodeAttention, mixed: MixedAttention
    ) -> tuple[DecodeAttention, MixedAttention]:
        """The terms with what the longest context costs, where that was measured."""
        if self.skew is None:
            return decode, mixed
        alone, beside = (self.skew[self.skew.regime == regime] for regime in ("pure", "mixed"))
        n, mean = (alone[name].to_numpy(dtype=np.float64) for name in ("n", "kv_mean"))
        scale = table_scale(alone, decode_us(decode, n, n * mean))
        first = unsplit_from(self.gpu, max(self.shape.kv_heads // self.tp, 1))
        return (
            with_spread_decode(decode, alone, scale, first),
            with_spread_mixed(mixed, beside, scale, self.kv_cache_tokens),
        )

    def _fit_prefill(self, rows: pd.DataFrame) -> PrefillAttention:
        chunks = sorted(int(c) for c in rows.prefill_chunk.unique())
        lines = []
        for chunk in chunks:
            mine = rows[rows.prefill_chunk == chunk]
            us = mine.time_us.to_numpy(dtype=np.float64)
            rest = float(self._rest_us(np.array([chunk]), np.array([1.0]))[0])
            lines.append(fit_line(mine.kv_prefill.to_numpy(dtype=np.float64), us, 1.0 / (us + rest)))
        base = np.array([line.base for line in lines])
        return PrefillAttention(
            chunk_tokens=chunks,
            base_us=rounded(base),
            per_context_token_ns=rounded([line.slope * 1e3 for line in lines]),
            launch_us=float(f"{base.min():.6g}"),
            max_context_tokens=int(rows.kv_prefill.max()),
        )

    def _prefill_error(self, held_out: HeldOut) -> None:
        for out, kept in _left_out(self.prefill_rows, "prefill_chunk", "kv_prefill"):
            chunk = out.prefill_chunk.to_numpy(dtype=np.float64)
            rest = self._rest_us(chunk, np.ones_like(chunk))
            predicted = prefill_us(self._fit_prefill(kept), chunk, out.kv_prefill.to_numpy(dtype=np.float64))
            held_out.add("pure_prefill", predicted + rest, out.time_us.to_numpy(float) + rest, _STEP)

    def _mixed_columns(self, rows: pd.DataFrame) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Requests, chunk, context behind the chunk, summed context of the decodes, time outside attention."""
        n, chunk, context, each = (
            rows[name].to_numpy(dtype=np.float64)
            for name in ("n_decode", "prefill_chunk", "kv_prefill", "kv_decode")
        )
        return n, chunk, context, n * each, self._rest_us(chunk + n, n + 1.0)

    def _fit_mixed(self, rows: pd.DataFrame, prefill: PrefillAttention) -> MixedAttention:
        """What decoding requests add beside a chunk: time less the fitted prefill attention."""
        n, chunk, context, total, rest = self._mixed_columns(rows)
        us = rows.time_us.to_numpy(dtype=np.float64)
        alone = prefill_us(prefill, chunk, context)
        best: tuple[float, MixedAttention] | None = None
        for knee in _MIXED_KNEES:
            term = self._fit_knee(knee, n, chunk, total, us - alone, us + rest)
            residual = np.abs(alone + mixed_us(term, n, chunk, total) - us) / (us + rest)
            if best is None or residual.mean() < best[0]:
                best = float(residual.mean()), term
        assert best is not None
        term = best[1]
        if term.above_knee_ns == term.per_context_token_ns:
            term = term.model_copy(update={"knee_context_tokens": None, "above_knee_ns": None})
        return term

    @staticmethod
    def _fit_knee(
        knee: int, n: Floats, chunk: Floats, total: Floats, extra: Floats, step: Floats
    ) -> MixedAttention:
        """Fit with a context token that costs more above a summed context of ``knee``."""
        requests = sorted(int(v) for v in np.unique(n))
        knots = [c for c in _MIXED_CHUNKS if c <= chunk.max()]
        base_us, below_ns, above_ns = [], [], []
        for count in requests:
            mine = n == count
            # The second slope is what a token above the knee costs more: never less than below it.
            columns = np.column_stack(
                [hat_basis(chunk[mine], knots), total[mine], np.maximum(total[mine] - knee, 0.0)]
            )
            solution = fit_nonnegative(columns, extra[mine], 1.0 / step[mine])
            base_us.append(rounded(solution[:-2]))
            below_ns.append(float(solution[-2]) * 1e3)
            above_ns.append(float(solution[-2] + solution[-1]) * 1e3)
        return MixedAttention(
            requests=requests,
            chunk_tokens=knots,
            base_us=base_us,
            per_context_token_ns=rounded(below_ns),
            knee_context_tokens=knee,
            above_knee_ns=rounded(above_ns),
            max_context_tokens=_MIXED_MAX_CONTEXT,
        )

    def _mixed_error(self, held_out: HeldOut) -> None:
        prefill = self._fit_prefill(self.prefill_rows)
        for axis in ("n_decode", "prefill_chunk"):
            for out, kept in _left_out(self.mixed_rows, axis, "kv_decode"):
                n, chunk, context, total, rest = self._mixed_columns(out)
                predicted = prefill_us(prefill, chunk, context)
                predicted = predicted + mixed_us(self._fit_mixed(kept, prefill), n, chunk, total)
                held_out.add("mixed", predicted + rest, out.time_us.to_numpy(float) + rest, _STEP)


def _left_out(rows: pd.DataFrame, row: str, column: str) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """(held out, kept) pairs: each inner value of ``row`` in turn, every second value of ``column`` always.

    Only rows that lie in both are held out of nothing else; those in a kept row or column alone are used for
    neither.
    """
    columns = sorted(rows[column].unique())
    kept_columns = rows[column].isin(columns[::2])
    pairs = []
    for value in sorted(rows[row].unique())[1:-1]:
        mine = rows[row] == value
        pairs.append((rows[mine & ~kept_columns], rows[~mine & kept_columns]))
    return [(out, kept) for out, kept in pairs if len(out)]

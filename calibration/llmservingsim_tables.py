"""Terms of a profile from LLMServingSim's per-layer tables of a real vLLM.

Source: casys-kaist/LLMServingSim (MIT), ``profiler/``: vLLM is started with one layer and dummy weights, and
each operator's GPU time is recorded. Files of one GPU, model, dtype and tensor-parallel degree:

- ``dense.csv``: layer, tokens, microseconds, for one call;
- ``per_sequence.csv``: output head and sampler against sequences;
- ``attention.csv``: one prefill chunk behind ``kv_prefill`` cached tokens beside ``n_decode`` requests with
  ``kv_decode`` cached tokens each, one layer;
- ``skew.csv``: the same with unequal contexts (``t_skew_us``) against equal ones of the same mean.

Every second row is held out of the fit, and the error of the coefficients is that on those rows. The dense
table is the exception: GEMM times jump at tile sizes, so its error is measured with every second row held
out, but all rows are shipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from calibration.fitting import (
    Floats,
    Line,
    fit_error,
    fit_line,
    fit_nonnegative,
    hat_basis,
    rounded,
    select_knots,
)
from simulator.catalog import ModelShape
from simulator.step_time.profile import (
    DecodeAttention,
    FitError,
    MixedAttention,
    PrefillAttention,
    SequenceKnots,
    TokenKnots,
)

# Calls of each operator in one transformer layer; the rest are called once per step.
_CALLS_PER_LAYER = {
    "qkv_proj": 1,
    "o_proj": 1,
    "gate_up_proj": 1,
    "down_proj": 1,
    "act_fn": 1,
    "rotary_emb": 1,
    "layernorm": 2,
    "qk_norm": 2,
}
_CALLS_PER_STEP = {"embedding": 1, "final_layernorm": 1}
_MIXED_MAX_CONTEXT = 8192
_MIXED_CHUNKS = [16, 128, 256, 512, 1024, 2048]
# Candidates for the summed context from which a token of a mixed batch costs more; the best of them is taken.
_MIXED_KNEES = [65536, 98304, 131072, 163840, 196608, 262144]
_MIXED_MIN_CONTEXT = 64


@dataclass(frozen=True)
class MeasuredTerms:
    """Terms that the tables determine, and what is known of their error."""

    dense: TokenKnots
    per_sequence: SequenceKnots
    decode_attention: DecodeAttention
    prefill_attention: PrefillAttention
    mixed_attention: MixedAttention
    fit_error: list[FitError]
    engine_version: str
    measured_on: str


def read_csv(folder: Path, name: str) -> pd.DataFrame:
    """``name``.csv or ``name``.csv.gz of a folder."""
    for suffix in (".csv", ".csv.gz"):
        path = folder / f"{name}{suffix}"
        if path.is_file():
            return pd.read_csv(path)
    raise FileNotFoundError(f"{folder}: neither {name}.csv nor {name}.csv.gz")


class LlmServingSimTables:
    """The tables of one GPU, model, dtype and tensor-parallel degree.

    Args:
        folder: the folder that holds ``meta.yaml`` and ``tp<N>/``.
        shape: of the whole model (the tables are of one layer).
        tp: tensor-parallel degree.
        kv_cache_tokens: what the GPU's KV cache can hold; mixed batches beyond it are not fitted, since they
            cannot occur.
    """

    def __init__(self, folder: Path, shape: ModelShape, tp: int, kv_cache_tokens: int) -> None:
        self.shape = shape
        self.kv_cache_tokens = kv_cache_tokens
        self.meta = yaml.safe_load((folder / "meta.yaml").read_text(encoding="utf-8"))
        tables = folder / f"tp{tp}"
        dense = read_csv(tables, "dense").pivot_table(index="tokens", columns="layer", values="time_us")
        calls = {**{k: v * shape.layers for k, v in _CALLS_PER_LAYER.items()}, **_CALLS_PER_STEP}
        unknown = [layer for layer in dense.columns if layer not in calls]
        if unknown:
            raise ValueError(f"{tables}: dense table has unknown layers {', '.join(unknown)}")
        self.tokens = dense.index.to_numpy(dtype=np.float64)
        self.dense_us: Floats = sum(
            (dense[layer].to_numpy(dtype=np.float64) * calls[layer] for layer in dense.columns),
            start=np.zeros(len(dense)),
        )
        sequence = read_csv(tables, "per_sequence").pivot_table(
            index="sequences", columns="layer", values="time_us"
        )
        self.sequences = sequence.index.to_numpy(dtype=np.float64)
        self.sequence_us = sequence.sum(axis=1).to_numpy(dtype=np.float64)
        attention = read_csv(tables, "attention")
        attention["time_us"] *= shape.layers
        self.attention = attention
        try:
            self.skew: pd.DataFrame | None = read_csv(tables, "skew")
        except FileNotFoundError:
            self.skew = None

    def terms(self) -> MeasuredTerms:
        """Fit everything."""
        dense, dense_error = self._dense()
        decode, decode_error = self._decode()
        prefill, prefill_error = self._prefill()
        mixed, mixed_error = self._mixed(prefill)
        keep = select_knots(self.sequences, self.sequence_us, 0.005)
        return MeasuredTerms(
            dense=dense,
            per_sequence=SequenceKnots(
                sequences=[int(v) for v in self.sequences[keep]], us=rounded(self.sequence_us[keep])
            ),
            decode_attention=decode,
            prefill_attention=prefill,
            mixed_attention=mixed,
            fit_error=[dense_error, decode_error, prefill_error, mixed_error],
            engine_version=str(self.meta["vllm_version"]),
            measured_on=str(self.meta["profiled_at"])[:10],
        )

    def _rest_us(self, tokens: Floats, sequences: Floats) -> Floats:
        """Measured time of a step outside attention: what attention errors are weighed against."""
        rest: Floats = np.interp(tokens, self.tokens, self.dense_us)
        rest += np.interp(sequences, self.sequences, self.sequence_us)
        return rest

    def _dense(self) -> tuple[TokenKnots, FitError]:
        held_out = np.zeros(len(self.tokens), dtype=bool)
        held_out[1:-1:2] = True
        x, y = self.tokens[~held_out], self.dense_us[~held_out]
        predicted = np.interp(self.tokens[held_out], x, y)
        error = fit_error("dense", predicted, self.dense_us[held_out], "the dense operators' time")
        keep = select_knots(self.tokens, self.dense_us, 0.01)
        knots = TokenKnots(tokens=[int(v) for v in self.tokens[keep]], us=rounded(self.dense_us[keep]))
        return knots, error

    def _decode(self) -> tuple[DecodeAttention, FitError]:
        rows = self.attention[(self.attention.prefill_chunk == 0) & (self.attention.n_decode > 0)]
        requests = sorted(int(n) for n in rows.n_decode.unique())
        lines: list[Line] = []
        predicted, measured = [], []
        for n in requests:
            mine = rows[rows.n_decode == n].sort_values("kv_decode")
            total = mine.kv_decode.to_numpy(dtype=np.float64) * n
            us = mine.time_us.to_numpy(dtype=np.float64)
            rest = float(self._rest_us(np.array([n]), np.array([n]))[0])
            held_out = np.arange(len(us)) % 2 == 1
            line = fit_line(total[~held_out], us[~held_out], 1.0 / (us[~held_out] + rest))
            lines.append(line)
            predicted.append(line(total[held_out]) + rest)
            measured.append(us[held_out] + rest)
        heterogeneity = self._heterogeneity()
        term = DecodeAttention(
            requests=requests,
            base_us=rounded([line.base for line in lines]),
            per_context_token_ns=rounded([line.slope * 1e3 for line in lines]),
            max_context_tokens=int(rows.kv_decode.max()),
            heterogeneity=heterogeneity if heterogeneity is not None else 1.0,
        )
        error = fit_error(
            "pure_decode", np.concatenate(predicted), np.concatenate(measured), "the step's time"
        )
        return term, error

    def _heterogeneity(self) -> float | None:
        """Median ratio of skewed to equal contexts of the same mean, batches of 8 and more."""
        if self.skew is None:
            return None
        rows = self.skew[(self.skew.regime == "pure") & (self.skew.n >= 8)]
        ratio = rows.t_skew_us / rows.t_mean_us
        return round(max(float(ratio.median()), 1.0), 4)

    def _prefill(self) -> tuple[PrefillAttention, FitError]:
        rows = self.attention[(self.attention.n_decode == 0) & (self.attention.prefill_chunk > 0)]
        chunks = sorted(int(c) for c in rows.prefill_chunk.unique())
        lines: list[Line] = []
        predicted, measured = [], []
        for chunk in chunks:
            mine = rows[rows.prefill_chunk == chunk].sort_values("kv_prefill")
            context = mine.kv_prefill.to_numpy(dtype=np.float64)
            us = mine.time_us.to_numpy(dtype=np.float64)
            rest = float(self._rest_us(np.array([chunk]), np.array([1.0]))[0])
            held_out = np.arange(len(us)) % 2 == 1
            line = fit_line(context[~held_out], us[~held_out], 1.0 / (us[~held_out] + rest))
            lines.append(line)
            predicted.append(line(context[held_out]) + rest)
            measured.append(us[held_out] + rest)
        base = np.array([line.base for line in lines])
        term = PrefillAttention(
            chunk_tokens=chunks,
            base_us=rounded(base),
            per_context_token_ns=rounded([line.slope * 1e3 for line in lines]),
            launch_us=float(f"{base.min():.6g}"),
            max_context_tokens=int(rows.kv_prefill.max()),
        )
        error = fit_error(
            "pure_prefill", np.concatenate(predicted), np.concatenate(measured), "the step's time"
        )
        return term, error

    def _mixed(self, prefill: PrefillAttention) -> tuple[MixedAttention, FitError]:
        """What decoding requests add beside a chunk: time less the fitted prefill attention."""
        table = self.attention
        rows = table[
            (table.prefill_chunk > 0)
            & (table.n_decode > 0)
            & (table.kv_decode >= _MIXED_MIN_CONTEXT)
            & (table.kv_decode <= _MIXED_MAX_CONTEXT)
            & (table.kv_prefill <= _MIXED_MAX_CONTEXT)
            & (table.n_decode * table.kv_decode + table.kv_prefill <= self.kv_cache_tokens)
        ]
        fits = [self._fit_mixed(rows, prefill, knee) for knee in _MIXED_KNEES]
        term, error, _ = min(fits, key=lambda fit: fit[2])
        if term.above_knee_ns == term.per_context_token_ns:
            term = term.model_copy(update={"knee_context_tokens": None, "above_knee_ns": None})
        return term, error

    def _fit_mixed(
        self, rows: pd.DataFrame, prefill: PrefillAttention, knee: int
    ) -> tuple[MixedAttention, FitError, float]:
        """Fit with a context token that costs more above a summed context of ``knee``.

        Returns the term, its error on the held-out rows, and its mean relative error on the fitted ones, by
        which knees are compared.
        """
        requests = sorted(int(n) for n in rows.n_decode.unique())
        knots = [c for c in _MIXED_CHUNKS if c <= int(rows.prefill_chunk.max())]
        base_us, below_ns, above_ns = [], [], []
        predicted, measured, residuals = [], [], []
        for n in requests:
            mine = rows[rows.n_decode == n].sort_values(["prefill_chunk", "kv_prefill", "kv_decode"])
            chunk = mine.prefill_chunk.to_numpy(dtype=np.float64)
            context = mine.kv_prefill.to_numpy(dtype=np.float64)
            total = mine.kv_decode.to_numpy(dtype=np.float64) * n
            us = mine.time_us.to_numpy(dtype=np.float64)
            rest = self._rest_us(chunk + n, np.full_like(chunk, n + 1.0))
            alone = (
                np.interp(chunk, prefill.chunk_tokens, prefill.base_us)
                + np.interp(chunk, prefill.chunk_tokens, prefill.per_context_token_ns) * context / 1e3
            )
            # The second slope is what a token above the knee costs more: never less than below it.
            columns = np.column_stack([hat_basis(chunk, knots), total, np.maximum(total - knee, 0.0)])
            held_out = np.arange(len(us)) % 2 == 1
            kept = ~held_out
            solution = fit_nonnegative(columns[kept], (us - alone)[kept], 1.0 / (us + rest)[kept])
            base_us.append(rounded(solution[:-2]))
            below_ns.append(float(solution[-2]) * 1e3)
            above_ns.append(float(solution[-2] + solution[-1]) * 1e3)
            fitted = alone + columns @ solution
            predicted.append((fitted + rest)[held_out])
            measured.append((us + rest)[held_out])
            residuals.append(np.abs(fitted - us)[kept] / (us + rest)[kept])
        term = MixedAttention(
            requests=requests,
            chunk_tokens=knots,
            base_us=base_us,
            per_context_token_ns=rounded(below_ns),
            knee_context_tokens=knee,
            above_knee_ns=rounded(above_ns),
            max_context_tokens=_MIXED_MAX_CONTEXT,
        )
        error = fit_error("mixed", np.concatenate(predicted), np.concatenate(measured), "the step's time")
        return term, error, float(np.concatenate(residuals).mean())

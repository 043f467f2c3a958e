"""Terms of a profile that come from operator tables, their evaluation, and their error on rows held out.

The evaluation is that of `simulator.step_time.tables` without its integers: linear between knots in requests,
tokens and chunks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from calibration.fitting import Floats, Regime, fit_error
from simulator.step_time.profile import (
    DecodeAttention,
    FitError,
    MixedAttention,
    PrefillAttention,
    SequenceKnots,
    TokenKnots,
)


@dataclass
class HeldOut:
    """Times of rows that were held out of the fit, by regime, and what was predicted for them."""

    rows: dict[Regime, tuple[list[Floats], list[Floats], str]] = field(default_factory=dict)

    def add(self, regime: Regime, predicted: Floats, measured: Floats, of: str) -> None:
        """More rows of one regime."""
        ours, theirs, _ = self.rows.setdefault(regime, ([], [], of))
        ours.append(predicted)
        theirs.append(measured)

    def relative(self, regime: Regime) -> Floats:
        """Predicted over measured, less 1."""
        predicted, measured, _ = self.rows[regime]
        return np.asarray(np.concatenate(predicted) / np.concatenate(measured) - 1.0, dtype=np.float64)

    def errors(self) -> list[FitError]:
        """What a profile states."""
        return [
            fit_error(regime, np.concatenate(predicted), np.concatenate(measured), of)
            for regime, (predicted, measured, of) in self.rows.items()
        ]


@dataclass(frozen=True)
class MeasuredTerms:
    """Terms that the tables determine, and what is known of their error."""

    dense: TokenKnots
    per_sequence: SequenceKnots
    decode_attention: DecodeAttention
    prefill_attention: PrefillAttention
    mixed_attention: MixedAttention
    held_out: HeldOut
    engine_version: str
    measured_on: str


def decode_us(term: DecodeAttention, requests: Floats, context: Floats) -> Floats:
    """Attention of pure decode steps with equal contexts."""
    base = np.interp(requests, term.requests, term.base_us)
    slope = np.interp(requests, term.requests, term.per_context_token_ns)
    return np.asarray(base + slope * context / 1e3, dtype=np.float64)


def prefill_us(term: PrefillAttention, chunk: Floats, context: Floats) -> Floats:
    """Attention of a chunk behind ``context`` tokens."""
    base = np.interp(chunk, term.chunk_tokens, term.base_us)
    slope = np.interp(chunk, term.chunk_tokens, term.per_context_token_ns)
    return np.asarray(base + slope * context / 1e3, dtype=np.float64)


def mixed_us(term: MixedAttention, requests: Floats, chunk: Floats, context: Floats) -> Floats:
    """What decoding requests add beside a chunk, equal contexts."""
    knots = np.array(term.chunk_tokens, dtype=np.float64)
    by_chunk = np.array([np.interp(requests, term.requests, column) for column in np.transpose(term.base_us)])
    right = np.clip(np.searchsorted(knots, chunk), 1, max(len(knots) - 1, 1)) % len(knots)
    left = np.maximum(right - 1, 0)
    width = np.maximum(knots[right] - knots[left], 1.0)
    share = np.clip((chunk - knots[left]) / width, 0.0, 1.0)
    rows = np.arange(len(chunk))
    base = by_chunk[left, rows] * (1 - share) + by_chunk[right, rows] * share
    slope = np.interp(requests, term.requests, term.per_context_token_ns)
    time = base + slope * context / 1e3
    if term.knee_context_tokens is not None and term.above_knee_ns is not None:
        above = np.interp(requests, term.requests, term.above_knee_ns) - slope
        time = time + above * np.maximum(context - term.knee_context_tokens, 0.0) / 1e3
    return np.asarray(time, dtype=np.float64)

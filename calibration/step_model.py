"""The linear model behind a fitted profile: columns for each step, non-negative robust solution, profile terms.

The sum of a profile's terms is linear in its coefficients once the knots are chosen. Whole steps do not tell all
terms apart, so each ambiguity is settled once, here:

- What every step pays (launch, gaps between kernels) is part of ``dense``; ``overhead_us`` is 0.
- ``dense`` has knots at the token counts that were measured, after padding to captured graph sizes, and never
  falls with the number of tokens.
- ``prefill_attention``: a chunk of c tokens behind k is causal attention, so base(c) = launch +
  per_context_token(c) x c / 2: its c queries see c / 2 of its own tokens on average. The dependence on k gives
  per_context_token, which never falls with c; what base leaves over is in ``dense``. The launch is what steps
  with prefill pay more than decode steps of as many tokens.
- ``per_sequence`` is proportional to the requests beyond the first.
- ``decode_attention``: per_context_token has knots at the batch sizes that were measured with two contexts or
  more. base has knots only where a prefill of as many tokens was measured too and so fixes ``dense``;
  elsewhere ``dense`` holds it.
- ``mixed_attention``: base by decodes and chunk tokens, per_context_token by decodes; where a batch was measured
  with one context only, its cost is put down to the context.
- A slight pull towards 0 on launch, per_sequence and both bases decides what nothing else does.

Contexts that differ within a batch are left out; their factor (``heterogeneity``) is fitted afterwards.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from calibration.captured_steps import CapturedStep, Floats
from calibration.cells import Cell
from calibration.fitting import fit_huber, hat_basis, rounded
from simulator.step_time.profile import (
    DecodeAttention,
    MixedAttention,
    PrefillAttention,
    SequenceKnots,
    Terms,
    TokenKnots,
)

_PULL: Final = {"per_sequence": 1e-3, "launch": 1e-3, "decode_base": 1e-3, "mixed_base": 2e-2}
"""Towards 0, in relative error for each typical step time; the grid of mixed bases has many entries that few
cells determine."""
_NS_PER_US: Final = 1000.0
_FEWEST_AT_KNOT: Final = 3
_FEWEST_IN_ROW: Final = 3
_MODEL_LIMIT: Final = 0.005  # relative error that interpolation leaves, however many steps a cell has


@dataclass(frozen=True)
class Knots:
    """Where the model has coefficients; an empty tuple is a term that the records do not tell apart."""

    captured: tuple[int, ...]
    dense: tuple[int, ...]
    chunks: tuple[int, ...]
    scaled_last_chunk: bool
    """The last chunk was measured without context: its slope is that of the one before, in proportion."""
    decode_base: tuple[int, ...]
    decode_context: tuple[int, ...]
    largest_batch: int
    mixed_requests: tuple[int, ...]
    mixed_chunks: tuple[int, ...]
    has_prefill_context: bool

    @property
    def blocks(self) -> dict[str, int]:
        """Number of columns of each term, in order."""
        return {
            "dense": len(self.dense),
            "per_sequence": 1,
            "launch": 1,
            "prefill_context": (len(self.chunks) - self.scaled_last_chunk) if self.has_prefill_context else 0,
            "decode_base": len(self.decode_base),
            "decode_context": len(self.decode_context),
            "mixed_base": len(self.mixed_requests) * len(self.mixed_chunks),
            "mixed_context": len(self.mixed_requests),
        }

    def slices(self) -> dict[str, slice]:
        """Columns of each term."""
        result, start = {}, 0
        for name, size in self.blocks.items():
            result[name] = slice(start, start + size)
            start += size
        return result


def padded(tokens: int, captured: Sequence[int]) -> int:
    """Tokens that a step of so many computes: the next captured graph size, itself above the largest."""
    place = bisect_left(captured, tokens)
    return captured[place] if place < len(captured) else tokens


def _spaced(counts: Counter[int], ratio: float, most: int) -> tuple[int, ...]:
    """The smallest, the largest, and the commonest values between that are at least ``ratio`` apart."""
    if not counts:
        return ()
    chosen = {min(counts), max(counts)}
    for value, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if len(chosen) >= most:
            break
        if all(max(value, other) >= ratio * min(value, other) for other in chosen):
            chosen.add(value)
    return tuple(sorted(chosen))


def _often(counts: Counter[int], fewest: int) -> Counter[int]:
    """Without the values that were rarely seen; the largest stays, for it says how far the records reach."""
    if not counts:
        return counts
    common = Counter({value: seen for value, seen in counts.items() if seen >= fewest})
    return common | Counter({max(counts): 1})


def _sizes(groups: Mapping[int, set[int]]) -> Counter[int]:
    return Counter({value: len(group) for value, group in groups.items()})


def _varied(contexts: Sequence[float]) -> bool:
    """Whether contexts differ enough to tell a slope from a constant."""
    return max(contexts) >= 1.5 * min(contexts) + 16


def choose_knots(cells: Iterable[Cell], captured: Sequence[int]) -> Knots:
    """Knots from what the cells of a fit cover.

    Raises:
        ValueError: no pure decode, or no pure prefill.
    """
    cells = [cell for cell in cells if not cell.is_heterogeneous or cell.regime != "pure_decode"]
    captured = sorted(captured)
    dense: Counter[int] = Counter()
    prefill_sizes: set[int] = set()
    chunk_contexts: dict[int, list[float]] = defaultdict(list)
    decode_contexts: dict[int, list[float]] = defaultdict(list)
    mixed: dict[int, set[int]] = defaultdict(set)
    mixed_chunks: dict[int, set[int]] = defaultdict(set)
    for cell in cells:
        step, weight = cell.steps[0], len(cell.steps)
        size = padded(step.decodes + step.prefill_tokens, captured)
        dense[size] += weight
        if cell.regime == "pure_decode":
            decode_contexts[step.decodes].append(step.mean_context)
            continue
        if cell.regime == "pure_prefill":
            prefill_sizes.add(size)
            if len(step.prefills) == 1:
                chunk_contexts[step.prefill_tokens].append(step.prefill_context)
        else:
            mixed[step.decodes].add(step.prefill_tokens)
            mixed_chunks[step.prefill_tokens].add(step.decodes)
    if not decode_contexts:
        raise ValueError("no pure decode step among those to fit: a profile needs a decode sweep")
    if not prefill_sizes:
        raise ValueError("no pure prefill step among those to fit: a profile needs a chunk sweep")
    sloped = Counter({c: len(k) for c, k in chunk_contexts.items() if _varied(k)})
    chunks = _spaced(sloped, 1.2, 16)
    largest = max(max((step[0] for step in cell.steps[0].prefills), default=0) for cell in cells)
    scaled = bool(chunks) and largest > chunks[-1]
    slopes = Counter({n: len(c) for n, c in decode_contexts.items() if _varied(c)})
    if not slopes:
        raise ValueError("no batch size was measured with two contexts: nothing tells what context costs")
    both = Counter({n: 1 for n in decode_contexts if padded(n, captured) in prefill_sizes})
    return Knots(
        captured=tuple(captured),
        dense=_spaced(_often(dense, _FEWEST_AT_KNOT) | Counter({min(dense): 1}), 1.04, 48),
        chunks=(*chunks, largest) if scaled else chunks or (largest,),
        scaled_last_chunk=scaled,
        decode_base=_spaced(both, 1.9, 6),
        decode_context=_spaced(slopes, 1.04, 32),
        largest_batch=max(decode_contexts),
        mixed_requests=_spaced(_often(_sizes(mixed), _FEWEST_IN_ROW), 1.2, 8),
        mixed_chunks=_spaced(_often(_sizes(mixed_chunks), _FEWEST_IN_ROW), 4.0, 3),
        has_prefill_context=bool(chunks),
    )


class StepModel:
    """Columns of steps under some knots, and what a solution says.

    Args:
        knots: from `choose_knots`.
    """

    def __init__(self, knots: Knots) -> None:
        self.knots = knots
        self.slices = knots.slices()

    def columns(self, steps: Sequence[CapturedStep]) -> Floats:
        """Microseconds for each unit of each coefficient, shape (steps, coefficients)."""
        knots = self.knots
        tokens = np.array([padded(s.decodes + s.prefill_tokens, knots.captured) for s in steps], dtype=float)
        decodes = np.array([s.decodes for s in steps], dtype=float)
        context = np.array([s.decode_context for s in steps], dtype=float) / _NS_PER_US
        has_prefill = np.array([bool(s.prefills) for s in steps])
        mixed = (has_prefill & (decodes > 0)).astype(float)
        parts = [
            _rising(hat_basis(tokens, knots.dense)),
            np.array([s.scheduled - 1.0 for s in steps])[:, None],
            has_prefill.astype(float)[:, None],
            self._prefill_columns(steps),
            _hats(decodes, knots.decode_base) * ~has_prefill[:, None],
            _hats(decodes, knots.decode_context) * (context * ~has_prefill)[:, None],
            self._mixed_columns(steps, decodes, mixed),
            _hats(decodes, knots.mixed_requests) * (context * mixed)[:, None],
        ]
        return np.column_stack(parts)

    def _prefill_columns(self, steps: Sequence[CapturedStep]) -> Floats:
        knots = self.knots
        result = np.zeros((len(steps), len(knots.chunks)))
        if not knots.has_prefill_context:
            return result[:, :0]
        halves = np.array(knots.chunks, dtype=float) / 2.0
        for row, step in enumerate(steps):
            if step.prefills:
                chunk = np.array([tokens for tokens, _ in step.prefills], dtype=float)
                behind = np.array([context for _, context in step.prefills], dtype=float)
                hats = hat_basis(chunk, knots.chunks)
                result[row] = (hats * (halves + behind[:, None])).sum(axis=0) / _NS_PER_US
        return _rising(self._tied(result))

    def _tied(self, columns: Floats) -> Floats:
        """The last chunk's column added to the one before, where its slope is bound to that one's."""
        chunks = self.knots.chunks
        if not self.knots.scaled_last_chunk:
            return columns
        tied = columns[:, :-1].copy()
        tied[:, -1] += columns[:, -1] * chunks[-1] / chunks[-2]
        return tied

    def _mixed_columns(self, steps: Sequence[CapturedStep], decodes: Floats, mixed: Floats) -> Floats:
        knots = self.knots
        by_request = _hats(decodes, knots.mixed_requests)
        chunk = np.array([s.prefill_tokens for s in steps], dtype=float)
        by_chunk = _hats(chunk, knots.mixed_chunks)
        grid = (by_request[:, :, None] * by_chunk[:, None, :]).reshape(len(steps), -1)
        return np.asarray(grid * mixed[:, None], dtype=np.float64)

    def cell_columns(self, cells: Sequence[Cell]) -> Floats:
        """Mean columns of each cell's steps."""
        everything = self.columns([step for cell in cells for step in cell.steps])
        ends = np.cumsum([len(cell.steps) for cell in cells])
        return np.array([part.mean(axis=0) for part in np.split(everything, ends[:-1])])

    def solve(self, columns: Floats, times: Floats, weight: Floats, **start: Any) -> tuple[Floats, Floats]:
        """Robust non-negative coefficients and the rows' Huber weights; see `fit_huber`."""
        return fit_huber(columns, times, weight, pull=self._pull(columns, times), **start)

    def _pull(self, columns: Floats, times: Floats) -> Floats:
        """Rows that pull the terms that others can stand in for towards 0, and by little.

        By the same for every microsecond, so that what few cells determine does not run away.
        """
        unit = np.sqrt(len(times)) / float(np.median(times))
        strength = np.zeros(columns.shape[1])
        for name, pull in _PULL.items():
            strength[self.slices[name]] = pull * unit
        return np.diag(strength)[strength > 0]

    def coefficients(self, solution: Floats) -> dict[str, Floats]:
        """Values at the knots by term, in the profile's units (us, ns for each token of context)."""
        part = {name: solution[where] for name, where in self.slices.items()}
        slopes = np.cumsum(part["prefill_context"])
        if self.knots.scaled_last_chunk:
            slopes = np.append(slopes, slopes[-1] * self.knots.chunks[-1] / self.knots.chunks[-2])
        part["prefill_context"] = slopes if len(slopes) else np.zeros(len(self.knots.chunks))
        part["dense"] = np.cumsum(part["dense"])
        return part


def _hats(x: Floats, knots: Sequence[int]) -> Floats:
    return hat_basis(x, knots) if knots else np.zeros((len(x), 0))


def _rising(columns: Floats) -> Floats:
    """Columns for the increments from knot to knot: non-negative ones make values that never fall."""
    return np.cumsum(columns[:, ::-1], axis=1)[:, ::-1]


def weights(cells: Sequence[Cell]) -> Floats:
    """Weight of each cell: its median's expected precision, 1 for one as good as the model can be.

    The scatter of few steps says little, so each cell's is averaged with what is usual in the capture.
    """
    counts = np.array([len(cell.steps) for cell in cells], dtype=float)
    scatter = np.array([_scatter(cell) for cell in cells])
    usual = float(np.median(scatter[counts >= 3])) if (counts >= 3).any() else _MODEL_LIMIT
    own = np.where(counts >= 3, scatter, usual)
    variance = (own**2 + usual**2) / 2 / counts + _MODEL_LIMIT**2
    return np.asarray(_MODEL_LIMIT**2 / variance, dtype=np.float64)


def _scatter(cell: Cell) -> float:
    """Scale of the steps' relative deviations from their median (1.4826 times the median one)."""
    times = np.array([step.step_us for step in cell.steps], dtype=float)
    return 1.4826 * float(np.median(np.abs(times / cell.median_us - 1.0)))


@dataclass(frozen=True)
class Reach:
    """How far the records reach; what the profile states as its range."""

    decode_context: int
    decode_summed: int
    prefill_context: int
    mixed_context: int
    mixed_summed: int
    sequences: int


def reach_of(cells: Iterable[Cell]) -> Reach:
    """Largest contexts by regime, over the cells of a fit."""
    steps = [step for cell in cells for step in cell.steps]
    decode = [step for step in steps if step.regime == "pure_decode"]
    mixed = [step for step in steps if step.regime == "mixed"]
    return Reach(
        decode_context=max((round(s.mean_context) for s in decode), default=1),
        decode_summed=max((s.decode_context for s in decode), default=1),
        prefill_context=max((s.prefill_context for s in steps), default=1),
        mixed_context=max((round(s.mean_context) for s in mixed), default=1),
        mixed_summed=max((s.decode_context for s in mixed), default=1),
        sequences=max(s.scheduled for s in steps),
    )


def terms_of(
    knots: Knots, part: dict[str, Floats], reach: Reach, heterogeneity: float, eager_floor_us: float
) -> Terms:
    """The profile's terms of some coefficients."""
    launch = float(part["launch"][0])
    slopes = part["prefill_context"]
    halves = np.array(knots.chunks, dtype=float) / 2.0 / _NS_PER_US
    requests = sorted({*knots.decode_base, *knots.decode_context, knots.largest_batch})
    per_token = np.interp(requests, knots.decode_context, part["decode_context"])
    base = (
        np.interp(requests, knots.decode_base, part["decode_base"])
        if knots.decode_base
        else np.zeros(len(requests))
    )
    # Sequences: 0 for one, in proportion beyond.
    sequences = [1, max(reach.sequences, 2)]
    if knots.mixed_requests:
        grid = part["mixed_base"].reshape(len(knots.mixed_requests), len(knots.mixed_chunks))
        mixed = MixedAttention(
            requests=list(knots.mixed_requests),
            chunk_tokens=list(knots.mixed_chunks),
            base_us=[rounded(row) for row in grid],
            per_context_token_ns=rounded(part["mixed_context"]),
            max_context_tokens=max(reach.mixed_context, 1),
            max_summed_context_tokens=max(reach.mixed_summed, 1),
        )
    else:
        mixed = MixedAttention(
            requests=requests,
            chunk_tokens=[1],
            base_us=[[0.0]] * len(requests),
            per_context_token_ns=rounded(per_token),
            max_context_tokens=1,
        )
    return Terms(
        dense=TokenKnots(tokens=list(knots.dense), us=rounded(part["dense"])),
        per_sequence=SequenceKnots(
            sequences=sequences, us=rounded([0.0, float(part["per_sequence"][0]) * (sequences[1] - 1)])
        ),
        decode_attention=DecodeAttention(
            requests=requests,
            base_us=rounded(base),
            per_context_token_ns=rounded(per_token),
            max_context_tokens=max(reach.decode_context, 1),
            max_summed_context_tokens=max(reach.decode_summed, 1),
            heterogeneity=round(heterogeneity, 4),
        ),
        prefill_attention=PrefillAttention(
            chunk_tokens=list(knots.chunks),
            base_us=rounded(launch + slopes * halves),
            per_context_token_ns=rounded(slopes),
            launch_us=rounded([launch])[0],
            max_context_tokens=max(reach.prefill_context if knots.has_prefill_context else 1, 1),
        ),
        mixed_attention=mixed,
        overhead_us=0.0,
        eager_floor_us=eager_floor_us,
    )

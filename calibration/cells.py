"""Cells of a sweep: the steps of one combination of sizes, and which combinations are held out of a fit.

Steps that differ only in noise share a cell, and the cell's time is their median, which a garbage collection, a
clock ramp or a first step after a change does not move. Whole combinations are held out (batch size × context,
chunk × context), with all their steps wherever they were taken, and only inside the sweep: a row keeps two
combinations at least and a column one, so that a held-out cell is interpolated, never extrapolated.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from calibration.captured_steps import CapturedStep, StepRegime

HELD_OUT_SHARE: Final = 0.2

_PER_OCTAVE: Final = 3
"""Contexts within a third of an octave count as the same: they drift while requests decode."""


class Combination(NamedTuple):
    """Place in a sweep.

    Rows are batch sizes (pure decode, mixed) or the tokens of a single chunk (pure prefill); several chunks in one
    step are row 0. Columns are classes of context, and in mixed steps chunk and context behind it.
    """

    regime: StepRegime
    row: int
    column: tuple[int, ...]


@dataclass(frozen=True)
class Cell:
    """Steps of the same sizes.

    Attributes:
        combination: its place in the sweep; see `combination`.
        steps: at least one, in order.
        median_us: their median time.
    """

    combination: Combination
    steps: tuple[CapturedStep, ...]
    median_us: float

    @property
    def regime(self) -> StepRegime:
        return self.steps[0].regime

    @property
    def is_heterogeneous(self) -> bool:
        return self.steps[0].is_heterogeneous


def _context_class(tokens: float) -> int:
    return round(_PER_OCTAVE * math.log2(1.0 + tokens))


def combination(step: CapturedStep) -> Combination:
    """What is held out or fitted together."""
    if step.regime == "pure_decode":
        spread = round(4 * step.context_spread) if step.is_heterogeneous else 0
        return Combination(step.regime, step.decodes, (spread, _context_class(step.mean_context)))
    behind = _context_class(step.prefill_context)
    if step.regime == "pure_prefill":
        chunks = len(step.prefills)
        if chunks == 1:
            return Combination(step.regime, step.prefill_tokens, (behind,))
        return Combination(step.regime, 0, (chunks, step.prefill_tokens, behind))
    column = (step.prefill_tokens, behind, _context_class(step.mean_context))
    return Combination(step.regime, step.decodes, column)


def cells_of(steps: Iterable[CapturedStep]) -> list[Cell]:
    """Cells of the steps that have a time, in the order in which they first appear."""
    grouped: dict[tuple[int, int, Combination], list[CapturedStep]] = defaultdict(list)
    for step in steps:
        if step.step_us is not None and step.step_us > 0:
            grouped[(step.capture, step.stage, combination(step))].append(step)
    return [
        Cell(combination(group[0]), tuple(group), float(np.median([step.step_us for step in group])))
        for group in grouped.values()
    ]


def held_out(cells: Iterable[Cell]) -> set[Combination]:
    """Combinations to hold out: about a fifth of each regime's, the same ones for the same sweep."""
    combinations = sorted({cell.combination for cell in cells})
    chosen: set[Combination] = set()
    for regime in ("pure_decode", "pure_prefill", "mixed"):
        inside = [entry for entry in combinations if entry.regime == regime]
        rows = Counter(entry.row for entry in inside)
        columns = Counter(entry.column for entry in inside)
        wanted = round(HELD_OUT_SHARE * len(inside))
        edges = _edges(inside)
        for entry in sorted(inside, key=_shuffled):
            if wanted == 0:
                break
            alone_in_column = entry.row != 0 and columns[entry.column] < 2
            if rows[entry.row] < 3 or alone_in_column or entry in edges:
                continue
            rows[entry.row] -= 1
            columns[entry.column] -= 1
            chosen.add(entry)
            wanted -= 1
    return chosen


def _edges(combinations: list[Combination]) -> set[Combination]:
    """The first and last column of each row: they say how far the sweep reaches."""
    rows: dict[int, list[Combination]] = defaultdict(list)
    for entry in combinations:
        if entry.row != 0:
            rows[entry.row].append(entry)
    return {edge for row in rows.values() for edge in (min(row), max(row))}


def _shuffled(entry: Combination) -> bytes:
    return hashlib.blake2b(repr(tuple(entry)).encode(), digest_size=8).digest()

"""Samplers of lengths, times and counts: uniform numbers in, values out. They hold no state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from scipy.special import ndtri

from simulator.draws import Draws
from simulator.scenario.distributions import (
    Count,
    ExponentialTime,
    GeometricCount,
    LognormalTime,
    LognormalTokens,
    Time,
)
from simulator.scenario.errors import ScenarioError
from simulator.scenario.lengths import (
    BuiltinLengths,
    EmpiricalLengths,
    FixedLengths,
    Lengths,
    LognormalLengths,
    Quantiles,
    TokenRange,
    UniformLengths,
)
from simulator.units import PS_PER_S
from simulator.workload.builtin import LengthModel, builtin_model
from simulator.workload.rate_curve import Floats, Ints

_LONGEST_PS: Final = 2.0**62
_MOST_TOKENS: Final = 2**31 - 1

LengthSampler = Callable[[Floats], tuple[Ints, Ints]]
"""Uniforms of shape (n, 4) to input and output tokens of shape (n,)."""

UniformSampler = Callable[[Floats], Ints]
"""Uniforms of shape (n,) to values of shape (n,)."""


def _whole(values: Floats) -> Ints:
    result: Ints = np.maximum(np.rint(values), 1.0).astype(np.int64)
    return result


def length_sampler(lengths: Lengths, base_dir: Path, key: str) -> LengthSampler:
    """The sampler of a scenario's ``lengths``; word 0 is for the input, word 1 for the output.

    Raises:
        ScenarioError: a file of lengths that cannot be read.
    """
    sampler, total = _uncapped_sampler(lengths, base_dir, key), lengths.max_total_tokens
    if total is None:
        return sampler

    def capped(words: Floats) -> tuple[Ints, Ints]:
        inputs, outputs = sampler(words)
        outputs = np.minimum(outputs, total - 1)
        return np.minimum(inputs, total - outputs), outputs

    return capped


def _uncapped_sampler(lengths: Lengths, base_dir: Path, key: str) -> LengthSampler:
    match lengths:
        case FixedLengths(input=fixed_input, output=fixed_output):

            def fixed(words: Floats) -> tuple[Ints, Ints]:
                shape = len(words)
                return np.full(shape, fixed_input), np.full(shape, fixed_output)

            return fixed
        case UniformLengths():
            return lambda words: (_uniform(lengths.input, words[:, 0]), _uniform(lengths.output, words[:, 1]))
        case LognormalLengths(correlation=rho):

            def lognormal(words: Floats) -> tuple[Ints, Ints]:
                z = ndtri(words[:, :2])
                joint = rho * z[:, 0] + np.sqrt(1.0 - rho * rho) * z[:, 1]
                return _lognormal_tokens(lengths.input, z[:, 0]), _lognormal_tokens(lengths.output, joint)

            return lognormal
        case EmpiricalLengths(file=None, input=inputs, output=outputs) if inputs and outputs:
            return lambda words: (_from_quantiles(inputs, words[:, 0]), _from_quantiles(outputs, words[:, 1]))
        case EmpiricalLengths():
            rows = _read_lengths(base_dir / (lengths.file or ""), key)
            return lambda words: _pick(rows, words[:, 0])
        case BuiltinLengths():
            return _builtin(builtin_model(lengths.model).lengths)


def _builtin(model: LengthModel) -> LengthSampler:
    input_levels, input_tokens = np.array(model.input_levels), np.array(model.input_tokens)
    output_levels, output_tokens = np.array(model.output_levels), np.array(model.output_tokens)
    # One interpolation for all shares: the quantiles of share j lie over [2j, 2j + 1].
    shares = len(output_tokens)
    axis = (2.0 * np.arange(shares)[:, None] + output_levels).ravel()
    table = output_tokens.ravel()

    def sample(words: Floats) -> tuple[Ints, Ints]:
        inputs = np.interp(words[:, 0], input_levels, input_tokens)
        share = np.floor(words[:, 0] * shares)
        return _whole(inputs), _whole(np.interp(2.0 * share + words[:, 1], axis, table))

    return sample


def _uniform(span: TokenRange, u: Floats) -> Ints:
    result: Ints = span.min + (u * (span.max - span.min + 1)).astype(np.int64)
    return result


def _lognormal_tokens(tokens: LognormalTokens, z: Floats) -> Ints:
    mu, sigma = tokens.mu_sigma()
    most = _MOST_TOKENS if tokens.max is None else tokens.max
    return _whole(np.clip(np.exp(mu + sigma * z), tokens.min, most))


def _from_quantiles(quantiles: Quantiles, u: Floats) -> Ints:
    levels = sorted(quantiles)
    return _whole(np.interp(u, levels, [quantiles[level] for level in levels]))


def _pick(rows: Ints, u: Floats) -> tuple[Ints, Ints]:
    index = (u * len(rows)).astype(np.int64)
    inputs: Ints = rows[index, 0]
    outputs: Ints = rows[index, 1]
    return inputs, outputs


def _read_lengths(path: Path, key: str) -> Ints:
    columns = ["input_tokens", "output_tokens"]
    try:
        table = pd.read_csv(path, usecols=columns, dtype=str)
    except (OSError, ValueError) as error:
        raise ScenarioError(f"cannot read lengths from {path}: {error}", key=key) from None
    values = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~((values >= 1) & (values == np.floor(values))).all(axis=1)
    if not len(values) or wrong.any():
        line = f"line {int(np.argmax(wrong)) + 2}" if len(values) else "no rows"
        raise ScenarioError(f"{line}: {' and '.join(columns)} must be whole numbers from 1", file=str(path))
    rows: Ints = values.astype(np.int64)
    return rows


def time_sampler(time: Time) -> UniformSampler:
    """The sampler of a random time, in picoseconds."""

    def to_ps(seconds: Floats) -> Ints:
        result: Ints = np.rint(np.minimum(seconds * PS_PER_S, _LONGEST_PS)).astype(np.int64)
        return result

    match time:
        case ExponentialTime():
            return lambda u: to_ps(-np.log1p(-u) * time.mean)
        case LognormalTime():
            mu, sigma = time.mu_sigma()
            return lambda u: to_ps(np.exp(mu + sigma * ndtri(u)))
        case _:
            return lambda u: to_ps(np.full(len(u), float(time)))


def count_sampler(count: Count) -> UniformSampler:
    """The sampler of a number of turns, at least 1."""
    match count:
        case int():
            return lambda u: np.full(len(u), count, dtype=np.int64)
        case GeometricCount(mean=mean, max=most):
            if mean == 1.0:
                return lambda u: np.ones(len(u), dtype=np.int64)
            go_on = 1.0 - 1.0 / mean
            return lambda u: np.minimum(1 + (np.log1p(-u) / np.log(go_on)).astype(np.int64), most)
        case _:
            return lambda u: count.min + (u * (count.max - count.min + 1)).astype(np.int64)


def mean_count(count: Count) -> float:
    """Mean number of turns."""
    match count:
        case int():
            return float(count)
        case GeometricCount(mean=mean, max=most):
            # Sum over n of P(turns > n), cut at the limit.
            return mean * (1.0 - (1.0 - 1.0 / mean) ** most)
        case _:
            return (count.min + count.max) / 2


class BlockDraws:
    """Draws of single entities, fetched in aligned blocks: set-up costs more than the numbers."""

    def __init__(self, draws: Draws, purpose: str, block: int) -> None:
        self._draws = draws
        self._purpose = purpose
        self._block = block
        self._held: dict[int, tuple[int, Floats]] = {}

    def words(self, entity: int, attempt: int = 0) -> Floats:
        """The four words of one entity; shape (4,). The last block of each attempt number is held."""
        start = entity - entity % self._block
        held = self._held.get(attempt)
        if held is None or held[0] != start:
            held = start, self._draws.uniforms(self._purpose, start, self._block, attempt)
            self._held[attempt] = held
        words: Floats = held[1][entity - start]
        return words

"""Step times from a profile, in integer picoseconds, by table look-up.

Implements `simulator.engines.protocol.StepTime`. Coefficients are rounded once, when the tables are built;
after that only integers are added and multiplied, so that engines which take different routes to the same
instant agree exactly. A pure decode step is two look-ups and a multiplication.

CUDA graphs: vLLM pads a batch to the next captured size, which makes the dense cost a staircase in the batch
size. Attention and the output head see the real batch. With ``enforce_eager`` there is no padding, and the
CPU's launching puts a floor under the step.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulator.step_time.profile import StepTimeProfile
from simulator.units import PS_PER_US

_PS_PER_NS: Final = 1000
_GROWTH: Final = 2
_NO_LIMIT: Final = 2**62


def cudagraph_capture_sizes(max_num_seqs: int) -> list[int]:
    """Batch sizes that vLLM captures by default: 1, 2, 4, every 8 below 256, every 16 up to the largest.

    The largest is min(2 x max_num_seqs, 512) (vLLM 0.26, ``vllm/config/vllm.py``).
    """
    largest = min(2 * max_num_seqs, 512)
    sizes = [1, 2, 4, *range(8, 256, 8), *range(256, largest + 1, 16)]
    return [size for size in sizes if size <= largest]


def _interpolate(grid: NDArray[np.int64], x: Sequence[int], y: Sequence[float]) -> NDArray[np.float64]:
    """Linear between knots, constant below the first, along the mean slope of the upper half above the last.

    The last segment's own slope will not do: GEMM time is a staircase, and that may be the tread of a step.
    """
    values = np.interp(grid, x, y)
    if len(x) > 1:
        middle = max(x[-1] / 2, x[0])
        slope = max((y[-1] - float(np.interp(middle, x, y))) / (x[-1] - middle), 0.0)
        above = grid > x[-1]
        values[above] = y[-1] + slope * (grid[above] - x[-1])
    return values


def _to_ints(values: NDArray[np.float64], unit_ps: int) -> list[int]:
    rounded: list[int] = np.rint(values * unit_ps).astype(np.int64).tolist()
    return rounded


def _per_spread_token(
    grid: NDArray[np.int64], requests: Sequence[int], longest_context_ns: Sequence[float] | None
) -> list[int]:
    """Cost per spread token, which is n times what the longest context exceeds the mean by."""
    if longest_context_ns is None:
        return [0] * len(grid)
    return _to_ints(np.interp(grid, requests, longest_context_ns) / np.maximum(grid, 1), _PS_PER_NS)


class ProfileStepTime:
    """`StepTime` of one profile under given engine flags.

    Args:
        profile: the times.
        enforce_eager: vLLM's flag: no CUDA graphs.
        max_num_seqs: vLLM's flag; sets the captured sizes and the first size of the tables.
        max_num_batched_tokens: vLLM's flag; first size of the token tables. Both grow on demand.
        capture_sizes: captured batch sizes, if not vLLM's default.

    Attributes:
        range_violations: how often a step lay outside the range that the profile was fitted on, by kind
            (``decode_requests``, ``context_tokens``, ``step_tokens``, ``prefill_chunk``). Times out there are
            extrapolations. A look-up through `decode_terms` counts once.
    """

    def __init__(
        self,
        profile: StepTimeProfile,
        *,
        enforce_eager: bool = False,
        max_num_seqs: int = 1024,
        max_num_batched_tokens: int = 8192,
        capture_sizes: Sequence[int] | None = None,
    ) -> None:
        self.profile = profile
        self.enforce_eager = enforce_eager
        self._sizes = max_num_seqs, max_num_batched_tokens
        self.range_violations: dict[str, int] = {
            "decode_requests": 0,
            "context_tokens": 0,
            "step_tokens": 0,
            "prefill_chunk": 0,
        }
        if enforce_eager:
            self._captured: list[int] = []
        else:
            self._captured = sorted(capture_sizes or cudagraph_capture_sizes(max_num_seqs))
        terms = profile.terms
        self._overhead_ps = round(terms.overhead_us * PS_PER_US)
        self._floor_ps = round(terms.eager_floor_us * PS_PER_US) if enforce_eager else 0
        self._launch_ps = round(terms.prefill_attention.launch_us * PS_PER_US)
        self._max_requests = terms.decode_attention.requests[-1]
        self._max_tokens = terms.dense.tokens[-1]
        self._max_chunk = terms.prefill_attention.chunk_tokens[-1]
        self._max_prefill_context = terms.prefill_attention.max_context_tokens
        self._max_mixed_requests = terms.mixed_attention.requests[-1]
        self._max_mixed_context = terms.mixed_attention.max_context_tokens
        self._max_mixed_summed = terms.mixed_attention.max_summed_context_tokens or _NO_LIMIT
        self._chunk_knots = list(terms.mixed_attention.chunk_tokens)
        self._knee: int | None = None
        self._tokens_size = 0
        self._requests_size = 0
        self._grow_tokens(max(max_num_batched_tokens, self._captured[-1] if self._captured else 1))
        self._grow_requests(max_num_seqs)

    def with_profile(self, profile: StepTimeProfile) -> ProfileStepTime:
        """Times of another profile under the same flags."""
        max_num_seqs, max_num_batched_tokens = self._sizes
        return ProfileStepTime(
            profile,
            enforce_eager=self.enforce_eager,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            capture_sizes=self._captured or None,
        )

    def _grow_tokens(self, largest: int) -> None:
        """Extend the tables indexed by tokens of the step or of a chunk to ``largest``."""
        if largest <= self._tokens_size:
            return
        self._tokens_size = largest
        grid = np.arange(largest + 1, dtype=np.int64)
        dense = self.profile.terms.dense
        padded = grid.copy()
        if self._captured:
            captured = np.array(self._captured, dtype=np.int64)
            inside = grid <= captured[-1]
            padded[inside] = captured[np.searchsorted(captured, grid[inside])]
        self._dense_ps: list[int] = _to_ints(_interpolate(padded, dense.tokens, dense.us), PS_PER_US)
        self._chunk_base_ps, self._chunk_context_ps = self._prefill_tables(largest)

    def _prefill_tables(self, largest: int) -> tuple[list[int], list[int]]:
        """Base and per-context-token time of a chunk.

        A chunk above the last knot is cut in two: causal attention over c tokens is attention over the first
        m of them plus attention over the other c - m behind m more tokens of context.
        """
        term = self.profile.terms.prefill_attention
        knots = np.arange(min(largest, self._max_chunk) + 1, dtype=np.int64)
        base = _to_ints(_interpolate(knots, term.chunk_tokens, term.base_us), PS_PER_US)
        context = _to_ints(_interpolate(knots, term.chunk_tokens, term.per_context_token_ns), _PS_PER_NS)
        top = self._max_chunk
        for chunk in range(len(base), largest + 1):
            rest = chunk - top
            base.append(base[top] + max(base[rest] - self._launch_ps, 0) + context[rest] * top)
            context.append(context[top] + context[rest])
        return base, context

    def _grow_requests(self, largest: int) -> None:
        """Extend the tables indexed by scheduled requests to ``largest``."""
        if largest <= self._requests_size:
            return
        self._requests_size = largest
        self._grow_tokens(largest)
        terms = self.profile.terms
        grid = np.arange(largest + 1, dtype=np.int64)
        sequence = terms.per_sequence
        self._sequence_ps: list[int] = _to_ints(
            _interpolate(grid, sequence.sequences, sequence.us), PS_PER_US
        )
        self._sequence_ps[0] = 0
        decode = terms.decode_attention
        attention = _to_ints(_interpolate(grid, decode.requests, decode.base_us), PS_PER_US)
        slopes = np.interp(grid, decode.requests, decode.per_context_token_ns) * decode.heterogeneity
        self._per_token_ps: list[int] = _to_ints(slopes, _PS_PER_NS)
        self._per_spread_ps: list[int] = _per_spread_token(grid, decode.requests, decode.longest_context_ns)
        self._base_ps: list[int] = [
            max(self._overhead_ps + self._dense_ps[n] + self._sequence_ps[n] + attention[n], self._floor_ps)
            for n in range(largest + 1)
        ]
        self._base_ps[0] = self._per_token_ps[0] = 0
        # Beyond the fitted batch sizes every step counts as out of range, whatever its context.
        fitted, summed = decode.max_context_tokens, decode.max_summed_context_tokens or _NO_LIMIT
        self._context_limit = [
            min(n * fitted, summed) if n <= self._max_requests else -1 for n in range(largest + 1)
        ]
        mixed = terms.mixed_attention
        columns = [
            _to_ints(_interpolate(grid, mixed.requests, [row[c] for row in mixed.base_us]), PS_PER_US)
            for c in range(len(mixed.chunk_tokens))
        ]
        self._mixed_base_ps: list[list[int]] = [list(row) for row in zip(*columns, strict=True)]
        mixed_slopes = np.interp(grid, mixed.requests, mixed.per_context_token_ns) * decode.heterogeneity
        self._mixed_per_token_ps: list[int] = _to_ints(mixed_slopes, _PS_PER_NS)
        self._mixed_per_spread_ps: list[int] = _per_spread_token(
            grid, mixed.requests, mixed.longest_context_ns
        )
        if mixed.knee_context_tokens is not None and mixed.above_knee_ns is not None:
            self._knee = mixed.knee_context_tokens
            above = np.interp(grid, mixed.requests, mixed.above_knee_ns) * decode.heterogeneity
            self._above_knee_ps: list[int] = _to_ints(above - mixed_slopes, _PS_PER_NS)
        host = self.profile.host
        self._host_ps: list[int] = _to_ints(
            host.base_us + host.per_request_us * grid.astype(np.float64), PS_PER_US
        )

    def step_ps(
        self,
        decode_requests: int,
        decode_context_tokens: int,
        prefills: Sequence[tuple[int, int]],
        decode_spread_tokens: int = 0,
    ) -> int:
        """GPU time of one step; see the protocol."""
        if decode_requests > self._requests_size:
            self._grow_requests(decode_requests * _GROWTH)
        if prefills:
            return (
                self._mixed_ps(decode_requests, decode_context_tokens, prefills)
                + self._mixed_per_spread_ps[decode_requests] * decode_spread_tokens
            )
        if decode_context_tokens > self._context_limit[decode_requests]:
            kind = "decode_requests" if decode_requests > self._max_requests else "context_tokens"
            self.range_violations[kind] += 1
        return (
            self._base_ps[decode_requests]
            + self._per_token_ps[decode_requests] * decode_context_tokens
            + self._per_spread_ps[decode_requests] * decode_spread_tokens
        )

    def _mixed_ps(self, decodes: int, decode_context: int, prefills: Sequence[tuple[int, int]]) -> int:
        """GPU time of a step that has prefill chunks."""
        chunk_tokens = 0
        for tokens, _ in prefills:
            chunk_tokens += tokens
        step_tokens = decodes + chunk_tokens
        if step_tokens > self._max_tokens:
            self.range_violations["step_tokens"] += 1
        if step_tokens > self._tokens_size:
            self._grow_tokens(step_tokens * _GROWTH)
        sequences = decodes + len(prefills)
        if sequences > self._requests_size:
            self._grow_requests(sequences * _GROWTH)
        attention = self._launch_ps
        for tokens, context in prefills:
            if tokens > self._max_chunk or context > self._max_prefill_context:
                self.range_violations["prefill_chunk"] += 1
            attention += max(
                self._chunk_base_ps[tokens] + self._chunk_context_ps[tokens] * context - self._launch_ps, 0
            )
        if decodes:
            if decodes > self._max_mixed_requests:
                self.range_violations["decode_requests"] += 1
            elif decode_context > min(decodes * self._max_mixed_context, self._max_mixed_summed):
                self.range_violations["context_tokens"] += 1
            attention += self._mixed_base(decodes, chunk_tokens)
            attention += self._mixed_per_token_ps[decodes] * decode_context
            if self._knee is not None and decode_context > self._knee:
                attention += self._above_knee_ps[decodes] * (decode_context - self._knee)
        rest = self._overhead_ps + self._dense_ps[step_tokens] + self._sequence_ps[sequences]
        return max(rest, self._floor_ps) + attention

    def _mixed_base(self, decodes: int, chunk_tokens: int) -> int:
        row, knots = self._mixed_base_ps[decodes], self._chunk_knots
        if chunk_tokens <= knots[0]:
            return row[0]
        if chunk_tokens >= knots[-1]:
            return row[-1]
        right = bisect_right(knots, chunk_tokens)
        left = right - 1
        rise = (row[right] - row[left]) * (chunk_tokens - knots[left])
        return row[left] + rise // (knots[right] - knots[left])

    def host_ps(self, scheduled_requests: int) -> int:
        """CPU time of one step; see the protocol."""
        if scheduled_requests > self._requests_size:
            self._grow_requests(scheduled_requests * _GROWTH)
        return self._host_ps[scheduled_requests]

    def decode_terms(self, decode_requests: int) -> tuple[int, int, int]:
        """(base, per context token, per spread token) of a pure decode step; see the protocol."""
        if decode_requests > self._requests_size:
            self._grow_requests(decode_requests * _GROWTH)
        if decode_requests > self._max_requests:
            self.range_violations["decode_requests"] += 1
        return (
            self._base_ps[decode_requests],
            self._per_token_ps[decode_requests],
            self._per_spread_ps[decode_requests],
        )

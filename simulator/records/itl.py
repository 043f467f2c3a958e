"""Inter-token latencies pooled over all tokens, in bounded memory.

A run of an hour makes a billion gaps, so they are counted in bins whose width follows their size: 256 bins
per power of two, each at most 1/256 (0.39 %) wide, as HdrHistogram (hdrhistogram.org) divides its range. All
arithmetic is on integers, so the counts do not depend on the order of arrival. Token count, mean and maximum
are exact; a quantile is the middle of its bin and so off by 0.2 % at most.

Tokens of attempts that were cut or timed out count too: the engine made them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from simulator.units import PS_PER_S_FLOAT

if TYPE_CHECKING:
    from mypy_extensions import i64  # a machine integer where compiled

_BITS: Final = 8
"""2 to this many bins for each power of two."""

_WIDE_PS: Final = 1 << 48
"""Times this long (280 s) are multiplied in Python's integers."""

QUANTILE_RELATIVE_ERROR: Final = 1 / 2 ** (_BITS + 1)
"""A quantile read from the histogram is within this share of the true one."""


def bin_index(gap_ps: int) -> int:
    """The bin of a gap (picoseconds, at least 0). Gaps below 512 ps have a bin each."""
    shift = gap_ps.bit_length() - _BITS - 1
    return (shift << _BITS) + (gap_ps >> shift) if shift > 0 else gap_ps


def bin_edges_ps(index: int) -> tuple[int, int]:
    """Lower edge (included) and upper edge (excluded) of a bin."""
    shift = (index >> _BITS) - 1
    if shift <= 0:
        return index, index + 1
    mantissa = index - (shift << _BITS)
    return mantissa << shift, (mantissa + 1) << shift


@dataclass(slots=True)
class ItlPool:
    """The gaps of one workload, or of all."""

    bins: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    tokens: int = 0
    sum_ps: int = 0
    max_ps: int = 0

    @property
    def mean_s(self) -> float | None:
        """Mean, exact but for rounding; None without a gap."""
        return float(self.sum_ps) / self.tokens / PS_PER_S_FLOAT if self.tokens else None

    @property
    def max_s(self) -> float | None:
        """Exact maximum; None without a gap."""
        return self.max_ps / PS_PER_S_FLOAT if self.tokens else None

    def quantiles_s(self, levels: Iterable[float]) -> list[float | None]:
        """The smallest gap that a share ``level`` of the gaps does not exceed (numpy's ``inverted_cdf``).

        Args:
            levels: shares in (0, 1], rising.

        Returns:
            The middle of each quantile's bin (at most the maximum), in seconds; None without a gap.
        """
        wanted = list(levels)
        if not self.tokens:
            return [None] * len(wanted)
        found: list[float | None] = []
        below = 0
        indices = iter(sorted(self.bins))
        index = -1
        for level in wanted:
            rank = max(1, math.ceil(level * self.tokens - 1e-9))
            while below < rank:
                index = next(indices)
                below += self.bins[index]
            low, high = bin_edges_ps(index)
            found.append(min((low + high - 1) / 2, self.max_ps) / PS_PER_S_FLOAT)
        return found


class ItlHistogram:
    """Pools inter-token latencies by workload; an ``ItlSink`` for engines.

    Args:
        workloads: their names; engines refer to them by index.
    """

    def __init__(self, workloads: Sequence[str]) -> None:
        self.workloads = tuple(workloads)
        self._pools = [ItlPool() for _ in self.workloads]

    def add(self, workload: int, first_gap_ps: int, increment_ps: int, count: int, weight: int) -> None:
        """``count`` gaps first, first + increment, ... each seen by ``weight`` (at least 1) tokens of a workload.

        The gaps of a long series are counted bin by bin, not one by one.
        """
        pool = self._pools[workload]
        # Machine integers where compiled; sums may outgrow them.
        n: i64 = count
        tokens: i64 = weight
        gap: i64 = first_gap_ps
        step: i64 = increment_ps
        if n == 1:
            pool.bins[bin_index(first_gap_ps)] += weight
            pool.tokens += weight
            pool.sum_ps += weight * first_gap_ps if gap > _WIDE_PS else tokens * gap
            if first_gap_ps > pool.max_ps:  # noqa: PLR1730 (max() costs as much as all the rest)
                pool.max_ps = first_gap_ps
            return
        if n < 1:
            return
        pool.tokens += n * tokens
        total = n * gap + step * (n * (n - 1) // 2)
        pool.sum_ps += weight * int(total) if total > _WIDE_PS else tokens * total
        last = gap + (n - 1) * step
        if step < 0:  # the same gaps, counted from the other end
            gap, step, last = last, -step, gap
        if last > pool.max_ps:  # noqa: PLR1730 (as above)
            pool.max_ps = last
        bins = pool.bins
        while True:
            index = bin_index(gap)
            high: i64 = bin_edges_ps(index)[1]
            if last < high:
                bins[index] += n * tokens
                return
            inside = -((gap - high) // step)
            bins[index] += inside * tokens
            gap += inside * step
            n -= inside

    def pool(self, workload: str | None = None) -> ItlPool:
        """The gaps of one workload by name, or of all of them."""
        if workload is not None:
            return self._pools[self.workloads.index(workload)]
        everything = ItlPool()
        for part in self._pools:
            everything.tokens += part.tokens
            everything.sum_ps += part.sum_ps
            everything.max_ps = max(everything.max_ps, part.max_ps)
            for index, tokens in part.bins.items():
                everything.bins[index] += tokens
        return everything

    def rows(self) -> list[tuple[str, float, float, int]]:
        """Rows of the ``itl`` table, by workload and rising gap."""
        rows = []
        for name, pool in zip(self.workloads, self._pools):
            for index in sorted(pool.bins):
                low, high = bin_edges_ps(index)
                rows.append((name, low / PS_PER_S_FLOAT, high / PS_PER_S_FLOAT, pool.bins[index]))
        return rows

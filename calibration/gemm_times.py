"""Time of a matrix product against tokens, from a table of measured ones.

Between measured n and k: linear, as GEMM time grows at fixed m. Above the grid: in proportion. Never less than
the traffic takes at the highest rate that the same table's products with weights of more than 400 MB reach:
repeats of a small one find its weights in L2, a model's next layer does not (L40S reads 25 MB "from memory" at
2.9 times its bandwidth).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from calibration.fitting import Floats
from simulator.catalog import Gpu

_STREAMED_BYTES: Final = 400e6
_STREAMED_TOKENS: Final = 64
_WIDE: Final = (4096, 16384)


def _neighbours(grid: list[int], x: int) -> list[int]:
    """The grid's points around x; x itself if it is one; the end alone if x lies beyond it."""
    if x in grid or x > grid[-1] or x < grid[0]:
        return [min(max(x, grid[0]), grid[-1])]
    right = int(np.searchsorted(grid, x))
    return [grid[right - 1], grid[right]]


def _between(columns: dict[int, Floats], x: int) -> Floats:
    points = sorted(columns)
    if len(points) == 1:
        return columns[points[0]] * max(x / points[0], 1.0)
    low, high = points
    share = (x - low) / (high - low)
    return columns[low] * (1 - share) + columns[high] * share


class GemmTimes:
    """Products y[m, n] = x[m, k] w[k, n] of one GPU and weight type.

    Args:
        rows: ``m``, ``n``, ``k``, ``latency_ms``.
        gpu: for the memory bandwidth, where the table has no large product.
        width: bytes of a weight and of an input element; outputs have two.
    """

    def __init__(self, rows: pd.DataFrame, gpu: Gpu, width: int) -> None:
        self.width = width
        best = rows.groupby(["k", "n", "m"], as_index=False).latency_ms.min()
        k, n, m = (best[name].to_numpy(dtype=np.float64) for name in ("k", "n", "m"))
        us = best.latency_ms.to_numpy(dtype=np.float64) * 1e3
        self._curves: dict[int, dict[int, tuple[Floats, Floats]]] = {}
        edges = np.flatnonzero((np.diff(k) != 0) | (np.diff(n) != 0)) + 1
        for part in np.split(np.arange(len(best)), edges):
            columns = self._curves.setdefault(int(k[part[0]]), {})
            columns[int(n[part[0]])] = (m[part], us[part])
        rate = self._bytes(n, k, m) / us
        large = (n * k * width >= _STREAMED_BYTES) & (m <= _STREAMED_TOKENS)
        self.bytes_per_us = float(rate[large].max()) if large.any() else gpu.hbm_bytes_per_s / 1e6
        self.bytes_per_us = min(self.bytes_per_us, gpu.hbm_bytes_per_s / 1e6)

    def _bytes(self, n: Floats | int, k: Floats | int, tokens: Floats) -> Floats:
        return np.asarray(self.width * (n * k + tokens * k) + 2 * tokens * n, dtype=np.float64)

    def us(self, n: int, k: int, tokens: Floats, *, without_n: int | None = None) -> Floats:
        """Microseconds for each number of tokens.

        Args:
            n: columns of the weights (output features).
            k: rows of the weights (input features).
            tokens: m.
            without_n: leave this measured column out, to see how well its neighbours give it.
        """
        at_k = {}
        for grid_k in _neighbours(sorted(self._curves), k):
            columns = {}
            there = sorted(point for point in self._curves[grid_k] if point != without_n)
            for grid_n in _neighbours(there, n):
                x, y = self._curves[grid_k][grid_n]
                # Beyond the last measured m: in proportion.
                beyond = np.maximum(tokens / x[-1], 1.0)
                columns[grid_n] = np.interp(tokens, x, y) * beyond
            at_k[grid_k] = _between(columns, n)
        return np.maximum(_between(at_k, k), self._bytes(n, k, tokens) / self.bytes_per_us)

    def nearest_k(self, k: int) -> int:
        """The measured number of rows nearest to ``k``."""
        return min(self._curves, key=lambda grid_k: abs(grid_k - k))

    def columns(self, k: int) -> list[int]:
        """Numbers of columns that were measured at `nearest_k`."""
        return sorted(self._curves[self.nearest_k(k)])

    def tokens(self) -> Floats:
        """Values of m that were measured for every product of 4,096 to 16,384 rows and columns."""
        low, high = _WIDE
        wide = [
            set(tokens.tolist())
            for k, columns in self._curves.items()
            if low <= k <= high
            for n, (tokens, _) in columns.items()
            if low <= n <= high
        ]
        return np.array(sorted(set.intersection(*wide)), dtype=np.float64)

"""Matrix products take whole tiles of tokens: one token more than a full tile costs as much as a tile more.

Tables whose token counts are all multiples of a tile know the full tiles only. A straight line between them is the
best case of every count in between: Vidur's finer tables (7d475133, ``data/profiling/compute``; 20 combinations of
model and tensor-parallel degree) have the products of a layer there 10 % above the line from 256 to 512 tokens and 4 to
6 % above it over all. Such a table is read at the next multiple of the tile instead, at both sides of every edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from calibration.fitting import Floats

Tiles = Sequence[tuple[int, int]]
"""(from so many tokens on, tile), rising; tile 0: straight lines from there on."""

COARSE: Final[Tiles] = ((64, 16), (128, 64), (256, 128), (512, 64), (2048, 0))
"""For rows at 64, 80, 96, 128, 160, 192, 256, 384, 512, 768, 1024, 2048 …, as aiconfigurator has them of A100. Chosen
on Vidur's A100 tables, cut down to these rows and held against all of theirs: mean error from 64, 128, 256, 512 and
1,024 tokens on 1.6, 3.7, 2.6, 4.3 and 3.0 %, in place of 2.8, 6.1, 10.3, 5.4 and 2.9 % by straight lines; 2.8 % by
these from 2,048 on."""

FINE: Final[Tiles] = ((64, 16),)
"""For rows 16 tokens apart: an edge between two of them lies right behind the lower one."""


def with_edges(tokens: Floats, us: Floats, tiles: Tiles) -> tuple[Floats, Floats]:
    """The rows, and both sides of every tile's edge between them.

    Args:
        tokens: rising, shape (rows,).
        us: times, shape (rows,).
        tiles: none below the first; rows between the edges are dropped there.

    Returns:
        Tokens and times of a curve to be read by straight lines.
    """
    first, largest = tiles[0][0], int(tokens[-1])
    at, value = [tokens[tokens <= first]], [us[tokens <= first]]
    for (since, tile), (until, _) in pairwise([*tiles, (largest, 0)]):
        if tile:
            edges = np.arange(since, min(until, largest), tile, dtype=np.float64)
            ends = np.minimum(edges + tile, largest)
            at.append(np.column_stack([edges + 1.0, ends]).ravel())
            value.append(np.repeat(np.interp(ends, tokens, us), 2))
        else:
            inside = (tokens > since) & (tokens <= until)
            at.append(tokens[inside])
            value.append(us[inside])
    return np.concatenate(at), np.concatenate(value)

"""Which regime a request met, declared from the measured run's load and never from an error.

- ``light``: fewer than half of max_num_seqs were running when it was scheduled.
- ``knee``: half of them or more, and the batch was not full.
- ``overload``: it waited behind others because the batch was full: all of max_num_seqs were running.
- ``KV-starved``: it waited behind others because blocks were lacking.

The group ``unqueued`` holds those that the first schedule after their intake took, whatever ran beside.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

AT_ONCE_MS: Final = 1.0
"""A request that the first schedule after its intake took waited microseconds; any other waited a whole step."""

FULL: Final = 0.95
"""Share of max_num_seqs from which the batch is taken as full: the timeline is sampled once a second."""

STARVED: Final = 0.90
"""Share of KV blocks in use from which a prompt may not find its own."""

REGIMES: Final = ("light", "knee", "overload", "KV-starved")


def unqueued(queue_ms: pd.Series) -> pd.Series:
    """Whether a request was scheduled without waiting behind others.

    Args:
        queue_ms: from the engine's intake of a request to its first schedule, as vLLM stamps them.
    """
    return queue_ms < AT_ONCE_MS


def regimes(
    queue_ms: pd.Series, scheduled_s: pd.Series, timeline: pd.DataFrame, max_num_seqs: int
) -> pd.Series:
    """The regime that each request met.

    Args:
        queue_ms: as for `unqueued`.
        scheduled_s: first schedule, on the timeline's clock.
        timeline: with t_s, running and kv_usage (a share; 0 where it was not recorded).
        max_num_seqs: of the engine.
    """
    # The batch as it was seen last before the request got its place in it.
    index = np.searchsorted(timeline["t_s"].to_numpy(float), scheduled_s.to_numpy(float), side="right") - 1
    seen = np.maximum(index, 0)
    running = np.where(index >= 0, timeline["running"].to_numpy(float)[seen], 0.0)
    usage = np.where(index >= 0, timeline["kv_usage"].to_numpy(float)[seen], 0.0)
    waited = ~unqueued(queue_ms).to_numpy(bool)
    names = np.select(
        [
            waited & (running >= FULL * max_num_seqs),
            waited & (usage >= STARVED),
            running < 0.5 * max_num_seqs,
        ],
        ["overload", "KV-starved", "light"],
        "knee",
    )
    return pd.Series(names, index=queue_ms.index)

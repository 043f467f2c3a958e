"""The timeline's own quantile is numpy's; the rows are held against whole runs in test_simulation."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simulator.timeline import _quantile


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_the_quantile_is_numpys_to_the_last_bit(values: list[float], share: float) -> None:
    assert _quantile(sorted(values), share) == float(np.quantile(values, share))


def test_no_value_has_no_quantile() -> None:
    assert _quantile([], 0.5) is None

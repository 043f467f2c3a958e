"""Tiles of matrix products."""

import numpy as np
import pytest

from calibration.tiles import with_edges


def test_a_count_between_two_full_tiles_costs_the_larger_one() -> None:
    tokens, us = np.array([1.0, 64.0, 128.0, 256.0]), np.array([10.0, 12.0, 20.0, 40.0])
    at, value = with_edges(tokens, us, ((64, 64),))
    read = np.interp([1, 64, 65, 100, 128, 129, 192, 193, 256], at, value)
    assert read.tolist() == pytest.approx([10, 12, 20, 20, 20, 30, 30, 40, 40])


def test_tiles_change_with_the_count() -> None:
    tokens = np.arange(16.0, 1025.0, 16.0)
    at, value = with_edges(tokens, tokens, ((64, 16), (256, 128)))
    assert np.all(np.diff(at) > 0)
    assert np.interp([70, 250, 257, 384, 385, 1000], at, value).tolist() == [80, 256, 384, 384, 512, 1024]


def test_straight_lines_above_the_tiles() -> None:
    at, value = with_edges(np.array([64.0, 128.0, 256.0]), np.array([1.0, 2.0, 4.0]), ((64, 64), (128, 0)))
    assert (at.tolist(), value.tolist()) == ([64, 65, 128, 256], [1, 2, 2, 4])


def test_a_table_that_ends_within_a_tile_keeps_its_end() -> None:
    at, value = with_edges(np.array([64.0, 100.0]), np.array([1.0, 2.0]), ((64, 64),))
    assert (at.tolist(), value.tolist()) == ([64, 65, 100], [1, 2, 2])

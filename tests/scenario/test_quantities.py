import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.scenario.quantities import parse_bytes, parse_duration_s, parse_rate_per_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("5min", 300),
        ("2h", 7200),
        ("1.5h", 5400),
        ("250ms", 0.25),
        ("1h30m", 5400),
        (7, 7),
        ("7", 7),
    ],
)
def test_durations(text, seconds):
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "per_s"), [("12/s", 12), ("600/min", 10), ("3600/h", 1), (2.5, 2.5), ("2.5", 2.5)]
)
def test_rates(text, per_s):
    assert parse_rate_per_s(text) == pytest.approx(per_s)


@pytest.mark.parametrize(
    ("text", "size"), [("80GiB", 80 * 2**30), ("16GB", 16 * 10**9), ("24Gi", 24 * 2**30), (512, 512)]
)
def test_sizes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("bad", ["fast", "30 parsecs", "", None, True, [1], math.inf, "nan"])
def test_a_bad_duration_says_what_was_expected(bad):
    with pytest.raises(ValueError, match="duration"):
        parse_duration_s(bad)


def test_a_rate_needs_its_unit_spelled_as_a_rate():
    with pytest.raises(ValueError, match="12/s"):
        parse_rate_per_s("12 s")


@given(st.floats(min_value=0, max_value=1e6))
def test_a_bare_number_is_in_the_base_unit(number):
    assert parse_duration_s(number) == number
    assert parse_duration_s(f"{number!r}s") == number

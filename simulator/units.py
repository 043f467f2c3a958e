"""The clock's unit and its conversions.

Time inside the model is an integer number of picoseconds: ties do not depend on rounding, and two engines
that take different routes to the same instant agree exactly. Seconds appear only at the edges (scenario
files, records, reports). An int64 holds 106 days of picoseconds.
"""

from __future__ import annotations

from typing import Final

PS_PER_S: Final = 10**12
PS_PER_S_FLOAT: Final = 1e12
"""Divides in modules that are compiled: above 2**53 ps (2.5 h) Python rounds the quotient of two integers once and
compiled code twice, but that of an integer and a float both round alike."""

PS_PER_MS: Final = 10**9
PS_PER_US: Final = 10**6


def to_ps(seconds: float) -> int:
    """Seconds to picoseconds, rounded to nearest."""
    return round(seconds * PS_PER_S)


def to_s(picoseconds: int) -> float:
    """Picoseconds to seconds."""
    return picoseconds / PS_PER_S

"""Units of money. Prices are whole nano-dollars an hour, amounts are prices times picoseconds, bills micro-dollars.

A product of two integers is exact, so amounts can be split and added in any order; the one rounding is that of each
line of a bill to a micro-dollar.
"""

from __future__ import annotations

from typing import Final

from simulator.units import PS_PER_S

PS_PER_HOUR: Final = 3600 * PS_PER_S
_AMOUNT_PER_MICRO_USD: Final = 1000 * PS_PER_HOUR


def nano_usd(dollars: float) -> int:
    """Dollars to nano-dollars, rounded to nearest."""
    return round(dollars * 1e9)


def round_half_up(amount: int, unit: int) -> int:
    """The nearest whole number of units in an amount; the larger one of two as near."""
    return (2 * amount + unit) // (2 * unit)


def micro_usd(amount: int) -> int:
    """An amount (nano-dollars an hour times picoseconds) in micro-dollars, rounded half up."""
    return round_half_up(amount, _AMOUNT_PER_MICRO_USD)


def usd(micro: int) -> float:
    """Micro-dollars to dollars."""
    return micro / 1e6

"""From which load on an own fleet is cheaper than a paid API."""

from simulator.breakeven.crossing import Crossing, break_even
from simulator.breakeven.study import Point, Study, study

__all__ = ["Crossing", "Point", "Study", "break_even", "study"]

"""Replications, intervals, bands over draws of the profile, paired differences, steady state."""

from simulator.statistics.bands import draw_bands
from simulator.statistics.combine import combine
from simulator.statistics.intervals import Interval, PairedDifference, holm, paired_difference, t_interval
from simulator.statistics.steady_state import batch_means, mser5_warm_up

__all__ = [
    "Interval",
    "PairedDifference",
    "batch_means",
    "combine",
    "draw_bands",
    "holm",
    "mser5_warm_up",
    "paired_difference",
    "t_interval",
]

"""The records of a run: columns, recorder, results folder."""

from simulator.records.folder import ResultsFolder
from simulator.records.itl import ItlHistogram
from simulator.records.recorder import Recorder
from simulator.records.results import Results, ResultsError, read_results
from simulator.records.tables import Tables

__all__ = [
    "ItlHistogram",
    "Recorder",
    "Results",
    "ResultsError",
    "ResultsFolder",
    "Tables",
    "read_results",
]

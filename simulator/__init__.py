"""Discrete-event simulator of LLM serving.

The public entry points are `load_scenario`, `run` and `read_results`; the rest is organised by what it models,
see docs/background/how-a-run-works.md.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from simulator.compiled import choose_modules

__version__ = "0.1.0"

choose_modules(Path(__file__).parent)

if TYPE_CHECKING:
    from simulator.records.results import Results, read_results
    from simulator.runs import run
    from simulator.scenario.errors import ScenarioError
    from simulator.scenario.load import LoadedScenario, load_scenario

__all__ = ["LoadedScenario", "Results", "ScenarioError", "load_scenario", "read_results", "run"]

_HOMES: Final = {
    "LoadedScenario": "simulator.scenario.load",
    "Results": "simulator.records.results",
    "ScenarioError": "simulator.scenario.errors",
    "load_scenario": "simulator.scenario.load",
    "read_results": "simulator.records.results",
    "run": "simulator.runs",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that the engine's packages stay importable with the standard library and NumPy alone."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

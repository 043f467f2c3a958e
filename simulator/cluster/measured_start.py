"""Start-up phases that were measured with a step-time profile, in place of defaults that the scenario leaves alone."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from simulator.scenario.spread import Spread

if TYPE_CHECKING:
    from simulator.scenario.cold_start import ColdStart
    from simulator.step_time.profile import StartUp

_WEIGHT_KEYS = ("weights", "weights_from", "weights_gb_per_s", "weights_node_gb_per_s", "page_cache")


def with_measured_phases(
    config: ColdStart, starts: Sequence[StartUp] | None, *, eager: bool
) -> tuple[ColdStart, str | None]:
    """The cold start with the medians of measured phases, spread by sigma 0.3; keys that are given stay.

    Args:
        config: the scenario's cold start.
        starts: the profile's, or None.
        eager: vLLM's enforce-eager.

    Returns:
        The cold start, and a note on what was taken from the profile; None if nothing was.
    """
    if not starts:
        return config, None
    phases = {
        "process_start": _median(starts, "process"),
        "weights": _median(starts, "weights"),
        "compile": _median([s for s in starts if s.compile_cache == "cold"], "compile"),
        "compile_cached": _median([s for s in starts if s.compile_cache == "warm"], "compile"),
    }
    phases["profiling_eager" if eager else "graph_capture"] = _median(starts, "graph_capture", "kv_cache")
    if any(key in config.model_fields_set for key in _WEIGHT_KEYS):
        del phases["weights"]
    taken = {
        key: Spread(median=seconds, sigma=0.3)
        for key, seconds in phases.items()
        if seconds is not None and seconds > 0 and key not in config.model_fields_set
    }
    if not taken:
        return config, None
    told = ", ".join(f"{key} {spread.median:.1f} s" for key, spread in taken.items())
    return config.model_copy(update=taken), f"cold start: measured with the profile: {told}"


def _median(starts: Sequence[StartUp], *phases: str) -> float | None:
    """Median over the starts of the summed phases; None if no start has one of them."""
    sums = [
        sum(start.phases_s.get(phase, 0.0) for phase in phases)
        for start in starts
        if any(phase in start.phases_s for phase in phases)
    ]
    return median(sums) if sums else None

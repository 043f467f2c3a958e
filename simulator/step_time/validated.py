"""How far runs with a profile were from real ones: the figures of the accuracy page, by profile and regime.

``validated.yaml`` is written by ``make accuracy`` from the committed results of validation.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from statistics import median
from typing import Final

import yaml
from pydantic import BaseModel, ConfigDict, Field

FILE: Final = "validated.yaml"

_OF_CPUS: Final = "cpu--"
"""Profiles of CPUs, by the beginning of their names: they check the calibration and tell nothing of a GPU's."""


class ValidatedError(BaseModel):
    """Errors of one profile in one regime of one case; percentages are MAPEs, TTFT and E2E the client's."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    profile: str
    source: str
    """``fitted profile``, ``composed from kernels`` or ``roofline``."""
    case: str
    regime: str
    """``all``, ``unqueued``, ``light``, ``knee``, ``overload`` or ``KV-starved``; see the accuracy page."""
    number: int = Field(gt=0)
    """Requests of a run, or closed-loop points."""
    unit: str
    ttft_pct: float | None = None
    tpot_pct: float | None = None
    e2e_pct: float | None = None


@cache
def _all() -> tuple[ValidatedError, ...]:
    text = resources.files(__package__).joinpath(FILE).read_text(encoding="utf-8")
    return tuple(ValidatedError.model_validate(entry) for entry in yaml.safe_load(text)["errors"])


def validated_errors(profile: str) -> tuple[ValidatedError, ...]:
    """What is known of a profile, by its name; empty if no real run was at hand."""
    return tuple(entry for entry in _all() if entry.profile == profile)


def typical_tpot_error(profile: str, source: str) -> tuple[float, str] | None:
    """Relative TPOT error to expect of a profile, and where it is from.

    Args:
        profile: its name.
        source: as in `ValidatedError`; where the profile itself was not validated, the median of those that were
            made in the same way for a GPU stands in.

    Returns:
        The mean absolute relative error and its origin in words; None if nothing of the kind was validated.
    """
    whole = [entry for entry in _all() if entry.regime == "all" and entry.tpot_pct is not None]
    own = [entry.tpot_pct for entry in whole if entry.profile == profile and entry.tpot_pct is not None]
    if own:
        return max(own) / 100, "its validated TPOT error"
    alike = [
        entry.tpot_pct
        for entry in whole
        if entry.source == source and entry.tpot_pct is not None and not entry.profile.startswith(_OF_CPUS)
    ]
    if alike:
        return median(alike) / 100, f"the median TPOT error of {len(alike)} validated cases ({source})"
    return None

"""Writes the errors that a run's report states, by profile and regime, from the committed results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import yaml

import simulator.step_time
from simulator.step_time.validated import FILE
from validation.results import figure

VALIDATED: Final = Path(simulator.step_time.__file__).parent / FILE

_HEAD: Final = (
    "# Written by `make accuracy` from validation/results; docs/accuracy.md says what each figure means.\n"
)


def entries(cases: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One for each regime of each case that was predicted with a named profile."""
    for case in cases:
        deployment = case.get("deployment")
        if not deployment or "profile" not in deployment:
            continue
        for regime, group in case.get("groups", {}).items():
            errors = {
                f"{name}_pct": figure(group, f"{name}_ms.mape_pct")
                for name in ("ttft", "tpot", "e2e")
                if f"{name}_ms" in group
            }
            number = group.get("requests", group.get("points", 0))
            if number and errors:
                yield {
                    "profile": deployment["profile"],
                    "source": deployment["step_times"],
                    "case": case["title"],
                    "regime": regime,
                    "number": number,
                    "unit": "requests" if "requests" in group else "points",
                    **errors,
                }


def validated_text(cases: Iterable[dict[str, Any]]) -> str:
    """The file."""
    return _HEAD + yaml.safe_dump({"errors": list(entries(cases))}, sort_keys=False, allow_unicode=True)

"""Results of validation on disk: one small JSON for each case, figures only."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

from simulator.files import write_text

RESULTS: Final = Path(__file__).parent / "results"
RESIDUAL: Final = ".residual.json"


def write_results(folder: Path, name: str, figures: dict[str, Any], suffix: str = ".json") -> Path:
    """Write a case's figures, rounded so that they are the same on every machine."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}{suffix}"
    write_text(path, json.dumps(_rounded(figures), indent=1, ensure_ascii=False) + "\n")
    return path


def read_results(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """All cases' figures, by name; a case's residual stands under its key ``residual``."""
    cases = []
    for path in sorted(folder.glob("*.json")):
        if path.name.endswith(RESIDUAL):
            continue
        case = json.loads(path.read_text(encoding="utf-8"))
        residual = path.with_name(path.stem + RESIDUAL)
        if residual.is_file():
            case["residual"] = json.loads(residual.read_text(encoding="utf-8"))
        cases.append(case)
    return cases


def figure(figures: dict[str, Any], path: str) -> float | None:
    """A figure by its path, such as ``all.ttft_ms.mape_pct``; None if it is not there."""
    value: Any = figures
    for key in path.split("."):
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return float(value) if isinstance(value, int | float) else None


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return None if not math.isfinite(value) else float(f"{value:.4g}")
    return value

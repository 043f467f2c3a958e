"""A curve of requests a second over a period, from a CSV file with the columns ``t_s,rate_per_s``."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from simulator.autoscaling.forecast import Curve
from simulator.scenario.errors import ScenarioError
from simulator.scenario.yaml_source import read_text
from simulator.units import to_ps


def load_rate_history(path: Path, period_s: float) -> Curve:
    """The curve in a file; each row holds until the next, the first begins at 0.

    Raises:
        ScenarioError: names the file, the line and what was expected.
    """
    reader = csv.reader(read_text(path).splitlines())
    if next(reader, []) != ["t_s", "rate_per_s"]:
        raise ScenarioError("expected the header t_s,rate_per_s", file=f"{path}:1")
    starts: list[int] = []
    rates: list[float] = []
    for row in reader:
        if not row:
            continue
        where = f"{path}:{reader.line_num}"
        try:
            start_s, rate = map(float, row)
        except ValueError:
            raise ScenarioError(f"expected two numbers, got {','.join(row)!r}", file=where) from None
        if not (math.isfinite(start_s) and math.isfinite(rate)) or rate < 0 or start_s >= period_s:
            raise ScenarioError(
                f"expected a time below the period of {period_s:g} s and a rate of at least 0", file=where
            )
        start_ps = to_ps(start_s)
        if start_ps <= (starts[-1] if starts else -1) or (not starts and start_ps):
            raise ScenarioError("times begin at 0 and rise", file=where)
        starts.append(start_ps)
        rates.append(rate)
    if not starts:
        raise ScenarioError("the file has no rows", file=str(path))
    return Curve(tuple(starts), tuple(rates), to_ps(period_s))

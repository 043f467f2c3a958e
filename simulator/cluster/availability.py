"""Spot capacity of a zone over time, from a file that the user gives.

Two forms: CSV with the columns ``t_s,zone,nodes_available`` (rows of other zones are passed over), and the JSON of
skypilot-org/spot-traces: ``{"metadata": {"gap_seconds": 300}, "data": [16, 16, 3, ...]}``, one number per gap; in its
single-node traces 1 is available and 0 is not.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from simulator.scenario.errors import ScenarioError
from simulator.units import to_ps

if TYPE_CHECKING:
    from simulator.scenario.capacity import Zone


class Availability(NamedTuple):
    """A step function: from ``times_ps[i]`` on there are ``nodes[i]`` spot nodes in all; the last value stays.

    The first time is 0; consecutive values differ.
    """

    times_ps: tuple[int, ...]
    nodes: tuple[int, ...]

    def at(self, now: int) -> int:
        """Nodes that the zone has at an instant."""
        return self.nodes[bisect_right(self.times_ps, now) - 1]


def load_availabilities(folder: Path, zones: Sequence[Zone]) -> dict[str, Availability]:
    """Those of all zones that name a file, by zone; files are relative to a folder.

    Raises:
        ScenarioError: as for `load_availability`.
    """
    return {
        zone.name: load_availability(folder / zone.availability, zone.name, zone.availability_start)
        for zone in zones
        if zone.availability is not None
    }


def load_availability(path: Path, zone: str, start_s: float = 0.0) -> Availability:
    """Read a file.

    Args:
        path: CSV, or JSON by its suffix.
        zone: which zone's rows of a CSV.
        start_s: time in the file that is the run's start.

    Raises:
        ScenarioError: no such file, not in one of the forms, nothing about the zone, or over before ``start_s``.
    """
    if not path.is_file():
        raise ScenarioError(f"no such file: {path}", key="cluster.zones")
    try:
        rows = _json_rows(path) if path.suffix == ".json" else _csv_rows(path, zone)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ScenarioError(f"not a file of spot capacity: {error}", file=str(path)) from None
    if not rows:
        raise ScenarioError(f"no row of zone {zone!r}", file=str(path))
    if any(later[0] <= earlier[0] for earlier, later in itertools.pairwise(rows)):
        raise ScenarioError(f"t_s of zone {zone!r} does not rise from row to row", file=str(path))
    if start_s >= rows[-1][0] and len(rows) > 1:
        raise ScenarioError(
            f"ends at {rows[-1][0]:g} s, before availability_start ({start_s:g} s)", file=str(path)
        )
    times: list[int] = []
    nodes: list[int] = []
    for t_s, count in rows:
        t_ps = to_ps(max(t_s - start_s, 0.0))
        if times and times[-1] == t_ps:
            nodes[-1] = count
        elif not nodes or nodes[-1] != count:
            times.append(t_ps)
            nodes.append(count)
    times[0] = 0  # what the file begins with also holds before
    return Availability(tuple(times), tuple(nodes))


def _csv_rows(path: Path, zone: str) -> list[tuple[float, int]]:
    with path.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        missing = {"t_s", "zone", "nodes_available"} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"column {min(missing)} is missing; expected t_s,zone,nodes_available")
        return [_row(row["t_s"], row["nodes_available"]) for row in reader if row["zone"] == zone]


def _json_rows(path: Path) -> list[tuple[float, int]]:
    given = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(given, dict) or "data" not in given or "metadata" not in given:
        raise ValueError('expected {"metadata": {"gap_seconds": ...}, "data": [...]}')
    gap_s = float(given["metadata"]["gap_seconds"])
    if not gap_s > 0:
        raise ValueError(f"gap_seconds must be above 0, not {gap_s:g}")
    return [_row(index * gap_s, count) for index, count in enumerate(given["data"])]


def _row(t_s: object, nodes: object) -> tuple[float, int]:
    t, count = float(str(t_s)), float(str(nodes))
    if not math.isfinite(t) or t < 0 or count != int(count) or count < 0:
        raise ValueError(f"expected a time and a whole number of nodes, both at least 0, got {t_s}, {nodes}")
    return t, int(count)

"""Reading a results folder back: tables, the summary, the scenario."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from simulator.records.columns import SCHEMA_VERSION, TABLES
from simulator.records.tables import Tables

SUMMARY_FILE: Final = "summary.json"
SCENARIO_FILE: Final = "scenario.yaml"


class ResultsError(Exception):
    """A results folder cannot be read or written; the message names it and says why."""


@dataclass(frozen=True)
class Results:
    """One run: its tables, its summary and the scenario that made it.

    Attributes:
        tables: the records.
        summary: what `simulator.metrics.summarise` made of them.
        scenario_yaml: text of the scenario as it was run.
    """

    tables: Tables
    summary: dict[str, Any]
    scenario_yaml: str


def open_tables(directory: Path) -> Tables:
    """The tables of a results folder; their columns are read when they are asked for.

    Raises:
        ResultsError: a file is missing, is no Parquet, or has another schema version.
    """
    return Tables({name: _open_table(directory / f"{name}.parquet") for name in TABLES})


def _open_table(path: Path) -> pq.ParquetFile:
    try:
        table = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ResultsError(f"{path}: cannot be read: {error}") from error
    version = (table.schema_arrow.metadata or {}).get(b"schema_version", b"none").decode()
    if version != str(SCHEMA_VERSION):
        raise ResultsError(
            f"{path}: has schema version {version}; this release reads version {SCHEMA_VERSION}"
        )
    return table


def read_results(directory: str | Path) -> Results:
    """A results folder, as the run command writes it.

    Raises:
        ResultsError: it is not one, or of another schema version.
    """
    directory = Path(directory)
    try:
        summary = json.loads((directory / SUMMARY_FILE).read_text(encoding="utf-8"))
        scenario_yaml = (directory / SCENARIO_FILE).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ResultsError(f"{directory}: is not a results folder: {error}") from error
    return Results(open_tables(directory), summary, scenario_yaml)

"""Reading a results folder back: tables as pandas frames, the summary, the scenario."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from simulator.records.columns import SCHEMA_VERSION, TABLES

SUMMARY_FILE: Final = "summary.json"
SCENARIO_FILE: Final = "scenario.yaml"


class ResultsError(Exception):
    """A results folder cannot be read or written; the message names it and says why."""


@dataclass(frozen=True)
class Tables:
    """The records of one run; columns as in `simulator.records.columns`. Labels are categoricals."""

    requests: pd.DataFrame
    attempts: pd.DataFrame
    timeline: pd.DataFrame
    events: pd.DataFrame
    itl: pd.DataFrame


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


_PANDAS_TYPES: Final = {pa.bool_(): pd.BooleanDtype()}


def to_frame(table: pa.Table) -> pd.DataFrame:
    """An Arrow table to pandas; integers with nulls become pandas' nullable integers."""
    with_nulls = [
        column.name
        for column in table.schema
        if pa.types.is_integer(column.type) and table.column(column.name).null_count
    ]
    kinds = {name: str(table.schema.field(name).type).capitalize() for name in with_nulls}
    frame: pd.DataFrame = table.unify_dictionaries().to_pandas(
        types_mapper=_PANDAS_TYPES.get, split_blocks=True
    )
    return frame.astype(kinds)


def read_tables(directory: Path, columns: Mapping[str, Sequence[str]] | None = None) -> Tables:
    """The tables of a results folder.

    Args:
        directory: the folder.
        columns: those wanted, by table; all of a table that is not named here.

    Raises:
        ResultsError: a file is missing, is no Parquet, or has another schema version.
    """
    wanted = columns or {}
    return Tables(
        **{name: to_frame(_read_table(directory / f"{name}.parquet", wanted.get(name))) for name in TABLES}
    )


def _read_table(path: Path, columns: Sequence[str] | None) -> pa.Table:
    try:
        table = pq.read_table(path, columns=None if columns is None else list(columns))
    except (OSError, pa.ArrowInvalid) as error:
        raise ResultsError(f"{path}: cannot be read: {error}") from error
    version = (table.schema.metadata or {}).get(b"schema_version", b"none").decode()
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
    return Results(read_tables(directory), summary, scenario_yaml)

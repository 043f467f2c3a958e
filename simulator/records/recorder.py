"""Rows into columns: in memory for notebooks and tests, or to Parquet row groups as the run goes on.

With a directory memory stays flat however long the run: each table holds at most one row group. Rows wait end to
end in one flat list, of which a column is a slice: no object is kept per row for the garbage collector to visit,
and nothing is transposed. They are made Arrow columns while they are still in the processor's cache. Equal rows in
equal order make byte-identical files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from simulator.records.columns import TABLES
from simulator.records.itl import ItlHistogram
from simulator.records.results import open_tables
from simulator.records.tables import Tables
from simulator.units import PS_PER_S_FLOAT

ROW_GROUP_ROWS: Final = 65_536
BATCH_ROWS: Final = 1_024
"""Rows that are made Arrow columns at a time."""


class _TableBuffer:
    """Rows of one table on their way to a list of record batches or to a file."""

    def __init__(self, schema: pa.Schema, path: Path | None) -> None:
        self.schema = schema
        self._values: list[Any] = []  # row after row
        self._types = schema.types
        self._full = BATCH_ROWS * len(schema)
        self._batches: list[pa.RecordBatch] = []
        self._rows_in_batches = 0
        self._writer = None if path is None else _writer(path, schema)

    @property
    def rows_held(self) -> int:
        """Rows that are in memory."""
        return len(self._values) // len(self.schema) + self._rows_in_batches

    def add(self, row: Sequence[Any]) -> None:
        """Append a row; a full row group is written.

        Raises:
            ValueError: this row or one before it had too few or too many values.
        """
        values = self._values
        values.extend(row)
        if len(values) >= self._full:
            self._make_columns()
            if self._writer is not None and self.rows_held >= ROW_GROUP_ROWS:
                self._write()

    def close(self) -> None:
        """Write what there is; errors as in `add`."""
        if self._values:
            self._make_columns()
        if self._writer is not None:
            if self._batches:
                self._write()
            self._writer.close()

    def table(self) -> pa.Table:
        """What is held, once closed."""
        return pa.Table.from_batches(self._batches, schema=self.schema)

    def _make_columns(self) -> None:
        values, width = self._values, len(self.schema)
        if len(values) % width:
            raise ValueError(f"{len(values)} values do not make rows of {width} columns: {self.schema.names}")
        columns = [_column(values[index::width], kind) for index, kind in enumerate(self._types)]
        values.clear()
        self._batches.append(pa.RecordBatch.from_arrays(columns, schema=self.schema))
        self._rows_in_batches += len(columns[0])

    def _write(self) -> None:
        assert self._writer is not None
        self._writer.write_table(self.table().unify_dictionaries().combine_chunks(), ROW_GROUP_ROWS)
        self._batches.clear()
        self._rows_in_batches = 0


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """An Arrow column of at least one value."""
    first = values[0]
    # Labels, flags and counts often have one value for a thousand rows, which is seen at once.
    if first == values[-1] and first is not None and values.count(first) == len(values):
        if not pa.types.is_dictionary(kind):
            return pa.repeat(pa.scalar(first, kind), len(values))
        return pa.DictionaryArray.from_arrays(
            pa.repeat(pa.scalar(0, pa.int32()), len(values)), pa.array([first], pa.string())
        )
    if pa.types.is_dictionary(kind):
        return pa.array(values, pa.string()).dictionary_encode()
    return pa.array(values, kind)


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # Times and ids hardly repeat: a dictionary of them costs more than all the rest and is thrown away. Split into
    # streams of bytes, floats of like size compress well (Parquet's BYTE_STREAM_SPLIT).
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=[column.name for column in schema if pa.types.is_dictionary(column.type)],
        use_byte_stream_split=[column.name for column in schema if pa.types.is_floating(column.type)],
    )


class Recorder:
    """Takes the records of one run; a ``RecordSink`` and, as ``itl``, an ``ItlSink``.

    Args:
        workloads: names of the workloads, by the index that engines use.
        directory: where ``requests.parquet`` and the others are written; None keeps them in memory.

    Attributes:
        request, attempt, timeline: called with a row of that table.
        itl: takes inter-token latencies.
    """

    def __init__(self, workloads: Sequence[str], directory: Path | None = None) -> None:
        self.itl = ItlHistogram(workloads)
        self._directory = directory
        self._closed = False
        self._buffers = {
            name: _TableBuffer(schema, None if directory is None else directory / f"{name}.parquet")
            for name, schema in TABLES.items()
        }
        self.request = self._buffers["requests"].add
        self.attempt = self._buffers["attempts"].add
        self.timeline = self._buffers["timeline"].add
        self._events = self._buffers["events"]

    def event(
        self, t_ps: int, kind: str, subject: str, reason: str, message: str, value: float | None = None
    ) -> None:
        """A row of ``events``."""
        self._events.add((t_ps / PS_PER_S_FLOAT, kind, subject, reason, message, value))

    def close(self) -> None:
        """Write what is left; no rows can be added after it. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        for row in self.itl.rows():
            self._buffers["itl"].add(row)
        for buffer in self._buffers.values():
            buffer.close()

    def tables(self) -> Tables:
        """What was recorded, closing the recorder first."""
        self.close()
        if self._directory is not None:
            return open_tables(self._directory)
        return Tables({name: buffer.table() for name, buffer in self._buffers.items()})

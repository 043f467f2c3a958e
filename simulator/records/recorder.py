"""Rows into columns: in memory for notebooks and tests, or to Parquet row groups as the run goes on.

With a directory memory stays flat however long the run: each table holds at most one row group of tuples.
Equal rows in equal order make byte-identical files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from simulator.records.columns import TABLES
from simulator.records.itl import ItlHistogram
from simulator.records.results import Tables, read_tables, to_frame
from simulator.units import PS_PER_S

ROW_GROUP_ROWS: Final = 65_536


class _TableBuffer:
    """Rows of one table on their way to a list of record batches or to a file."""

    def __init__(self, schema: pa.Schema, path: Path | None) -> None:
        self.schema = schema
        self.rows: list[tuple[Any, ...]] = []
        self.batches: list[pa.RecordBatch] = []
        self._writer = pq.ParquetWriter(path, schema, compression="zstd") if path is not None else None

    def flush(self) -> None:
        if not self.rows:
            return
        columns = [
            pa.array(values, pa.string()).dictionary_encode()
            if pa.types.is_dictionary(column.type)
            else pa.array(values, column.type)
            for column, values in zip(self.schema, zip(*self.rows, strict=True), strict=True)
        ]
        self.rows.clear()
        batch = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        if self._writer is None:
            self.batches.append(batch)
        else:
            self._writer.write_batch(batch, row_group_size=ROW_GROUP_ROWS)

    def close(self) -> None:
        self.flush()
        if self._writer is not None:
            self._writer.close()


class Recorder:
    """Takes the records of one run; a ``RecordSink`` and, as ``itl``, an ``ItlSink``.

    Args:
        workloads: names of the workloads, by the index that engines use.
        directory: where ``requests.parquet`` and the others are written; None keeps them in memory.
    """

    def __init__(self, workloads: Sequence[str], directory: Path | None = None) -> None:
        self.itl = ItlHistogram(workloads)
        self._directory = directory
        self._closed = False
        self._buffers = {
            name: _TableBuffer(schema, None if directory is None else directory / f"{name}.parquet")
            for name, schema in TABLES.items()
        }
        self._requests = self._buffers["requests"]
        self._attempts = self._buffers["attempts"]
        self._timeline = self._buffers["timeline"]
        self._events = self._buffers["events"]

    def request(self, row: tuple[Any, ...]) -> None:
        """A row of ``requests``."""
        rows = self._requests.rows
        rows.append(row)
        if len(rows) >= ROW_GROUP_ROWS:
            self._requests.flush()

    def attempt(self, row: tuple[Any, ...]) -> None:
        """A row of ``attempts``."""
        rows = self._attempts.rows
        rows.append(row)
        if len(rows) >= ROW_GROUP_ROWS:
            self._attempts.flush()

    def timeline(self, row: tuple[Any, ...]) -> None:
        """A row of ``timeline``."""
        rows = self._timeline.rows
        rows.append(row)
        if len(rows) >= ROW_GROUP_ROWS:
            self._timeline.flush()

    def event(
        self, t_ps: int, kind: str, subject: str, reason: str, message: str, value: float | None = None
    ) -> None:
        """A row of ``events``."""
        rows = self._events.rows
        rows.append((t_ps / PS_PER_S, kind, subject, reason, message, value))
        if len(rows) >= ROW_GROUP_ROWS:
            self._events.flush()

    def close(self) -> None:
        """Write what is left; no rows can be added after it. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._buffers["itl"].rows.extend(self.itl.rows())
        for buffer in self._buffers.values():
            buffer.close()

    def tables(self) -> Tables:
        """Every table as a pandas frame, closing the recorder first."""
        self.close()
        if self._directory is not None:
            return read_tables(self._directory)
        return Tables(
            **{
                name: to_frame(pa.Table.from_batches(buffer.batches, schema=buffer.schema))
                for name, buffer in self._buffers.items()
            }
        )

"""The tables of a run, read a column at a time.

Ten million requests make gigabytes of columns, and no figure needs more than three of them at once. So a table stays
where it is, in Arrow's memory or in its Parquet file, until somebody asks: for one column (`Tables.column`), which is
read row group by row group into an array of its final size, or for all of them as a pandas frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

Source: TypeAlias = pa.Table | pq.ParquetFile
"""Where the rows of a table are. An open file stays what it is also when its folder is replaced."""

Column: TypeAlias = np.ndarray | pd.api.extensions.ExtensionArray
"""What `Tables.column` returns, by Arrow's type:

floats are NumPy's, NaN where there is no value; integers too, but pandas' nullable integers if a value is missing;
flags are pandas' nullable booleans; labels are a `pandas.Categorical` in the order of first appearance.
"""


class Tables:
    """The records of one run; columns as in `simulator.records.columns`.

    Args:
        sources: of the tables ``requests``, ``attempts``, ``timeline``, ``events`` and ``itl``.

    Attributes:
        requests, attempts, timeline, events, itl: each table as a pandas frame, read when first asked for and kept.
    """

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self.sources = dict(sources)

    def rows(self, table: str) -> int:
        """How many rows a table has."""
        source = self.sources[table]
        return int(source.num_rows if isinstance(source, pa.Table) else source.metadata.num_rows)

    def column(self, table: str, name: str) -> Any:
        """One column as a new array (`Column`), which is the caller's to change; nothing of it is kept here."""
        kind = _schema(self.sources[table]).field(name).type
        chunks = _chunks(self.sources[table], name)
        if pa.types.is_dictionary(kind):
            return _labels(chunks, self.rows(table))
        if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
            return _numbers(chunks, self.rows(table), kind)
        return pa.chunked_array(list(chunks), kind).to_pandas().array

    @cached_property
    def requests(self) -> pd.DataFrame:
        return self._frame("requests")

    @cached_property
    def attempts(self) -> pd.DataFrame:
        return self._frame("attempts")

    @cached_property
    def timeline(self) -> pd.DataFrame:
        return self._frame("timeline")

    @cached_property
    def events(self) -> pd.DataFrame:
        return self._frame("events")

    @cached_property
    def itl(self) -> pd.DataFrame:
        return self._frame("itl")

    def _frame(self, table: str) -> pd.DataFrame:
        names = _schema(self.sources[table]).names
        return pd.DataFrame({name: self.column(table, name) for name in names}, copy=False)


def _schema(source: Source) -> pa.Schema:
    return source.schema if isinstance(source, pa.Table) else source.schema_arrow


def _chunks(source: Source, name: str) -> Iterator[pa.Array]:
    if isinstance(source, pa.Table):
        yield from source.column(name).chunks
        return
    for group in range(source.num_row_groups):
        # Threads gain nothing on one column of a row group, and each would keep memory of its own.
        yield from source.read_row_group(group, columns=[name], use_threads=False).column(0).chunks


def _numbers(chunks: Iterator[pa.Array], rows: int, kind: pa.DataType) -> Column:
    values = np.empty(rows, kind.to_pandas_dtype())
    missing: np.ndarray | None = None
    floating, boolean = pa.types.is_floating(kind), pa.types.is_boolean(kind)
    start = 0
    for chunk in chunks:
        end = start + len(chunk)
        if floating or not chunk.null_count:
            known = chunk
        else:
            missing = np.zeros(rows, bool) if missing is None else missing
            missing[start:end] = chunk.is_null().to_numpy(zero_copy_only=False)
            known = chunk.fill_null(False if boolean else 0)
        values[start:end] = known.to_numpy(zero_copy_only=False)
        start = end
    if boolean:
        return pd.arrays.BooleanArray(values, np.zeros(rows, bool) if missing is None else missing)
    return values if missing is None else pd.arrays.IntegerArray(values, missing)


def _labels(chunks: Iterator[pa.Array], rows: int) -> pd.Categorical:
    """Row groups number their labels each for itself; here they have one numbering."""
    places: dict[str, int] = {}
    codes = np.empty(rows, np.int8)
    start = 0
    for chunk in chunks:
        own = chunk.dictionary.to_pylist()
        # The last place is of -1, which stands for a missing label.
        numbering = np.array([*(places.setdefault(label, len(places)) for label in own), -1])
        if len(places) - 1 > np.iinfo(codes.dtype).max:
            codes = codes.astype(np.min_scalar_type(-len(places)))
        end = start + len(chunk)
        codes[start:end] = numbering[chunk.indices.fill_null(-1).to_numpy()]
        start = end
    labels = pd.Index(pa.array(list(places), pa.string()).to_pandas())
    return pd.Categorical.from_codes(codes, labels)

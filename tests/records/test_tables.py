from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.records.columns import TABLES
from simulator.records.recorder import Recorder
from simulator.records.results import open_tables
from simulator.records.tables import Tables

LABEL = pa.dictionary(pa.int32(), pa.string())

KINDS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.float64(), st.floats(allow_nan=False, width=64)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    (pa.bool_(), st.booleans()),
    (LABEL, st.sampled_from(["", "a", "b", "completed"])),
    (pa.string(), st.text()),
]


def table_of(chunks: list[list[Any]], kind: pa.DataType) -> pa.Table:
    def array(values: list[Any]) -> pa.Array:
        return pa.array(values, pa.string()).dictionary_encode() if kind is LABEL else pa.array(values, kind)

    return pa.table({"x": pa.chunked_array([array(chunk) for chunk in chunks], kind)})


def plain(column: Any) -> list[Any]:
    return [None if pd.isna(value) else value for value in column]


@pytest.mark.parametrize(("kind", "values"), KINDS, ids=[str(kind) for kind, _ in KINDS])
@given(data=st.data())
def test_a_column_has_the_values_of_its_chunks(
    kind: pa.DataType, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    chunks = data.draw(st.lists(st.lists(st.none() | values, max_size=6), max_size=4))
    column = Tables({"requests": table_of(chunks, kind)}).column("requests", "x")
    assert plain(column) == [value for chunk in chunks for value in chunk]


def test_memory_and_file_give_the_same_column_and_the_frame_is_made_of_columns(tmp_path: Path) -> None:
    table = table_of([["a", None], ["b", "a"]], LABEL).append_column("n", pa.array([1, None, 3, 4]))
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    here, there = Tables({"requests": table}), Tables({"requests": pq.ParquetFile(tmp_path / "t.parquet")})
    assert here.rows("requests") == there.rows("requests") == 4
    pd.testing.assert_frame_equal(here.requests, there.requests)
    for name in ("x", "n"):
        pd.testing.assert_extension_array_equal(here.column("requests", name), there.requests[name].array)
    assert here.column("requests", "n").dtype == "Int64"
    assert here.column("requests", "x").codes.dtype == np.int8


def test_labels_outgrow_a_byte() -> None:
    names = [f"pod-{i}" for i in range(300)]
    column = Tables({"attempts": table_of([names[:100], [None], names], LABEL)}).column("attempts", "x")
    assert plain(column) == [*names[:100], None, *names]
    assert column.codes.dtype == np.int16


def test_a_column_is_the_callers_own(tmp_path: Path) -> None:
    table = table_of([[3.0, 1.0, 2.0]], pa.float64())
    tables = Tables({"requests": table})
    tables.column("requests", "x").sort()
    assert tables.column("requests", "x").tolist() == [3.0, 1.0, 2.0]


def test_a_folder_that_was_read_stays_what_it_was_when_it_is_replaced(tmp_path: Path) -> None:
    Recorder(["chat"], tmp_path).close()
    tables = open_tables(tmp_path)
    for name in TABLES:
        (tmp_path / f"{name}.parquet").unlink()
    assert list(tables.requests.columns) == TABLES["requests"].names

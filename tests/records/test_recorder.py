from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from simulator.records import Recorder
from simulator.records.columns import SCHEMA_VERSION, TABLES
from simulator.records.recorder import ROW_GROUP_ROWS


def request(i: int, outcome: str = "completed", workload: str = "chat") -> tuple[object, ...]:
    done = outcome == "completed"
    values = (0.1, 0.02, 1.5, 0.05, 0.01, i + 1.5) if done else (None,) * 6
    return (
        i,
        workload,
        None,
        None,
        float(i),
        100,
        256,
        50,
        outcome,
        "" if done else "cut_failure",
        1,
        *values,
        0,
        0,
        done if outcome != "in-flight" else None,
    )


def fill(recorder: Recorder, rows: int) -> None:
    for i in range(rows):
        recorder.request(request(i, "completed" if i % 3 else "failed", "code" if i % 2 else "chat"))
    recorder.event(1_500_000_000_000, "scale", "hpa", "SuccessfulRescale", "to 4", 4)
    recorder.itl.add(0, 20_000_000_000, 0, 10, 3)


def test_files_and_memory_hold_the_same(tmp_path: Path) -> None:
    recorders = Recorder(["chat", "code"], tmp_path), Recorder(["chat", "code"])
    for recorder in recorders:
        fill(recorder, 100)
    on_disk, in_memory = (recorder.tables() for recorder in recorders)
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(on_disk, name), getattr(in_memory, name))
    assert on_disk.events["t_s"].tolist() == [1.5]
    assert on_disk.itl["tokens"].tolist() == [30]


def test_values_types_and_nulls_survive(tmp_path: Path) -> None:
    recorder = Recorder(["chat"], tmp_path)
    recorder.request(request(1))
    recorder.request(request(2, "in-flight"))
    requests = recorder.tables().requests
    assert requests["outcome"].tolist() == ["completed", "in-flight"]
    assert requests["session_id"].dtype == "Int64"
    assert requests["slo_good"].dtype == "boolean"
    assert requests["slo_good"].isna().tolist() == [False, True]
    assert requests["ttft_s"].isna().tolist() == [False, True]


def test_the_same_rows_make_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        recorder = Recorder(["chat", "code"], folder)
        fill(recorder, 1000)
        recorder.close()
        contents.append([(folder / f"{table}.parquet").read_bytes() for table in TABLES])
    assert contents[0] == contents[1]


def test_rows_go_to_disk_in_row_groups_and_memory_keeps_one_at_most(tmp_path: Path) -> None:
    recorder = Recorder(["chat"], tmp_path)
    row = request(1)
    for _ in range(ROW_GROUP_ROWS + 10):
        recorder.request(row)
    assert recorder._buffers["requests"].rows_held == 10
    recorder.close()
    metadata = pq.read_metadata(tmp_path / "requests.parquet")
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [ROW_GROUP_ROWS, 10]


def test_labels_may_differ_between_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.records.recorder.BATCH_ROWS", 1)
    monkeypatch.setattr("simulator.records.recorder.ROW_GROUP_ROWS", 2)
    for directory in (tmp_path, None):
        recorder = Recorder(["a"], directory)
        names = ["x", "y", "z", "x", "w"]
        for i, name in enumerate(names):
            recorder.request(request(i, workload=name))
        assert recorder.tables().requests["workload"].tolist() == names


def test_schema_names_table_version_and_every_column(tmp_path: Path) -> None:
    recorder = Recorder(["chat"], tmp_path)
    recorder.close()
    recorder.close()
    for name in TABLES:
        schema = pq.read_schema(tmp_path / f"{name}.parquet")
        assert schema.metadata[b"schema_version"] == str(SCHEMA_VERSION).encode()
        assert schema.metadata[b"table"] == name.encode()
        assert all(field.metadata[b"description"] for field in schema)


def test_a_row_of_the_wrong_length_is_refused() -> None:
    recorder = Recorder(["chat"])
    recorder.request((1, "chat"))
    with pytest.raises(ValueError, match="2 values do not make rows of 20 columns"):
        recorder.close()

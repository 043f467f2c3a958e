from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from simulator.scenario.arrivals import TraceArrivals
from simulator.scenario.errors import ScenarioError
from simulator.units import PS_PER_S, to_ps
from simulator.workload.trace_readers import TraceRow, read_trace

HEADERS = {
    "csv": "arrival_s,input_tokens,output_tokens",
    "azure": "TIMESTAMP,ContextTokens,GeneratedTokens",
    "burstgpt": "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type",
}


def read(folder: Path, form: str, text: str, name: str = "trace.csv", **options: Any) -> list[TraceRow]:
    (folder / name).write_text(text, encoding="utf-8")
    trace = TraceArrivals.model_validate({"kind": "trace", "file": name, "format": form, **options})
    return list(read_trace(trace, folder, "workload.0.arrivals"))


def test_plain_columns_may_stand_in_any_order(tmp_path: Path) -> None:
    rows = read(tmp_path, "csv", "output_tokens,arrival_s,model,input_tokens\n7,0.25,x,100\n8,0.25,y,101\n\n")
    assert rows == [TraceRow(to_ps(0.25), 100, 7, ()), TraceRow(to_ps(0.25), 101, 8, ())]


def test_plain_with_prefix_blocks(tmp_path: Path) -> None:
    text = HEADERS["csv"] + ",prefix_block_ids\n0,33,1,4 5 6\n1,33,1,\n"
    rows = read(tmp_path, "csv", text, prefix_block_tokens=16)
    assert [row.block_ids for row in rows] == [(4, 5, 6), ()]


def test_gzip_is_read_as_such(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "t.csv.gz", "wt") as file:
        file.write(HEADERS["csv"] + "\n1,2,3\n")
    trace = TraceArrivals(kind="trace", file="t.csv.gz")
    assert list(read_trace(trace, tmp_path, "k")) == [TraceRow(to_ps(1), 2, 3, ())]


def test_azure_as_published(tmp_path: Path) -> None:
    """2023 has seven digits of a second and no zone; 2024 six (or none) and +00:00."""
    text = HEADERS["azure"] + (
        "\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n2023-11-17 00:00:00,5,1\n"
    )
    rows = read(tmp_path, "azure", text)
    assert [row.time_ps for row in rows] == [
        680_590_000_000,
        4_995_169_000_000,
        (5 * 3600 + 44 * 60 + 14) * PS_PER_S,
    ]
    assert rows[0][1:3] == (374, 44)
    text = HEADERS["azure"] + "\n2024-05-12 00:00:00+00:00,10,0\n2024-05-12 00:00:00.003683+00:00,11,2\n"
    rows = read(tmp_path, "azure", text)
    assert [row.time_ps for row in rows] == [0, 3_683_000_000]
    assert rows[0].output_tokens == 1


def test_mooncake(tmp_path: Path) -> None:
    lines = [
        {"timestamp": 0, "input_length": 600, "output_length": 52, "hash_ids": [46, 47]},
        {"timestamp": 3000, "input_length": 10, "output_length": 1, "hash_ids": []},
    ]
    rows = read(tmp_path, "mooncake", "\n".join(map(json.dumps, lines)), "m.jsonl")
    assert rows == [TraceRow(0, 600, 52, (46, 47)), TraceRow(to_ps(3), 10, 1, ())]


def test_burstgpt_old_and_new_columns_without_failures(tmp_path: Path) -> None:
    old = read(
        tmp_path,
        "burstgpt",
        HEADERS["burstgpt"] + "\n5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,9,0,9,API log\n",
    )
    new = read(
        tmp_path,
        "burstgpt",
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,a,1.5,ChatGPT,472,18,490,Conversation log\n",
    )
    assert old == new == [TraceRow(0, 472, 18, ())]


def test_burstgpt_counts_time_from_the_first_row(tmp_path: Path) -> None:
    text = HEADERS["burstgpt"] + "\n19440110.0,m,9,0,9,API log\n19440112.0,m,9,1,10,API log\n"
    assert read(tmp_path, "burstgpt", text) == [TraceRow(to_ps(2), 9, 1, ())]


@pytest.mark.parametrize(
    ("form", "row", "reason"),
    [
        ("csv", "x,1,1", r"line 3: arrival_s must be a number of at least 0, not 'x'"),
        ("csv", "nan,1,1", r"line 3: arrival_s"),
        ("csv", "inf,1,1", r"line 3: arrival_s"),
        ("csv", "-1,1,1", r"line 3: arrival_s"),
        ("csv", "1,0,1", r"line 3: input_tokens must be a whole number of at least 1, not '0'"),
        ("csv", "1,1.5,1", r"line 3: input_tokens"),
        ("csv", "1,1,", r"line 3: output_tokens"),
        ("csv", "1,1,0", r"line 3: output_tokens"),
        ("csv", "1,1", r"line 3: has 2 fields, the header 3"),
        ("csv", "1,1,1,1", r"line 3: has 4 fields"),
        ("csv", "0.5,1,1", r"line 3: is earlier than the row before it"),
        ("csv", '1,"1,1', r"line 3: unexpected end of data"),
        ("azure", "12:00,1,1", r"line 3: TIMESTAMP must be a date and time in UTC, not '12:00'"),
        ("azure", "2023-11-16 18:15:46.68x,1,1", r"line 3: TIMESTAMP"),
        ("azure", "2023-11-16 18:15:46.68+02:00,1,1", r"line 3: TIMESTAMP"),
        ("azure", "2023-11-15 18:15:46,1,1", r"line 3: is earlier"),
        ("azure", "2023-11-16 18:15:47,1,-1", r"line 3: GeneratedTokens"),
        ("burstgpt", "5,m,x,3,3,l", r"line 3: Request tokens"),
    ],
)
def test_malformed_row(tmp_path: Path, form: str, row: str, reason: str) -> None:
    good = {"csv": "0.75,9,9", "azure": "2023-11-16 18:15:46,1,1", "burstgpt": "5,m,1,3,4,l"}[form]
    with pytest.raises(ScenarioError, match=rf"trace\.csv: {reason}") as caught:
        read(tmp_path, form, f"{HEADERS[form]}\n{good}\n{row}\n")
    assert caught.value.file == str(tmp_path / "trace.csv")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "is not JSON"),
        ("[]", "must be a JSON object"),
        ('{"timestamp": 1, "input_length": 1}', "lacks output_length"),
        ('{"timestamp": 1, "input_length": 1.5, "output_length": 1}', "input_length"),
        ('{"timestamp": true, "input_length": 1, "output_length": 1}', "timestamp"),
        ('{"timestamp": 1, "input_length": 512, "output_length": 1, "hash_ids": [1, 2]}', "2 blocks"),
        ('{"timestamp": 1, "input_length": 512, "output_length": 1, "hash_ids": ["a"]}', "hash_ids"),
        ('{"timestamp": 1, "input_length": 512, "output_length": 1, "hash_ids": [-1]}', "negative"),
    ],
)
def test_malformed_mooncake_line(tmp_path: Path, line: str, reason: str) -> None:
    good = '{"timestamp": 0, "input_length": 1, "output_length": 1}'
    with pytest.raises(ScenarioError, match=rf"m\.jsonl: line 3: .*{reason}"):
        read(tmp_path, "mooncake", f"{good}\n\n{line}\n", "m.jsonl")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1: is empty"),
        ("time,input_tokens,output_tokens\n", "line 1: the header lacks arrival_s"),
        (HEADERS["csv"] + ",prefix_block_ids\n", "line 1: .*say prefix_block_tokens"),
    ],
)
def test_bad_header(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ScenarioError, match=reason):
        read(tmp_path, "csv", text)


def test_too_many_blocks(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="line 2: prefix_block_ids has 3 blocks of 16 tokens"):
        read(tmp_path, "csv", HEADERS["csv"] + ",prefix_block_ids\n0,32,1,4 5 6\n", prefix_block_tokens=16)


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"workload\.0\.arrivals\.file: no such file"):
        list(read_trace(TraceArrivals(kind="trace", file="none"), tmp_path, "workload.0.arrivals"))
    whole = gzip.compress((HEADERS["csv"] + "\n" + "1,2,3\n" * 5000).encode())
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ScenarioError, match="cannot be read"):
        list(read_trace(TraceArrivals(kind="trace", file="cut.csv.gz"), tmp_path, "k"))
    (tmp_path / "not.csv.gz").write_bytes(b"plain")
    with pytest.raises(ScenarioError, match="cannot be read"):
        list(read_trace(TraceArrivals(kind="trace", file="not.csv.gz"), tmp_path, "k"))
    (tmp_path / "latin.csv").write_bytes(b"arrival_s,input_tokens,output_tokens,caf\xe9\n")
    with pytest.raises(ScenarioError, match="cannot be read"):
        list(read_trace(TraceArrivals(kind="trace", file="latin.csv"), tmp_path, "k"))
    with pytest.raises(ScenarioError, match="cannot be read"):
        list(read_trace(TraceArrivals(kind="trace", file="."), tmp_path, "k"))

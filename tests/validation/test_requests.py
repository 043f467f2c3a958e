"""Files of requests: what is read, and what is told of one that makes no sense."""

import gzip
from pathlib import Path

import pytest

from tests.validation.conftest import MakeFile
from validation.requests import Measured, RequestsError, read_requests


def test_columns_in_any_order_and_times_of_any_kind(written: MakeFile) -> None:
    file = read_requests(
        written("output_tokens,note,arrival_s,input_tokens\n7,a,1.25,100\n1,b,0,2e2\n0,c,-3.5,17.0\n")
    )
    assert [(r.arrival_s, r.input_tokens, r.output_tokens) for r in file.requests if r] == [
        (1.25, 100, 7),
        (0.0, 200, 1),
        (-3.5, 17, 1),
    ]
    assert file.columns == ["output_tokens", "note", "arrival_s", "input_tokens"]
    assert not file.has_measurements
    told = " ".join(file.notes)
    for fact in (
        "not used: note",
        "no column prefix_block_ids",
        "1 rows with 0 output",
        "not in order of arrival",
    ):
        assert fact in told


def test_block_ids_of_any_text_are_equal_where_the_text_is(written: MakeFile) -> None:
    rows = "arrival_s,input_tokens,output_tokens,prefix_block_ids\n0,40,1,a1 b2\n1,33,1,a1 c3 d4\n2,5,1,\n3,16,1,nan\n"
    first, second, *others = (
        request.block_ids for request in read_requests(written(rows)).requests if request
    )
    assert first[0] == second[0]
    assert len({*first, *second}) == 4
    assert others == [(), ()]


def test_measured_times_of_the_client_come_first(written: MakeFile) -> None:
    rows = "arrival_s,input_tokens,output_tokens,ttft_ms,ttft_client_ms,tpot_ms\n0,40,2,10,12.5,3\n1,40,2,,nan,\n"
    file = read_requests(written(rows))
    assert [request.measured for request in file.requests if request] == [
        Measured(ttft_ms=12.5, tpot_ms=3.0),
        Measured(),
    ]
    assert file.has_measurements


def test_a_gzipped_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "requests.csv.gz"
    path.write_bytes(gzip.compress("\ufeffarrival_s,input_tokens,output_tokens\r\n0,5,5\r\n".encode()))
    assert len(read_requests(path).requests) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"requests\.csv: line 1: is empty"),
        ("arrival_s,input_tokens,output_tokens\n", r"line 2: holds no request"),
        (
            "arrival_s,input_tokens\n0,5\n",
            r"line 1: column output_tokens: is missing; there are arrival_s, input_tokens",
        ),
        (
            "arrival_s,arrival_s,input_tokens,output_tokens\n0,0,5,5\n",
            r"line 1: column arrival_s: is there twice",
        ),
        (
            "arrival_s,input_tokens,output_tokens\n0,5,5\n1,0,5\n",
            r"line 3: column input_tokens: .* at least 1, not '0'",
        ),
        (
            "arrival_s,input_tokens,output_tokens\n0,5.5,5\n",
            r"line 2: column input_tokens: must be a whole number",
        ),
        ("arrival_s,input_tokens,output_tokens\n0,,5\n", r"line 2: column input_tokens"),
        (
            "arrival_s,input_tokens,output_tokens\n0,5,-1\n",
            r"line 2: column output_tokens: .* at least 0, not '-1'",
        ),
        (
            "arrival_s,input_tokens,output_tokens\nsoon,5,5\n",
            r"line 2: column arrival_s: must be a number, not 'soon'",
        ),
        ("arrival_s,input_tokens,output_tokens\ninf,5,5\n", r"line 2: column arrival_s: must be a number"),
        ("arrival_s,input_tokens,output_tokens\n0,5\n", r"line 2: has 2 fields, the header 3"),
        (
            "arrival_s,input_tokens,output_tokens,prefix_block_ids\n0,17,5,1 2 3\n",
            r"line 2: column prefix_block_ids: has 3 blocks, but a prompt of 17 tokens fills 2 of 16",
        ),
        ("{", r"line 1: is not JSON"),
        ("{}", "neither what `vllm bench serve"),
    ],
)
def test_what_is_told_of_a_bad_file(written: MakeFile, text: str, reason: str) -> None:
    with pytest.raises(RequestsError, match=reason):
        read_requests(written(text))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(RequestsError, match=r"nowhere\.csv: No such file"):
        read_requests(tmp_path / "nowhere.csv")

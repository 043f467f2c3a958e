"""Requests to replay and, where the file tells, what was measured of them.

Files that can be read, known by their content:

- CSV with a header: ``arrival_s,input_tokens,output_tokens`` and, if known, ``prefix_block_ids``. Measured times
  may stand beside: ``ttft_client_ms`` or ``ttft_ms``, ``tpot_ms``, ``e2e_client_ms`` or ``e2e_ms``, ``queue_ms``.
- ``vllm bench serve --save-result --save-detailed`` (`validation.vllm_bench`).
- guidellm's JSON report (`validation.guidellm`).
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from simulator.engines.protocol import ContentSegments

ARRIVAL, INPUT, OUTPUT, BLOCKS = "arrival_s", "input_tokens", "output_tokens", "prefix_block_ids"

MEASURED_COLUMNS: Final = {
    "ttft_ms": ("ttft_client_ms", "ttft_ms"),
    "tpot_ms": ("tpot_ms",),
    "e2e_ms": ("e2e_client_ms", "e2e_ms"),
    "queue_ms": ("queue_ms",),
}
"""Columns of a CSV that hold measured times, the best first; in the client's view where there are two."""

_SEPARATORS: Final = re.compile(r"[\s,;|\[\]]+")


class RequestsError(ValueError):
    """A file of requests that cannot be used; the message names the file, the line and the column."""


@dataclass(frozen=True)
class Measured:
    """What a client measured of one request, in milliseconds; None where it is not known."""

    ttft_ms: float | None = None
    tpot_ms: float | None = None
    e2e_ms: float | None = None
    queue_ms: float | None = None


@dataclass(frozen=True)
class RecordedRequest:
    """One request of a file.

    Attributes:
        arrival_s: when it was sent, on the file's clock.
        input_tokens: length of the prompt, at least 1.
        output_tokens: length of the answer, at least 1.
        block_ids: ids of the prompt's leading blocks; equal ids mean equal prompts up to there.
        measured: what the file tells of its times.
        segments: content of the prompt (`simulator.engines.protocol`), in place of ``block_ids``.
        priority: smaller is more urgent; used by the priority policy only.
    """

    arrival_s: float
    input_tokens: int
    output_tokens: int
    block_ids: tuple[int, ...] = ()
    measured: Measured = Measured()
    segments: ContentSegments = ()
    priority: int = 0


@dataclass(frozen=True)
class RequestFile:
    """A file of requests.

    Attributes:
        path: where it was read.
        kind: what it is, in words.
        requests: row by row; None for a row that is not replayed.
        columns: the header of the columns that predictions are written beside.
        cells: their text, row by row.
        notes: what a reader should know of how the file was understood.
        concurrency: most requests in flight that the benchmark allowed, if it tells.
        model: the model's name, if it tells.
    """

    path: Path
    kind: str
    requests: list[RecordedRequest | None]
    columns: list[str]
    cells: list[list[str]]
    notes: list[str] = field(default_factory=list)
    concurrency: int | None = None
    model: str | None = None

    @property
    def has_measurements(self) -> bool:
        """Whether there is anything to compare predictions with."""
        nothing = Measured()
        return any(request is not None and request.measured != nothing for request in self.requests)


def read_requests(path: Path, *, prefix_block_tokens: int = 16, benchmark: int | None = None) -> RequestFile:
    """Read a file of requests of any known kind.

    Args:
        path: of the file; ``.gz`` is unpacked.
        prefix_block_tokens: tokens of a block in ``prefix_block_ids``.
        benchmark: which benchmark of a report that holds several, from 0.

    Raises:
        RequestsError: it cannot be read, is of no known kind, is empty, or a row makes no sense.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        text = content.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RequestsError(f"{path}: {reason}") from None
    if not text.strip():
        raise RequestsError(
            f"{path}: line 1: is empty: expected a header row with {ARRIVAL}, {INPUT}, {OUTPUT}"
        )
    if text.lstrip()[0] in "{[":
        return _read_json(path, text, benchmark)
    return _read_csv(path, text, prefix_block_tokens)


# --- JSON -----------------------------------------------------------------------------------------------------


def _read_json(path: Path, text: str, benchmark: int | None) -> RequestFile:
    from validation import guidellm, vllm_bench  # noqa: PLC0415  (they build what is defined here)

    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        # ``vllm bench serve --append-result`` writes one object per line.
        lines = [line for line in text.splitlines() if line.strip()]
        try:
            data = [json.loads(line) for line in lines]
        except json.JSONDecodeError:
            raise RequestsError(f"{path}: line {error.lineno}: is not JSON: {error.msg}") from None
    if vllm_bench.matches(data):
        return vllm_bench.read(path, data, benchmark)
    if guidellm.matches(data):
        return guidellm.read(path, data, benchmark)
    raise RequestsError(
        f"{path}: neither what `vllm bench serve --save-result --save-detailed` writes (with input_lens, "
        "output_lens and start_times) nor a report of guidellm (with benchmarks and their requests)"
    )


def choose_benchmark(path: Path, names: list[str], benchmark: int | None) -> int:
    """Which of several benchmarks in a file is meant.

    Raises:
        RequestsError: there is none, none of that number, or several and no number is given.
    """
    if not names:
        raise RequestsError(f"{path}: holds no benchmark")
    if benchmark is None and len(names) == 1:
        return 0
    listed = ", ".join(f"{index} ({name})" for index, name in enumerate(names))
    if benchmark is None:
        raise RequestsError(f"{path}: holds {len(names)} benchmarks; choose one by --benchmark: {listed}")
    if not 0 <= benchmark < len(names):
        raise RequestsError(f"{path}: has no benchmark {benchmark}; there are {listed}")
    return benchmark


def from_measurements(
    path: Path, kind: str, requests: list[RecordedRequest | None], notes: list[str], **more: Any
) -> RequestFile:
    """A file that is not a table: its requests as one, with time counted from the first arrival.

    Raises:
        RequestsError: no request is left.
    """
    given = [request for request in requests if request is not None]
    if not given:
        raise RequestsError(f"{path}: no request in it succeeded")
    first_s = min(request.arrival_s for request in given)
    cells = [
        ["", "", ""]
        if request is None
        else [f"{request.arrival_s - first_s:.6f}", str(request.input_tokens), str(request.output_tokens)]
        for request in requests
    ]
    return RequestFile(path, kind, requests, [ARRIVAL, INPUT, OUTPUT], cells, notes, **more)


# --- CSV ------------------------------------------------------------------------------------------------------


class _Cells:
    """One row of a CSV, by column."""

    def __init__(self, path: Path, line: int, columns: dict[str, int], cells: list[str]) -> None:
        self._place = f"{path}: line {line}"
        self._columns = columns
        self._cells = cells

    def text(self, column: str) -> str:
        return self._cells[self._columns[column]].strip()

    def error(self, column: str, reason: str) -> RequestsError:
        return RequestsError(f"{self._place}: column {column}: {reason}")

    def number(self, column: str) -> float:
        text = self.text(column)
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not abs(value) < float("inf"):
            raise self.error(column, f"must be a number, not {text!r}")
        return value

    def tokens(self, column: str, least: int) -> int:
        text = self.text(column)
        try:
            value = int(text)
        except ValueError:
            number = self.number(column) if text else -1.0
            value = int(number) if number.is_integer() else -1
        if value < least:
            raise self.error(column, f"must be a whole number of at least {least}, not {text!r}")
        return value

    def measured(self, columns: dict[str, str]) -> Measured:
        """Times of the columns, by field; an empty cell (or nan) is a time that is not known."""
        times = {}
        for name, column in columns.items():
            text = self.text(column)
            if text and text.lower() not in ("nan", "none", "null"):
                times[name] = self.number(column)
        return Measured(**times)


class _BlockIds:
    """Numbers for block ids, which may be any text: only their equality counts."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def read(self, text: str) -> tuple[int, ...]:
        words = [word for word in _SEPARATORS.split(text) if word]
        if len(words) == 1 and words[0].lower() in ("nan", "none", "null"):
            return ()
        return tuple(self._numbers.setdefault(word, len(self._numbers)) for word in words)


def _read_csv(path: Path, text: str, block_tokens: int) -> RequestFile:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader)]
        rows = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise RequestsError(f"{path}: line {reader.line_num}: {error}") from None
    columns = _columns(path, header)
    if not rows:
        raise RequestsError(f"{path}: line 2: holds no request, only the header {','.join(header)}")
    measured = {
        name: found
        for name, choices in MEASURED_COLUMNS.items()
        if (found := next((choice for choice in choices if choice in columns), None)) is not None
    }
    ids = _BlockIds()
    requests: list[RecordedRequest | None] = []
    zero_outputs = 0
    for line, cells in rows:
        if len(cells) != len(header):
            raise RequestsError(f"{path}: line {line}: has {len(cells)} fields, the header {len(header)}")
        row = _Cells(path, line, columns, cells)
        input_tokens = row.tokens(INPUT, 1)
        output_tokens = row.tokens(OUTPUT, 0)
        zero_outputs += output_tokens == 0
        blocks = ids.read(row.text(BLOCKS)) if BLOCKS in columns else ()
        most = -(-input_tokens // block_tokens)
        if len(blocks) > most:
            raise row.error(
                BLOCKS,
                f"has {len(blocks)} blocks, but a prompt of {input_tokens} tokens fills {most} of {block_tokens} "
                "(--prefix-block-tokens)",
            )
        requests.append(
            RecordedRequest(
                row.number(ARRIVAL), input_tokens, max(1, output_tokens), blocks, row.measured(measured)
            )
        )
    notes = _csv_notes(header, measured, zero_outputs, requests)
    return RequestFile(path, "CSV", requests, header, [cells for _, cells in rows], notes)


def _columns(path: Path, header: list[str]) -> dict[str, int]:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise RequestsError(f"{path}: line 1: column {twice[0]}: is there twice")
    for wanted in (ARRIVAL, INPUT, OUTPUT):
        if wanted not in header:
            raise RequestsError(f"{path}: line 1: column {wanted}: is missing; there are {', '.join(header)}")
    return {name: index for index, name in enumerate(header)}


def _csv_notes(
    header: list[str],
    measured: dict[str, str],
    zero_outputs: int,
    requests: list[RecordedRequest | None],
) -> list[str]:
    notes = []
    used = {ARRIVAL, INPUT, OUTPUT, BLOCKS, *measured.values()}
    ignored = [name for name in header if name not in used]
    if ignored:
        notes.append(f"columns that are not used: {', '.join(ignored)}")
    if BLOCKS not in header:
        notes.append(f"no column {BLOCKS}: no prompts share a prefix")
    if measured:
        notes.append(
            "measured times: " + ", ".join(f"{name} from {column}" for name, column in measured.items())
        )
    if zero_outputs:
        notes.append(f"{zero_outputs} rows with 0 output tokens are read as 1: an engine always samples one")
    arrivals = [request.arrival_s for request in requests if request is not None]
    if arrivals != sorted(arrivals):
        notes.append(
            "rows are not in order of arrival: they are replayed in it, and written in the file's order"
        )
    return notes

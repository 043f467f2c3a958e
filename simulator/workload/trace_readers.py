"""Readers of published trace formats, one row at a time; a file is never held in memory.

- ``csv``: columns arrival_s, input_tokens, output_tokens and, if prompts share prefixes, prefix_block_ids
  (space-separated, one id per block of prefix_block_tokens; equal id means equal prompt up to there).
- ``azure``: Azure/AzurePublicDataset, AzureLLMInferenceTrace_*.csv: TIMESTAMP, ContextTokens,
  GeneratedTokens. Time 0 is the first row. 0 generated tokens are read as 1: an engine always samples one.
- ``mooncake``: kvcache-ai/Mooncake, FAST25-release/traces/*.jsonl: timestamp (ms), input_length,
  output_length, hash_ids (512 tokens each, the last may be partial).
- ``burstgpt``: HPMLL/BurstGPT, BurstGPT_*.csv: Timestamp (s), Request tokens, Response tokens; other columns
  (Session ID and Elapsed time in newer files, Model, Total tokens, Log Type) are not used. A row with 0
  response tokens is a request that failed there and is left out. Time 0 is the first row: BurstGPT_3.csv
  begins at 19,440,110 s.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from simulator.scenario.arrivals import TraceArrivals
from simulator.scenario.errors import ScenarioError
from simulator.units import PS_PER_MS, PS_PER_S

MOONCAKE_BLOCK_TOKENS: Final = 512


class TraceRow(NamedTuple):
    """One request of a trace.

    Attributes:
        time_ps: on the trace's own clock, never falling from row to row.
        input_tokens: at least 1.
        output_tokens: at least 1.
        block_ids: ids of the prompt's leading blocks, empty if the trace has none.
    """

    time_ps: int
    input_tokens: int
    output_tokens: int
    block_ids: tuple[int, ...]


class _BadRowError(ValueError):
    """Something is wrong with the row at hand."""


_Parse = Callable[[list[str]], TraceRow | None]


def read_trace(trace: TraceArrivals, base_dir: Path, key: str) -> Iterator[TraceRow]:
    """Rows of a trace in time order.

    Raises:
        ScenarioError: the file cannot be read, its columns are not those of the format, or a row is malformed
            or earlier than the one before (file and line are named).
    """
    path = base_dir / trace.file
    line, last_ps = 1, 0
    try:
        with _open(path) as text:
            rows = _json_rows(text) if trace.format == "mooncake" else _csv_rows(text, trace)
            for number, row in rows:
                line = number
                if row.time_ps < last_ps:
                    raise _BadRowError("is earlier than the row before it: sort the trace by time")
                last_ps = row.time_ps
                yield row
    except FileNotFoundError:
        raise ScenarioError(f"no such file: {path}", key=f"{key}.file") from None
    except _BadRowError as error:
        at, reason = error.args if len(error.args) == 2 else (line, error.args[0])
        raise ScenarioError(f"line {at}: {reason}", file=str(path)) from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ScenarioError(f"cannot be read after line {line}: {error}", file=str(path)) from None


def _open(path: Path) -> io.TextIOWrapper:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open("r", encoding="utf-8-sig", newline="")


def _csv_rows(text: io.TextIOWrapper, trace: TraceArrivals) -> Iterator[tuple[int, TraceRow]]:
    reader = csv.reader(text, strict=True)
    try:
        header = next(reader, None)
        if header is None:
            raise _BadRowError(1, "is empty: expected a header row")
        parse = _PARSERS[trace.format]([name.strip() for name in header], trace)
        width = len(header)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != width:
                raise _BadRowError(f"has {len(cells)} fields, the header {width}")
            row = parse(cells)
            if row is not None:
                yield reader.line_num, row
    except (_BadRowError, csv.Error) as error:
        if len(error.args) == 2:
            raise
        raise _BadRowError(reader.line_num, str(error)) from None


def _columns(header: list[str], wanted: tuple[str, ...]) -> list[int]:
    missing = [name for name in wanted if name not in header]
    if missing:
        raise _BadRowError(1, f"the header lacks {', '.join(missing)}; it has {', '.join(header)}")
    return [header.index(name) for name in wanted]


def _number(name: str, cell: Any, least: float) -> float:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        value = -1.0
    if isinstance(cell, bool) or not least <= value < float("inf"):
        raise _BadRowError(f"{name} must be a number of at least {least:g}, not {cell!r}")
    return value


def _tokens(name: str, cell: Any, least: int = 1) -> int:
    try:
        value = int(cell)
    except (TypeError, ValueError):
        value = -1
    if isinstance(cell, bool | float) or value < least:
        raise _BadRowError(f"{name} must be a whole number of at least {least}, not {cell!r}")
    return value


def _plain(header: list[str], trace: TraceArrivals) -> _Parse:
    time, inputs, outputs = _columns(header, ("arrival_s", "input_tokens", "output_tokens"))
    blocks = header.index("prefix_block_ids") if "prefix_block_ids" in header else None
    if blocks is not None and trace.prefix_block_tokens is None:
        raise _BadRowError(1, "there is a column prefix_block_ids: say prefix_block_tokens in the scenario")
    size = trace.prefix_block_tokens or 1

    def parse(cells: list[str]) -> TraceRow:
        input_tokens = _tokens("input_tokens", cells[inputs])
        ids: tuple[int, ...] = ()
        if blocks is not None:
            try:
                ids = tuple(map(int, cells[blocks].split()))
            except ValueError:
                raise _BadRowError(f"prefix_block_ids must be whole numbers, not {cells[blocks]!r}") from None
            _check_blocks("prefix_block_ids", ids, input_tokens, size)
        return TraceRow(
            round(_number("arrival_s", cells[time], 0.0) * PS_PER_S),
            input_tokens,
            _tokens("output_tokens", cells[outputs]),
            ids,
        )

    return parse


def _check_blocks(name: str, ids: tuple[int, ...], input_tokens: int, size: int) -> None:
    most = -(-input_tokens // size)
    if len(ids) > most:
        raise _BadRowError(
            f"{name} has {len(ids)} blocks of {size} tokens, a prompt of {input_tokens} tokens fills {most}"
        )
    if ids and min(ids) < 0:
        raise _BadRowError(f"{name} must not be negative")


def _azure(header: list[str], trace: TraceArrivals) -> _Parse:
    time, inputs, outputs = _columns(header, ("TIMESTAMP", "ContextTokens", "GeneratedTokens"))
    first: datetime | None = None
    second = timedelta(seconds=1)

    def parse(cells: list[str]) -> TraceRow:
        nonlocal first
        # Seven digits of a second are published; datetime holds six.
        whole, _, fraction = cells[time].strip().removesuffix("+00:00").removesuffix("Z").partition(".")
        try:
            moment = datetime.fromisoformat(whole)
            fraction_ps = int(fraction[:12].ljust(12, "0")) if fraction else 0
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is not None or fraction_ps < 0:
            raise _BadRowError(f"TIMESTAMP must be a date and time in UTC, not {cells[time]!r}")
        if first is None:
            first = moment
        return TraceRow(
            (moment - first) // second * PS_PER_S + fraction_ps,
            _tokens("ContextTokens", cells[inputs]),
            max(1, _tokens("GeneratedTokens", cells[outputs], 0)),
            (),
        )

    return parse


def _burstgpt(header: list[str], trace: TraceArrivals) -> _Parse:
    time, inputs, outputs = _columns(header, ("Timestamp", "Request tokens", "Response tokens"))
    first: float | None = None

    def parse(cells: list[str]) -> TraceRow | None:
        nonlocal first
        moment = _number("Timestamp", cells[time], 0.0)
        if first is None:
            first = moment
        time_ps = round((moment - first) * PS_PER_S)
        output_tokens = _tokens("Response tokens", cells[outputs], 0)
        if output_tokens == 0:
            return None
        return TraceRow(time_ps, _tokens("Request tokens", cells[inputs]), output_tokens, ())

    return parse


_PARSERS: Final[dict[str, Callable[[list[str], TraceArrivals], _Parse]]] = {
    "csv": _plain,
    "azure": _azure,
    "burstgpt": _burstgpt,
}


def _json_rows(text: io.TextIOWrapper) -> Iterator[tuple[int, TraceRow]]:
    for line, content in enumerate(text, start=1):
        if not content.strip():
            continue
        try:
            yield line, _mooncake(content)
        except _BadRowError as error:
            raise _BadRowError(line, error.args[0]) from None


def _mooncake(content: str) -> TraceRow:
    try:
        row = json.loads(content)
    except json.JSONDecodeError as error:
        raise _BadRowError(f"is not JSON: {error.msg}") from None
    if not isinstance(row, dict):
        raise _BadRowError("must be a JSON object")
    missing = [name for name in ("timestamp", "input_length", "output_length") if name not in row]
    if missing:
        raise _BadRowError(f"lacks {', '.join(missing)}")
    ids = row.get("hash_ids", [])
    if not isinstance(ids, list) or not all(type(i) is int for i in ids):
        raise _BadRowError("hash_ids must be a list of whole numbers")
    input_tokens = _tokens("input_length", row["input_length"])
    _check_blocks("hash_ids", tuple(ids), input_tokens, MOONCAKE_BLOCK_TOKENS)
    return TraceRow(
        round(_number("timestamp", row["timestamp"], 0.0) * PS_PER_MS),
        input_tokens,
        _tokens("output_length", row["output_length"]),
        tuple(ids),
    )

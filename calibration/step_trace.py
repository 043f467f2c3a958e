"""A record of what an engine's scheduler decided, kept in memory and written between measurements.

Needs no vLLM; `calibration.tracing_scheduler` feeds it from inside the engine's process. The folder holds
``settings.json`` and numbered Parquet files, each written whole.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

SETTINGS_FILE: Final = "settings.json"

_INTS: Final = pa.list_(pa.int32())

TRACE: Final = pa.schema(
    [
        ("step", pa.int32()),
        ("depth", pa.int8()),
        *((name, pa.int64()) for name in ("schedule_ns", "launch_ns", "output_ns", "update_ns")),
        *(
            (name, _INTS)
            for name in (
                "requests",
                "tokens",
                "context",
                "admitted",
                "preempted",
                "finished",
                "running",
                "arrived",  # requests that the scheduler got since the step before
            )
        ),
        ("waiting", pa.int32()),
        ("free_blocks", pa.int32()),
    ]
)
"""Columns of a trace: those of a capture's steps, with requests by their numbers, and times in nanoseconds of
the machine's monotonic clock."""

_MOST_BUFFERED: Final = 20_000
_NUMBER: Final = re.compile(r"capture-(\d+)")


def request_name(number: int) -> str:
    """Request id under which a capture sends its request of that number."""
    return f"capture-{number}"


def request_number(name: str) -> int:
    """The number in a request id, whatever vLLM put around it; -1 for one that no capture sent."""
    found = _NUMBER.search(name)
    return int(found[1]) if found else -1


class StepTrace:
    """Collects steps; the calls inside a step only keep references and copies.

    Args:
        folder: where to write.
        settings: the scheduler's, for ``settings.json``.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._folder = folder
        self._live: dict[int, list[Any]] = {}
        self._done: list[list[Any]] = []
        self._writing = threading.Lock()
        self._step = 0
        self._arrived: list[str] = []
        self._victims: list[str] = []
        self._freed: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)
        # An engine that uses the folder of an earlier one goes on with the numbers of its files.
        self._file = len(list(folder.glob("*.parquet")))
        (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")

    @property
    def num_in_flight(self) -> int:
        return len(self._live)

    def arrived(self, name: str) -> None:
        self._arrived.append(name)

    def preempted(self, name: str) -> None:
        self._victims.append(name)

    def freed(self, name: str) -> None:
        self._freed.append(name)

    def scheduled(
        self,
        key: int,
        depth: int,
        schedule_ns: int,
        tokens: dict[str, int],
        context: Iterable[tuple[Sequence[str], Sequence[int]]],
        admitted: Sequence[Iterable[str]],
        running: list[Any],
        waiting: int,
        free_blocks: int,
    ) -> None:
        """One step that schedules something.

        Args:
            key: identifies it until its output.
            depth: batches in flight when schedule() was entered.
            schedule_ns: when that was.
            tokens: by request, in order.
            context: names and computed tokens before the step, side by side.
            admitted: names of new and of resumed requests.
            running: requests (with ``request_id``) after the schedule, in order.
            waiting: how many wait.
            free_blocks: KV blocks.
        """
        row = [
            self._step,
            depth,
            schedule_ns,
            0,
            0,
            0,
            tokens,
            context,
            admitted,
            self._victims,
            self._freed,
            running,
            self._arrived,
            waiting,
            free_blocks,
        ]
        self._live[key] = row
        self._step += 1
        self._victims, self._freed, self._arrived = [], [], []
        row[3] = time.monotonic_ns()

    def output(self, key: int, output_ns: int) -> None:
        """The step's output has been taken and processed."""
        row = self._live.pop(key, None)
        if row is None:
            return
        row[4] = output_ns
        row[5] = time.monotonic_ns()
        self._done.append(row)
        if len(self._done) >= _MOST_BUFFERED:
            self.flush()

    def flush(self) -> None:
        """Write what is complete."""
        with self._writing:
            # Rows that another thread appends meanwhile stay behind the cut.
            count = len(self._done)
            done = self._done[:count]
            del self._done[:count]
            if done:
                self._write(done)

    def _write(self, done: list[list[Any]]) -> None:
        number = request_number
        columns: dict[str, list[Any]] = {name: [] for name in TRACE.names}
        for row in done:
            names = list(row[6])
            context = {name: value for pair in row[7] for name, value in zip(*pair, strict=True)}
            entered = {name for group in row[8] for name in group}
            for name, value in zip(TRACE.names[:6], row[:6], strict=True):
                columns[name].append(value)
            columns["requests"].append([number(name) for name in names])
            columns["tokens"].append(list(row[6].values()))
            columns["context"].append([context[name] for name in names])
            columns["admitted"].append([number(name) for name in names if name in entered])
            columns["preempted"].append([number(name) for name in row[9]])
            columns["finished"].append(sorted(number(name) for name in row[10]))
            columns["running"].append([number(request.request_id) for request in row[11]])
            columns["arrived"].append([number(name) for name in row[12]])
            columns["waiting"].append(row[13])
            columns["free_blocks"].append(row[14])
        path = self._folder / f"{self._file:05d}.parquet"
        partial = path.with_suffix(".partial")
        pq.write_table(pa.table(columns, schema=TRACE), partial, compression="zstd")
        partial.rename(path)
        self._file += 1


class TraceReader:
    """Reads a trace's files as they appear.

    Args:
        folder: of the trace.
        skip_existing: leave out what an earlier engine wrote there.
    """

    def __init__(self, folder: Path, *, skip_existing: bool = False) -> None:
        self._folder = folder
        self._seen: set[str] = set()
        if skip_existing:
            self._seen = {path.name for path in folder.glob("*.parquet")}

    def settings(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self._folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        return data

    def read(self) -> pa.Table:
        """Steps since the last call."""
        new = [path for path in sorted(self._folder.glob("*.parquet")) if path.name not in self._seen]
        self._seen.update(path.name for path in new)
        return pa.concat_tables([TRACE.empty_table(), *(pq.read_table(path, schema=TRACE) for path in new)])

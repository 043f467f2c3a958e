"""Progress of a run on a terminal: simulated time, speed, requests so far.

Nothing but plain text goes to a pipe or a file, and nothing at all in quiet mode.
"""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from simulator.report.text import clock, count, significant

_REFRESH_S = 0.1


class RunProgress:
    """A context manager around one run.

    Args:
        duration_s: simulated time that the run covers.
        console: where it is shown; standard error keeps standard output for the summary.
        label: what runs, such as ``spiky`` or ``replication 2/5``.
        quiet: show nothing.
    """

    def __init__(self, duration_s: float, console: Console, *, label: str = "", quiet: bool = False) -> None:
        self._duration_s = duration_s
        self._console = console
        self._label = label
        self._quiet = quiet
        self._bar: Progress | None = None
        self._began = self._shown = time.monotonic()
        self._now_s, self._requests = 0.0, 0

    def __enter__(self) -> RunProgress:
        self._began = time.monotonic()
        if not self._quiet and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=28),
                TaskProgressColumn(),
                TextColumn("{task.fields[line]}"),
                console=self._console,
                auto_refresh=False,
                transient=True,
            )
            self._bar.add_task(self._label, total=self._duration_s, line="")
            self._bar.start()
        return self

    def update(self, now_s: float, requests: int) -> None:
        """Tell how far the run is; cheap enough for every timeline interval."""
        self._now_s, self._requests = now_s, requests
        wall = time.monotonic()
        if self._bar is not None and wall - self._shown >= _REFRESH_S:
            self._shown = wall
            self._bar.update(self._bar.task_ids[0], completed=now_s, line=self._line(wall), refresh=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if not self._quiet and error is None:
            wall_s = time.monotonic()
            spent = significant(max(wall_s - self._began, 1e-3))
            prefix = f"{self._label}: " if self._label else ""
            self._console.print(f"{prefix}{self._line(wall_s)}, {spent} s", highlight=False, markup=False)

    def _line(self, wall: float) -> str:
        speed = self._now_s / max(wall - self._began, 1e-3)
        return f"{clock(self._now_s)} simulated, {significant(speed)}× real time, {count(self._requests)} requests"

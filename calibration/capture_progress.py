"""How far a capture is, on a terminal; one line a stage elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class CaptureProgress:
    """A context manager around a capture.

    Args:
        console: where it is shown.
        quiet: show nothing.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._engine = ""
        self._began = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[requests]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, requests="")

    def __enter__(self) -> CaptureProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        if not self._quiet:
            self._console.print(
                f"{time.monotonic() - self._began:7.1f} s  {text}", markup=False, soft_wrap=True
            )

    def engine(self, name: str) -> None:
        self._engine = name
        self.say(f"engine {name} starts")
        self._bar.reset(self._task, description=f"{name}: starting", total=None)

    def stages(self, total: int) -> None:
        self.say(f"engine {self._engine} is up; {total} stages")
        self._bar.reset(self._task, description=self._engine, total=total)

    def stage(self, name: str) -> None:
        self._bar.update(self._task, description=f"{self._engine}/{name}", requests="")

    def requests(self, done: int, total: int) -> None:
        self._bar.update(self._task, requests=f"{done}/{total} requests")

    def ended(self, name: str, status: str, seconds: float, steps: int) -> None:
        self._bar.advance(self._task)
        self.say(f"{self._engine}/{name}: {status}, {seconds:.1f} s, {steps} steps")

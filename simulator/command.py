"""How commands end: exit codes, one line for a mistake, nothing left behind when they are told to stop."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

import typer

from simulator.records.results import ResultsError
from simulator.scenario.errors import ScenarioError

EXIT_BAD_INPUT: Final = 2
EXIT_SLO_MISSED: Final = 3
EXIT_INTERRUPTED: Final = 130
EXIT_TERMINATED: Final = 143


class _Terminated(BaseException):
    """SIGTERM came."""


@contextmanager
def plain_endings() -> Iterator[None]:
    """Turn what can end a command early into its line on standard error and its exit code."""
    try:
        with _sigterm_raises():
            yield
    except (ScenarioError, ResultsError) as error:
        _stop(f"error: {error}", EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        _stop("interrupted; nothing was written", EXIT_INTERRUPTED)
    except _Terminated:
        _stop("terminated; nothing was written", EXIT_TERMINATED)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """What a run leaves behind when it is told to end, as in a batch queue, is what it leaves on Ctrl-C: nothing."""

    def end(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(message: str, code: int) -> NoReturn:
    print(message, file=sys.stderr)
    raise typer.Exit(code)

"""The results folder appears whole or not at all.

Everything is written to a hidden folder beside the target, which is renamed at the end. Whatever goes wrong
before (an error, Ctrl-C) removes it and leaves an older folder of that name as it was.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from simulator.records.results import SCENARIO_FILE, SUMMARY_FILE, ResultsError


class ResultsFolder:
    """A context manager: write into ``staging``, then call `publish`.

    Args:
        target: the results folder. A folder that is there already is replaced, but only if it is empty or
            holds results: a slip in ``--out`` must not delete somebody's files.

    Raises:
        ResultsError: the target cannot be written or must not be replaced.
    """

    def __init__(self, target: str | Path) -> None:
        self.target = Path(target).absolute()
        if self.target.exists():
            if not self.target.is_dir():
                raise ResultsError(f"{target}: is a file; results need a folder")
            if any(self.target.iterdir()) and not (self.target / SUMMARY_FILE).is_file():
                raise ResultsError(f"{target}: holds files but no {SUMMARY_FILE}; it is not replaced")
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self.staging = Path(tempfile.mkdtemp(prefix=f".{self.target.name}.", dir=self.target.parent))
            self.staging.chmod(0o777 & ~_umask())
        except OSError as error:
            raise ResultsError(f"{target}: cannot be written: {error}") from error
        self._published = False

    def __enter__(self) -> ResultsFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._published:
            shutil.rmtree(self.staging, ignore_errors=True)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file; NaN and infinity are refused, for JSON has none."""
        text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
        (self.staging / name).write_text(text + "\n", encoding="utf-8")

    def write_summary(self, summary: dict[str, Any], scenario_yaml: str) -> None:
        """Write ``summary.json`` and ``scenario.yaml``."""
        self.write_json(SUMMARY_FILE, summary)
        (self.staging / SCENARIO_FILE).write_text(scenario_yaml, encoding="utf-8")

    def publish(self) -> Path:
        """Put the folder in its place; returns the target."""
        old = self.staging.with_name(self.staging.name + ".old")
        replaced = self.target.exists()
        try:
            if replaced:
                os.rename(self.target, old)
            os.rename(self.staging, self.target)
        except BaseException:
            if old.exists() and not self.target.exists():
                os.rename(old, self.target)
            raise
        self._published = True
        if replaced:
            shutil.rmtree(old, ignore_errors=True)
        return self.target


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""The one error that a bad scenario, manifest or trace raises."""

from __future__ import annotations


class ScenarioError(Exception):
    """Bad input, told in one line: ``file: key: reason``.

    Attributes:
        reason: what is wrong and what was expected.
        file: the file it is in, as the user named it; None for values that come from elsewhere.
        key: path of the key, such as ``workload.0.arrivals.rate``; None when the whole file is meant.
    """

    def __init__(self, reason: str, *, file: str | None = None, key: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.file = file
        self.key = key

    def __str__(self) -> str:
        told = ": ".join(part for part in (self.file, self.key, self.reason) if part)
        return " ".join(told.split())  # libraries' reasons may have several lines

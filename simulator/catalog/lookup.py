"""Names in the catalog: loading the YAML tables and refusing unknown names helpfully."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib import resources
from typing import Any

import yaml


class CatalogError(ValueError):
    """A name that the catalog does not know, or a file that it cannot read. The message is for the user."""


def read_table(file_name: str) -> dict[str, Any]:
    """One of the YAML tables that ship with this package."""
    text = resources.files(__package__).joinpath(file_name).read_text(encoding="utf-8")
    table: dict[str, Any] = yaml.safe_load(text)
    return table


def unknown_name(kind: str, name: str, known: Iterable[str], hint: str = "") -> CatalogError:
    """The error for a name that is not in the catalog, with the close matches."""
    by_folded = {candidate.casefold(): candidate for candidate in sorted(known)}
    close = difflib.get_close_matches(name.casefold(), list(by_folded), n=4, cutoff=0.5)
    if not close:
        tail = name.casefold().rsplit("/", 1)[-1]
        close = [folded for folded in by_folded if tail and tail in folded][:4]
    if close:
        guess = "did you mean " + ", ".join(by_folded[folded] for folded in close) + "?"
    else:
        guess = f"known: {', '.join(sorted(by_folded.values()))}"
    return CatalogError(f"unknown {kind} {name!r}; {guess}{' ' + hint if hint else ''}")

"""Refuses compiled modules that are older than their source.

`setup.py` compiles some modules in a checkout in place, beside their Python files, and Python prefers the compiled
one: an edit would have no effect. Whoever edits such a file is told, instead of being puzzled.
"""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path


def check_compiled(package: Path) -> None:
    """Check every compiled module below a package's folder; an installed package is what it is.

    Raises:
        ImportError: a compiled module is older than its source.
    """
    if not (package.parent / "setup.py").is_file():
        return
    suffix = EXTENSION_SUFFIXES[0]
    for compiled in package.rglob(f"*{suffix}"):
        source = compiled.with_name(compiled.name.removesuffix(suffix) + ".py")
        if source.is_file() and source.stat().st_mtime > compiled.stat().st_mtime:
            raise ImportError(
                f"{compiled.name} is older than {source.name}: run `make setup` to compile it again, or `make pure` "
                "to do without"
            )

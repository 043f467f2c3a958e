"""Compiled modules: whether they are used, and that none is older than its source.

`setup.py` compiles some modules beside their Python files, and Python prefers the compiled one. In a checkout an
edit would then have no effect: whoever edits such a file is told, instead of being puzzled. With
``SIMULATOR_COMPILE=0`` in the environment the Python files are used: for a debugger, a profiler, or in doubt.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path


def choose_modules(package: Path) -> None:
    """Use the compiled modules below a package's folder, or its Python files if the environment asks for them.

    Raises:
        ImportError: a compiled module is older than its source.
    """
    if os.environ.get("SIMULATOR_COMPILE") == "0":
        sys.meta_path.insert(0, _SourceFinder())
    else:
        check_compiled(package)


class _SourceFinder:
    """Finds this package's modules as Python files."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> ModuleSpec | None:
        if not name.startswith("simulator."):
            return None
        for folder in path or ():
            spec = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(name)
            if spec is not None:
                return spec
        return None


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

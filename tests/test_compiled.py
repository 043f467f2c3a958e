import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from simulator.compiled import check_compiled


def checkout(folder: Path, *, compiled_s: int, source_s: int, setup: bool = True) -> Path:
    package = folder / "package"
    package.mkdir()
    if setup:
        (folder / "setup.py").touch()
    for name, time_s in ((f"module{EXTENSION_SUFFIXES[0]}", compiled_s), ("module.py", source_s)):
        (package / name).touch()
        os.utime(package / name, (time_s, time_s))
    return package


def test_an_edited_module_is_not_silently_ignored(tmp_path: Path) -> None:
    with pytest.raises(ImportError, match=r"older than module\.py: run `make setup`"):
        check_compiled(checkout(tmp_path, compiled_s=100, source_s=101))


def test_a_fresh_module_passes(tmp_path: Path) -> None:
    check_compiled(checkout(tmp_path, compiled_s=101, source_s=100))


def test_an_installed_package_is_not_checked(tmp_path: Path) -> None:
    check_compiled(checkout(tmp_path, compiled_s=100, source_s=101, setup=False))


def test_the_python_files_are_used_on_request() -> None:
    code = "import simulator.clock as clock; print(clock.__file__)"
    environment = {**os.environ, "SIMULATOR_COMPILE": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip().endswith("clock.py")

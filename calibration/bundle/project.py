"""The project's own part of a bundle."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final, NamedTuple

from packaging.requirements import Requirement

from calibration.bundle.errors import BundleError

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("simulator", "calibration")
PLANS: Final = "calibration/plans"
EXTRA: Final = "gpu"
"""Extra of pyproject.toml that a capture on a GPU uses."""


class Project(NamedTuple):
    """Files by path, what they require, and the plan's path among them."""

    version: str
    files: dict[str, bytes]
    requirements: list[Requirement]
    plan: str | None


def read_project(plan: Path | None, root: Path = ROOT) -> Project:
    """The project as its source tree has it; a plan from elsewhere joins ``calibration/plans``.

    Raises:
        BundleError: no source tree, no such plan, or another plan of that name is there.
    """
    pyproject = root / "pyproject.toml"
    if not pyproject.is_file():
        raise BundleError(f"{pyproject}: missing; a bundle is built from the project's source tree")
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project.get("optional-dependencies", {}).get(EXTRA, [])]
    files = {"pyproject.toml": pyproject.read_bytes()}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*")):
            hidden = any(
                part.startswith(".") or part == "__pycache__" for part in path.relative_to(root).parts
            )
            # Compiled modules are for this machine's Python; the Python files beside them do the same.
            if path.is_file() and not hidden and path.suffix not in (".so", ".pyc"):
                files[path.relative_to(root).as_posix()] = path.read_bytes()
    return Project(project["version"], files, list(map(Requirement, wanted)), _add_plan(plan, root, files))


def _add_plan(plan: Path | None, root: Path, files: dict[str, bytes]) -> str | None:
    if plan is None:
        return None
    try:
        content = plan.read_bytes()
    except OSError as error:
        raise BundleError(f"--plan {plan}: {error.strerror}") from None
    if plan.resolve().is_relative_to(root):
        own = plan.resolve().relative_to(root).as_posix()
        if own in files:
            return own
    target = f"{PLANS}/{plan.name}"
    if files.get(target, content) != content:
        raise BundleError(
            f"--plan {plan}: the project has another plan of the name {plan.name}; rename yours"
        )
    files[target] = content
    return target

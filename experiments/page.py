"""Runs the commands of the pages with answers and writes their figures beneath them: ``python -m experiments.page``.

A command is a fenced block ``sh`` that begins with ``python -m simulator.compare``. The table that follows it is
replaced; all else on the page is written by hand.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from simulator.comparison import figure_text

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = (
    ROOT / "docs" / "questions.md",
    ROOT / "docs" / "answers" / "spike-against-cold-start.md",
)
_COMMAND: Final = re.compile(
    r"```sh\n(python -m simulator\.compare .*?)\n```\n\n((?:\|[^\n]*\n)*)", re.DOTALL
)
_PREFIX: Final = ["python", "-m", "simulator.compare"]


def commands(page: str) -> list[list[str]]:
    """The arguments of ``simulator.compare`` on a page, command by command."""
    return [_arguments(found.group(1)) for found in _COMMAND.finditer(page)]


def _arguments(command: str) -> list[str]:
    return shlex.split(command.replace("\\\n", " "))[len(_PREFIX) :]


def table(data: dict[str, Any]) -> str:
    """The figures of a comparison as a Markdown table; beneath each its difference from the first row."""
    header = [f"mean of {data['replications']}", *data["figures"].values()]
    lines = [f"| {' | '.join(header)} |", f"| {' | '.join(['---', *['---:'] * len(data['figures'])])} |"]
    for name, row in data["scenarios"].items():
        lines.append(f"| {' | '.join([name, *(_cell(row[key]) for key in data['figures'])])} |")
    return "\n".join(lines) + "\n"


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return "–"
    text = figure_text(found["mean"], found["half_width"])
    difference = found["difference"]
    if difference is None or difference["mean"] == 0 == difference["half_width"]:
        return text
    mark = " \\*" if difference["significant"] else ""
    return f"{text}<br>{figure_text(difference['mean'], difference['half_width'], signed=True)}{mark}"


def main(
    only: Annotated[
        list[str] | None, typer.Argument(help="Questions whose scenario has such a name; all unless given.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes.")] = None,
) -> None:
    """Run the pages' commands, one after the other, and put their figures in."""
    for path in PAGES:
        for command in [found.group(1) for found in _COMMAND.finditer(path.read_text(encoding="utf-8"))]:
            arguments = _arguments(command)
            if not only or Path(arguments[0]).stem in only:
                print(" ".join(arguments[:3]), file=sys.stderr)
                _fill(path, command, [*arguments, "--json", *(["--jobs", str(jobs)] if jobs else [])])


def _fill(path: Path, command: str, arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *_PREFIX[1:], *arguments], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    block = f"```sh\n{command}\n```\n\n"
    # Read only now: a run takes a while, and the page may have been edited meanwhile.
    page = path.read_text(encoding="utf-8")
    figures = block + table(json.loads(done.stdout))
    new = re.sub(re.escape(block) + r"(?:\|.*\n)*\n*", figures.replace("\\", "\\\\") + "\n", page)
    path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)

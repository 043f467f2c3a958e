"""List step-time profiles: those that ship with the simulator, and files given as arguments.

python -m calibration.profiles [FILE ...] [--json]
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from simulator.step_time import ProfileError, StepTimeProfile, load_profile, shipped_profiles

_SOURCES = {"fitted profile": "captured", "composed from kernels": "composed", "roofline": "roofline"}
_COLUMNS = {
    "gpu": "GPU",
    "model": "model",
    "tp": "TP",
    "weights": "weights",
    "kv_cache": "KV",
    "engine": "engine",
    "source": "source",
    "error": "error %",
    "date": "date",
    "where": "profile",
}


def describe(profile: StepTimeProfile, where: str) -> dict[str, Any]:
    """One profile in a row.

    ``error``: mean of the absolute error by regime, in percent, on rows held out of the fit.
    """
    identity = profile.identity
    return {
        "gpu": identity.gpu,
        "model": identity.model,
        "tp": identity.tp,
        "weights": identity.quantisation or identity.dtype,
        "kv_cache": identity.kv_cache_dtype,
        "engine": f"{identity.engine} {identity.engine_version}",
        "source": _SOURCES[profile.source],
        "error": {fit.regime: fit.mean_abs_pct for fit in profile.fit_error},
        "date": str(profile.provenance.get("date", "not stated")),
        "where": where,
    }


def _text(key: str, value: Any) -> str:
    if key == "error":
        return (
            " ".join(f"{regime.removeprefix('pure_')} {error:.1f}" for regime, error in value.items()) or "?"
        )
    short = {"bfloat16": "bf16", "float16": "fp16"}
    return short.get(str(value), str(value))


def main(
    files: Annotated[
        list[Path] | None, typer.Argument(help="profile files to list with the shipped ones")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
) -> None:
    """List step-time profiles."""
    try:
        rows = [describe(profile, name) for name, profile in shipped_profiles().items()]
        rows += [describe(load_profile(path), str(path)) for path in files or ()]
    except ProfileError as error:
        typer.echo(f"profiles: {error}", err=True)
        raise typer.Exit(2) from None
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    table = Table()
    for key, title in _COLUMNS.items():
        table.add_column(title, justify="right" if key == "tp" else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_text(key, row[key]) for key in _COLUMNS))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)

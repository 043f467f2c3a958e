"""The builder's command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calibration.bundle.build import build
from calibration.bundle.errors import BundleError
from calibration.bundle.host import host_from_options, read_host


def main(
    out: Annotated[Path, typer.Option(help="archive to write (NAME.tar), or a folder")],
    vllm_wheel: Annotated[
        str, typer.Option(help="wheel file of vLLM, or a release to fetch, such as 0.26.0")
    ],
    host: Annotated[Path | None, typer.Option(help="host.json: what `probe` printed on the host")] = None,
    python: Annotated[str | None, typer.Option(help="the host's Python, such as 3.12")] = None,
    torch: Annotated[str | None, typer.Option(help="the host's torch, such as 2.11")] = None,
    arch: Annotated[str | None, typer.Option(help="the host's GPU architecture, such as sm_90")] = None,
    plan: Annotated[Path | None, typer.Option(help="capture plan that the start script runs")] = None,
    wheelhouse: Annotated[
        Path | None, typer.Option(help="folder of wheels to use in place of the network")
    ] = None,
    leave_out: Annotated[list[str] | None, typer.Option(help="package not to bring (repeatable)")] = None,
    max_mb: Annotated[
        float | None, typer.Option(help="refuse a larger bundle, naming its largest members")
    ] = None,
) -> None:
    """Pack what a GPU host without network needs for a capture: the project, wheels and a pruned vLLM."""
    try:
        if host is not None:
            target = read_host(host, python, torch, arch)
        elif python is None or torch is None or arch is None:
            raise BundleError("say --host, or all of --python, --torch and --arch")
        else:
            target = host_from_options(python, torch, arch)
        if wheelhouse is not None and not wheelhouse.is_dir():
            raise BundleError(f"--wheelhouse {wheelhouse}: no such folder")
        built = build(
            out,
            target,
            vllm_wheel,
            plan,
            wheelhouse,
            leave_out or (),
            max_mb,
            lambda line: typer.echo(line, err=True),
        )
    except (BundleError, OSError) as error:
        typer.echo(f"bundle: {error}", err=True)
        raise typer.Exit(2) from None
    for member in sorted(built.members, key=lambda m: (-len(m.content), m.path)):
        typer.echo(f"{len(member.content) / 1e6:9.2f} MB  {member.path}")
    typer.echo(f"{built.total_mb:9.2f} MB  {out}: vllm {built.vllm}, {len(built.wheels)} wheels")


def app() -> None:
    """Run the command."""
    typer.run(main)

"""Capture every step of a real vLLM engine, as a plan says.

    python -m calibration.capture --plan cpu-tiny --out captures/cpu

drives vLLM in this process on whatever device it finds. Every stage is on disk when it ends; Ctrl-C keeps what
was captured, ``--resume`` goes on. With ``--api-url`` the loads of the plan (not the sweeps) are sent to a running
server.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, TextIO

import typer
from rich.console import Console

from calibration.capture_folder import CaptureFolder
from calibration.capture_format import MANIFEST, CaptureError, CaptureManifest
from calibration.capture_progress import CaptureProgress
from calibration.capture_run import CaptureRun, StartEngine
from calibration.clock import CaptureClock
from calibration.device_sampler import DeviceSampler
from calibration.plan import LoadedPlan, PlannedEngine, load_plan
from simulator.scenario.errors import ScenarioError

EXIT_BAD_INPUT: Final = 2
EXIT_NOT_ALL: Final = 3
EXIT_INTERRUPTED: Final = 130
LOG: Final = "engine.log"


def main(
    plan: Annotated[Path, typer.Option(help="A plan's file, or the name of a shipped one.")],
    out: Annotated[Path, typer.Option(help="Folder of the capture.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the stages that are not ok.")] = False,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="End by then, whatever is left to do.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="GPU id, where the device's name does not tell.")] = None,
    caches: Annotated[
        Path | None, typer.Option(help="Compilation caches; a folder in the temporary one unless given.")
    ] = None,
    api_url: Annotated[
        str | None, typer.Option(help="Send the plan's loads to this server, e.g. http://host:8000.")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(help="With --api-url: folder that the server's tracing scheduler writes.")
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress; errors still go to standard error.")
    ] = False,
) -> None:
    """Drive a real vLLM through a plan and record every step."""
    try:
        loaded = load_plan(plan)
        if trace is not None and api_url is None:
            raise CaptureError("--trace goes with --api-url: an engine in this process is traced anyway")
        deadline = float("inf") if minutes is None else time.monotonic() + 60 * minutes
        with tempfile.TemporaryDirectory(prefix="capture-") as scratch:
            code = _capture(loaded, out, Path(scratch), resume, deadline, gpu, caches, api_url, trace, quiet)
    except (ScenarioError, CaptureError) as error:
        typer.echo(f"error: {error}", err=True)
        code = EXIT_BAD_INPUT
    raise typer.Exit(code)


def _capture(
    plan: LoadedPlan,
    out: Path,
    scratch: Path,
    resume: bool,
    deadline: float,
    gpu: str | None,
    caches: Path | None,
    api_url: str | None,
    trace: Path | None,
    quiet: bool,
) -> int:
    start: StartEngine
    if api_url is not None:
        from calibration.api_engine import ApiEngine, api_manifest  # noqa: PLC0415

        manifest = api_manifest(plan, api_url, gpu)

        def start(engine: PlannedEngine) -> ApiEngine:
            return ApiEngine(plan, engine, api_url, trace)
    else:
        from calibration.vllm_engine import VllmEngine, local_manifest  # noqa: PLC0415

        manifest = local_manifest(plan, gpu)
        cache_folder = caches or Path(tempfile.gettempdir()) / f"capture-caches-{os.getuid()}"

        def start(engine: PlannedEngine) -> VllmEngine:
            return VllmEngine(plan, engine, scratch, cache_folder, (out / LOG).resolve())

    folder = CaptureFolder(out, manifest, resume=resume)
    clock = CaptureClock(folder.end_us + 1_000_000 if resume else 0)
    sampler = DeviceSampler(clock)
    if sampler.note:
        folder.note(sampler.note)
    with _quiet_libraries(out / LOG) as terminal:
        progress = CaptureProgress(Console(file=terminal), quiet=quiet)
        run = CaptureRun(
            plan, folder, start, progress, clock, sampler, deadline=deadline, loads_only=api_url is not None
        )
        with progress:
            interrupted = _drive(run)
        sampler.stop()
        folder.finish()
        if not quiet:
            _tell(folder.manifest, out, run, interrupted, terminal)
    if interrupted:
        return EXIT_INTERRUPTED
    return EXIT_NOT_ALL if run.not_ok else 0


def _drive(run: CaptureRun) -> bool:
    """Run to the end or until Ctrl-C or SIGTERM; whether it was interrupted."""

    async def whole() -> bool:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, run.interrupt)
        try:
            await run.run()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
        return run.interrupted

    return asyncio.run(whole())


def _tell(manifest: CaptureManifest, out: Path, run: CaptureRun, interrupted: bool, terminal: TextIO) -> None:
    ok = sum(stage.status == "ok" for stage in manifest.stages)
    size = sum(path.stat().st_size for path in (*out.glob("*.parquet"), out / MANIFEST))
    print(f"{out}: {ok} of {len(manifest.stages)} stages ok, {size / 1e6:.2f} MB", file=terminal)
    if interrupted or run.not_ok:
        print("go on with --resume; not ok: " + (", ".join(run.not_ok) or "interrupted"), file=terminal)


@contextmanager
def _quiet_libraries(log: Path) -> Iterator[TextIO]:
    """What libraries and the engine's processes print goes to a file; yields the terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with log.open("ab") as file, os.fdopen(os.dup(2), "w", encoding="utf-8") as terminal:
        try:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            yield terminal
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, original in enumerate(saved, start=1):
                os.dup2(original, number)
                os.close(original)


if __name__ == "__main__":
    typer.run(main)

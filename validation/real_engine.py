"""Show that our engine takes the steps of a real vLLM engine.

    python -m validation.real_engine [CAPTURE...]

replays every scheduling decision of captures (`calibration.capture`) in our engine. Without captures it makes one,
by the plan ``cpu-decisions``: a tiny random-weight model whose KV blocks are scarce, with shared prefixes and
priorities; ``--record`` keeps it in ``validation/real_traces``. Where vLLM is not installed, it replays that one
instead.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from calibration.capture_format import CaptureError, read_capture
from validation.real_trace import TRACES, differing_steps, traces_of
from validation.vllm_install import vllm_version

PLAN: Final = "cpu-decisions"


def record(folder: Path) -> None:
    """Run a real vLLM on this machine and capture its steps.

    Raises:
        CaptureError: the capture failed.
    """
    command = [sys.executable, "-m", "calibration.capture", "--plan", PLAN, "--out", str(folder)]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, check=False)
    if done.returncode:
        raise CaptureError(f"{' '.join(command[1:])} ended with {done.returncode}")
    (folder / "engine.log").unlink()


def compare(folder: Path) -> int:
    """Replay a capture and print what it came to; the number of differing steps.

    Raises:
        CaptureError: no capture, or of an engine with settings that ours refuses.
    """
    differing = 0
    for trace in traces_of(read_capture(folder)):
        steps = differing_steps(trace)
        differing += len(steps)
        print(
            f"{trace.source}: {len(trace.arrivals)} requests, {len(trace.steps)} steps,"
            f" {trace.num_preemptions} preemptions, {trace.num_prefix_hits} prefix hits,"
            f" {len(steps)} differing steps" + (f", the first {steps[0]}" if steps else "")
        )
    return differing


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 if no step differs, 1 if any does, 2 for a capture that cannot be replayed."""
    parser = argparse.ArgumentParser(
        prog="python -m validation.real_engine", description=__doc__.split("\n")[0]
    )
    parser.add_argument("captures", nargs="*", type=Path, help="folders of captures")
    parser.add_argument("--record", action="store_true", help=f"keep the new capture in {TRACES.name}")
    args = parser.parse_args(arguments)
    try:
        if args.captures:
            return int(sum(compare(folder) for folder in args.captures) > 0)
        if vllm_version() is None:
            print(f"vLLM is not installed: replaying the capture in {TRACES.name}, made with it")
            return int(compare(TRACES) > 0)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch, PLAN)
            record(folder)
            differing = compare(folder)
            if args.record:
                shutil.rmtree(TRACES, ignore_errors=True)
                shutil.copytree(folder, TRACES)
        return int(differing > 0)
    except CaptureError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

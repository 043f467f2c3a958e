"""Phases of an engine's start, read off the lines that vLLM logs (0.26 to 0.32)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from calibration.capture_format import StartupPhase

Line = tuple[float, str]
"""Wall-clock time in seconds, text."""

_LOAD_START: Final = re.compile(r"Starting to load model|Loading model from scratch")
_LOAD_END: Final = re.compile(r"Model loading took|Initializing model took")
_COMPILE_START: Final = re.compile(
    r"Using cache directory|Dynamo bytecode transform time|Directly load|Compiling a graph for"
)
_COMPILE_END: Final = re.compile(
    r"torch\.compile took|torch\.compile and initial|Initial profiling/warmup run took|"
    r"Compiling a graph for|Directly load|Cache the graph of"
)
_KV_START: Final = re.compile(r"Available KV cache memory|KV cache size:|GPU KV cache size|CPU KV cache size")
_CAPTURE_START: Final = re.compile(r"Capturing CUDA graphs")
_CAPTURE_END: Final = re.compile(r"Graph capturing finished")


def logging_config(log: Path) -> str:
    """A ``VLLM_LOGGING_CONFIG_PATH`` file that has every vLLM process write to one log, lines with their times."""
    return json.dumps(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"timed": {"format": "%(created).6f %(levelname)s %(name)s %(message)s"}},
            "handlers": {
                "file": {
                    "class": "logging.FileHandler",
                    "filename": str(log),
                    "formatter": "timed",
                    "level": "INFO",
                }
            },
            "loggers": {"vllm": {"handlers": ["file"], "level": "INFO", "propagate": False}},
        }
    )


def read_log(log: Path, since: float = 0.0) -> list[Line]:
    """Lines that carry a time, from that time on."""
    lines = []
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    for line in text.splitlines():
        stamp, _, rest = line.partition(" ")
        try:
            at = float(stamp)
        except ValueError:
            continue  # a later line of a message
        if at >= since:
            lines.append((at, rest))
    return lines


def startup_phases(lines: Sequence[Line], started: float, ready: float) -> list[StartupPhase]:
    """Phases in their order; those without any line in the log (compilation of an eager engine) are absent.

    Args:
        lines: of the log.
        started: wall-clock time when the process was started.
        ready: when the engine could be given requests.
    """

    def span(start: re.Pattern[str], end: re.Pattern[str]) -> tuple[float, float] | None:
        starts = [at for at, text in lines if start.search(text)]
        ends = [at for at, text in lines if end.search(text)]
        return (starts[0], ends[-1]) if starts and ends and ends[-1] >= starts[0] else None

    weights = span(_LOAD_START, _LOAD_END)
    compiling = span(_COMPILE_START, _COMPILE_END)
    graphs = span(_CAPTURE_START, _CAPTURE_END)
    kv_start = next((at for at, text in lines if _KV_START.search(text)), None)
    kv = None
    if kv_start is not None:
        after = [at for at, _ in lines if at > kv_start]
        kv = (kv_start, graphs[0] if graphs else after[0] if after else ready)
    found: list[tuple[str, tuple[float, float] | None]] = [
        ("process", (started, weights[0]) if weights else None),
        ("weights", weights),
        ("compile", compiling),
        ("kv_cache", kv),
        ("graph_capture", graphs),
    ]
    end = max([started, *(times[1] for _, times in found if times)])
    phases = [(name, times) for name, times in found if times] + [("ready", (end, ready))]
    return [
        StartupPhase.model_validate(
            {"phase": name, "start_s": round(a - started, 3), "end_s": round(max(b, a) - started, 3)}
        )
        for name, (a, b) in phases
    ]


def errors(lines: Sequence[Line], most: int = 5) -> list[str]:
    """The last error messages, for whoever wonders why an engine did not start."""
    return [text[:300] for _, text in lines if text.startswith(("ERROR", "CRITICAL"))][-most:]

"""Make a capture of what the visit kit brought back: ``python -m calibration.visit_kit DIR... --out DIR``.

A kit's folder holds ``steps.jsonl.gz`` (delta-coded), ``requests.jsonl.gz``, ``meta.jsonl`` and ``nvml.csv``, with
one zero of time for each folder. It tells less than our own captures: not the order of running requests, not when the
scheduler saw a request, not what prompts share. So its step times can be fitted; its decisions cannot be replayed.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import pyarrow as pa
import typer

from calibration.capture_format import (
    DEVICE,
    REQUESTS,
    STEPS,
    CapturedEngine,
    CapturedStage,
    CaptureError,
    CaptureManifest,
    write_capture,
)
from calibration.host_facts import gpu_id
from calibration.visit_kit_engine import add_scheduler_settings, captured_engine, logged_version

EXIT_BAD_INPUT: Final = 2

_KINDS: Final = {"hetero": "heterogeneous"}
_REGIMES: Final = {
    "light": "light",
    "knee": "knee",
    "repeat": "knee",
    "overload": "overload",
    "prefix": "prefix",
    "long": "long",
    "grow": "starved",
    "starved": "starved",
}
_GAP_US: Final = 1_000_000


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Objects of a JSON-lines file; one that was cut short ends early, a line that is no JSON is an error."""
    try:
        with path.open("rb") as raw, gzip.open(raw) if path.suffix == ".gz" else raw as data:
            text = io.TextIOWrapper(data, encoding="utf-8")
            for number, line in enumerate(text, start=1):
                try:
                    value = json.loads(line)
                except ValueError:
                    raise CaptureError(f"{path}: line {number}: not JSON") from None
                if not isinstance(value, dict):
                    raise CaptureError(f"{path}: line {number}: not an object")
                yield value
    except FileNotFoundError:
        raise CaptureError(f"{path}: No such file: not a folder of the visit kit") from None
    except EOFError:
        return  # the kit appends; a host that went away leaves a cut last piece
    except OSError as error:
        raise CaptureError(f"{path}: {error}") from None


@dataclass
class _Tables:
    """A capture in the making."""

    engines: list[CapturedEngine] = field(default_factory=list)
    stages: list[CapturedStage] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    device: list[dict[str, Any]] = field(default_factory=list)
    manifests: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    end_us: int = 0


class _Visit:
    """One folder, added to the tables.

    Raises:
        CaptureError: files that are missing or not of the kit.
    """

    def __init__(self, folder: Path, tables: _Tables) -> None:
        self._folder = folder
        self._tables = tables
        self._zero_us = tables.end_us + _GAP_US if tables.stages else 0
        self._plans: dict[str, dict[str, dict[str, Any]]] = {}
        self._stage_places: dict[tuple[int, str], int] = {}
        self._places: dict[tuple[int, str], int] = {}
        meta = list(_lines(folder / "meta.jsonl"))
        for line in meta:
            if line.get("k") == "stage":
                self._plans.setdefault(line["run"], {})[line["name"]] = line
        known = self._engines(meta)
        self._read_requests(known)
        self._read_steps(known)
        self._read_device()

    def _us(self, value: float | None) -> int | None:
        return None if value is None else self._zero_us + round(value)

    def _engines(self, meta: list[dict[str, Any]]) -> dict[str, int]:
        """Position of each run's engine."""
        configurations: dict[str, dict[str, Any]] = {}
        ready: dict[str, dict[str, Any]] = {}
        started: dict[str, dict[str, Any]] = {}
        for line in meta:
            kind = line.get("k")
            if kind == "config":
                configurations[line["run"]] = line
            elif kind == "ready":
                ready[line["run"]] = line
            elif kind == "startup":
                started[line["run"]] = line
        known = {}
        for run, configuration in configurations.items():
            if run not in ready:
                self._tables.notes.append(f"{self._folder.name}: engine {run} did not start")
                continue
            known[run] = len(self._tables.engines)
            self._tables.engines.append(
                captured_engine(run, configuration, ready[run], started.get(run, {}), self._folder)
            )
            version = configuration.get("versions", {}).get("vllm") or logged_version(started.get(run, {}))
            if version is None:
                raise CaptureError(f"{self._folder / 'meta.jsonl'}: {run}: versions.vllm: is missing")
            self._tables.manifests.append({**configuration, "vllm": version})
        if not known:
            raise CaptureError(f"{self._folder / 'meta.jsonl'}: no engine that started")
        return known

    def _stage(self, engine: int, run: str, name: str) -> int:
        """Position of the stage that a request id's first part names."""
        key = engine, name
        if key not in self._stage_places:
            plans = self._plans.get(run, {})
            of = max(
                (known for known in plans if name == known or name.startswith(known + "_")),
                key=len,
                default="",
            )
            line = plans.get(of, {})
            plan = line.get("plan", {})
            kind = str(plan.get("kind", "warmup"))
            purpose = "calibration"
            if kind == "warmup":
                purpose = "warmup"
            elif kind == "load":
                purpose = "validation"
            elif name.endswith("_fill"):
                purpose = "fill"
            status = str(line.get("status", "interrupted"))
            words = str(plan.get("csv", "")).split("_")
            regime = next((_REGIMES[word] for word in words if word in _REGIMES), None)
            repeat = name.rpartition("_r")
            repeat_of = f"{repeat[0]}_r1" if repeat[2].isdigit() and repeat[2] != "1" else None
            self._stage_places[key] = len(self._tables.stages)
            self._tables.stages.append(
                CapturedStage.model_validate(
                    {
                        "engine": engine,
                        "name": name,
                        "kind": _KINDS.get(kind, kind),
                        "purpose": purpose,
                        "regime": regime,
                        "repeat_of": repeat_of,
                        "status": status if status in ("ok", "timeout", "interrupted") else "error",
                        "start_us": self._us(line.get("start", 0.0) * 1e6),
                        "end_us": self._us(line.get("end", line.get("start", 0.0)) * 1e6),
                        "plan": plan,
                    }
                )
            )
            self._tables.end_us = max(self._tables.end_us, self._tables.stages[-1].end_us)
        return self._stage_places[key]

    def _read_requests(self, known: dict[str, int]) -> None:
        for line in _lines(self._folder / "requests.jsonl.gz"):
            if line["run"] not in known:
                continue
            engine = known[line["run"]]
            stage = self._stage(engine, line["run"], line["stage"])
            kind = self._tables.stages[stage].kind
            got = line.get("got", 0)
            times = line.get("eng", {})
            ended = got == line["want"]
            self._places[engine, line["id"]] = len(self._tables.requests)
            self._tables.requests.append(
                self._request(
                    engine,
                    stage,
                    line["inp"],
                    max_tokens=line["want"],
                    due_us=self._us(line.get("arr")),
                    submitted_us=self._us(line["sub"]),
                    queued_us=self._us(times.get("queued_ts")),
                    scheduled_us=self._us(times.get("scheduled_ts")),
                    engine_first_token_us=self._us(times.get("first_token_ts")),
                    engine_last_token_us=self._us(times.get("last_token_ts")),
                    first_token_us=self._us(line.get("first")) if kind == "load" else None,
                    last_token_us=self._us(line.get("last")),
                    token_gaps_us=line.get("d", []),
                    output_tokens=got,
                    cached_tokens=line.get("cached"),
                    status="finished" if ended else "aborted" if kind == "mixed" else "cut",
                )
            )

    @staticmethod
    def _request(engine: int, stage: int, prompt_tokens: int, **values: Any) -> dict[str, Any]:
        row: dict[str, Any] = dict.fromkeys(REQUESTS.names)
        return row | {
            "engine": engine,
            "stage": stage,
            "prompt_tokens": prompt_tokens,
            "priority": 0,
            "segment_ids": [],
            "segment_ends": [],
            "token_gaps_us": [],
            **values,
        }

    def _read_steps(self, known: dict[str, int]) -> None:
        """Each request of a step is there again with one token more, but for those that the line names."""
        run, engine, number = "", -1, 0
        names: dict[int, str] = {}
        prompts: dict[int, int] = {}
        batch: dict[int, tuple[int, int]] = {}
        entered: set[int] = set()
        for line in _lines(self._folder / "steps.jsonl.gz"):
            kind = line.get("k")
            if kind == "run":
                run, engine, number = line["run"], known.get(line["run"], -1), 0
                names, prompts, batch, entered = {}, {}, {}, set()
                if engine >= 0:
                    add_scheduler_settings(self._tables.engines[engine], line["config"])
            elif kind == "req":
                names[line["i"]], prompts[line["i"]] = line["id"], line.get("p") or 0
            elif kind == "s" and engine >= 0:
                gone = set(line.get("del", ()))
                batch = {i: (1, n + context) for i, (n, context) in batch.items() if i not in gone}
                batch.update({i: (n, context) for i, n, context in line.get("add", ())})
                stage_name = Counter(names[i].partition("#")[0] for i in batch).most_common(1)[0][0]
                stage = self._stage(engine, run, stage_name)
                place = {
                    i: self._place(engine, stage, names[i], prompts[i])
                    for i in (*batch, *line.get("fin", ()))
                }
                resumed = set(line.get("res", ()))
                schedule, launch, output, update = (self._us(value) for value in line["t"])
                self._tables.steps.append(
                    {
                        "engine": engine,
                        "stage": stage,
                        "step": number,
                        "depth": line["d"],
                        "schedule_us": schedule,
                        "launch_us": launch,
                        "output_us": output,
                        "update_us": update,
                        "requests": [place[i] for i in batch],
                        "tokens": [n for n, _ in batch.values()],
                        "context": [context for _, context in batch.values()],
                        "admitted": [place[i] for i in batch if i in resumed or i not in entered],
                        "preempted": [
                            self._place(engine, stage, names[i], prompts[i]) for i in line.get("pre", ())
                        ],
                        "finished": sorted(place[i] for i in line.get("fin", ())),
                        "running": [],
                        "waiting": line["wait"],
                        "free_blocks": line["free"],
                    }
                )
                entered.update(batch)
                number += 1

    def _place(self, engine: int, stage: int, name: str, prompt_tokens: int) -> int:
        """Position of a request; the kit keeps no line of those that only flush its trace."""
        key = engine, name
        if key not in self._places:
            self._places[key] = len(self._tables.requests)
            row = self._request(
                engine, stage, prompt_tokens, max_tokens=1, output_tokens=1, status="finished"
            )
            self._tables.requests.append(row)
        return self._places[key]

    def _read_device(self) -> None:
        path = self._folder / "nvml.csv"
        if not path.exists():
            return
        columns = {
            "sm_clock_mhz": ("sm_mhz", 1.0),
            "memory_clock_mhz": ("mem_mhz", 1.0),
            "power_w": ("power_w", 1.0),
            "temperature_c": ("temp_c", 1.0),
            "utilisation_pct": ("gpu_pct", 1.0),
            "memory_used_bytes": ("mem_used_mib", float(2**20)),
            "throttle_reasons": ("reasons", 1.0),
        }
        with path.open(encoding="utf-8", newline="") as text:
            for row in csv.DictReader(text):
                if None in row.values():
                    continue  # the last line of a host that went away
                try:
                    sample: dict[str, Any] = {"t_us": self._us(float(row["t_us"]))}
                    for name, (column, factor) in columns.items():
                        value = float(row[column]) * factor if row.get(column) else None
                        sample[name] = value if value is None or name == "power_w" else int(value)
                except (KeyError, ValueError) as error:
                    raise CaptureError(f"{path}: {type(error).__name__}: {error}") from None
                self._tables.device.append(sample)


def convert(folders: list[Path], out: Path, *, gpu: str | None = None) -> CaptureManifest:
    """Write one capture of what several visits of one device brought back.

    Raises:
        CaptureError: a folder that is not the kit's, visits to different devices or vLLM versions, a device that
            the catalog lacks, or a folder ``out`` that is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise CaptureError(f"{out}: not empty")
    tables = _Tables()
    for folder in folders:
        _Visit(folder, tables)
    devices = {str(line.get("device") or "") for line in tables.manifests}
    told = [line.get("versions", {}) for line in tables.manifests]
    versions_seen = {line["vllm"] for line in tables.manifests}
    if len(devices) > 1 or len(versions_seen) > 1:
        raise CaptureError(
            f"mixed captures: devices {', '.join(sorted(devices))}; vLLM {', '.join(sorted(versions_seen))}"
        )
    device = devices.pop()
    found = gpu or ("CPU" if "cpu" in device.casefold() or not device else gpu_id(device))
    if found is None:
        raise CaptureError(f"no GPU of the catalog is called {device!r}: say which with --gpu ID")
    named = {"vllm": versions_seen.pop()} | {
        name: str(value) for name, value in told[0].items() if value and name not in ("kernel", "cpus")
    }
    manifest = CaptureManifest(
        plan="visit",
        model=tables.engines[0].model,
        created=_created(folders[0]),
        gpu=found,
        device_name=device or "CPU",
        versions=named,
        host={"cores": told[0].get("cpus")},
        engines=tables.engines,
        stages=tables.stages,
        notes=[
            "made from visit kit folders: no running order, arrival steps or contents; decisions cannot be replayed",
            *tables.notes,
        ],
    )
    write_capture(
        out,
        manifest,
        pa.Table.from_pylist(tables.steps, schema=STEPS),
        pa.Table.from_pylist(tables.requests, schema=REQUESTS),
        pa.Table.from_pylist(tables.device, schema=DEVICE),
    )
    return manifest


def _created(folder: Path) -> str:
    at = datetime.fromtimestamp((folder / "meta.jsonl").stat().st_mtime, UTC)
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def main(
    folders: Annotated[list[Path], typer.Argument(help="Folders that the kit wrote, in order.")],
    out: Annotated[Path, typer.Option(help="Folder of the capture to write.")],
    gpu: Annotated[str | None, typer.Option(help="GPU id, where the device's name does not tell.")] = None,
) -> None:
    """Make a capture of what the visit kit brought back."""
    try:
        manifest = convert(folders, out, gpu=gpu)
    except CaptureError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_BAD_INPUT) from None
    typer.echo(f"{out}: {len(manifest.engines)} engines, {len(manifest.stages)} stages")


if __name__ == "__main__":
    typer.run(main)

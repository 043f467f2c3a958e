"""A capture in the making: every stage is on disk when it ends, and a later run can go on.

While a capture runs, its folder holds ``parts/``: a manifest and, for each stage, its tables. At the end (also
when interrupted) the parts become the capture (`calibration.capture_format`) and go away.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from calibration.capture_format import (
    MANIFEST,
    TABLES,
    CapturedEngine,
    CapturedStage,
    CaptureError,
    CaptureManifest,
    read_capture,
    write_capture,
)
from simulator.files import write_text

PARTS: Final = "parts"

_TIMES: Final = {
    "requests": ("submitted_us", "last_token_us"),
    "steps": ("update_us",),
    "device": ("t_us",),
}


class CaptureFolder:
    """What has been captured, in memory and on disk.

    Args:
        folder: of the capture; must be empty or absent unless resumed.
        manifest: what is run on what; the engines and stages are added.
        resume: go on with what the folder holds.

    Raises:
        CaptureError: the folder holds something already and is not to be resumed, holds no capture, or one of
            another plan, model, vLLM or device.
    """

    def __init__(self, folder: Path, manifest: CaptureManifest, *, resume: bool) -> None:
        self._folder = folder
        self._parts = folder / PARTS
        self._tables: dict[str, list[pa.Table]] = {
            name: [schema.empty_table()] for name, schema in TABLES.items()
        }
        self.manifest = manifest
        self._part = 0
        if (folder / MANIFEST).exists() or self._parts.exists():
            if not resume:
                raise CaptureError(f"{folder}: holds a capture already; --resume goes on with it")
            self._load(manifest)
        elif resume:
            raise CaptureError(f"{folder}: no capture to resume")
        elif folder.exists() and any(folder.iterdir()):
            raise CaptureError(f"{folder}: not empty, and what it holds is no capture")
        self._parts.mkdir(parents=True, exist_ok=True)
        self._write_manifest()

    def _load(self, asked: CaptureManifest) -> None:
        found: CaptureManifest | None = None
        if (self._folder / MANIFEST).exists():
            capture = read_capture(self._folder)
            found = capture.manifest
            for name in TABLES:
                self._tables[name].append(getattr(capture, name))
        if (self._parts / MANIFEST).exists():
            path = self._parts / MANIFEST
            try:
                in_parts = CaptureManifest.model_validate_json(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise CaptureError(f"{path}: not a manifest: {error}") from None
            # Parts written before the capture they went into are no longer needed.
            if found is None or len(in_parts.stages) > len(found.stages):
                skip = 0 if found is None else len(found.stages)
                for stage in range(skip, len(in_parts.stages)):
                    self._load_part(stage)
                found = in_parts
        if found is None:
            raise CaptureError(f"{self._folder}: {PARTS} has no manifest: nothing to resume")
        _check_same(self._folder, found, asked)
        self.manifest = found.model_copy(deep=True)
        self._part = len(found.stages)

    def _load_part(self, stage: int) -> None:
        for name, schema in TABLES.items():
            path = self._parts / f"{stage:05d}.{name}.parquet"
            try:
                self._tables[name].append(pq.read_table(path, schema=schema))
            except (OSError, pa.ArrowException) as error:
                raise CaptureError(f"{path}: cannot be read: {error}") from None

    def _write_manifest(self) -> None:
        write_text(self._parts / MANIFEST, self.manifest.model_dump_json() + "\n")

    @property
    def num_requests(self) -> int:
        """Requests so far: the number of the next one."""
        return sum(table.num_rows for table in self._tables["requests"])

    @property
    def end_us(self) -> int:
        """The latest time in it."""
        ends = [stage.end_us for stage in self.manifest.stages]
        for name, columns in _TIMES.items():
            for table in self._tables[name]:
                for column in columns:
                    ends += [t for t in table[column].to_pylist() if t is not None]
        return max(ends, default=0)

    def done(self, engine: str) -> set[str]:
        """Names of an engine's stages that are ok."""
        manifest = self.manifest
        return {
            stage.name
            for stage in manifest.stages
            if stage.status == "ok" and manifest.engines[stage.engine].name == engine
        }

    def add_engine(self, engine: CapturedEngine) -> int:
        """Its position."""
        self.manifest.engines.append(engine)
        self._write_manifest()
        return len(self.manifest.engines) - 1

    def note(self, text: str) -> None:
        if text not in self.manifest.notes:
            self.manifest.notes.append(text)
            self._write_manifest()

    def add_stage(self, stage: CapturedStage, tables: dict[str, pa.Table]) -> None:
        """Keep a stage: on disk when this returns."""
        for name, schema in TABLES.items():
            table = tables.get(name, schema.empty_table()).cast(schema)
            pq.write_table(table, self._parts / f"{self._part:05d}.{name}.parquet", compression="zstd")
            self._tables[name].append(table)
        self._part += 1
        self.manifest.stages.append(stage)
        self._write_manifest()

    def finish(self) -> None:
        """Make the parts a capture."""
        tables: dict[str, Any] = {name: pa.concat_tables(parts) for name, parts in self._tables.items()}
        write_capture(self._folder, self.manifest, **tables)
        shutil.rmtree(self._parts)


def _check_same(folder: Path, found: CaptureManifest, asked: CaptureManifest) -> None:
    """Raise unless the capture at hand is of the same plan, versions and device."""
    for key, there, here in (
        ("plan", found.plan, asked.plan),
        ("vllm", found.versions.get("vllm"), asked.versions.get("vllm")),
        ("torch", found.versions.get("torch"), asked.versions.get("torch")),
        ("device_name", found.device_name, asked.device_name),
        ("model", found.model, asked.model),
        ("plan_sha256", found.plan_sha256, asked.plan_sha256),
    ):
        if there != here:
            raise CaptureError(
                f"{folder / MANIFEST}: {key}: the capture has {there!r}, this run {here!r}: "
                "capture into another folder"
            )

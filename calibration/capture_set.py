"""The captures that one fit reads: whether they belong together, and which of their steps are for what.

A profile is of one GPU, one model and one release; captures that differ in these are refused, not averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from calibration.capture_format import Capture, CapturedEngine, CaptureError, read_capture
from calibration.captured_steps import CapturedStep, steps_of

_FITTED = ("calibration", "fill")


@dataclass(frozen=True)
class CaptureSet:
    """Captures of the same thing, and their steps by use.

    Attributes:
        captures: at least one.
        engine: a synchronous engine of the fit; all of them agree in what a profile states.
        fitted: steps of synchronous engines' calibration stages, and the prefills of fills.
        asynchronous: steps of asynchronous engines' calibration stages.
        unfitted_sweeps: steps of synchronous engines' sweeps that the plan keeps for validation.
        loads: steps of synchronous engines' validation loads.
        notes: stages that did not run to their end.
    """

    captures: tuple[Capture, ...]
    engine: CapturedEngine
    fitted: tuple[CapturedStep, ...]
    asynchronous: tuple[CapturedStep, ...]
    unfitted_sweeps: tuple[CapturedStep, ...]
    loads: tuple[CapturedStep, ...]
    notes: tuple[str, ...]


def read_capture_set(folders: Sequence[Path], model: str | None = None) -> CaptureSet:
    """Read captures and check that one profile can be of all of them.

    Args:
        folders: of the captures.
        model: name of the model to fit; needed where the captures hold several.

    Raises:
        CaptureError: a capture that cannot be read, captures of different things, or nothing to fit.
    """
    captures = tuple(read_capture(folder) for folder in folders)
    if not captures:
        raise CaptureError("no capture given")
    seen: dict[str, Path] = {}
    for capture in captures:
        content = capture.manifest.sha256["steps.parquet"]
        if content in seen:
            raise CaptureError(
                f"{capture.folder}: the same capture as {seen[content]}; its steps would count twice"
            )
        seen[content] = capture.folder
    _agree(captures, "gpu", lambda capture: capture.manifest.gpu)
    _agree(captures, "device_name", lambda capture: capture.manifest.device_name)
    for name in sorted({name for capture in captures for name in capture.manifest.versions}):
        _agree(captures, f"versions.{name}", lambda capture, name=name: capture.manifest.versions.get(name))  # type: ignore[misc]
    model = _model(captures, model)
    return _sorted_by_use(captures, model)


def _agree(captures: Sequence[Capture], key: str, value: Callable[[Capture], object]) -> None:
    first = captures[0]
    for other in captures[1:]:
        if value(other) != value(first):
            raise CaptureError(
                f"{other.folder}: {key} is {value(other)!r}, but {value(first)!r} in {first.folder}: "
                "a profile is of one of them; fit them apart"
            )


def _model(captures: Sequence[Capture], asked: str | None) -> str:
    models = sorted({engine.model for capture in captures for engine in capture.manifest.engines})
    if not models:
        raise CaptureError(f"{captures[0].folder}: no engine was captured")
    if asked is None and len(models) > 1:
        raise CaptureError(
            f"{', '.join(str(capture.folder) for capture in captures)}: several models: {', '.join(models)}; "
            "a profile is of one: choose it with --model"
        )
    if asked is not None and asked not in models:
        raise CaptureError(f"model {asked!r} is not in the captures; there are: {', '.join(models)}")
    return asked or models[0]


def _sorted_by_use(captures: tuple[Capture, ...], model: str) -> CaptureSet:
    notes: list[str] = []
    engines: list[tuple[Path, CapturedEngine]] = []
    async_sweeps = 0
    for capture in captures:
        for stage in capture.manifest.stages:
            engine = capture.manifest.engines[stage.engine]
            if engine.model != model:
                continue
            if stage.status != "ok" and stage.purpose != "warmup":
                notes.append(f"{capture.folder.name}, {engine.name}, stage {stage.name}: {stage.status}")
            if stage.purpose == "calibration" and stage.status != "skipped":
                async_sweeps += engine.async_scheduling
                if not engine.async_scheduling:
                    engines.append((capture.folder, engine))
    if not engines:
        where = ", ".join(str(capture.folder) for capture in captures)
        if async_sweeps:
            raise CaptureError(
                f"{where}: calibration stages of asynchronous engines only. There the host's work hides behind the "
                "GPU's, so neither can be told; fit from a synchronous run (async_scheduling: false). "
                "Asynchronous stages beside one check the fit and give the overlap"
            )
        raise CaptureError(f"{where}: no calibration stage of {model}: validation loads are never fitted")
    for key in (
        "shape",
        "dtype",
        "kv_cache_dtype",
        "quantisation",
        "tp",
        "pp",
        "attention_backend",
        "enforce_eager",
        "cudagraph_sizes",
    ):
        for folder, engine in engines[1:]:
            if getattr(engine, key) != getattr(engines[0][1], key):
                raise CaptureError(
                    f"{folder}: {key} of engine {engine.name} is {getattr(engine, key)!r}, but "
                    f"{getattr(engines[0][1], key)!r} in {engines[0][0]}, engine {engines[0][1].name}: "
                    "a profile is of one of them; fit them apart"
                )
    fitted: list[CapturedStep] = []
    asynchronous: list[CapturedStep] = []
    unfitted_sweeps: list[CapturedStep] = []
    loads: list[CapturedStep] = []
    for step in steps_of(captures):
        manifest = captures[step.capture].manifest
        engine = manifest.engines[step.engine]
        stage = manifest.stages[step.stage]
        purpose = stage.purpose
        if engine.model != model:
            continue
        if engine.async_scheduling:
            if purpose == "calibration":
                asynchronous.append(step)
        elif purpose == "validation":
            (loads if stage.kind == "load" else unfitted_sweeps).append(step)
        elif purpose in _FITTED and (purpose == "calibration" or step.regime == "pure_prefill"):
            fitted.append(step)
    return CaptureSet(
        captures,
        engines[0][1],
        tuple(fitted),
        tuple(asynchronous),
        tuple(unfitted_sweeps),
        tuple(loads),
        tuple(notes),
    )

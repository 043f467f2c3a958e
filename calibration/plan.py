"""What a capture plan says: a model, engines, and what each engine is asked to do.

A plan is a YAML file; `calibration/plans` holds the shipped ones. Loads are written as a scenario's ``workload``
is, so that the simulator can be given exactly the traffic that a captured engine got.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from simulator.catalog import CatalogError, Model, ModelShape, find_model
from simulator.scenario.errors import ScenarioError
from simulator.scenario.quantities import PositiveDurationS, Section
from simulator.scenario.validation import validate
from simulator.scenario.workload import Workloads
from simulator.scenario.yaml_source import YamlSource

PLANS: Final = Path(__file__).parent / "plans"
"""Folder of the plans that ship."""

Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Counts = Annotated[list[Count], Field(min_length=1)]

RESERVED: Final = {
    "model": "belongs to the plan's model",
    "load_format": "follows from model.weights",
    "dtype": "belongs to the plan's model",
    "tokenizer": "prompts are token ids: no tokenizer is used",
    "skip_tokenizer_init": "prompts are token ids: no tokenizer is used",
    "scheduler_cls": "the capture puts its tracing scheduler there",
    "disable_log_stats": "the capture needs the requests' time stamps",
}
"""vLLM arguments that a plan may not give, and why."""


def _descending(batches: list[int]) -> list[int]:
    if len(set(batches)) < len(batches):
        raise ValueError("a batch size is given twice")
    return sorted(batches, reverse=True)


Batches = Annotated[Counts, AfterValidator(_descending)]
"""Batch sizes, from the largest down: requests end in groups, so a batch only shrinks."""


class PlanModel(Section):
    """The model that all engines of a plan run."""

    name: str
    """Hugging Face name, or any name beside a made-up shape."""
    shape: ModelShape | None = None
    """A made-up Llama; its weights are random."""
    config: str | None = None
    """Path of a Hugging Face config.json, relative to the plan."""
    weights: Literal["dummy", "real"] = "dummy"
    """``dummy``: random weights, nothing is downloaded; the kernels, shapes and bytes of a dense model in 16
    bits are the same. ``real``: vLLM loads the named model."""
    dtype: str = "bfloat16"

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.shape is not None and self.config is not None:
            raise ValueError("give either shape or config")
        if self.shape is not None and self.weights == "real":
            raise ValueError("a made-up shape has no real weights")
        return self


class _Stage(Section):
    name: Name
    timeout: PositiveDurationS = 300.0
    """A part of the stage that takes longer is ended; what it had is kept."""


class WarmupStage(_Stage):
    """Each kind of step once, so that lazy compilation and allocation stay out of the measurements."""

    kind: Literal["warmup"]


class ColumnStage(_Stage):
    """Pure decode: at each context, batches of falling size, some steps each."""

    kind: Literal["column"]
    purpose: Literal["calibration", "validation"] = "calibration"
    contexts: Counts
    batches: Batches
    steps: Count
    """Decode steps at each batch size; contexts grow by one a step."""


class ChunksStage(_Stage):
    """One prefill chunk alone in a step, behind a cached beginning."""

    kind: Literal["chunks"]
    purpose: Literal["calibration", "validation"] = "calibration"
    contexts: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    sizes: Counts
    repeats: Count = 3


class MultiStage(_Stage):
    """Several whole prompts in one step."""

    kind: Literal["multi"]
    purpose: Literal["calibration", "validation"] = "calibration"
    prompts: Annotated[list[tuple[Count, Count]], Field(min_length=1)]
    """(number of prompts, tokens of each)."""
    repeats: Count = 3


class MixedStage(_Stage):
    """A prefill chunk beside requests that decode."""

    kind: Literal["mixed"]
    purpose: Literal["calibration", "validation"] = "calibration"
    decodes: Counts
    context: Count
    """Context of the decoding requests at the start."""
    sizes: Counts
    chunk_contexts: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0]
    repeats: Count = 3


Spread = Literal["equal", "even", "halves", "one_long"]


class HeterogeneousStage(_Stage):
    """Pure decode with one mean context and different spreads of it."""

    kind: Literal["heterogeneous"]
    purpose: Literal["calibration", "validation"] = "calibration"
    mean_context: Annotated[int, Field(ge=32)]
    batches: Batches
    spreads: Annotated[list[Spread], Field(min_length=1)] = ["equal", "even", "halves", "one_long"]
    """``even``: from 0 to twice the mean; ``halves``: a quarter and seven quarters of it; ``one_long``: one of
    eight times the mean, the rest short."""
    steps: Count


class LoadStage(_Stage):
    """Open-loop traffic: every request is sent at its time, whatever the engine does."""

    kind: Literal["load"]
    regime: Literal["light", "knee", "overload", "starved", "prefix", "long"]
    duration: PositiveDurationS
    """Requests are sent for so long."""
    workload: Workloads
    """As a scenario's; answers end at their length. Closed loops and later turns of a session are refused."""
    seed: int = 0
    repeats: Count = 1
    """The same requests so many times, to learn the run-to-run noise."""

    @model_validator(mode="after")
    def _open_loop(self) -> Self:
        for entry in self.workload:
            if entry.arrivals.kind == "closed-loop":
                raise ValueError(f"workload {entry.name}: a closed loop; loads are open-loop")
            if entry.sessions is not None and entry.sessions.turns != 1:
                raise ValueError(f"workload {entry.name}: sessions of one turn only")
        return self


Stage = Annotated[
    WarmupStage | ColumnStage | ChunksStage | MultiStage | MixedStage | HeterogeneousStage | LoadStage,
    Field(discriminator="kind"),
]


class PlannedEngine(Section):
    """One engine process."""

    name: Name
    vllm: dict[str, Any] = Field(default_factory=dict)
    """Arguments by the names of vLLM's EngineArgs (underscores); what is not given is vLLM's default."""
    compile_cache: Literal["cold", "warm"] = "warm"
    """``cold``: start with empty compilation caches; ``warm``: with what earlier engines of the capture left."""
    stages: Annotated[list[Stage], Field(min_length=1)]

    @model_validator(mode="after")
    def _arguments_and_names(self) -> Self:
        for key in self.vllm:
            if key in RESERVED:
                raise ValueError(f"vllm.{key}: {RESERVED[key]}")
            if "-" in key:
                raise ValueError(f"vllm.{key}: write it with underscores: {key.replace('-', '_')}")
        names = [stage.name for stage in self.stages]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two stages are named {name!r}")
        return self


class Plan(Section):
    """A whole plan."""

    name: Name
    description: str = ""
    model: PlanModel
    engines: Annotated[list[PlannedEngine], Field(min_length=1)]

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [engine.name for engine in self.engines]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two engines are named {name!r}")
        return self


class LoadedPlan:
    """A plan with its file and its model's shape.

    Attributes:
        plan: the validated file.
        path: where it was read from.
        model: name and shape.
    """

    def __init__(self, plan: Plan, path: Path, model: Model) -> None:
        self.plan = plan
        self.path = path
        self.model = model


def load_plan(path: Path) -> LoadedPlan:
    """Read a plan.

    Args:
        path: a YAML file; the bare name of a shipped plan is found too.

    Raises:
        ScenarioError: with file, line, key and reason.
    """
    shipped = PLANS / f"{path.name.removesuffix('.yaml')}.yaml"
    if not path.is_file() and len(path.parts) == 1 and shipped.is_file():
        path = shipped
    source = YamlSource(path)
    plan = validate(Plan, source.data, source)
    try:
        model = _model(plan.model, path.parent)
    except CatalogError as error:
        raise ScenarioError(str(error), file=source.where(["model", "name"]), key="model") from None
    return LoadedPlan(plan, path, model)


def _model(model: PlanModel, folder: Path) -> Model:
    if model.shape is not None:
        return Model(name=model.name, shape=model.shape, source="made up")
    found = find_model(str(folder / model.config) if model.config else model.name)
    return found.model_copy(update={"name": model.name})

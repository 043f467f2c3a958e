"""What all Kubernetes manifests share: quantities, metadata, finding the document, and errors that name the key.

Manifests are read as the API server reads them under strict field validation: unknown and duplicate keys are
refused, numbers are not made from strings. Quantities become integers of milli-units, rounded up, as the
controllers see them (Kubernetes apimachinery, pkg/api/resource).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError

from simulator.scenario.errors import ScenarioError
from simulator.scenario.validation import explain, key_path
from simulator.scenario.yaml_source import UniqueKeyLoader, locate, read_text

MAX_INT64: Final = 2**63 - 1

_QUANTITY: Final = re.compile(
    r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d+))?", re.ASCII
)
_SUFFIXES: Final = {
    "n": Decimal(10) ** -9,
    "u": Decimal(10) ** -6,
    "m": Decimal(10) ** -3,
    **{name: Decimal(1000) ** power for power, name in enumerate("kMGTPE", start=1)},
    **{f"{name}i": Decimal(1024) ** power for power, name in enumerate("KMGTPE", start=1)},
}


def parse_quantity(value: Any) -> Decimal:
    """A Kubernetes quantity such as ``"85"``, ``"500m"``, ``"1Gi"``, ``"0.05"`` or ``"1e3"``, exactly.

    Raises:
        ValueError: not a quantity.
    """
    text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"expected a Kubernetes quantity such as 85, 500m or 1Gi, not {value!r}")
    number, suffix, exponent = match.groups()
    scale = _SUFFIXES[suffix] if suffix else Decimal(10) ** int(exponent or 0)
    return Decimal(number) * scale


def quantity_milli(value: Any) -> int:
    """A quantity in milli-units, rounded away from zero and saturated to int64."""
    milli = int((parse_quantity(value) * 1000).to_integral_value(rounding=ROUND_UP))
    return max(-MAX_INT64, min(milli, MAX_INT64))


def quantity_float(value: Any) -> float:
    """A quantity as the float64 that a controller makes of it.

    The API stores the canonical form, a whole number with a power of 1000 (0.05 is kept as 50m), and the
    controller multiplies the two in floats. That can differ from the nearest float in the last place.
    """
    exact = parse_quantity(value)
    for power in (0, -3, -6, -9):
        mantissa = exact.scaleb(-power)
        if mantissa == mantissa.to_integral_value() or power == -9:
            break
    mantissa = mantissa.to_integral_value(rounding=ROUND_UP)
    return float(mantissa) * 10.0**power if power else float(mantissa)


_QUANTITY_SCHEMA: Final = WithJsonSchema(
    {"anyOf": [{"type": "string"}, {"type": "number"}], "examples": ["85", "500m", "1Gi"]}
)
MilliQuantity = Annotated[int, BeforeValidator(quantity_milli), _QUANTITY_SCHEMA]
"""A quantity in milli-units."""
PositiveMilliQuantity = Annotated[int, BeforeValidator(quantity_milli), Field(gt=0), _QUANTITY_SCHEMA]
"""A quantity above 0 in milli-units."""
FloatQuantity = Annotated[float, BeforeValidator(quantity_float), Field(ge=0), _QUANTITY_SCHEMA]
"""A quantity of at least 0 as a float."""

Int = Annotated[int, Field(strict=True, ge=-(2**31), le=2**31 - 1)]
"""An int32; strings and floats are refused."""
NonNegativeInt = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]
PositiveInt = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]
Seconds = Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)]
"""Whole seconds, at least 0."""
Bool = Annotated[bool, Field(strict=True)]
FreeForm = dict[str, Any]
"""An object that the simulator accepts and does not look into."""


class KubernetesObject(BaseModel):
    """Base of every part of a manifest: camelCase keys, unknown ones refused, values frozen."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_unset(cls, given: Any) -> Any:
        """A key left empty is a key not given, as for the API server; unknown ones stay to be refused."""
        if not isinstance(given, dict) or None not in given.values():
            return given
        known = {field.alias for field in cls.model_fields.values()}
        return {key: value for key, value in given.items() if value is not None or key not in known}


class ObjectMeta(KubernetesObject):
    """``metadata``, with what the API server adds when a live object is dumped."""

    name: Annotated[str, Field(min_length=1)]
    namespace: str = "default"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    generate_name: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    generation: int | None = None
    creation_timestamp: Any = None
    deletion_timestamp: Any = None
    deletion_grace_period_seconds: int | None = None
    finalizers: list[str] = []
    owner_references: list[FreeForm] = []
    managed_fields: list[FreeForm] = []
    self_link: str | None = None


class LabelSelector(KubernetesObject):
    """Labels that an object must have."""

    match_labels: dict[str, str] = {}
    match_expressions: list[FreeForm] = []

    @property
    def text(self) -> str:
        """The selector as ``kubectl`` writes it."""
        parts = [f"{key}={value}" for key, value in sorted(self.match_labels.items())]
        for expression in self.match_expressions:
            values = ",".join(map(str, expression.get("values", ())))
            parts.append(f"{expression.get('key')} {expression.get('operator')} ({values})")
        return ",".join(parts)

    def matches(self, known: Mapping[str, str]) -> bool:
        """Whether an object with these labels can be meant; a label that is not known is taken to be as wanted."""
        if any(known.get(key, value) != value for key, value in self.match_labels.items()):
            return False
        return all(_holds(expression, known) for expression in self.match_expressions)


def _holds(expression: FreeForm, known: Mapping[str, str]) -> bool:
    key, values = str(expression.get("key")), expression.get("values", ())
    if key not in known:
        return True
    match expression.get("operator"):
        case "In":
            return known[key] in values
        case "NotIn":
            return known[key] not in values
        case "DoesNotExist":
            return False
    return True


def refuse(reason: str, *keys: str) -> PydanticCustomError:
    """An error to raise in a validator of a part, about one of the keys below it.

    Args:
        reason: what is wrong and what was expected.
        keys: path below the part, such as ``"target", "averageValue"``; none for the part itself.
    """
    return PydanticCustomError("manifest", "{reason}", {"reason": reason, "keys": keys})


Manifest = TypeVar("Manifest", bound=KubernetesObject)


@dataclass(frozen=True, slots=True)
class _Document:
    """One object of a file: its place among others, its data, and its YAML nodes, which know their lines."""

    place: str
    data: Mapping[str, Any]
    node: yaml.Node

    def where(self, file: str, path: Sequence[str | int]) -> str:
        """``file:line`` of the deepest part of a path that is there."""
        line = locate(self.node, path)[1]
        return f"{file}:{(self.node.start_mark.line if line is None else line) + 1}"


def _child(node: yaml.Node, step: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            if key_node.value == step:
                return key_node.start_mark.line, value_node
    elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step].start_mark.line, node.value[step]
    return None


def _documents(file: str, text: str) -> Iterator[_Document]:
    """Every object of a file; a ``List`` is opened."""
    try:
        loaded = list(yaml.load_all(text, Loader=UniqueKeyLoader))
        nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        where = f"{file}:{error.problem_mark.line + 1}" if error.problem_mark else file
        raise ScenarioError(f"not valid YAML: {error.problem}", file=where) from None
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise ScenarioError(f"not valid YAML: {error}", file=file) from None
    several = sum(data is not None for data in loaded) > 1
    for number, (data, node) in enumerate(zip(loaded, nodes, strict=True), start=1):
        if data is None:
            continue
        place = f"document {number}" if several else ""
        if not isinstance(data, Mapping):
            raise ScenarioError(
                f"expected a mapping with apiVersion and kind, not {type(data).__name__}",
                file=file,
                key=place or None,
            )
        items, found = data.get("items"), _child(node, "items")
        if data.get("kind") == "List" and isinstance(items, list) and found is not None:
            for index, item in enumerate(items):
                below = _child(found[1], index)
                if isinstance(item, Mapping) and below is not None:
                    yield _Document(f"{place} items[{index}]".strip(), item, below[1])
        else:
            yield _Document(place, data, node)


def _steps(error: ErrorDetails, data: Any) -> list[str | int]:
    """The keys from the object's root to what is wrong; pydantic's names of union branches are left out."""
    steps = key_path(data, error["loc"])
    if error["type"] == "manifest":
        steps.extend(error["ctx"]["keys"])
    return steps


def _key_path(place: str, steps: Sequence[str | int]) -> str | None:
    path = ""
    for step in steps:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return f"{place} {path}".strip() or None


def load_manifest(
    path: str | Path, model: type[Manifest], kind: str, api_version: str, hint: Mapping[str, str]
) -> Manifest:
    """The one object of a kind in a YAML file, which may hold others beside it.

    Args:
        path: the file.
        model: what to read it as.
        kind: the kind that is wanted.
        api_version: the API version that is read.
        hint: advice by other API version.

    Raises:
        ScenarioError: the file cannot be read, holds no such object or several, or the object is not valid.
    """
    file = str(path)
    documents = list(_documents(file, read_text(path)))
    found = [document for document in documents if document.data.get("kind") == kind]
    if not found:
        kinds = sorted({str(document.data.get("kind", "no kind")) for document in documents})
        there = f"it has {', '.join(kinds)}" if kinds else "it is empty"
        raise ScenarioError(f"expected a manifest of kind {kind}; {there}", file=file, key="kind")
    if len(found) > 1:
        names = ", ".join(_name(document.data) for document in found)
        raise ScenarioError(
            f"expected one manifest of kind {kind}, found {len(found)}: {names}", file=file, key="kind"
        )
    document = found[0]
    given = document.data.get("apiVersion")
    if given != api_version:
        advice = hint.get(str(given), "")
        raise ScenarioError(
            f"expected {api_version}, not {given!r}{'; ' if advice else ''}{advice}",
            file=document.where(file, ["apiVersion"]),
            key=_key_path(document.place, ["apiVersion"]),
        )
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        steps = _steps(first, document.data)
        raise ScenarioError(
            explain(model, steps, first),
            file=document.where(file, steps),
            key=_key_path(document.place, steps),
        ) from None


def place_in_manifest(path: str | Path, kind: str, steps: Sequence[str | int]) -> tuple[str, str]:
    """``file:line`` and key path of a part of a manifest that was loaded: for errors that come later."""
    document = next(
        found for found in _documents(str(path), read_text(path)) if found.data.get("kind") == kind
    )
    return document.where(str(path), steps), _key_path(document.place, steps) or kind


def _name(manifest: Mapping[str, Any]) -> str:
    metadata = manifest.get("metadata")
    return str(metadata.get("name", "unnamed")) if isinstance(metadata, Mapping) else "unnamed"

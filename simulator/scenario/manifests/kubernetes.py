"""What all Kubernetes manifests share: quantities, metadata, finding the document, and errors that name the key.

Manifests are read as the API server reads them under strict field validation: unknown and duplicate keys are
refused, numbers are not made from strings. Quantities become integers of milli-units, rounded up, as the
controllers see them (Kubernetes apimachinery, pkg/api/resource).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from decimal import ROUND_UP, Decimal
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError

from simulator.scenario.errors import ScenarioError

MAX_INT64: Final = 2**63 - 1

_QUANTITY: Final = re.compile(
    r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d+))?", re.ASCII
)
_SUFFIXES: Final = {
    **{"n": Decimal(10) ** -9, "u": Decimal(10) ** -6, "m": Decimal(10) ** -3},
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


def refuse(key: str, reason: str) -> PydanticCustomError:
    """An error to raise in a validator of a part, about one of the keys below it.

    Args:
        key: path below the part, such as ``target.averageValue``.
        reason: what is wrong and what was expected.
    """
    return PydanticCustomError("manifest", "{reason}", {"reason": reason, "key": key})


Manifest = TypeVar("Manifest", bound=KubernetesObject)


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML in which a key given twice is an error, not a silent choice of the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key_node.tag != "tag:yaml.org,2002:merge" and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _documents(file: str, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every object of a file with its path; a ``List`` is opened."""
    try:
        documents = [d for d in yaml.load_all(text, Loader=_UniqueKeyLoader) if d is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ScenarioError(f"not valid YAML: {error.problem}{where}", file=file) from error
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise ScenarioError(f"not valid YAML: {error}", file=file) from error
    for number, document in enumerate(documents):
        prefix = f"document {number + 1}" if len(documents) > 1 else ""
        if not isinstance(document, Mapping):
            raise ScenarioError(
                f"expected a mapping with apiVersion and kind, not {type(document).__name__}",
                file=file,
                key=prefix or None,
            )
        items = document.get("items")
        if document.get("kind") == "List" and isinstance(items, list):
            for index, item in enumerate(items):
                if isinstance(item, Mapping):
                    yield f"{prefix + ' ' if prefix else ''}items[{index}]", item
        else:
            yield prefix, document


def _part_at(model: Any, step: str | int) -> Any:
    """The type below a type, one step along an error's path; None where there is no model."""
    while get_origin(model) is Annotated:
        model = get_args(model)[0]
    if get_origin(model) in (Union, UnionType):
        candidates = (_part_at(option, step) for option in get_args(model))
        return next((found for found in candidates if found is not None), None)
    if isinstance(step, int) and get_origin(model) in (list, tuple):
        return get_args(model)[0]
    if isinstance(model, type) and issubclass(model, BaseModel):
        for field in model.model_fields.values():
            if field.alias == step:
                return field.annotation
    return None


def _known_keys(model: Any) -> list[str]:
    while get_origin(model) is Annotated:
        model = get_args(model)[0]
    if get_origin(model) in (Union, UnionType):
        return [key for option in get_args(model) for key in _known_keys(option)]
    if isinstance(model, type) and issubclass(model, BaseModel):
        return [field.alias or name for name, field in model.model_fields.items()]
    return []


def _reason(error: ErrorDetails, model: type[KubernetesObject]) -> str:
    kind, given = error["type"], error["input"]
    if kind == "extra_forbidden":
        part: Any = model
        for step in error["loc"][:-1]:
            part = _part_at(part, step)
        keys = _known_keys(part)
        close = difflib.get_close_matches(str(error["loc"][-1]), keys, n=1, cutoff=0.6)
        hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(sorted(keys))}"
        return f"unknown key; {hint}"
    if kind == "missing":
        return "required, but not given"
    if kind == "model_type":
        return f"expected a mapping, not {given!r}"
    if kind in ("manifest", "value_error"):
        return error["msg"].removeprefix("Value error, ")
    message = error["msg"].removeprefix("Input should be ")
    return f"expected {message}, not {given!r}" if message != error["msg"] else f"{message}, got {given!r}"


def _key_path(prefix: str, error: ErrorDetails) -> str | None:
    path = ""
    steps: list[str | int] = [*error["loc"]]
    if error["type"] == "manifest":
        steps.append(error["ctx"]["key"])
    for step in steps:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    path = path.removesuffix(".")
    return " ".join(part for part in (prefix, path) if part) or None


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
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ScenarioError("no such file", file=file) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"cannot be read: {error}", file=file) from error
    documents = list(_documents(file, text))
    found = [(prefix, document) for prefix, document in documents if document.get("kind") == kind]
    if not found:
        kinds = sorted({str(document.get("kind", "no kind")) for _, document in documents})
        there = f"it has {', '.join(kinds)}" if kinds else "it is empty"
        raise ScenarioError(f"expected a manifest of kind {kind}; {there}", file=file, key="kind")
    if len(found) > 1:
        names = ", ".join(str((document.get("metadata") or {}).get("name")) for _, document in found)
        raise ScenarioError(
            f"expected one manifest of kind {kind}, found {len(found)}: {names}", file=file, key="kind"
        )
    prefix, document = found[0]
    given = document.get("apiVersion")
    if given != api_version:
        advice = hint.get(str(given), "")
        raise ScenarioError(
            f"expected {api_version}, not {given!r}{'; ' if advice else ''}{advice}",
            file=file,
            key=" ".join(part for part in (prefix, "apiVersion") if part),
        )
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ScenarioError(_reason(first, model), file=file, key=_key_path(prefix, first)) from None

"""Turns pydantic's findings into one line that names the file, the key and what was expected."""

from __future__ import annotations

import difflib
import types
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from simulator.scenario.errors import ScenarioError
from simulator.scenario.yaml_source import YamlSource

M = TypeVar("M", bound=BaseModel)


def validate(model: type[M], data: dict[str, Any], source: YamlSource) -> M:
    """Validate ``data`` (the source's, perhaps with overrides) against ``model``.

    Raises:
        ScenarioError: with the first finding; how many others there are is said too.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        keys = [(key_path(data, item["loc"]), item) for item in details]
        # A misspelt key also leaves a required one missing: the misspelling is the better news. Of a union's
        # findings the deepest is the one about the alternative that was meant.
        candidates = [pair for pair in keys if pair[1]["type"] == "extra_forbidden"] or keys
        first = candidates[0][0]
        same_place = [pair for pair in candidates if pair[0][: len(first)] == first]
        path, item = max(same_place, key=lambda pair: len(pair[0]))
        if item["type"] in ("union_tag_invalid", "union_tag_not_found"):
            path = [*path, item["ctx"]["discriminator"].strip("'")]
        others = len({tuple(map(str, key)) for key, _ in keys}) - 1
        reason = explain(model, path, item) + (f" (and {others} more)" if others else "")
        raise ScenarioError(reason, file=source.where(path), key=".".join(map(str, path)) or None) from None


def key_path(data: Any, loc: Sequence[str | int]) -> list[str | int]:
    """The keys that the user wrote; pydantic's names of union branches are left out."""
    path: list[str | int] = []
    here = data
    for index, part in enumerate(loc):
        in_list = isinstance(here, list) and isinstance(part, int) and part < len(here)
        if in_list or (isinstance(here, dict) and part in here):
            here = here[part]
        elif index == len(loc) - 1 and isinstance(here, dict):
            path.append(part)  # a missing key
            break
        else:
            continue
        path.append(part)
    return path


def explain(model: type[BaseModel], path: Sequence[str | int], item: ErrorDetails) -> str:
    """One of pydantic's findings in our words: what was expected, and what was given where it is short."""
    kind, message = item["type"], item["msg"]
    if kind == "extra_forbidden":
        known = _known_keys(model, path[:-1])
        close = difflib.get_close_matches(str(path[-1]), known, n=1)
        if close:
            return f"unknown key; did you mean {close[0]}?"
        return f"unknown key; expected one of {', '.join(known)}" if known else "unknown key"
    if kind == "union_tag_invalid":
        close = difflib.get_close_matches(
            item["ctx"]["tag"], item["ctx"]["expected_tags"].replace("'", "").split(", "), n=1
        )
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"expected one of {item['ctx']['expected_tags']}, got {item['ctx']['tag']!r}{hint}"
    if kind in ("missing", "union_tag_not_found"):
        return "this key is required"
    if kind in ("value_error", "assertion_error", "manifest"):
        return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        message = "expected keys and values"
    text = message[:1].lower() + message[1:]
    text = text.replace("input should be", "expected").replace("input tag", "kind")
    got = item.get("input")
    if kind == "string_type" and isinstance(got, int | float):
        return f"expected text: write it in quotes, got {got!r}"
    if kind in ("too_short", "too_long"):
        bound, least = ("min_length", "at least") if kind == "too_short" else ("max_length", "at most")
        return f"expected {least} {item['ctx'][bound]} item(s), got {item['ctx']['actual_length']}"
    shown = got is None or isinstance(got, str | int | float | bool)
    return f"{text}, got {got!r}" if shown else text


def _known_keys(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    kinds: list[Any] = [model]
    for part in path:
        following: list[Any] = []
        for kind in _models(kinds):
            if isinstance(part, int):
                continue
            field = kind.model_fields.get(part) or next(
                (f for f in kind.model_fields.values() if f.alias == part), None
            )
            if field is not None:
                following.append(field.annotation)
        kinds = following or kinds
    names = {field.alias or name for kind in _models(kinds) for name, field in kind.model_fields.items()}
    return sorted(names)


def _models(kinds: Sequence[Any]) -> list[type[BaseModel]]:
    """Every model inside a list of annotations: unions, lists and Annotated are opened."""
    found: list[type[BaseModel]] = []
    for kind in kinds:
        origin = get_origin(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found.append(kind)
        elif origin in (Union, types.UnionType, list, tuple):
            found.extend(_models(get_args(kind)))
        elif origin is Annotated:
            found.extend(_models(get_args(kind)[:1]))
    return found

"""``--set workload.0.arrivals.rate=12/s``: changes to a scenario from the command line."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import yaml

from simulator.scenario.errors import ScenarioError
from simulator.scenario.yaml_source import parse_value


def apply_overrides(data: dict[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """A copy of ``data`` with each ``key.path=value`` put in; values are read as YAML.

    Mappings on the way are made where they are missing, so that an optional section can be set; whether the
    result makes sense is the schema's business. List items are numbered from 0.

    Raises:
        ScenarioError: an assignment without ``=``, an index that is not there, a path through a plain value.
    """
    result = copy.deepcopy(data)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        source = f"--set {assignment}"
        if not equals or not path:
            raise ScenarioError("expected KEY.PATH=VALUE", file=source)
        try:
            value = parse_value(text) if text else None
        except yaml.YAMLError:
            raise ScenarioError(f"the value {text!r} is not valid YAML", file=source, key=path) from None
        _assign(result, path.split("."), value, source)
    return result


def _assign(target: Any, parts: list[str], value: Any, source: str) -> None:
    for depth, part in enumerate(parts):
        path = ".".join(parts[: depth + 1])
        last = depth == len(parts) - 1
        if isinstance(target, list):
            if not part.isdigit() or int(part) >= len(target):
                has = f"items 0 to {len(target) - 1}" if target else "no items"
                raise ScenarioError(f"no such item; the list has {has}", file=source, key=path)
            if last:
                target[int(part)] = value
            else:
                target = target[int(part)]
        elif isinstance(target, dict):
            if last:
                target[part] = value
            else:
                if target.get(part) is None:
                    target[part] = {}
                target = target[part]
        else:
            before = ".".join(parts[:depth])
            raise ScenarioError(f"{before} is a plain value, it has no keys", file=source, key=path)

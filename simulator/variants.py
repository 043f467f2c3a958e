"""What is compared: scenario files, each as it is or varied by keys.

``BASE.yaml --vary fleet.replicas=2,3,4`` stands for three scenarios that differ in that key alone; several keys give
all combinations, the first key changing slowest.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from simulator.scenario.errors import ScenarioError
from simulator.scenario.load import LoadedScenario, load_scenario
from simulator.scenario.yaml_source import parse_value

_TRAFFIC: Final = ("workload", "duration")


def load_variants(
    paths: Sequence[str | Path], overrides: Iterable[str] = (), vary: Iterable[str] = ()
) -> dict[str, LoadedScenario]:
    """Load what is to be compared.

    Args:
        paths: scenario files.
        overrides: ``KEY=VALUE``, for all of them.
        vary: ``KEY=VALUE,VALUE,...``, each scenario with each of the values; values are YAML.

    Returns:
        By name: the scenario's own name, the varied keys' values, or both if there are several of each.

    Raises:
        ScenarioError: a bad scenario or option; names that are not unique; scenarios with different traffic.
    """
    keys = [_values(each) for each in vary]
    common = list(overrides)
    found: dict[str, LoadedScenario] = {}
    for path in paths:
        for choice in itertools.product(*(values for _, values in keys)):
            assignments = [
                f"{key}={json.dumps(value, ensure_ascii=False)}"
                for (key, _), value in zip(keys, choice, strict=True)
            ]
            loaded = load_scenario(path, [*common, *assignments])
            label = " ".join(
                f"{_short(key)}={_text(value, values)}"
                for (key, values), value in zip(keys, choice, strict=True)
            )
            own = loaded.scenario.name
            name = f"{own} {label}" if label and len(paths) > 1 else label or own
            if name in found:
                raise ScenarioError(f"two scenarios are called {name!r}: names must differ", file=str(path))
            found[name] = loaded
    _same_traffic(found)
    return found


def _values(option: str) -> tuple[str, list[Any]]:
    key, equals, text = option.partition("=")
    source = f"--vary {option}"
    if not equals or not key:
        raise ScenarioError("expected KEY.PATH=VALUE,VALUE,...", file=source)
    try:
        values = parse_value(f"[{text}]")
    except yaml.YAMLError:
        raise ScenarioError(f"{text!r} is not a list of YAML values", file=source, key=key) from None
    if not values:
        raise ScenarioError("expected at least one value", file=source, key=key)
    return key, values


def _short(key: str) -> str:
    """The last word of a key's path."""
    return next((part for part in reversed(key.split(".")) if not part.isdigit()), key)


def _text(value: Any, values: list[Any]) -> str:
    if isinstance(value, str):
        return Path(value).stem if value.endswith((".yaml", ".yml")) else value
    if value is None:
        return "none"
    if isinstance(value, dict) and sum(isinstance(each, dict) for each in values) == 1:
        return "given"
    return json.dumps(value, ensure_ascii=False)


def _same_traffic(scenarios: dict[str, LoadedScenario]) -> None:
    """Pairs need the same traffic."""
    names = list(scenarios)
    base = scenarios[names[0]].scenario
    for name in names[1:]:
        each = scenarios[name]
        for key in _TRAFFIC:
            if getattr(each.scenario, key) != getattr(base, key):
                raise each.error(
                    f"{name} differs from {names[0]} here: comparisons need the same traffic", key
                )

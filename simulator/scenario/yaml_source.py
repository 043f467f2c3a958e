"""YAML with the place of every key, so that an error can say file and line."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml

from simulator.scenario.errors import ScenarioError


class UniqueKeyLoader(yaml.SafeLoader):
    """Safe loader that refuses duplicate keys, which YAML would silently overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} is given twice", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep)


class _Loader(UniqueKeyLoader):
    """The same for scenarios."""


# Booleans as YAML 1.2 has them: `on` is a key of ours (clients.retry.on), not the word for true.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")
)


def parse_value(text: str) -> Any:
    """A value written outside a file, such as one of ``--set``, read as a scenario's file would be.

    Raises:
        yaml.YAMLError: it is not YAML.
    """
    return yaml.load(text, Loader=_Loader)


def read_text(path: str | Path) -> str:
    """A user's text file.

    Raises:
        ScenarioError: it cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ScenarioError("no such file", file=str(path)) from None
    except IsADirectoryError:
        raise ScenarioError("expected a file, this is a folder", file=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"cannot be read: {error}", file=str(path)) from None


def locate(node: yaml.Node | None, key_path: Sequence[str | int]) -> tuple[int, int | None]:
    """How much of a key path a node has, and the line (from 0) of the deepest part; None if it has nothing."""
    line = None
    for depth, part in enumerate(key_path):
        found = None
        if isinstance(node, yaml.MappingNode):
            for key_node, value_node in node.value:
                if key_node.value == str(part):
                    found, line = value_node, key_node.start_mark.line
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = node.value[part]
            line = found.start_mark.line
        if found is None:
            return depth, line
        node = found
    return len(key_path), line


class YamlSource:
    """A YAML file: its text, its data, and the line of each key.

    A file may say ``extends: other.yaml`` and give only what differs: mappings are merged key by key, anything
    else (lists too) replaces the base's value.

    Args:
        path: the file, as the user named it.

    Raises:
        ScenarioError: the file cannot be read, is not YAML, or is not a mapping.
    """

    def __init__(self, path: Path, _extended_by: tuple[Path, ...] = ()) -> None:
        self.path = path
        self.base: YamlSource | None = None
        self.overrides: dict[tuple[str, ...], str] = {}
        """Key paths that the command line sets, and the assignments that do."""
        self.text = read_text(path)
        try:
            self._root = yaml.compose(self.text, Loader=yaml.SafeLoader)
            data = yaml.load(self.text, Loader=_Loader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
            problem = getattr(error, "problem", None) or str(error)
            raise ScenarioError(f"not valid YAML: {problem}", file=where) from None
        if data is None:
            raise ScenarioError("the file is empty", file=str(path))
        if not isinstance(data, dict):
            raise ScenarioError(f"expected keys and values, got a {type(data).__name__}", file=str(path))
        self.data: dict[str, Any] = data
        if "extends" in data:
            self._extend(data.pop("extends"), (*_extended_by, path.resolve()))

    def _extend(self, base: Any, chain: tuple[Path, ...]) -> None:
        where = self.where(["extends"])
        if not isinstance(base, str):
            raise ScenarioError("expected the path of a scenario file", file=where, key="extends")
        path = self.path.parent / base
        if path.resolve() in chain:
            raise ScenarioError(f"{base} extends this file in turn", file=where, key="extends")
        if not path.is_file():
            raise ScenarioError(f"no such file: {path}", file=where, key="extends")
        self.base = YamlSource(path, chain)
        if path.parent.resolve() != self.path.parent.resolve():
            raise ScenarioError("expected a file in the same folder", file=where, key="extends")
        self.data = _merge(self.base.data, self.data)

    def where(self, key_path: Sequence[str | int]) -> str:
        """``file:line`` of the deepest part of a key path that the file, or the one it extends, has.

        A key that the command line set is told by its assignment.
        """
        names = tuple(map(str, key_path))
        for path, assignment in self.overrides.items():
            if names[: len(path)] == path:
                return f"--set {assignment}"
        return self._find(key_path)[1]

    def _find(self, key_path: Sequence[str | int]) -> tuple[int, str]:
        depth, line = locate(self._root, key_path)
        if self.base is not None and depth < len(key_path):
            in_base = self.base._find(key_path)
            if in_base[0] > depth:
                return in_base
        return depth, str(self.path) if line is None else f"{self.path}:{line + 1}"


def _merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        before = merged.get(key)
        merged[key] = _merge(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged

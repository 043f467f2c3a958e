"""YAML with the place of every key, so that an error can say file and line."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml

from simulator.scenario.errors import ScenarioError


class _Loader(yaml.SafeLoader):
    """Safe loader that refuses duplicate keys, which YAML would silently overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if isinstance(key, Hashable):
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} is given twice", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep)


class YamlSource:
    """A YAML file: its text, its data, and the line of each key.

    Args:
        path: the file, as the user named it.

    Raises:
        ScenarioError: the file cannot be read, is not YAML, or is not a mapping.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ScenarioError("no such file", file=str(path)) from None
        except IsADirectoryError:
            raise ScenarioError("expected a file, this is a folder", file=str(path)) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ScenarioError(f"cannot be read: {error}", file=str(path)) from None
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

    def where(self, key_path: Sequence[str | int]) -> str:
        """``file:line`` of the deepest part of a key path that the file has."""
        node, line = self._root, None
        for part in key_path:
            found = None
            if isinstance(node, yaml.MappingNode):
                for key_node, value_node in node.value:
                    if key_node.value == str(part):
                        found, line = value_node, key_node.start_mark.line
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                found = node.value[part]
                line = found.start_mark.line
            if found is None:
                break
            node = found
        return str(self.path) if line is None else f"{self.path}:{line + 1}"

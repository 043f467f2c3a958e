"""The reference pages are what the code says."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from simulator.scenario.reference import json_schema, main, results_page, scenario_page

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def test_committed_pages_are_fresh(tmp_path: Path) -> None:
    main(str(tmp_path))
    for path in sorted(tmp_path.iterdir()):
        assert (REFERENCE / path.name).read_text() == path.read_text(), f"{path.name} is stale: make docs"


def test_every_key_and_column_has_its_row() -> None:
    page = scenario_page()
    for key in ("timeline_interval", "max_outstanding_per_replica", "empty_node_ttl", "burstiness"):
        assert f"| `{key}` |" in page
    assert "slo_good" in results_page()


def test_schema_knows_what_the_shipped_scenarios_use() -> None:
    schema = json.loads(json_schema())

    def keys(part: Any) -> set[str]:
        if isinstance(part, dict):
            found = set(part.get("properties", {}))
            return found.union(*(keys(value) for value in part.values()))
        if isinstance(part, list):
            return set().union(*(keys(value) for value in part))
        return set()

    known = keys(schema)
    for path in (REFERENCE.parents[1] / "experiments").glob("*.yaml"):
        assert set(yaml.safe_load(path.read_text())) - {"extends"} <= known


@pytest.mark.parametrize("section", ["Scenario", "NodePool", "Retry", "Fallback", "Sessions", "Slo"])
def test_sections_link_to_each_other(section: str) -> None:
    assert f"## {section}\n" in scenario_page()

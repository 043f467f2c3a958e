import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

MakeFile = Callable[..., Path]


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of measured runs; tests that need it are skipped where it is not there."""
    shared = Path(os.environ.get("LLM_SIM_SHARED", Path(__file__).parents[3] / "shared"))
    folder = shared / "data"
    if not (folder / "measured" / "vllm_runs" / "cases.json").is_file():
        pytest.skip(f"measured runs are not at {folder} (set LLM_SIM_SHARED)")
    return folder


@pytest.fixture
def engine(tmp_path: Path) -> MakeFile:
    """Writes a ``vllm serve`` configuration of a small deployment, changed."""

    def write(**changes: Any) -> Path:
        config = {
            "model": "meta-llama/Llama-3.1-8B",
            "max-model-len": 4096,
            "max-num-seqs": 64,
            "max-num-batched-tokens": 2048,
        }
        config |= {key.replace("_", "-"): value for key, value in changes.items()}
        path = tmp_path / "engine.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in config.items() if value is not None}))
        return path

    return write


@pytest.fixture
def written(tmp_path: Path) -> MakeFile:
    """Writes a file: text as it is, anything else as JSON."""

    def write(content: Any, name: str = "requests.csv") -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write

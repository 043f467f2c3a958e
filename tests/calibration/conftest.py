import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def operator_tables() -> Path:
    """Folder of the operator tables that the shipped profiles were made from."""
    shared = Path(os.environ.get("LLM_SIM_SHARED", Path(__file__).parents[3] / "shared"))
    folder = shared / "data" / "profiles"
    if not (folder / "aic_gemm_vllm.csv.gz").is_file():
        pytest.skip(f"operator tables are not at {folder} (set LLM_SIM_SHARED)")
    return folder

import os
from pathlib import Path

import pytest

from calibration.operator_tables import OperatorTables, TablesError
from tests.calibration import small_tables


@pytest.fixture(scope="session")
def operator_tables() -> Path:
    """Folder of the operator tables that the shipped profiles were made from."""
    shared = Path(os.environ.get("LLM_SIM_SHARED", Path(__file__).parents[3] / "shared"))
    folder = shared / "data" / "profiles"
    if not (folder / "aic_gemm_vllm.csv.gz").is_file():
        pytest.skip(f"operator tables are not at {folder} (set LLM_SIM_SHARED)")
    return folder


@pytest.fixture(scope="session")
def package_tables() -> OperatorTables:
    """The installed package's tables."""
    try:
        return OperatorTables()
    except TablesError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def made_up_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small, made-up tables."""
    return small_tables.write(tmp_path_factory.mktemp("tables"))

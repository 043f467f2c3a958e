from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibration import operator_tables as module
from calibration.aiconfigurator_tables import AiconfiguratorTables
from calibration.operator_tables import OperatorTables, TablesError, fingerprint
from simulator.catalog import find_gpu, find_model


@pytest.mark.parametrize(("model", "tp", "dtype"), [("8B", 2, "bfloat16"), ("70B", 4, "fp8")])
def test_the_package_and_its_export_give_the_same_terms(
    operator_tables: Path, package_tables: OperatorTables, model: str, tp: int, dtype: str
) -> None:
    shape = find_model(f"meta-llama/Llama-3.1-{model}").shape
    sources = (package_tables, OperatorTables(operator_tables))
    ours, theirs = (AiconfiguratorTables(source, find_gpu("H100"), shape, tp, dtype) for source in sources)
    assert ours.files == theirs.files
    a, b = ours.terms(), theirs.terms()
    for term in ("dense", "per_sequence", "decode_attention", "prefill_attention", "mixed_attention"):
        assert getattr(a, term) == getattr(b, term)


def test_rows_are_of_the_newest_release_that_measured_them(made_up_tables: Path) -> None:
    rows = OperatorTables(made_up_tables).read("allreduce", "H100-SXM")
    assert set(rows.vllm_version) == {"0.24.0"}


def test_releases_are_ordered_by_number() -> None:
    table = pd.DataFrame({"v": ["0.9.0", "0.24.0", "0.14.1"], "x": [1, 2, 3]})
    assert module._newest(table, "v").x.tolist() == [2]


def test_missing_tables_say_what_there_is(made_up_tables: Path, tmp_path: Path) -> None:
    tables = OperatorTables(made_up_tables)
    with pytest.raises(TablesError, match="no rows for A100-80GB-SXM, only for H100-SXM"):
        tables.read("gemm", "A100-80GB-SXM")
    with pytest.raises(TablesError, match="no aiconfigurator tables for L4; there are: A100"):
        tables.read("gemm", "L4")
    with pytest.raises(TablesError, match=r"neither aic_moe_vllm\.csv nor .* has that table"):
        tables.read("moe", "H100-SXM")
    with pytest.raises(TablesError, match=r"aic_gemm_vllm\.csv is not there"):
        OperatorTables(tmp_path)


def test_without_the_package_the_command_to_get_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise module.PackageNotFoundError(name)

    monkeypatch.setattr(module, "version", missing)
    with pytest.raises(TablesError, match=r"pip install --no-deps aiconfigurator-core==0\.12\.0"):
        OperatorTables()
    monkeypatch.setattr(module, "version", lambda _: "0.13.0")
    monkeypatch.setattr(module, "find_spec", lambda _: type("Spec", (), {"origin": "x"}))
    with pytest.raises(TablesError, match=r"0\.13\.0 is installed; the readers know 0\.12\.0"):
        OperatorTables()


def test_a_fingerprint_does_not_depend_on_the_order_of_rows() -> None:
    rows = pd.DataFrame({"latency_ms": [0.25, 0.125]})
    assert fingerprint(rows) == fingerprint(rows[::-1])
    assert fingerprint(rows).startswith("2 rows, sha256 ")
    assert fingerprint(rows) != fingerprint(rows + np.float64(1e-6))

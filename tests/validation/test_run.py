"""Every case found is judged and written."""

import json
from pathlib import Path

import pytest

from tests.validation.runs import NAME, write_run
from validation.results import read_results
from validation.run import find_cases, main


def test_a_folder_of_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path)
    out = tmp_path / "out"
    assert main(["--data", str(tmp_path), "--out", str(out), "--case", NAME]) == 0
    assert capsys.readouterr().out == f"{NAME}: MAPE TTFT 0.00 %, TPOT 0.00 %, E2E 0.00 %\n"
    text = (out / f"{NAME}.json").read_text()
    assert json.loads(text)["requests"] == 30
    assert main(["--data", str(tmp_path), "--out", str(out), "--case", NAME]) == 0
    assert (out / f"{NAME}.json").read_text() == text
    assert [case["case"] for case in read_results(out)] == [NAME]


def test_no_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "--case", "none"]) == 2
    assert "no case none found" in capsys.readouterr().err


def test_the_runs_at_hand(data: Path) -> None:
    names = {case.name for case in find_cases(data)}
    assert {"rtx4090_llama31_8b_tp1", "rtxpro6000_llama31_8b_tp1"} <= names

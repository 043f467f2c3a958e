"""The page is what the committed results give, and shows what is bad."""

from pathlib import Path
from typing import Any

import yaml

from tests.validation.runs import NAME, write_run
from validation.accuracy_page import PAGE, main, render
from validation.residual import main as residual
from validation.results import read_results
from validation.run import main as run
from validation.validated_file import VALIDATED, validated_text


def test_the_committed_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(read_results()), "run `make accuracy`"
    assert VALIDATED.read_text(encoding="utf-8") == validated_text(read_results()), "run `make accuracy`"


def test_what_a_page_shows(tmp_path: Path) -> None:
    write_run(tmp_path, slower=1.25)
    out, page = tmp_path / "out", tmp_path / "page.md"
    assert run(["--data", str(tmp_path), "--out", str(out), "--case", NAME]) == 0
    assert residual(["--data", str(tmp_path), "--out", str(out), "--case", NAME]) == 0
    validated = tmp_path / "validated.yaml"
    assert main(["--results", str(out), "--page", str(page), "--validated", str(validated)]) == 0
    entries = yaml.safe_load(validated.read_text())["errors"]
    assert {entry["regime"] for entry in entries} >= {"all"}
    whole = next(entry for entry in entries if entry["regime"] == "all")
    assert whole["profile"] == "rtx4090--llama-3.1-8b--bf16--tp1"
    assert (whole["number"], whole["unit"], whole["tpot_pct"]) == (30, "requests", 20.0)
    text = page.read_text()
    assert "| all | 30 | 0.00 % | 100.0 % | 20.0 % | 0.00 % |" in text
    assert "### RTX4090, Llama-3.1-8B, vLLM 0.19.0" in text
    assert "by step times with factors from this run" in text


def test_a_target_that_is_missed_says_no() -> None:
    case: dict[str, Any] = {
        "case": "a",
        "kind": "closed loop",
        "title": "A",
        "source": "s",
        "notes": [],
        "points": [],
        "left_out": [{"input_tokens": 1, "output_tokens": 2, "concurrency": 3, "why": "too good"}],
        "bars": [
            {"figure": "all.ttft_ms.mape_pct", "at_most": 5.0, "reached": 6.0},
            {"figure": "all.tpot_ms.mape_pct", "at_most": 5.0, "reached": 4.0},
        ],
    }
    text = render([case])
    assert "| A | TTFT MAPE | ≤ 5 % | 6.00 % | **no** |" in text
    assert "| A | TPOT MAPE | ≤ 5 % | 4.00 % | yes |" in text
    assert "1/2 tokens at concurrency 3: too good" in text

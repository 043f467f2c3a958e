from pathlib import Path

import pyarrow as pa
import pytest
from typer import Typer
from typer.testing import CliRunner

from calibration.capture_format import STEPS, read_capture, write_capture
from calibration.loop import main
from simulator.step_time import load_profile
from tests.calibration.synthetic import SyntheticCapture, load_of, sweep


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    capture = SyntheticCapture()
    capture.engine()
    sweep(capture, batches=(16, 8, 4, 2, 1), mixed=False, repeats=1)
    for name, repeat_of in (("knee", None), ("knee_r2", "knee")):
        capture.stage(name, "load", "validation", regime="knee", repeat_of=repeat_of)
        capture.load(*load_of(15))
    return capture.write(tmp_path_factory.mktemp("loop"))


def _run(*arguments: str) -> tuple[int, str]:
    app = Typer()
    app.command()(main)
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_a_capture_goes_through_the_whole_loop(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, output = _run("--capture", str(folder), "--out", str(out))
    assert code == 0, output
    assert "0 differing steps" in output
    assert "held out, pure decode" in output
    assert "repeat noise of knee, mean: TTFT 0.0 %, TPOT 0.0 %, E2E 0.0 %" in output
    assert load_profile(out / "profile.yaml").source == "fitted profile"
    assert (out / "report.txt").read_text(encoding="utf-8").strip() in output
    assert {path.name for path in (out / "plots").iterdir()} == {"predicted.png", "residuals.png"}


def test_a_decision_that_differs_is_an_exit_code(folder: Path, tmp_path: Path) -> None:
    capture = read_capture(folder)
    steps = capture.steps.to_pylist()
    steps[5]["free_blocks"] -= 1
    changed = tmp_path / "changed"
    table = pa.Table.from_pylist(steps, STEPS)
    write_capture(changed, capture.manifest, table, capture.requests, capture.device)
    code, output = _run("--capture", str(changed), "--out", str(tmp_path / "out"))
    assert code == 1
    assert "1 differing steps, the first 5" in output


def test_what_is_no_capture_is_an_error(tmp_path: Path) -> None:
    code, output = _run("--capture", str(tmp_path / "none"), "--out", str(tmp_path / "out"))
    assert code == 2
    assert "manifest.json" in output


def test_a_capture_that_fails_ends_the_loop_with_its_exit_code(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, _ = _run("--plan", str(tmp_path / "none.yaml"), "--out", str(tmp_path / "out"))
    assert code == 2
    assert "none.yaml" in capfd.readouterr().err
    assert not (tmp_path / "out" / "profile.yaml").exists()

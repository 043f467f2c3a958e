"""A captured engine's loads become one case: each load against its bars, its noise, all by regime, and the steps."""

from pathlib import Path

import pytest
import yaml

from tests.calibration.synthetic import Noise, SyntheticCapture, load_of, truth
from validation import captured_load
from validation.accuracy_page import main as page
from validation.accuracy_page import render
from validation.results import read_results, write_results
from validation.run import find_cases, summary

NAME = "h200--visit-1--async"


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture of an H200 in a folder of its own: sweeps on a synchronous engine, loads on an asynchronous one."""
    even = truth().terms.decode_attention.model_copy(update={"heterogeneity": 1.0})
    profile = truth(terms=truth().terms.model_copy(update={"decode_attention": even}).model_dump())
    capture = SyntheticCapture(profile=profile, noise=Noise(relative=0.002))
    capture.engine("sync")
    capture.stage("chunks", "chunks")
    capture.together([(400, 1, 1)])
    capture.engine("async", async_scheduling=True, max_num_seqs=16)
    for name, regime, repeat_of, count in (
        ("light", "light", None, 30),
        ("knee", "knee", None, 60),
        ("knee_r2", "knee", "knee", 60),
        ("overload", "overload", None, 150),
        ("prefix", "prefix", None, 20),
    ):
        capture.stage(name, "load", "validation", regime=regime, repeat_of=repeat_of)
        gaps, sends = load_of(count)
        pace = {"light": 10.0, "knee": 1.0, "overload": 0.1, "prefix": 10.0}[regime]
        capture.load([pace * gap for gap in gaps], sends)
    root = tmp_path_factory.mktemp("records")
    capture.write(root / "h200" / "visit-1")
    return root


def test_a_capture_of_an_h200_is_held_against_its_bars(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captured_load, "best_shipped", lambda *deployment: truth())
    cases = {case.name: case for case in find_cases(None, records)}
    assert {name for name in cases if name.startswith("h200")} == {NAME, "h200--visit-1--decisions"}
    decided = cases["h200--visit-1--decisions"].judge(None)
    assert [engine["differing_steps"] for engine in decided["engines"]] == [0, 0]
    figures = cases[NAME].judge(tmp_path / "plots")
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == {
        f"{NAME}--{load}" for load in ("light", "knee", "knee_r2", "overload", "prefix")
    }
    assert [load["requests"] for load in figures["loads"]] == [30, 60, 60, 150, 20]
    assert [load.get("again") for load in figures["loads"]] == [None, None, "knee", None, None]
    met = {load["load"]: set(load["met"]) for load in figures["loads"]}
    assert met["light"] == {"light"}
    assert "overload" in met["overload"]
    assert set(figures["groups"]) >= {"all", "unqueued", "light", "overload"}
    # Three metrics of each load but the one that is none of the three regimes.
    assert [bar["figure"] for bar in figures["bars"]] == [
        f"{load}.{metric}.mape_pct"
        for load in ("light", "knee", "knee_r2", "overload")
        for metric in ("ttft_ms", "tpot_ms", "e2e_ms")
    ]
    assert {bar["at_most"] for bar in figures["bars"][:3]} == {5.0, 2.0}
    assert "bars reached" in summary(figures)
    assert {row["kind"] for row in figures["steps"]} >= {"pure decode", "mixed"}
    assert all(abs(row["mean_error_pct"]) < 6 for row in figures["steps"] if row["kind"] == "pure decode")

    write_results(tmp_path / "results", NAME, figures)
    text, validated = tmp_path / "accuracy.md", tmp_path / "validated.yaml"
    assert (
        page(["--results", str(tmp_path / "results"), "--page", str(text), "--validated", str(validated)])
        == 0
    )
    written = text.read_text()
    assert f"| {NAME}: overload |" in written
    assert "*again*: knee_r2 against knee" in written
    assert "| H200-SXM, made-up, vLLM 0.32.0, engine async | TTFT MAPE, light | ≤ 5 % |" in written
    entries = yaml.safe_load(validated.read_text())["errors"]
    assert entries[0]["profile"] == "truth"
    assert entries[0]["case"] == "H200-SXM, made-up, vLLM 0.32.0, engine async"
    assert (entries[0]["regime"], entries[0]["number"]) == ("all", 320)


def test_the_committed_cpu_loads_are_one_case_for_each_engine() -> None:
    cases = {case["case"]: case for case in read_results()}
    sync, starved = cases["cpu-tiny--sync"], cases["cpu-tiny--starved"]
    assert {load["load"] for load in sync["loads"]} >= {"light", "knee", "overload", "prefix", "long"}
    assert sync["deployment"]["profile"] == "cpu--tiny-llama--bf16--tp1--fitted"
    assert not sync["bars"]  # times of a CPU are shown beside its noise, not against a bar
    assert "KV-starved" in starved["groups"]
    # What traffic has and a sweep has not: sizes for the first time, and pauses.
    ratio = {(s["kind"], s["new_size"], s["after_idle"]): s["measured_per_profile"] for s in sync["steps"]}
    assert ratio["mixed", True, None] > 1.2 > ratio["mixed", False, None]
    assert ratio["pure prefill", False, True] > 1.2 > ratio["pure prefill", False, False]


def test_a_machine_of_which_nothing_is_known_shows_its_noise_alone(
    records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captured_load, "best_shipped", lambda *deployment: None)
    monkeypatch.setattr(captured_load, "find_gpu", _unknown)
    figures = {case.name: case for case in find_cases(None, records)}[NAME].judge(None)
    assert figures["notes"] == ["not predicted: unknown GPU"]
    assert figures["groups"] == {}
    assert "noise" in figures["loads"][2]
    assert summary(figures).endswith("nothing to compare")
    assert "Note: not predicted: unknown GPU." in render([figures])


def _unknown(name: str) -> None:
    raise captured_load.CatalogError("unknown GPU")

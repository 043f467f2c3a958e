from pathlib import Path

import pytest

from simulator.records import Recorder, ResultsError, ResultsFolder, read_results


def write(target: Path, seed: int) -> None:
    with ResultsFolder(target) as folder:
        Recorder([], folder.staging).close()
        folder.write_summary({"seed": seed}, "name: spiky\n")
        folder.publish()


def test_results_come_back(tmp_path: Path) -> None:
    write(tmp_path / "deep" / "out", 1)
    results = read_results(tmp_path / "deep" / "out")
    assert results.summary == {"seed": 1}
    assert results.scenario_yaml == "name: spiky\n"
    assert len(results.tables.requests) == 0
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["out"]


def test_an_older_folder_is_replaced_whole(tmp_path: Path) -> None:
    write(tmp_path / "out", 1)
    (tmp_path / "out" / "leftover.png").touch()
    write(tmp_path / "out", 2)
    assert read_results(tmp_path / "out").summary == {"seed": 2}
    assert not (tmp_path / "out" / "leftover.png").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_nothing_and_spares_the_older_folder(
    tmp_path: Path, error: type[BaseException]
) -> None:
    write(tmp_path / "out", 1)

    def run() -> None:
        with ResultsFolder(tmp_path / "out") as folder:
            (folder.staging / "requests.parquet").touch()
            raise error

    with pytest.raises(error):
        run()
    assert read_results(tmp_path / "out").summary == {"seed": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_interrupt_between_the_two_renames_puts_the_older_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "out", 1)
    folder = ResultsFolder(tmp_path / "out")

    import os

    rename = os.rename

    def interrupted(source: Path, target: Path) -> None:
        if source == folder.staging:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr("os.rename", interrupted)
    with pytest.raises(KeyboardInterrupt), folder:
        folder.publish()
    assert read_results(tmp_path / "out").summary == {"seed": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_holds_other_things_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ResultsError, match=r"holds files but no summary\.json"):
        ResultsFolder(tmp_path)
    with pytest.raises(ResultsError, match="is a file"):
        ResultsFolder(tmp_path / "thesis.tex")


def test_json_has_no_nan(tmp_path: Path) -> None:
    with ResultsFolder(tmp_path / "out") as folder, pytest.raises(ValueError, match="not JSON compliant"):
        folder.write_json("x.json", float("nan"))


def test_what_is_no_results_folder_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="is not a results folder"):
        read_results(tmp_path)
    write(tmp_path / "out", 1)
    (tmp_path / "out" / "events.parquet").write_bytes(b"no parquet")
    with pytest.raises(ResultsError, match=r"events\.parquet: cannot be read"):
        read_results(tmp_path / "out")

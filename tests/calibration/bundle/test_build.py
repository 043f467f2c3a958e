import json
import tarfile

import pytest
from packaging.version import Version
from typer.testing import CliRunner

from calibration.bundle import archive
from calibration.bundle import build as build_module
from calibration.bundle.build import build, find_vllm
from calibration.bundle.command import main
from calibration.bundle.errors import BundleError
from calibration.bundle.host import Host
from calibration.bundle.project import Project
from tests.calibration.bundle.synthetic import vllm_wheel, wheel

HOPPER = Host((3, 12), Version("2.11.0"), 90, packages={"numpy": "2"})


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A project of one file, and compression that does not take its time."""
    project = Project("0.1", {"calibration/__init__.py": b""}, [], None)
    monkeypatch.setattr(build_module, "read_project", lambda plan: project)
    monkeypatch.setattr(archive, "_PRESET", 0)


def house(tmp_path):
    folder = tmp_path / "house"
    wheel(folder, "made_up_a", requires=("made-up-b",))
    wheel(folder, "made_up_b")
    wheel(folder, "uvicorn")
    return folder


def test_a_bundle_from_a_folder_of_wheels(tmp_path):
    given = vllm_wheel(tmp_path, requires=("torch==2.11.0", "numpy", "made-up-a", "ijson"))
    wheels = house(tmp_path)
    built = [build(tmp_path / f"{i}.tar", HOPPER, str(given), wheelhouse=wheels) for i in "ab"]
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        names = [name.removeprefix("capture-bundle/") for name in tar.getnames()]
        manifest = json.load(tar.extractfile("capture-bundle/MANIFEST.json"))
    assert names == [
        "MANIFEST.json",
        "libraries/vllm/_C_stable_libtorch.abi3.so.xz",
        "libraries/vllm/spinloop.abi3.so.xz",
        "libraries/vllm/vllm_flash_attn/_vllm_fa3_C.abi3.so.xz",
        "preflight.py",
        "project.tar.xz",
        "start.py",
        "start.sh",
        "vllm.tar.xz",
        "wheels/made_up_a-1.0-py3-none-any.whl",
        "wheels/made_up_b-1.0-py3-none-any.whl",
        "wheels/uvicorn-1.0-py3-none-any.whl",
    ]
    assert manifest["host"]["arch"] == "sm_90"
    assert manifest["requirements_left_out"]["ijson"]
    assert built[0].total_mb == sum(len(m.content) for m in built[0].members) / 1e6


def test_a_package_that_is_left_out(tmp_path):
    given = vllm_wheel(tmp_path, requires=("torch==2.11.0", "made-up-c"))
    built = build(
        tmp_path / "b", HOPPER, str(given), wheelhouse=house(tmp_path), leave_out=["made_up_c", "uvicorn"]
    )
    assert built.wheels == []


def test_over_the_bar_nothing_is_written(tmp_path):
    given = vllm_wheel(tmp_path)
    with pytest.raises(BundleError, match="--max-mb"):
        build(tmp_path / "b.tar", HOPPER, str(given), wheelhouse=house(tmp_path), max_mb=0.001)
    assert not (tmp_path / "b.tar").exists()


def test_the_vllm_wheel_is_a_file_or_a_release(tmp_path):
    given = vllm_wheel(tmp_path)
    assert find_vllm(str(given), lambda wanted: {}) == given
    assert find_vllm("0.26", lambda wanted: {"vllm": given} if wanted == ["vllm==0.26"] else {}) == given
    for bad, reason in (
        ("none.whl", "no such file"),
        ("a/0.26.0", "no such file"),
        ("newest", "neither a file nor"),
    ):
        with pytest.raises(BundleError, match=reason):
            find_vllm(bad, lambda wanted: {})


def test_the_command_says_what_is_wrong_in_one_line(tmp_path):
    import typer

    app = typer.Typer()
    app.command()(main)
    run = CliRunner().invoke
    common = ["--out", str(tmp_path / "b.tar"), "--vllm-wheel", str(vllm_wheel(tmp_path))]
    done = run(app, common)
    assert (done.exit_code, "say --host, or all of" in done.output) == (2, True)
    done = run(app, [*common, "--python", "3.12", "--torch", "2.11", "--arch", "sm_120"])
    assert (done.exit_code, "'sm_120' is not a GPU architecture" in done.output) == (2, True)
    target = ["--python", "3.12", "--torch", "2.11", "--arch", "sm_90", "--wheelhouse"]
    done = run(app, [*common, *target, str(tmp_path / "none")])
    assert (done.exit_code, "no such folder" in done.output) == (2, True)
    done = run(app, [*common, *target, str(house(tmp_path))])
    assert done.exit_code == 0, done.output
    assert "vllm 0.26.0, 1 wheels" in done.output

import subprocess

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from calibration.bundle import requirements
from calibration.bundle.errors import BundleError
from calibration.bundle.host import Host
from calibration.bundle.requirements import PipDownload, lacking, vllm_requirements
from tests.calibration.bundle.synthetic import wheel


def host(**packages):
    return Host((3, 12), Version("2.11"), 90, packages=packages)


class Index:
    """Wheels by name and release; gives the newest that fits, as pip does."""

    def __init__(self, *wheels):
        self.wheels = [
            (p.name.split("-")[0].replace("_", "-"), Version(p.name.split("-")[1]), p) for p in wheels
        ]
        self.asked = []

    def __call__(self, wanted):
        self.asked += wanted
        found = {}
        for requirement in map(Requirement, wanted):
            fitting = [
                (v, p) for n, v, p in self.wheels if n == requirement.name and v in requirement.specifier
            ]
            if not fitting:
                raise BundleError(f"no wheel for this host: {requirement}")
            found[requirement.name] = max(fitting)[1]
        return found


def names(wheels):
    return [wheel.name.rsplit("-", 3)[0] for wheel in wheels]


def roots(*texts):
    return {"vllm": [Requirement(text) for text in texts]}


def test_brings_what_is_lacking_and_what_that_requires(tmp_path):
    index = Index(
        wheel(tmp_path, "a", requires=("b>=1", "c")),
        wheel(tmp_path, "b", requires=("d",)),
        wheel(tmp_path, "d"),
    )
    assert names(lacking(roots("a"), host(c="1"), index)) == ["a-1.0", "b-1.0", "d-1.0"]


def test_a_release_on_the_host_that_does_not_suit_is_replaced(tmp_path):
    index = Index(wheel(tmp_path, "a", "2.0"))
    assert names(lacking(roots("A>=2"), host(a="1.5"), index)) == ["a-2.0"]
    assert lacking(roots("a>=1"), host(a="1.5"), index) == []


def test_a_requirement_that_turns_up_later_fetches_another_release(tmp_path):
    index = Index(
        wheel(tmp_path, "a", "1.0"), wheel(tmp_path, "a", "2.0"), wheel(tmp_path, "b", requires=("a<2",))
    )
    assert names(lacking(roots("a", "b"), host(), index)) == ["a-1.0", "b-1.0"]


def test_extras_that_a_wheel_asks_for_count(tmp_path):
    index = Index(
        wheel(tmp_path, "a", requires=("b[x]",)),
        wheel(tmp_path, "b", requires=('c; extra == "x"',)),
        wheel(tmp_path, "c"),
    )
    assert names(lacking(roots("a"), host(), index)) == ["a-1.0", "b-1.0", "c-1.0"]


def test_torch_and_triton_are_never_brought(tmp_path):
    index = Index(wheel(tmp_path, "a", requires=("torch>=2", "triton")))
    assert names(lacking(roots("a"), host(), index)) == ["a-1.0"]


def test_circles_end(tmp_path):
    index = Index(wheel(tmp_path, "a", requires=("b",)), wheel(tmp_path, "b", requires=("a",)))
    assert names(lacking(roots("a"), host(), index)) == ["a-1.0", "b-1.0"]


def test_requirements_that_contradict_each_other_name_who_has_them(tmp_path):
    index = Index(
        wheel(tmp_path, "a", "1.0"), wheel(tmp_path, "a", "2.0"), wheel(tmp_path, "b", requires=("a<2",))
    )
    with pytest.raises(BundleError, match="a is required by vllm, b"):
        lacking(roots("a>=2", "b"), host(), index)


def test_a_wheel_for_another_python_is_refused(tmp_path):
    index = Index(wheel(tmp_path, "a", tag="cp311-cp311-linux_x86_64"))
    with pytest.raises(BundleError, match=r"the host is CPython 3.12"):
        lacking(roots("a"), host(), index)


def test_what_a_capture_never_imports_is_left_out():
    given = map(
        Requirement, ("opencv-python-headless>=4", "fastapi[standard]<1", "numba==0.65.0", "ijson", "tqdm")
    )
    assert [str(r) for r in vllm_requirements(given, ["tqdm"])] == ["fastapi<1", "numba", "uvicorn"]


def test_pip_takes_wheels_from_a_folder_without_network(tmp_path):
    house = tmp_path / "house"
    wheel(house, "made_up_a", tag="cp312-cp312-manylinux_2_17_x86_64")
    fetch = PipDownload(host(), tmp_path, house)
    found = fetch(["made-up-a>=1"])
    assert found["made-up-a"].is_file()
    with pytest.raises(BundleError, match=r"no wheel for this host: .*made-up-b"):
        fetch(["made-up-b"])


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (
            "WARNING: Retrying … NameResolutionError …\nERROR: No matching distribution found for a",
            "no network",
        ),
        ("/usr/bin/python: No module named pip", "No module named pip"),
        ("", "without a word"),
    ],
)
def test_what_pip_failed_of(tmp_path, monkeypatch, output, reason):
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr=output)
    monkeypatch.setattr(requirements.subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(BundleError, match=reason):
        PipDownload(host(), tmp_path)(["a"])

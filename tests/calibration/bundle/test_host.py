import json
from pathlib import Path

import pytest
from packaging.version import Version

from calibration.bundle import probe
from calibration.bundle.errors import BundleError
from calibration.bundle.host import Host, host_from_options, parse_arch, read_host

HOPPER = Host((3, 12), Version("2.11.0+cu130"), 90, cuda=13)
PROBED = {
    "format": "capture-host",
    "format_version": 1,
    "python": "3.12.3",
    "implementation": "CPython",
    "machine": "x86_64",
    "libc": ["glibc", "2.39"],
    "torch": {"version": "2.11.0+cu130", "cuda": "13.0", "gpu": "NVIDIA H200", "arch": "sm_90"},
    "packages": {"numpy": "2.5.2"},
}


def written(tmp_path, **changed):
    path = tmp_path / "host.json"
    path.write_text(json.dumps({**PROBED, **changed}))
    return path


def test_reads_what_the_probe_wrote(tmp_path):
    host = read_host(written(tmp_path), "3.12", "2.11", "sm_90")
    assert host == Host((3, 12), Version("2.11.0+cu130"), 90, 13, "x86_64", (2, 39), {"numpy": "2.5.2"})


def test_options_stand_in_for_a_probe_and_for_a_gpu_that_it_did_not_see(tmp_path):
    assert host_from_options("3.12", "2.11", "sm_90a") == Host((3, 12), Version("2.11"), 90)
    blind = written(tmp_path, torch={"version": "2.11.0", "cuda": None, "gpu": None, "arch": None})
    assert read_host(blind, None, None, "sm_89").gpu_arch == 89
    with pytest.raises(BundleError, match="saw no GPU; say --arch"):
        read_host(blind, None, None, None)


@pytest.mark.parametrize(
    ("changed", "options", "reason"),
    [
        ({"format": "else"}, (), "not written by"),
        ({"implementation": "PyPy"}, (), "needs CPython"),
        ({"machine": "riscv64"}, (), "machine: 'riscv64'"),
        ({"libc": ["", ""]}, (), "need glibc"),
        ({"torch": {"error": "No module named 'torch'"}}, (), "No module named 'torch'"),
        ({"packages": None}, (), "malformed key"),
        ({}, ("3.11", None, None), "--python 3.11: .* says 3.12"),
        ({}, (None, "2.10", None), "--torch 2.10: .* says 2.11.0"),
        ({}, (None, None, "sm_80"), "--arch sm_80: .* says sm_90"),
        ({"python": "3.10.2"}, (), "Python 3.11 or newer"),
    ],
)
def test_a_host_that_does_not_fit_is_refused(tmp_path, changed, options, reason):
    with pytest.raises(BundleError, match=reason):
        read_host(written(tmp_path, **changed), *(options or (None, None, None)))


def test_a_broken_or_missing_file(tmp_path):
    (tmp_path / "host.json").write_text("{")
    with pytest.raises(BundleError, match="not JSON"):
        read_host(tmp_path / "host.json", None, None, None)
    with pytest.raises(BundleError, match="No such file"):
        read_host(tmp_path / "none.json", None, None, None)


@pytest.mark.parametrize("arch", ["sm_100", "hopper", "sm_", "90b"])
def test_an_unknown_arch_names_the_known_ones(arch):
    with pytest.raises(BundleError, match=r"sm_80, sm_86, sm_89, sm_90"):
        parse_arch(arch)


@pytest.mark.parametrize(
    "name",
    [
        "a-1-py3-none-any.whl",
        "a-1-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "a-1-cp38-abi3-linux_x86_64.whl",
    ],
)
def test_wheels_that_the_host_takes(name):
    assert HOPPER.check_wheel(Path(name)) == ("a", Version("1"))


@pytest.mark.parametrize(
    "name",
    [
        "a-1-cp311-cp311-manylinux_2_17_x86_64.whl",  # another Python
        "a-1-cp312-cp312t-manylinux_2_17_x86_64.whl",  # another ABI
        "a-1-cp312-cp312-manylinux_2_17_aarch64.whl",  # another machine
        "a-1-cp312-cp312-manylinux_2_39_x86_64.whl",  # a newer C library
        "a-1-cp312-cp312-musllinux_1_2_x86_64.whl",
    ],
)
def test_wheels_that_it_does_not(name):
    with pytest.raises(BundleError, match=r"the host is CPython 3.12 on x86_64 with glibc 2.35"):
        HOPPER.check_wheel(Path(name))


def test_not_a_wheels_name():
    with pytest.raises(BundleError, match="not a wheel"):
        HOPPER.check_wheel(Path("a.zip"))


def test_the_probe_describes_this_host(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "_torch", lambda: PROBED["torch"])
    found = probe.describe()
    (tmp_path / "host.json").write_text(json.dumps(found))
    host = read_host(tmp_path / "host.json", None, None, None)
    assert "packaging" in host.packages
    assert host.machine == found["machine"]


def test_the_probe_reports_a_torch_that_does_not_load(monkeypatch):
    monkeypatch.setattr(probe.sys, "executable", "/nowhere/python")
    assert "No such file" in probe._torch()["error"]

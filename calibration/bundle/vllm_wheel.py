"""The part of a vLLM wheel that serves a dense bf16 model on one GPU architecture."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from email.parser import Parser
from pathlib import Path, PurePosixPath
from typing import Any, Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from calibration.bundle import fatbin
from calibration.bundle.errors import BundleError
from calibration.bundle.host import ATTENTION_LIBRARY, Host

KERNELS: Final = ("_C", "_C_stable_libtorch")
"""Libraries of the kernels that every model runs; the second since vLLM 0.20."""

HELPERS: Final = ("cumem_allocator", "spinloop", "fs_io_C")
"""Small libraries without device code that are imported on the way to an engine."""

LEFT_OUT_FOLDERS: Final = (
    "vllm/third_party/deep_gemm/",
    "vllm/third_party/fmha_sm100/",
    "vllm/third_party/tml_fa4/",
)
"""Other kernels' packages: FP8 matrix products, attention of Blackwell GPUs."""

TEXT_SUFFIXES: Final = (".py", ".jinja", ".typed")

_CUDART: Final = re.compile(rb"libcudart\.so\.(\d+)")


@dataclass
class VllmPart:
    """What goes into the bundle.

    Attributes:
        version: vLLM's.
        requirements: of the wheel, as far as they hold on the host, extras left aside.
        files: Python files and metadata, path to content.
        libraries: compiled libraries, pruned, path to content.
        report: what happened to each library, for the manifest.
    """

    version: Version
    requirements: list[Requirement]
    files: dict[str, bytes] = field(default_factory=dict)
    libraries: dict[str, bytes] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)


def read_metadata(wheel: zipfile.ZipFile, name: str) -> Mapping[str, Any]:
    """``METADATA`` of a wheel.

    Raises:
        BundleError: it has none.
    """
    for member in wheel.namelist():
        if re.fullmatch(r"[^/]+\.dist-info/METADATA", member):
            message = Parser().parsestr(wheel.read(member).decode("utf-8", "replace"), headersonly=True)
            return {"Name": message["Name"], "Requires-Dist": message.get_all("Requires-Dist") or []}
    raise BundleError(f"{name}: no dist-info/METADATA: not a wheel")


def requirements_of(
    wheel: zipfile.ZipFile, name: str, host: Host, extras: frozenset[str] = frozenset()
) -> list[Requirement]:
    """Requirements of a wheel that hold on the host, with those of the given extras.

    Raises:
        BundleError: no metadata, or a requirement that is none.
    """
    found = []
    for text in read_metadata(wheel, name)["Requires-Dist"]:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise BundleError(f"{name}: METADATA: Requires-Dist: {error}") from None
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**host.markers, "extra": e}) for e in ("", *extras)):
            found.append(requirement)
    return found


def open_wheel(path: Path) -> zipfile.ZipFile:
    """The wheel as an archive.

    Raises:
        BundleError: missing, truncated or not a zip file.
    """
    try:
        return zipfile.ZipFile(path)
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from None
    except zipfile.BadZipFile as error:
        raise BundleError(f"{path}: not a wheel, or a truncated one: {error}") from None


def read_vllm(path: Path, host: Host) -> VllmPart:
    """The part of the wheel that the host needs, its libraries pruned.

    Raises:
        BundleError: not a vLLM wheel, for another Python, ABI, platform, torch or CUDA, or without kernels for the
            GPU.
    """
    with open_wheel(path) as wheel:
        if read_metadata(wheel, str(path))["Name"] != "vllm":
            raise BundleError(f"{path}: a wheel of {read_metadata(wheel, str(path))['Name']}, not of vllm")
        name, version = host.check_wheel(path)
        if name != "vllm":
            raise BundleError(f"{path}: a wheel of vllm under the name {name}")
        part = VllmPart(version, requirements_of(wheel, str(path), host))
        _check_torch(path, part, host)
        try:
            _read_members(wheel, part, host)
        except (zipfile.BadZipFile, zlib.error) as error:
            raise BundleError(f"{path}: damaged: {error}") from None
    stems = {PurePosixPath(member).name.split(".")[0] for member in part.libraries}
    if not stems & set(KERNELS):
        raise BundleError(f"{path}: no CUDA kernels ({' or '.join(KERNELS)}): a build for another device")
    if ATTENTION_LIBRARY[host.gpu_arch] not in stems:
        raise BundleError(
            f"{path}: no {ATTENTION_LIBRARY[host.gpu_arch]}: no FlashAttention for sm_{host.gpu_arch}"
        )
    return part


def _check_torch(path: Path, part: VllmPart, host: Host) -> None:
    for requirement in part.requirements:
        if requirement.name == "torch" and not requirement.specifier.contains(
            host.torch.public, prereleases=True
        ):
            raise BundleError(
                f"{path}: vllm {part.version} needs torch {requirement.specifier}, the host has {host.torch}"
            )


def _read_members(wheel: zipfile.ZipFile, part: VllmPart, host: Host) -> None:
    wanted = {*KERNELS, *HELPERS, ATTENTION_LIBRARY[host.gpu_arch]}
    left_out = []
    for info in sorted(wheel.infolist(), key=lambda i: i.filename):
        member = PurePosixPath(info.filename)
        if info.is_dir() or info.filename.startswith(LEFT_OUT_FOLDERS):
            continue
        if member.name.endswith(".so"):
            if member.name.split(".")[0] in wanted:
                _take_library(wheel.read(info), info.filename, part, host)
            else:
                left_out.append(info.filename)
        elif member.suffix in TEXT_SUFFIXES or (".dist-info" in member.parts[0] and member.name != "RECORD"):
            part.files[info.filename] = wheel.read(info)
    part.report["left_out"] = left_out + list(LEFT_OUT_FOLDERS)


def _take_library(content: bytes, name: str, part: VllmPart, host: Host) -> None:
    pruned, report = fatbin.prune(content, host.gpu_arch, name)
    cudart = {int(number) for number in _CUDART.findall(content)}
    if host.cuda is not None and cudart and host.cuda not in cudart:
        built = ", ".join(map(str, sorted(cudart)))
        raise BundleError(f"{name}: built for CUDA {built}, the host's torch is for CUDA {host.cuda}")
    if report.containers and report.without_code == report.containers:
        has = ", ".join(f"sm_{arch}" for arch in report.archs) or "none"
        raise BundleError(f"{name}: no machine code for sm_{host.gpu_arch} (has: {has})")
    part.libraries[name] = pruned
    part.report[name] = asdict(report)

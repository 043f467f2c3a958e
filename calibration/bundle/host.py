"""The GPU host that a bundle is for: what it has, and which wheels it takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from calibration.bundle.errors import BundleError
from calibration.bundle.probe import FORMAT, FORMAT_VERSION

ATTENTION_LIBRARY: Final[Mapping[int, str]] = {
    80: "_vllm_fa2_C",
    86: "_vllm_fa2_C",
    89: "_vllm_fa2_C",
    90: "_vllm_fa3_C",
}
"""FlashAttention of each GPU that can be bundled for, by compute capability ×10 (vLLM's
``v1/attention/backends/fa_utils.py``). Blackwell's is compiled on the host by a package of many hundred MB."""

DEFAULT_GLIBC: Final = (2, 35)
"""Of a host that was not probed: Ubuntu 22.04's."""

_OLDEST_MANYLINUX: Final = {"x86_64": (5, {5: "1", 12: "2010", 17: "2014"}), "aarch64": (17, {17: "2014"})}


@dataclass(frozen=True)
class Host:
    """What the bundle depends on.

    Attributes:
        python: minor version, such as (3, 12).
        torch: release installed there, local part (``+cu130``) included where known.
        cuda: major release of torch's CUDA, None where unknown.
        gpu_arch: compute capability ×10.
        machine: ``x86_64`` or ``aarch64``.
        glibc: release.
        packages: installed packages, normalised name to version.
    """

    python: tuple[int, int]
    torch: Version
    gpu_arch: int
    cuda: int | None = None
    machine: str = "x86_64"
    glibc: tuple[int, int] = DEFAULT_GLIBC
    packages: Mapping[str, str] = field(default_factory=dict)

    @property
    def platforms(self) -> list[str]:
        """Platform tags of the wheels that it takes, newest first."""
        oldest, aliases = _OLDEST_MANYLINUX[self.machine]
        names = []
        for minor in range(self.glibc[1], oldest - 1, -1):
            names.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in aliases:
                names.append(f"manylinux{aliases[minor]}_{self.machine}")
        return [*names, f"linux_{self.machine}"]

    @property
    def tags(self) -> frozenset[Tag]:
        """Wheel tags that it takes."""
        interpreter = f"cp{self.python[0]}{self.python[1]}"
        return frozenset(cpython_tags(self.python, platforms=self.platforms)) | frozenset(
            compatible_tags(self.python, interpreter, self.platforms)
        )

    @property
    def markers(self) -> dict[str, str]:
        """Environment that requirement markers are evaluated in."""
        python = f"{self.python[0]}.{self.python[1]}"
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{python}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{python}.0",
            "python_version": python,
            "sys_platform": "linux",
            "extra": "",
        }

    def check_wheel(self, wheel: Path) -> tuple[str, Version]:
        """Name and version of a wheel that this host takes.

        Raises:
            BundleError: no wheel's file name, or for another Python, ABI or platform.
        """
        try:
            name, version, _, tags = parse_wheel_filename(wheel.name)
        except (InvalidWheelFilename, InvalidVersion) as error:
            raise BundleError(f"{wheel}: not a wheel: {error}") from None
        if not tags & self.tags:
            given = ", ".join(sorted(map(str, tags)))
            raise BundleError(
                f"{wheel}: for {given}; the host is CPython {self.python[0]}.{self.python[1]} on "
                f"{self.machine} with glibc {self.glibc[0]}.{self.glibc[1]}"
            )
        return name, version


def parse_arch(text: str) -> int:
    """Compute capability ×10 of ``sm_90`` and the like.

    Raises:
        BundleError: not a GPU that can be bundled for.
    """
    number = text.removeprefix("sm_").rstrip("a")
    if not number.isdigit() or int(number) not in ATTENTION_LIBRARY:
        known = ", ".join(f"sm_{arch}" for arch in ATTENTION_LIBRARY)
        raise BundleError(f"arch: {text!r} is not a GPU architecture that can be bundled for ({known})")
    return int(number)


def host_from_options(python: str, torch: str, arch: str) -> Host:
    """A host of which nothing is known but this; it is taken to have no package but torch and triton."""
    release = _python("--python", python)
    version = _version("--torch", torch)
    return Host(release, version, parse_arch(arch))


def read_host(path: Path, python: str | None, torch: str | None, arch: str | None) -> Host:
    """The host that the probe described; the options must agree with it, and fill in what it lacks.

    Raises:
        BundleError: not a probe's output, a host that cannot be bundled for, or an option that contradicts it.
    """
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise BundleError(f"{path}: not JSON: {error}") from None
    if (
        not isinstance(data, dict)
        or data.get("format") != FORMAT
        or data.get("format_version") != FORMAT_VERSION
    ):
        raise BundleError(
            f"{path}: format: not written by `python -m calibration.bundle probe` of this release"
        )
    try:
        found = _host_of(data, path, torch, arch)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise BundleError(f"{path}: missing or malformed key: {error}") from None
    if python is not None and _python("--python", python) != found.python:
        raise BundleError(f"--python {python}: {path} says {found.python[0]}.{found.python[1]}")
    if torch is not None and _version("--torch", torch).release[:2] != found.torch.release[:2]:
        raise BundleError(f"--torch {torch}: {path} says {found.torch}")
    if arch is not None and parse_arch(arch) != found.gpu_arch:
        raise BundleError(f"--arch {arch}: {path} says sm_{found.gpu_arch}")
    return found


def _host_of(data: Mapping[str, Any], path: Path, torch: str | None, arch: str | None) -> Host:
    if data["implementation"] != "CPython":
        raise BundleError(f"{path}: implementation: {data['implementation']!r}; vLLM needs CPython")
    if data["machine"] not in _OLDEST_MANYLINUX:
        raise BundleError(f"{path}: machine: {data['machine']!r} (known: {', '.join(_OLDEST_MANYLINUX)})")
    library, release = data["libc"]
    if library != "glibc":
        raise BundleError(f"{path}: libc: {library!r}; vLLM's wheels need glibc")
    said = data["torch"]
    if "version" not in said:
        raise BundleError(f"{path}: torch: {said.get('error')}; a bundle does not bring torch")
    gpu_arch = said.get("arch") or arch
    if gpu_arch is None:
        raise BundleError(f"{path}: torch.arch: the probe saw no GPU; say --arch")
    glibc = _version(f"{path}: libc", release).release
    return Host(
        python=_python(f"{path}: python", data["python"]),
        torch=_version(f"{path}: torch", said["version"]),
        gpu_arch=parse_arch(gpu_arch),
        cuda=int(said["cuda"].split(".")[0]) if said.get("cuda") else None,
        machine=data["machine"],
        glibc=(glibc[0], glibc[1]),
        packages=dict(data["packages"]),
    )


def _python(where: str, text: str) -> tuple[int, int]:
    release = _version(where, text).release
    if len(release) < 2 or release < (3, 11):
        raise BundleError(f"{where}: {text!r}; the project needs Python 3.11 or newer, as in 3.12")
    return release[0], release[1]


def _version(where: str, text: str) -> Version:
    try:
        return Version(text)
    except (InvalidVersion, TypeError):
        raise BundleError(f"{where}: {text!r} is not a version") from None

"""Put a bundle together: the project, a pruned vLLM, the wheels that the host lacks, and what starts it there."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from calibration.bundle.archive import (
    Member,
    check_size,
    check_target,
    packed,
    packed_tree,
    with_manifest,
    write_bundle,
)
from calibration.bundle.errors import BundleError
from calibration.bundle.host import Host
from calibration.bundle.project import read_project
from calibration.bundle.requirements import (
    ANY_RELEASE_DOES,
    NOT_NEEDED,
    Fetch,
    PipDownload,
    lacking,
    vllm_requirements,
)
from calibration.bundle.vllm_wheel import VllmPart, read_vllm

ON_HOST: Final = Path(__file__).parent / "on_host"


@dataclass(frozen=True)
class Built:
    """What was built.

    Attributes:
        members: files with the manifest in front.
        total_mb: size of all.
        vllm: release.
        wheels: file names.
    """

    members: list[Member]
    total_mb: float
    vllm: str
    wheels: list[str]


def build(
    out: Path,
    host: Host,
    vllm_wheel: str,
    plan: Path | None = None,
    wheelhouse: Path | None = None,
    leave_out: Iterable[str] = (),
    max_mb: float | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Built:
    """Build a bundle and write it.

    Args:
        out: archive (``.tar``) or folder.
        host: whom it is for.
        vllm_wheel: file, or a release that is fetched.
        plan: what the start script captures unless told otherwise.
        wheelhouse: folder of wheels to use in place of the network.
        leave_out: packages that are not brought although something requires them.
        max_mb: most that it may have.
        say: gets a line for each step.

    Raises:
        BundleError: what is wrong with the input; nothing is written then.
    """
    check_target(out)
    leave_out = {canonicalize_name(name) for name in leave_out}
    project = read_project(plan)
    with tempfile.TemporaryDirectory() as folder:
        fetch = PipDownload(host, Path(folder), wheelhouse)
        path = find_vllm(vllm_wheel, fetch, say)
        say(f"reading {path.name}")
        vllm = read_vllm(path, host)
        say("looking for wheels that the host lacks")
        roots = {
            f"vllm {vllm.version}": vllm_requirements(vllm.requirements, leave_out),
            "the project": [r for r in project.requirements if canonicalize_name(r.name) not in leave_out],
        }
        wheels = [
            Member(f"wheels/{wheel.name}", wheel.read_bytes())
            for wheel in lacking(roots, host, fetch)
            if parse_wheel_filename(wheel.name)[0] not in leave_out
        ]
    say(
        f"compressing {sum(map(len, vllm.libraries.values())) / 1e6:.0f} MB of libraries and the Python files"
    )
    members = [*_packed_members(vllm, project.files), *wheels, *_start_files()]
    about = _about(host, vllm, project.version, project.plan, leave_out)
    complete = with_manifest(members, about)
    total = check_size(complete, max_mb)
    write_bundle(out, complete)
    return Built(complete, total, str(vllm.version), [wheel.path.removeprefix("wheels/") for wheel in wheels])


def find_vllm(given: str, fetch: Fetch, say: Callable[[str], None] = lambda line: None) -> Path:
    """The vLLM wheel: a file, or a release that is fetched.

    Raises:
        BundleError: neither, or not to be had.
    """
    path = Path(given)
    if path.is_file():
        return path
    if path.suffix == ".whl" or path.name != given:
        raise BundleError(f"--vllm-wheel {given}: no such file")
    try:
        release = Version(given)
    except InvalidVersion:
        raise BundleError(f"--vllm-wheel {given}: neither a file nor a release such as 0.26.0") from None
    say(f"fetching vllm {release}")
    found = fetch([f"vllm=={release}"])
    if "vllm" not in found:
        raise BundleError(f"--vllm-wheel {given}: no wheel came")
    return found["vllm"]


def _packed_members(vllm: VllmPart, project: dict[str, bytes]) -> list[Member]:
    # xz lets go of the interpreter's lock; the libraries take a minute or two.
    with ThreadPoolExecutor() as pool:
        libraries = {name: pool.submit(packed, content) for name, content in vllm.libraries.items()}
        trees = {
            name: pool.submit(packed_tree, files)
            for name, files in (("vllm", vllm.files), ("project", project))
        }
        return [
            *(Member(f"libraries/{name}.xz", done.result()) for name, done in libraries.items()),
            *(Member(f"{name}.tar.xz", done.result()) for name, done in trees.items()),
        ]


def _start_files() -> list[Member]:
    names = sorted(path.name for path in ON_HOST.iterdir() if re.fullmatch(r"(?!__)\w+\.(py|sh)", path.name))
    return [Member(name, (ON_HOST / name).read_bytes(), executable=name.endswith(".sh")) for name in names]


def _about(
    host: Host, vllm: VllmPart, version: str, plan: str | None, leave_out: Iterable[str]
) -> dict[str, Any]:
    return {
        "project": version,
        "plan": plan,
        "vllm": str(vllm.version),
        "vllm_libraries": vllm.report,
        "requirements_left_out": {**NOT_NEEDED, **dict.fromkeys(leave_out, "by --leave-out")},
        "requirements_of_any_release": sorted(ANY_RELEASE_DOES),
        "host": {
            "python": f"{host.python[0]}.{host.python[1]}",
            "torch": str(host.torch),
            "cuda": host.cuda,
            "arch": f"sm_{host.gpu_arch}",
            "machine": host.machine,
            "glibc": f"{host.glibc[0]}.{host.glibc[1]}",
        },
    }

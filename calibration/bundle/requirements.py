"""Which wheels the host lacks: what vLLM and the project require, less what is there and what a capture never uses."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from calibration.bundle.errors import BundleError
from calibration.bundle.host import Host
from calibration.bundle.vllm_wheel import open_wheel, requirements_of

COMES_WITH_TORCH: Final = frozenset({"torch", "triton"})
"""A bundle never brings these; vLLM's own pin of torch is checked against the host's."""

ANY_RELEASE_DOES: Final = frozenset({"numba"})
"""Pinned by vLLM, imported on the way to an engine, and never called for a model without speculation."""

NOT_NEEDED: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("torchvision", "torchaudio", "torchcodec", "opencv-python-headless"), "images, video, sound"
    ),
    **dict.fromkeys(("mistral-common", "pynvvideocodec", "soundfile"), "images, video, sound"),
    **dict.fromkeys(
        ("flashinfer-python", "nvidia-cudnn-frontend", "fastsafetensors"), "kernels and loaders not used"
    ),
    **dict.fromkeys(("tilelang", "nvidia-cutlass-dsl", "quack-kernels"), "kernels of other models or GPUs"),
    **dict.fromkeys(
        ("tokenspeed-mla", "humming-kernels", "apache-tvm-ffi", "nvtx"), "kernels of other models or GPUs"
    ),
    **dict.fromkeys(
        ("compressed-tensors", "depyf", "blake3"), "quantised weights, debugging, hashes of media"
    ),
    **dict.fromkeys(("lm-format-enforcer", "outlines-core", "lark", "jsonschema"), "structured output"),
    **dict.fromkeys(("anthropic", "mcp", "ijson", "python-json-logger"), "other APIs, logs as JSON"),
    **dict.fromkeys(("opentelemetry-sdk", "opentelemetry-api"), "traces"),
    **dict.fromkeys(("opentelemetry-exporter-otlp", "opentelemetry-semantic-conventions-ai"), "traces"),
    **dict.fromkeys(("setuptools", "ninja", "tensorizer"), "building, other loaders"),
}
"""Requirements of vLLM that a capture of a dense bf16 text model does not import, and what they are for."""

ALSO_NEEDED: Final = ("uvicorn",)
"""Imported by vLLM's API server, which asks for them by an extra of another package (``fastapi[standard]``)."""

_NO_NETWORK: Final = (
    "NewConnectionError",
    "NameResolutionError",
    "Max retries exceeded",
    "ConnectTimeout",
    "ProxyError",
)
_ROUNDS: Final = 20

Fetch = Callable[[list[str]], Mapping[str, Path]]
"""Gives a wheel for each requirement (a name and a specifier), by normalised name."""


@dataclass(frozen=True)
class Wanted:
    """What is wanted of one package, and by whom."""

    specifier: SpecifierSet
    extras: frozenset[str]
    by: tuple[str, ...]


def vllm_requirements(
    requirements: Iterable[Requirement], leave_out: Iterable[str] = ()
) -> list[Requirement]:
    """Those of vLLM's requirements that a capture uses, without extras and without pins that do not matter."""
    skipped = {*NOT_NEEDED, *map(canonicalize_name, leave_out)}
    kept = []
    for given in [*requirements, *map(Requirement, ALSO_NEEDED)]:
        name = canonicalize_name(given.name)
        if name in skipped:
            continue
        requirement = Requirement(str(given))
        requirement.extras, requirement.marker = set(), None
        if name in ANY_RELEASE_DOES:
            requirement.specifier = SpecifierSet()
        kept.append(requirement)
    return kept


def lacking(roots: Mapping[str, Iterable[Requirement]], host: Host, fetch: Fetch) -> list[Path]:
    """Wheels that the host lacks, by name: the requirements of the roots and of every wheel among them.

    A package that the host has in a fitting release is left to the host, and so are its requirements. In each round
    everything that is missing is fetched at once, in the newest release that fits what is known by then; a
    requirement that turns up later and is not met fetches another release.

    Args:
        roots: who requires what.
        host: what is there.
        fetch: see `Fetch`.

    Raises:
        BundleError: no release satisfies all who require it, or what ``fetch`` raises.
    """
    have: dict[str, str] = {canonicalize_name(name): version for name, version in host.packages.items()}
    chosen: dict[str, Path] = {}
    asked: set[tuple[str, str]] = set()
    for _ in range(_ROUNDS):
        wanted = _closure(roots, chosen, host)
        missing = []
        for name, want in sorted(wanted.items()):
            if name in chosen:
                met = want.specifier.contains(parse_wheel_filename(chosen[name].name)[1], prereleases=True)
            else:
                met = name in COMES_WITH_TORCH or _satisfies(have.get(name), want.specifier)
            if not met:
                missing.append(name)
        if not missing:
            return [chosen[name] for name in sorted(wanted) if name in chosen]
        for name in missing:
            key = (name, str(wanted[name].specifier))
            if key in asked:
                raise BundleError(f"{name}{key[1]}: no release suits all of {', '.join(wanted[name].by)}")
            asked.add(key)
        try:
            found = fetch([f"{name}{wanted[name].specifier}" for name in missing])
        except BundleError as error:
            who = "; ".join(
                f"{name} is required by {', '.join(wanted[name].by)}"
                for name in missing
                if name in str(error)
            )
            raise BundleError(f"{error}{f' ({who})' if who else ''}") from None
        for name in missing:
            if name not in found:
                raise BundleError(
                    f"{name}{wanted[name].specifier}: no wheel came ({', '.join(wanted[name].by)})"
                )
            host.check_wheel(found[name])
            chosen[name] = found[name]
    raise BundleError(f"the requirements did not settle in {_ROUNDS} rounds: {', '.join(missing)}")


def _satisfies(version: str | None, specifier: SpecifierSet) -> bool:
    try:
        return version is not None and specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


def _closure(
    roots: Mapping[str, Iterable[Requirement]], chosen: Mapping[str, Path], host: Host
) -> dict[str, Wanted]:
    wanted: dict[str, Wanted] = {}
    todo = [(requirement, origin) for origin, given in roots.items() for requirement in given]
    expanded: dict[str, frozenset[str]] = {}
    while todo:
        requirement, origin = todo.pop(0)
        name = canonicalize_name(requirement.name)
        before = wanted.get(name, Wanted(SpecifierSet(), frozenset(), ()))
        now = Wanted(
            before.specifier & requirement.specifier,
            before.extras | requirement.extras,
            tuple(dict.fromkeys((*before.by, origin))),
        )
        wanted[name] = now
        if name in chosen and expanded.get(name) != now.extras:
            expanded[name] = now.extras
            with open_wheel(chosen[name]) as wheel:
                needs = requirements_of(wheel, chosen[name].name, host, now.extras)
            todo += [(need, name) for need in needs]
    return wanted


class PipDownload:
    """Fetches wheels for a host with pip, from an index or from a folder of wheels alone.

    Args:
        host: whom they are for.
        into: folder to put them in.
        wheelhouse: folder of wheels to take them from, without network; None for pip's configured index.
    """

    def __init__(self, host: Host, into: Path, wheelhouse: Path | None = None) -> None:
        self._into = into
        self._options = ["--no-deps", "--only-binary=:all:", "--implementation=cp"]
        self._options.append(f"--python-version={host.python[0]}.{host.python[1]}")
        self._options += [f"--platform={platform}" for platform in host.platforms]
        if wheelhouse is not None:
            self._options += ["--no-index", f"--find-links={wheelhouse}"]

    def __call__(self, requirements: list[str]) -> dict[str, Path]:
        """A wheel for each requirement.

        Raises:
            BundleError: no network, no pip, or no wheel for this host.
        """
        folder = Path(tempfile.mkdtemp(dir=self._into))
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--retries=1",
        ]
        done = subprocess.run(
            [*command, *self._options, f"--dest={folder}", *requirements],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BundleError(_reason(done.stdout + done.stderr))
        wheels = sorted(folder.glob("*.whl"))
        return {str(parse_wheel_filename(wheel.name)[0]): wheel for wheel in wheels}


def _reason(output: str) -> str:
    errors = [line.removeprefix("ERROR: ") for line in output.splitlines() if line.startswith("ERROR:")]
    last = errors[-1] if errors else (output.strip().splitlines() or ["pip failed without a word"])[-1]
    if any(sign in output for sign in _NO_NETWORK):
        return f"no network to the package index (name a folder of wheels with --wheelhouse): {last}"
    return f"no wheel for this host: {last}"

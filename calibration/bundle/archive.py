"""The form of a bundle: an archive or a folder of the same members, and what its manifest says of them."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from calibration.bundle.errors import BundleError

FORMAT: Final = "capture-bundle"
FORMAT_VERSION: Final = 1
MANIFEST: Final = "MANIFEST.json"
ROOT: Final = "capture-bundle"
"""Folder that the archive unpacks to."""

_MTIME: Final = 315_532_800  # 1980-01-01: the same members give the same bytes
_PRESET: Final = 9 | lzma.PRESET_EXTREME
_NAMED: Final = 10


class Member(NamedTuple):
    """One file of a bundle."""

    path: str
    content: bytes
    executable: bool = False


def packed_tree(files: Mapping[str, bytes]) -> bytes:
    """The files as a tar archive compressed by xz; the same files give the same bytes."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(files):
            _add(tar, path, files[path], executable=False)
    return packed(plain.getvalue())


def packed(content: bytes) -> bytes:
    """The content compressed by xz as far as it goes."""
    return lzma.compress(content, preset=_PRESET)


def with_manifest(members: Iterable[Member], about: Mapping[str, Any]) -> list[Member]:
    """The members, sorted, with a manifest in front that has the size and sha256 of each."""
    ordered = sorted(members, key=lambda member: member.path)
    listed = [
        {
            "path": member.path,
            "bytes": len(member.content),
            "sha256": hashlib.sha256(member.content).hexdigest(),
        }
        for member in ordered
    ]
    manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, **about, "members": listed}
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    return [Member(MANIFEST, text.encode()), *ordered]


def check_size(members: Iterable[Member], max_mb: float | None) -> float:
    """Size of all members in MB.

    Raises:
        BundleError: more than ``max_mb``; names the largest members.
    """
    ordered = sorted(members, key=lambda member: (-len(member.content), member.path))
    total = sum(len(member.content) for member in ordered) / 1e6
    if max_mb is not None and total > max_mb:
        largest = "\n".join(f"  {len(m.content) / 1e6:8.2f} MB  {m.path}" for m in ordered[:_NAMED])
        raise BundleError(
            f"--max-mb {max_mb:g}: the bundle has {total:.2f} MB; its largest members:\n{largest}"
        )
    return total


def check_target(out: Path) -> None:
    """Refuse a target that holds something other than a bundle.

    Raises:
        BundleError: the target's folder is missing, or it holds something else.
    """
    if not out.parent.is_dir():
        raise BundleError(f"--out {out}: no folder {out.parent}")
    if _is_archive(out):
        if out.is_dir():
            raise BundleError(f"--out {out}: is a folder")
    elif out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / MANIFEST).is_file())):
        raise BundleError(f"--out {out}: holds something that is no bundle")


def write_bundle(out: Path, members: Iterable[Member]) -> None:
    """Write an archive (``out`` ends in ``.tar``) or a folder; it appears whole or not at all.

    Raises:
        BundleError: see `check_target`.
    """
    check_target(out)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        if _is_archive(out):
            with tarfile.open(partial / out.name, "w", format=tarfile.GNU_FORMAT) as tar:
                for member in members:
                    _add(tar, f"{ROOT}/{member.path}", member.content, member.executable)
            os.replace(partial / out.name, out)
        else:
            folder = partial / ROOT
            for member in members:
                path = folder / member.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(member.content)
                path.chmod(0o755 if member.executable else 0o644)
            if out.exists():
                os.replace(out, partial / "old")
            os.replace(folder, out)
    finally:
        shutil.rmtree(partial)


def _is_archive(out: Path) -> bool:
    return out.suffix == ".tar"


def _add(tar: tarfile.TarFile, path: str, content: bytes, executable: bool) -> None:
    info = tarfile.TarInfo(path)
    info.size, info.mtime, info.mode = len(content), _MTIME, 0o755 if executable else 0o644
    tar.addfile(info, io.BytesIO(content))

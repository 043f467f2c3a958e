"""Leave the machine code of other GPUs out of a CUDA shared library.

nvcc puts a library's device code into ELF sections of fat binaries: containers, one behind the other, each with one
entry for each GPU that it was compiled for. The layout is not documented by NVIDIA; it is taken from the headers that
nvcc 13.0 and 12.x write, and every field that is relied on is checked:

- container: magic ``0xBA55ED50`` (u32), version 1 (u16), header bytes 16 (u16), bytes of the entries (u64);
- entry: kind (u16; 1 PTX, 2 machine code), version (u16), header bytes (u32), payload bytes (u64), …, at byte 28 the
  compute capability ×10 (u32), at byte 40 flags (u64; bit 20: for that very GPU only, as in ``sm_90a``).

The wrappers that the loader follows hold the containers' addresses, so containers stay where they are and the file
keeps its size; the freed bytes are zeros, which compress to nothing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from calibration.bundle.errors import BundleError

SECTIONS: Final = (".nv_fatbin", "__nv_relfatbin")

_MAGIC: Final = 0xBA55ED50
_CONTAINER: Final = struct.Struct("<IHHQ")
_ENTRY: Final = struct.Struct("<HHIQ")
_PTX, _MACHINE_CODE = 1, 2
_ARCH_AT, _FLAGS_AT = 28, 40
_THIS_GPU_ONLY: Final = 1 << 20
_ELF64_LITTLE: Final = b"\x7fELF\x02\x01"
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")


class Section(NamedTuple):
    """An ELF section: where its bytes are in the file."""

    name: str
    offset: int
    size: int


class Entry(NamedTuple):
    """One entry of a fat binary, header included."""

    kind: int
    arch: int
    this_gpu_only: bool
    offset: int
    size: int


@dataclass
class PruneReport:
    """What pruning did to one library, in entries and bytes."""

    containers: int = 0
    without_code: int = 0
    """Containers with no machine code for the GPU: their kernels cannot run there, before (but for PTX) or after."""
    kept: int = 0
    kept_bytes: int = 0
    dropped: int = 0
    dropped_bytes: int = 0
    archs: list[int] = field(default_factory=list)
    """Compute capabilities ×10 of the machine code that was found, ascending."""


def elf_sections(data: bytes, name: str) -> list[Section]:
    """Sections of a little-endian ELF64 file.

    Raises:
        BundleError: not such a file, or a truncated one.
    """
    if data[:6] != _ELF64_LITTLE:
        raise BundleError(f"{name}: not a 64-bit little-endian ELF library")
    try:
        (table,) = struct.unpack_from("<Q", data, 0x28)
        entry_size, count, names_at = struct.unpack_from("<HHH", data, 0x3A)
        rows = [_SECTION.unpack_from(data, table + i * entry_size) for i in range(count)]
        if not rows:
            return []
        strings = rows[names_at][4]
        sections = []
        for row in rows:
            start = strings + row[0]
            text = data[start : data.index(b"\0", start)].decode()
            occupies_file = row[1] != 8  # SHT_NOBITS
            if occupies_file and row[4] + row[5] > len(data):
                raise BundleError(f"{name}: section {text} ends behind the end of the file: truncated")
            sections.append(Section(text, row[4], row[5] if occupies_file else 0))
    except (struct.error, IndexError, ValueError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{name}: the table of sections cannot be read: truncated or damaged") from None
    return sections


def runs_on(entry_arch: int, this_gpu_only: bool, gpu_arch: int) -> bool:
    """Whether machine code runs on a GPU: same major compute capability and a minor not above.

    Code for one GPU only (``a``) runs there alone (CUDA C++ Programming Guide, "Binary Compatibility").
    """
    if this_gpu_only:
        return entry_arch == gpu_arch
    return entry_arch // 10 == gpu_arch // 10 and entry_arch <= gpu_arch


def prune(data: bytes, gpu_arch: int, name: str) -> tuple[bytes, PruneReport]:
    """The library with the machine code of one GPU only; as long as before.

    Of each container those entries stay that the driver would choose: machine code for the closest capability.
    PTX goes: it would only be compiled on the host for kernels without machine code there. A container without
    code for the GPU gets the library's smallest entry for another one, so that it stays a well-formed fat binary
    that holds nothing for this GPU.

    Args:
        data: content of the library.
        gpu_arch: compute capability ×10, 90 for ``sm_90``.
        name: of the library, for messages.

    Raises:
        BundleError: not an ELF library, or a fat binary of an unknown form.
    """
    containers = [
        container
        for section in elf_sections(data, name)
        if section.name in SECTIONS
        for container in _containers(data, section, name)
    ]
    entries = [entry for container in containers for entry in container]
    code = [e for e in entries if e.kind == _MACHINE_CODE]
    foreign = [e for e in code if not runs_on(e.arch, e.this_gpu_only, gpu_arch)]
    smallest = min(foreign, key=lambda e: e.size, default=None)
    report = PruneReport(containers=len(containers), archs=sorted({e.arch for e in code}))
    out = bytearray(data)
    for container in containers:
        start, size = container[0].offset, sum(e.size for e in container)
        keep = _chosen(container, gpu_arch)
        if not keep:
            report.without_code += 1
            own = min(container, key=lambda e: (e.kind == _PTX, e.size))
            keep = [smallest if smallest and smallest.size <= size else own]
        kept = b"".join(data[e.offset : e.offset + e.size] for e in keep)
        report.kept += len(keep)
        report.kept_bytes += len(kept)
        out[start : start + size] = kept + bytes(size - len(kept))
        struct.pack_into("<Q", out, start - 8, len(kept))
    report.dropped = len(entries) - report.kept
    report.dropped_bytes = sum(e.size for e in entries) - report.kept_bytes
    return bytes(out), report


def _containers(data: bytes, section: Section, name: str) -> list[list[Entry]]:
    """Entries of each container that has any."""
    at, end = section.offset, section.offset + section.size
    found = []
    while at < end:
        if end - at < _CONTAINER.size:
            if any(data[at:end]):
                raise BundleError(f"{name}: {section.name}: {end - at} bytes behind the last fat binary")
            break
        magic, version, header, size = _CONTAINER.unpack_from(data, at)
        if magic == 0:  # padding between containers
            at += 4
            continue
        where = f"{name}: {section.name} + {at - section.offset:#x}"
        start = at + header
        if magic != _MAGIC or version != 1 or header != _CONTAINER.size or start + size > end:
            raise BundleError(f"{where}: a fat binary of an unknown form")
        entries = _entries(data, start, start + size, where)
        if entries:
            found.append(entries)
        at = start + size
    return found


def _entries(data: bytes, at: int, end: int, where: str) -> list[Entry]:
    entries: list[Entry] = []
    while at < end:
        if end - at < _FLAGS_AT + 8:
            raise BundleError(f"{where}: entry {len(entries)} is cut short")
        kind, _, header, size = _ENTRY.unpack_from(data, at)
        if kind not in (_PTX, _MACHINE_CODE) or header < _FLAGS_AT + 8 or at + header + size > end:
            raise BundleError(f"{where}: entry {len(entries)} is of an unknown form")
        (arch,) = struct.unpack_from("<I", data, at + _ARCH_AT)
        (flags,) = struct.unpack_from("<Q", data, at + _FLAGS_AT)
        entries.append(Entry(kind, arch, bool(flags & _THIS_GPU_ONLY), at, header + size))
        at += header + size
    return entries


def _chosen(entries: list[Entry], gpu_arch: int) -> list[Entry]:
    fitting = [e for e in entries if e.kind == _MACHINE_CODE and runs_on(e.arch, e.this_gpu_only, gpu_arch)]
    closest = max((e.arch for e in fitting), default=0)
    return [e for e in fitting if e.arch == closest]

"""Hand-made inputs: an ELF library with fat binaries in it, and wheels."""

import struct
import zipfile
from pathlib import Path

PTX, CODE = 1, 2
THIS_GPU_ONLY = 1 << 20


def entry(kind: int, arch: int, payload: bytes, flags: int = 0x11) -> bytes:
    payload += bytes(-len(payload) % 8)  # as nvcc aligns it
    head = struct.pack("<HHIQIIHHIIIQQQ", kind, 0x101, 64, len(payload), 0, 0, 0, 0, arch, 0, 0, flags, 0, 0)
    assert len(head) == 64
    return head + payload


def fat_binary(*entries: bytes) -> bytes:
    body = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def elf(fat: bytes, *, rodata: bytes = b"libcudart.so.13\0") -> bytes:
    """A shared library of four sections: none, .rodata, .nv_fatbin, .shstrtab."""
    names = b"\0.rodata\0.nv_fatbin\0.shstrtab\0"
    contents = [b"", rodata + bytes(-len(rodata) % 8), fat, names]
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    offsets, at = [], 64
    for content in contents:
        offsets.append(at)
        at += len(content)
    at += -at % 8
    header = ident + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, at, 0, 64, 0, 0, 64, 4, 3)
    body = b"".join(contents)
    table = b""
    for name, kind, offset, content in zip((0, 1, 9, 20), (0, 1, 1, 3), offsets, contents):
        table += struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, offset, len(content), 0, 0, 8, 0)
    return (header + body).ljust(at, b"\0") + table


def library(*archs: int, payload: bytes = b"machine code") -> bytes:
    return elf(fat_binary(*(entry(CODE, arch, payload + str(arch).encode()) for arch in archs)))


def wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    requires: tuple[str, ...] = (),
    files: dict[str, bytes] | None = None,
    tag: str = "py3-none-any",
    metadata_name: str | None = None,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    lines = ["Metadata-Version: 2.1", f"Name: {metadata_name or name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {text}" for text in requires]
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in (files or {f"{name}/__init__.py": b""}).items():
            archive.writestr(member, content)
        info = f"{name}-{version}.dist-info"
        archive.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


VLLM_FILES = {
    "vllm/__init__.py": b"__version__ = '0.26.0'\n",
    "vllm/py.typed": b"",
    "vllm/template.jinja": b"{{ x }}",
    "vllm/tuned.json": b"{}",
    "vllm/_C_stable_libtorch.abi3.so": library(80, 90, 120),
    "vllm/_moe_C.abi3.so": library(80, 90),
    "vllm/spinloop.abi3.so": elf(b""),
    "vllm/vllm_flash_attn/_vllm_fa2_C.abi3.so": library(80),
    "vllm/vllm_flash_attn/_vllm_fa3_C.abi3.so": library(90),
    "vllm/third_party/deep_gemm/__init__.py": b"",
}
VLLM_TAG = "cp38-abi3-manylinux_2_28_x86_64"


def vllm_wheel(folder: Path, *, requires: tuple[str, ...] = ("torch==2.11.0",), **changed: object) -> Path:
    options: dict = {"files": VLLM_FILES, "tag": VLLM_TAG, **changed}
    return wheel(folder, options.pop("name", "vllm"), "0.26.0", requires=requires, **options)

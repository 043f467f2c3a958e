"""What a capture runs on: device, versions, CPU; nothing that names the machine."""

from __future__ import annotations

import dataclasses
import enum
import importlib.metadata
import os
import platform
import re
import socket
from pathlib import Path
from typing import Any, Final

from simulator.catalog import gpu_ids

_DEPTH: Final = 7
_ADDRESS: Final = re.compile(r"\b(?!127\.0\.0\.1\b)(?!0\.0\.0\.0\b)(?:\d{1,3}\.){3}\d{1,3}\b")


def gpu_id(device_name: str) -> str | None:
    """GPU id of the catalog for a driver's name such as ``NVIDIA A100-SXM4-80GB``; None if it lacks it."""
    words = set(re.split(r"[\s_-]+", device_name.upper().replace("RTX ", "RTX").replace("RTXPRO ", "RTXPRO")))
    words |= {re.sub(r"^SXM\d$", "SXM", word) for word in words}
    best = None
    for known in gpu_ids():
        first, *rest = known.upper().split("-")
        if first not in words or any(part in words for part in ("PCIE", "NVL")):
            continue
        matching = sum(part in words for part in rest)
        sizes = [part for part in rest if part.endswith("GB")]
        if any(size not in words for size in sizes):
            continue
        if best is None or matching > best[0]:
            best = (matching, known)
    return best[1] if best else None


def versions(**more: str | None) -> dict[str, str]:
    """Versions of what times depend on; ``more`` adds (a driver's, say) what no package's metadata tells."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in ("vllm", "torch", "triton", "transformers", "flashinfer-python"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    found |= {name: version for name, version in more.items() if not found.get(name)}
    return {name: value for name, value in found.items() if value}


def host() -> dict[str, Any]:
    """CPU model, cores, memory."""
    facts: dict[str, Any] = {"cores": os.cpu_count(), "machine": platform.machine()}
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        facts["cpu"] = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), None)
        facts["memory_bytes"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        pass  # not Linux: what is known is enough
    return {key: value for key, value in facts.items() if value}


def plain(value: Any, hide: dict[str, str] | None = None) -> Any:
    """Any configuration object as plain JSON, without the machine's name and addresses.

    Args:
        value: dataclasses, enums, mappings and sequences are opened; other objects become text.
        hide: texts to replace, such as paths.
    """
    return _plain(value, hide or {}, 0)


def _plain(value: Any, hide: dict[str, str], depth: int) -> Any:
    if isinstance(value, enum.Enum):
        return value.name
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _hidden(value, hide)
    if depth > _DEPTH:
        return _hidden(str(value)[:200], hide)
    if isinstance(value, dict):
        return {_hidden(str(key), hide): _plain(item, hide, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, hide, depth + 1) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name, None), hide, depth + 1)
            for field in dataclasses.fields(value)
        }
    if hasattr(value, "to_dict"):
        return _plain(value.to_dict(), hide, depth + 1)
    return re.sub(r" at 0x[0-9a-f]+", "", _hidden(str(value)[:200], hide))


def _hidden(text: str, hide: dict[str, str]) -> str:
    for secret, shown in {**hide, socket.gethostname(): "<host>", str(Path.home()): "~"}.items():
        if len(secret) > 2:
            text = text.replace(secret, shown)
    return _ADDRESS.sub("<address>", text)

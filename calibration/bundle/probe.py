"""Describe this host for the builder of a bundle. Needs the standard library only, so copy this file there alone.

python3 probe.py > host.json
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from typing import Any

FORMAT = "capture-host"
FORMAT_VERSION = 1


def _packages() -> dict[str, str]:
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:  # the first on the path is the one that is imported
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), distribution.version)
    return dict(sorted(found.items()))


def _torch() -> dict[str, Any]:
    """What torch says in a process of its own: a broken one must not end the probe."""
    code = (
        "import json, torch; c = torch.cuda.is_available(); print(json.dumps(dict(version=torch.__version__, "
        "cuda=torch.version.cuda, gpu=torch.cuda.get_device_name() if c else None, "
        "arch='sm_%d%d' % torch.cuda.get_device_capability() if c else None)))"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
        )
        lines = done.stdout.strip().splitlines()
        if done.returncode == 0 and lines:
            answer: dict[str, Any] = json.loads(lines[-1])
            return answer
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return {"error": str(error)}


def _gpus() -> list[str]:
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def describe() -> dict[str, Any]:
    """What a bundle for this host depends on; nothing that names the machine."""
    packages = _packages()
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "machine": platform.machine(),
        "libc": list(platform.libc_ver()),
        "torch": _torch(),
        "triton": packages.get("triton"),
        "gpus": _gpus(),
        "compiler": bool(shutil.which("gcc") or shutil.which("cc")),
        "python_headers": os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")),
        "free_gb": shutil.disk_usage(os.getcwd()).free // 10**9,
        "packages": packages,
    }


def main() -> None:
    json.dump(describe(), sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()

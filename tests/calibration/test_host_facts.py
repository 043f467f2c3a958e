import enum
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from calibration.host_facts import gpu_id, host, plain, versions


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("NVIDIA H200", "H200-SXM"),
        ("NVIDIA H100 80GB HBM3", "H100-SXM"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB-SXM"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB-SXM"),
        ("NVIDIA B200", "B200-SXM"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTXPRO6000"),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA H100 NVL", None),
        ("Tesla T4", None),
    ],
)
def test_gpu_ids(name: str, found: str | None) -> None:
    assert gpu_id(name) == found


class Mode(enum.Enum):
    FULL = 2


@dataclass
class Inner:
    path: str
    mode: Mode
    sizes: tuple[int, ...]


def test_plain_json_names_no_machine() -> None:
    value: dict[Any, Any] = {
        "inner": Inner(f"{Path.home()}/models/x", Mode.FULL, (1, 2)),
        "address": "tcp://192.0.2.7:80",
        "loopback": "127.0.0.1",
        "host": f"on {socket.gethostname()}.",
        3: object(),
    }
    told = plain(value, {"/models/": "/m/"})
    assert told["inner"] == {"path": "~/m/x", "mode": "FULL", "sizes": [1, 2]}
    assert told["address"] == "tcp://<address>:80"
    assert told["loopback"] == "127.0.0.1"
    assert told["3"] == "<object object>"
    json.dumps(told)


def test_versions_and_host() -> None:
    assert versions(driver="580.1")["driver"] == "580.1"
    assert "driver" not in versions(driver=None)
    assert versions(python="1")["python"] != "1"
    assert host()["cores"] >= 1

import json
from pathlib import Path

import pyarrow as pa
import pytest

from calibration.capture_format import (
    DEVICE,
    REQUESTS,
    STEPS,
    CaptureError,
    CaptureManifest,
    read_capture,
    write_capture,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    manifest = CaptureManifest(
        plan="p",
        created="2026-01-01T00:00:00Z",
        gpu="CPU",
        device_name="a CPU",
        versions={"vllm": "0.32.0"},
        host={"cores": 2},
        engines=[],
        stages=[],
    )
    step = {field.name: [1, 2] if pa.types.is_list(field.type) else 1 for field in STEPS}
    write_capture(
        tmp_path,
        manifest,
        pa.Table.from_pylist([step], STEPS),
        REQUESTS.empty_table(),
        DEVICE.empty_table(),
    )
    return tmp_path


def test_reads_what_it_wrote(folder: Path) -> None:
    capture = read_capture(folder)
    assert capture.manifest.plan == "p"
    assert capture.steps.num_rows == 1
    assert capture.steps["requests"][0].as_py() == [1, 2]
    assert not list(folder.glob("*.partial"))


def test_truncated_table(folder: Path) -> None:
    path = folder / "steps.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CaptureError, match=r"steps\.parquet: sha256 differs"):
        read_capture(folder)


def test_missing_table(folder: Path) -> None:
    (folder / "device.parquet").unlink()
    with pytest.raises(CaptureError, match=r"device\.parquet: No such file"):
        read_capture(folder)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("format", "other", "format: not a capture"),
        ("format_version", 2, "format_version: 2; this release reads 1"),
        ("gpu", None, "gpu: "),
        ("surprise", 1, "surprise: "),
    ],
)
def test_foreign_manifest(folder: Path, key: str, value: object, reason: str) -> None:
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    data[key] = value
    path.write_text(json.dumps(data))
    with pytest.raises(CaptureError, match=reason):
        read_capture(folder)


def test_no_capture(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"manifest\.json: No such file"):
        read_capture(tmp_path)

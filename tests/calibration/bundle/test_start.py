"""The start script in a process of its own, with a bundle for this Python and checks that need nothing."""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import pytest

from calibration.bundle.archive import Member, packed, packed_tree, with_manifest, write_bundle
from calibration.bundle.build import ON_HOST
from tests.calibration.bundle.synthetic import wheel

CAPTURE = b"""
import json, os, sys, time, pathlib
import made_up_a
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir(parents=True, exist_ok=True)
(out / "said.json").write_text(json.dumps([sys.argv[1:], os.environ["HF_HUB_OFFLINE"], made_up_a.X]))
if "--slow" in sys.argv:
    (out / "started").touch()
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        sys.exit(130)
sys.exit(5 if "--fail" in sys.argv else 0)
"""
PREFLIGHT = b"""
import json, os, sys
status = os.environ.get("CHECK_" + sys.argv[1].upper(), "ok")
if status == "crash":
    os.abort()
print("RESULT", json.dumps({sys.argv[1]: {"status": status, "detail": "-"}}))
"""


@pytest.fixture
def bundle(tmp_path):
    """A bundle, unpacked."""
    with_data = {"made_up_a-1.0.data/purelib/made_up_a.py": b"X = 7\n", "made_up_a-1.0.data/scripts/x": b""}
    host = {"python": "{}.{}".format(*sys.version_info), "machine": platform.machine(), "arch": "sm_90"}
    plan = "calibration/plans/p.yaml"
    files = {"calibration/__init__.py": b"", "calibration/capture.py": CAPTURE, plan: b""}
    members = [
        Member("project.tar.xz", packed_tree(files)),
        Member("vllm.tar.xz", packed_tree({"vllm/__init__.py": b""})),
        Member("libraries/vllm/_C.abi3.so.xz", packed(b"code")),
        Member(
            "wheels/made_up_a-1.0-py3-none-any.whl",
            wheel(tmp_path, "made_up_a", files=with_data).read_bytes(),
        ),
        Member("start.py", (ON_HOST / "start.py").read_bytes()),
        Member("start.sh", (ON_HOST / "start.sh").read_bytes(), executable=True),
        Member("preflight.py", PREFLIGHT),
    ]
    about = {"vllm": "0.26.0", "plan": plan, "host": host}
    write_bundle(tmp_path / "bundle", with_manifest(members, about))
    return tmp_path / "bundle"


def start(bundle, *options, **environment):
    env = {**os.environ, "PYTHON": sys.executable, **environment}
    command = [str(bundle / "start.sh"), "--out", str(bundle.parent / "out"), *options]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def said(bundle):
    return json.loads((bundle.parent / "out" / "capture" / "said.json").read_text())


def test_checks_unpacks_captures_and_packs(bundle):
    done = start(bundle)
    assert done.returncode == 0, done.stderr
    plan, out = bundle / "site" / "calibration" / "plans" / "p.yaml", bundle.parent / "out"
    assert said(bundle) == [["--plan", str(plan), "--out", str(out / "capture")], "1", 7]
    assert (bundle / "site" / "vllm" / "_C.abi3.so").read_bytes() == b"code"
    with tarfile.open(bundle.parent / "out.tar.gz") as tar:
        assert {"out/capture/said.json", "out/preflight.json", "out/bundle.json"} <= set(tar.getnames())
    assert not (bundle / "site.partial").exists()


def test_a_second_run_resumes_with_what_is_unpacked(bundle):
    start(bundle, "--check-only")
    done = start(bundle, "--resume", "--plan", "p", "--", "--extra", "1")
    assert "unpacked into" not in done.stdout
    assert said(bundle)[0][-3:] == ["--resume", "--extra", "1"]


def test_a_failed_check_stops_unless_forced(bundle):
    for status in ("failed", "crash"):
        done = start(bundle, CHECK_KERNELS=status)
        assert (done.returncode, "failed: kernels" in done.stderr) == (3, True)
    assert json.loads((bundle.parent / "out" / "preflight.json").read_text())["engine"]["status"] == "ok"
    assert not (bundle.parent / "out" / "capture").exists()
    assert (bundle.parent / "out.tar.gz").is_file()
    assert start(bundle, "--force", CHECK_KERNELS="failed").returncode == 0


def test_without_a_gpu_checks_pass_and_nothing_is_captured(bundle):
    done = start(bundle, CHECK_ENGINE="left out")
    assert (done.returncode, "no GPU; nothing captured" in done.stderr) == (3, True)
    assert start(bundle, "--check-only", CHECK_ENGINE="left out").returncode == 0


def test_the_captures_exit_code_is_the_scripts_and_results_are_packed(bundle):
    assert start(bundle, "--", "--fail").returncode == 5
    assert (bundle.parent / "out.tar.gz").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_capture_is_packed(bundle, number):
    command = [str(bundle / "start.sh"), "--out", str(bundle.parent / "out"), "--", "--slow"]
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHON": sys.executable}, start_new_session=True, stdout=subprocess.PIPE
    )
    started, limit = bundle.parent / "out" / "capture" / "started", time.monotonic() + 50
    while not started.exists():
        assert time.monotonic() < limit
        time.sleep(0.05)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert (bundle.parent / "out.tar.gz").is_file()


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda b: (b / "vllm.tar.xz").write_bytes(b""), "vllm.tar.xz: 0 bytes, the manifest says"),
        (lambda b: (b / "preflight.py").write_bytes(PREFLIGHT[::-1]), "preflight.py: sha256 differs"),
        (lambda b: (b / "project.tar.xz").unlink(), "project.tar.xz: missing"),
        (lambda b: (b / "MANIFEST.json").write_text("{}"), "not a bundle's manifest"),
        (lambda b: (b / "site").mkdir(), "was not unpacked from a bundle"),
    ],
)
def test_a_damaged_bundle_is_refused(bundle, harm, reason):
    harm(bundle)
    done = start(bundle)
    assert (done.returncode, reason in done.stderr) == (2, True), done.stderr
    assert not (bundle.parent / "out").exists()


@pytest.mark.parametrize(
    ("key", "value", "reason"), [("python", "3.9", "set PYTHON"), ("machine", "vax", "the bundle is for vax")]
)
def test_another_host_is_refused(bundle, key, value, reason):
    manifest = json.loads((bundle / "MANIFEST.json").read_text())
    manifest["host"][key] = value
    (bundle / "MANIFEST.json").write_text(json.dumps(manifest))
    done = start(bundle)
    assert (done.returncode, reason in done.stderr) == (2, True)


def test_an_unknown_plan(bundle):
    done = start(bundle, "--plan", "none")
    assert (done.returncode, "neither a file nor a plan" in done.stderr) == (2, True)


def test_another_bundle_replaces_what_is_unpacked(bundle):
    start(bundle, "--check-only")
    manifest = json.loads((bundle / "MANIFEST.json").read_text())
    (bundle / "MANIFEST.json").write_text(json.dumps({**manifest, "project": "2"}))
    (bundle / "site" / "stale").touch()
    assert "unpacked into" in start(bundle, "--check-only").stdout
    assert not (bundle / "site" / "stale").exists()
    shutil.rmtree(bundle / "site")

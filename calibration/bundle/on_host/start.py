"""Run a bundle on the GPU host: check it, unpack it, try the host, capture, pack the results to carry home.

Needs the standard library alone. Exit codes: 0 done; 2 the bundle, an option or the host does not fit; 3 a check of
the host failed and nothing was captured; otherwise that of the capture.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

BUNDLE = Path(__file__).resolve().parent
CHECKS = ("imports", "versions", "kernels", "compile", "engine")
CHECK_LIMIT_S = 300
LEFT_OUT = "left out"

ENVIRONMENT = {
    # One process group on a host without network: everything talks over the loopback.
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
}


class UnfitError(Exception):
    """The bundle is damaged, or not for this host."""


def read_manifest(bundle: Path) -> dict[str, Any]:
    """The manifest, once every member is what it says."""
    path = bundle / "MANIFEST.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        members = manifest["members"]
        if manifest["format"] != "capture-bundle":
            raise UnfitError(f"{path}: format: not a bundle's manifest")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnfitError(f"{path}: not a bundle's manifest: {error}") from None
    for member in members:
        file = bundle / member["path"]
        if not file.is_file():
            raise UnfitError(f"{file}: missing")
        size = file.stat().st_size
        if size != member["bytes"]:
            raise UnfitError(
                f"{file}: {size} bytes, the manifest says {member['bytes']}: truncated in transfer?"
            )
        if sha256(file) != member["sha256"]:
            raise UnfitError(f"{file}: sha256 differs from the manifest's")
    return manifest


def sha256(path: Path) -> str:
    """Digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def check_interpreter(manifest: dict[str, Any]) -> None:
    """Whether this interpreter can load what the bundle holds."""
    wanted = manifest["host"]
    has = ".".join(platform.python_version_tuple()[:2])
    if has != wanted["python"]:
        raise UnfitError(
            f"this is Python {has} ({sys.executable}), the bundle is for {wanted['python']}; set PYTHON"
        )
    if platform.machine() != wanted["machine"]:
        raise UnfitError(f"this host is {platform.machine()}, the bundle is for {wanted['machine']}")
    try:
        import lzma  # noqa: F401, PLC0415 - some builds of Python lack it
    except ImportError:
        raise UnfitError(
            f"{sys.executable} was built without lzma, which the bundle is packed with"
        ) from None


def unpack(bundle: Path, site: Path, manifest: dict[str, Any]) -> None:
    """Everything to import into ``site``, which appears whole; one that is there of this bundle stays."""
    import lzma  # noqa: PLC0415

    mark, name = site / ".bundle", sha256(bundle / "MANIFEST.json")
    if mark.is_file() and mark.read_text() == name:
        return
    if site.exists() and not mark.is_file():
        raise UnfitError(
            f"{site}: exists and was not unpacked from a bundle; name another folder with --site"
        )
    started, partial = time.monotonic(), site.with_name(site.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for member in manifest["members"]:
            path = bundle / member["path"]
            if path.name.endswith(".tar.xz"):
                with tarfile.open(path, "r:xz") as tar:
                    tar.extractall(partial, filter="data")
            elif path.suffix == ".whl":
                unpack_wheel(path, partial)
            elif path.suffix == ".xz":
                target = partial / path.relative_to(bundle / "libraries").with_suffix("")
                target.parent.mkdir(parents=True, exist_ok=True)
                with lzma.open(path) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
                target.chmod(0o755)
        subprocess.run(
            [sys.executable, "-m", "compileall", "-q", "-j", "0", str(partial)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        (partial / ".bundle").write_text(name)
        shutil.rmtree(site, ignore_errors=True)
        partial.rename(site)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"unpacked into {site} in {time.monotonic() - started:.0f} s", flush=True)


def unpack_wheel(wheel: Path, site: Path) -> None:
    """What an installer would put on the path; scripts and headers are left out."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            parts = name.split("/")
            target = parts
            if parts[0].endswith(".data"):
                if len(parts) < 3 or parts[1] not in ("purelib", "platlib"):
                    continue
                target = parts[2:]
            if name.endswith("/") or ".." in parts or name.startswith("/"):
                continue
            path = site.joinpath(*target)
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, path.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


def environment(site: Path, caches: Path) -> dict[str, str]:
    """Environment of the checks and of the capture."""
    env = {**os.environ, **ENVIRONMENT}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    for name, folder in (
        ("VLLM_CACHE_ROOT", "vllm"),
        ("TORCHINDUCTOR_CACHE_DIR", "inductor"),
        ("TRITON_CACHE_DIR", "triton"),
    ):
        env.setdefault(name, str(caches / folder))
    return env


def run_checks(bundle: Path, out: Path, env: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Each check in a process of its own, so that a crash or a hang in one hides no other."""
    results: dict[str, dict[str, Any]] = {}
    for name in CHECKS:
        started = time.monotonic()
        command = [sys.executable, str(bundle / "preflight.py"), name, str(bundle / "MANIFEST.json")]
        with (out / f"check-{name}.log").open("w+", encoding="utf-8", errors="replace") as log:
            status = run_limited(command, out, env, log)
            log.seek(0)
            lines = log.read().strip().splitlines()
        result = next((json.loads(line[7:]) for line in reversed(lines) if line.startswith("RESULT ")), None)
        if result is None:
            detail = f"{status}: {(lines or ['no output'])[-1]}"
            result = {name: {"status": "failed", "detail": detail}}
        for check, said in result.items():
            results[check] = said
            print(f"  {said['status']:8s}  {check}: {said['detail']}", flush=True)
        print(f"            ({name}: {time.monotonic() - started:.0f} s)", flush=True)
    (out / "preflight.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return results


def run_limited(command: list[str], folder: Path, env: dict[str, str], log: Any) -> str:
    """Run a check to its end or its limit; it leaves no process behind."""
    process = subprocess.Popen(
        command, env=env, cwd=folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        return f"ended with {process.wait(CHECK_LIMIT_S)}"
    except subprocess.TimeoutExpired:
        return f"ended after {CHECK_LIMIT_S} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def capture(plan: Path, out: Path, resume: bool, more: list[str], env: dict[str, str]) -> int:
    """Run the capture to its end; Ctrl-C and SIGTERM are for it, and it keeps what it has."""
    command = [
        sys.executable,
        "-m",
        "calibration.capture",
        "--plan",
        str(plan),
        "--out",
        str(out / "capture"),
    ]
    command += ["--resume"] * resume + more
    print(" ".join(command[1:]), flush=True)
    process = subprocess.Popen(command, env=env, cwd=out)  # -m imports from its folder first
    previous = {
        signal.SIGINT: signal.signal(
            signal.SIGINT, signal.SIG_IGN
        ),  # the terminal sends it to the capture too
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number)),
    }
    try:
        status = process.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 128 - status if status < 0 else status


def pack_results(out: Path, bundle: Path) -> Path:
    """The results and the bundle's manifest in one archive beside the folder."""
    shutil.copyfile(bundle / "MANIFEST.json", out / "bundle.json")
    archive, partial = out.with_name(out.name + ".tar.gz"), out.with_name(out.name + ".tar.gz.partial")
    with tarfile.open(partial, "w:gz") as tar:
        tar.add(out, arcname=out.name)
    partial.replace(archive)
    return archive


def options(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="start.sh", description="Check, unpack and run this bundle.")
    parser.add_argument(
        "--plan", help="plan in place of the bundle's: a file, or a name among calibration/plans"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("capture-results"), help="folder of the results (%(default)s)"
    )
    parser.add_argument(
        "--site", type=Path, default=BUNDLE / "site", help="folder to unpack into (beside this script)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted capture")
    parser.add_argument("--check-only", action="store_true", help="stop after the checks")
    parser.add_argument("--force", action="store_true", help="capture although a check failed")
    parser.add_argument("more", nargs="*", help="further options of calibration.capture, after --")
    return parser.parse_args(arguments)


def find_plan(given: str | None, site: Path, manifest: dict[str, Any]) -> Path:
    """The plan to capture."""
    plans = site / "calibration" / "plans"
    if given is None:
        if manifest["plan"] is None:
            known = ", ".join(sorted(path.stem for path in plans.glob("*.yaml"))) or "none"
            raise UnfitError(f"--plan: the bundle was built without one; it has: {known}")
        return site / str(manifest["plan"])
    for path in (Path(given).resolve(), plans / given, plans / f"{given}.yaml"):
        if path.is_file():
            return path
    raise UnfitError(f"--plan {given}: neither a file nor a plan in {plans}")


def main(arguments: list[str]) -> int:
    """Run the script; its exit code."""
    given = options(arguments)
    out, site = given.out.resolve(), given.site.resolve()
    try:
        manifest = read_manifest(BUNDLE)
        print(f"{len(manifest['members'])} members as in the manifest; vllm {manifest['vllm']}", flush=True)
        check_interpreter(manifest)
        unpack(BUNDLE, site, manifest)
        plan = None if given.check_only else find_plan(given.plan, site, manifest)
        out.mkdir(parents=True, exist_ok=True)
    except (UnfitError, OSError) as error:
        print(f"start: {error}", file=sys.stderr)
        return 2
    env = environment(site, site.with_name(site.name + "-caches"))
    results = run_checks(BUNDLE, out, env)
    failed = [name for name, said in results.items() if said["status"] == "failed"]
    status = 0
    if plan is None:
        status = 3 if failed else 0
    elif failed and not given.force:
        print(
            f"start: failed: {', '.join(failed)}; nothing captured (--force captures all the same)",
            file=sys.stderr,
        )
        status = 3
    elif any(said["status"] == LEFT_OUT for said in results.values()) and not given.force:
        print("start: no GPU; nothing captured (--force captures all the same)", file=sys.stderr)
        status = 3
    else:
        status = capture(plan, out, given.resume, given.more, env)
    print(f"results: {pack_results(out, BUNDLE)}", flush=True)
    return status


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("start: interrupted", file=sys.stderr)
        sys.exit(130)

import hashlib
import io
import json
import tarfile

import pytest

from calibration.bundle.archive import Member, check_size, packed_tree, with_manifest, write_bundle
from calibration.bundle.errors import BundleError

MEMBERS = [Member("z/data", b"zzz"), Member("start.sh", b"#!/bin/sh\n", executable=True)]


def test_the_manifest_has_size_and_digest_of_each_member():
    manifest, *rest = with_manifest(MEMBERS, {"vllm": "0.26.0"})
    said = json.loads(manifest.content)
    assert [m.path for m in rest] == ["start.sh", "z/data"]
    assert said["members"][1] == {"path": "z/data", "bytes": 3, "sha256": hashlib.sha256(b"zzz").hexdigest()}
    assert said["vllm"] == "0.26.0"


def test_the_same_members_give_the_same_bytes(tmp_path):
    for name, members in (("a.tar", MEMBERS), ("b.tar", MEMBERS[::-1])):
        write_bundle(tmp_path / name, with_manifest(members, {}))
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        start = tar.getmember("capture-bundle/start.sh")
        assert (start.mode, start.mtime, start.uid, start.uname) == (0o755, 315_532_800, 0, "")


def test_a_packed_tree_does_not_depend_on_the_order():
    one, other = packed_tree({"a": b"1", "b/c": b"2"}), packed_tree({"b/c": b"2", "a": b"1"})
    assert one == other
    with tarfile.open(fileobj=io.BytesIO(one), mode="r:xz") as tar:
        assert tar.getnames() == ["a", "b/c"]


def test_a_folder_holds_the_same(tmp_path):
    out = tmp_path / "bundle"
    for content in (b"old", b"new"):
        write_bundle(out, with_manifest([Member("x", content), *MEMBERS], {}))
    assert (out / "x").read_bytes() == b"new"
    assert (out / "start.sh").stat().st_mode & 0o111
    assert list(tmp_path.iterdir()) == [out]


def test_other_peoples_files_are_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    (tmp_path / "dir.tar").mkdir()
    for target in ("mine", "dir.tar", "none/b.tar", "mine/file"):
        with pytest.raises(BundleError, match="--out"):
            write_bundle(tmp_path / target, MEMBERS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dir.tar", "mine"]


def test_nothing_is_left_of_a_write_that_fails(tmp_path):
    with pytest.raises(TypeError):
        write_bundle(tmp_path / "a.tar", [*MEMBERS, Member("bad", None)])
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_over_the_bar_names_its_largest_members():
    members = [Member(f"m{i:02}", bytes(i * 1000)) for i in range(1, 13)]
    assert check_size(members, 0.078) == pytest.approx(0.078)
    with pytest.raises(BundleError, match=r"--max-mb 0.05: the bundle has 0.08 MB") as caught:
        check_size(members, 0.05)
    named = [line.split()[-1] for line in str(caught.value).splitlines()[1:]]
    assert named == [f"m{i:02}" for i in range(12, 2, -1)]

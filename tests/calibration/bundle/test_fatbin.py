import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.bundle.errors import BundleError
from calibration.bundle.fatbin import elf_sections, prune, runs_on
from tests.calibration.bundle.synthetic import CODE, PTX, THIS_GPU_ONLY, elf, entry, fat_binary

A80, A90, A90A = (
    entry(CODE, 80, b"eighty"),
    entry(CODE, 90, b"ninety"),
    entry(CODE, 90, b"a", 0x11 | THIS_GPU_ONLY),
)
P80, A120 = entry(PTX, 80, b"ptx"), entry(CODE, 120, b"one hundred and twenty")


def section(data):
    (found,) = [s for s in elf_sections(data, "lib.so") if s.name == ".nv_fatbin"]
    return data[found.offset : found.offset + found.size]


def test_keeps_only_the_gpus_code_at_the_front_and_zeroes_the_rest():
    data = elf(fat_binary(A80, P80, A90, A120, A90A))
    pruned, report = prune(data, 90, "lib.so")
    kept = fat_binary(A90, A90A)
    assert section(pruned) == kept + bytes(len(A80) + len(P80) + len(A120))
    assert len(pruned) == len(data)
    assert (report.containers, report.without_code, report.kept, report.dropped) == (1, 0, 2, 3)
    assert report.kept_bytes == len(A90) + len(A90A)
    assert report.dropped_bytes == len(A80) + len(P80) + len(A120)
    assert report.archs == [80, 90, 120]


def test_containers_stay_where_they_are():
    first, second = fat_binary(A80, A90), fat_binary(A120, A90)
    pruned, _ = prune(elf(first + second), 90, "lib.so")
    assert section(pruned)[len(first) :].startswith(fat_binary(A90))


def test_takes_the_closest_code_that_runs():
    """sm_86 runs code for sm_80, but the driver takes that for sm_86 where there is some."""
    a86 = entry(CODE, 86, b"eighty-six")
    pruned, _ = prune(elf(fat_binary(A80, a86) + fat_binary(A90, A80)), 86, "lib.so")
    second = len(fat_binary(A80, a86))
    assert section(pruned).startswith(fat_binary(a86))
    assert section(pruned)[second:].startswith(fat_binary(A80))


def test_a_container_without_code_for_the_gpu_gets_the_smallest_foreign_entry():
    big = entry(CODE, 120, bytes(range(200)))
    pruned, report = prune(elf(fat_binary(big, P80) + fat_binary(A80, A90)), 90, "lib.so")
    assert section(pruned).startswith(fat_binary(A80))
    assert report.without_code == 1


def test_one_too_small_for_that_keeps_its_own():
    small = fat_binary(entry(PTX, 80, b""))
    pruned, _ = prune(elf(small + fat_binary(A80)), 90, "lib.so")
    assert section(pruned) == small + fat_binary(A80)


def test_padding_between_containers_and_a_library_without_device_code():
    padded = fat_binary(A80, A90) + bytes(8) + fat_binary(A90) + bytes(12)
    assert prune(elf(padded), 90, "lib.so")[1].containers == 2
    plain = elf(b"")
    assert prune(plain, 90, "lib.so") == (plain, prune(plain, 90, "lib.so")[1])


@pytest.mark.parametrize(
    ("arch", "only", "gpu", "runs"),
    [
        (80, False, 86, True),
        (86, False, 80, False),
        (80, False, 90, False),
        (90, True, 90, True),
        (80, True, 86, False),
    ],
)
def test_binary_compatibility(arch, only, gpu, runs):
    assert runs_on(arch, only, gpu) is runs


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"MZ" + bytes(100), "not a 64-bit"),
        (elf(fat_binary(A90))[:-70], "truncated"),
        (elf(b"\x01" + fat_binary(A90)), "unknown form"),
        (elf(fat_binary(A90)[:-3]), "unknown form"),
        (elf(fat_binary(entry(9, 90, b""))), "entry 0 is of an unknown form"),
        (elf(fat_binary(A90[:20])), "entry 0 is cut short"),
        (elf(fat_binary(A90) + b"abcd"), "4 bytes behind"),
    ],
)
def test_what_is_not_understood_is_refused(data, reason):
    with pytest.raises(BundleError, match=reason):
        prune(data, 90, "lib.so")


ENTRIES = st.builds(
    entry,
    st.sampled_from([CODE, PTX]),
    st.sampled_from([75, 80, 86, 89, 90, 100, 120]),
    st.binary(max_size=40),
    st.sampled_from([0x11, 0x11 | THIS_GPU_ONLY]),
)


@given(st.lists(st.lists(ENTRIES, min_size=1, max_size=5), max_size=4), st.sampled_from([80, 86, 89, 90]))
def test_pruned_libraries_are_well_formed_and_pruning_again_changes_nothing(containers, gpu):
    data = elf(b"".join(fat_binary(*entries) for entries in containers))
    once, report = prune(data, gpu, "lib.so")
    again, second = prune(once, gpu, "lib.so")
    assert len(once) == len(data)
    assert again == once
    assert second.containers == report.containers == len(containers)
    assert second.without_code == report.without_code
    assert report.kept + report.dropped >= sum(map(len, containers))


@given(st.lists(ENTRIES, min_size=1, max_size=6))
def test_code_that_the_gpu_would_run_survives_byte_for_byte(entries):
    arch = [struct.unpack_from("<I", e, 28)[0] for e in entries]
    native = [e for e, a in zip(entries, arch) if a == 90 and e[0] == CODE]
    pruned, _ = prune(elf(fat_binary(*entries)), 90, "lib.so")
    if native:
        assert section(pruned).startswith(fat_binary(*native))

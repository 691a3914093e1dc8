"""Whatever bytes stand in an image, parsing ends in a value or in our own error; what is built is read back."""

from __future__ import annotations

from struct import pack

from hypothesis import given, settings
from hypothesis import strategies as st

from ovmf.errors import FirmwareMalformed, HashTableMalformed
from ovmf.explain import explain
from ovmf.firmware import Firmware
from ovmf.footer import parse_footer
from ovmf.kernel_hashes import KernelHashes, hash_table_bytes, parse_hash_table
from ovmf.launch_context import START, ZERO, extend, extend_range
from ovmf.snp_launch import digest_from_recipe, recipe, snp_launch_digest
from tests.fakes import firmware as fake

digests = st.binary(min_size=32, max_size=32)
hashes = st.builds(KernelHashes, digests, digests, digests)
IMAGE = fake.image()
SMALL = Firmware.from_bytes(IMAGE)


@given(st.binary(max_size=300))
def test_any_tail_is_a_footer_or_refused(tail: bytes) -> None:
    try:
        parse_footer(bytes(512 - len(tail)) + tail)
    except FirmwareMalformed:
        return


@given(st.lists(st.tuples(st.integers(0, len(IMAGE) - 1), st.integers(0, 255)), min_size=1, max_size=6))
@settings(deadline=None)
def test_an_image_with_changed_bytes_parses_or_is_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(IMAGE)
    for offset, value in changes:
        data[offset] = value
    try:
        Firmware.from_bytes(bytes(data))
    except FirmwareMalformed:
        return


@given(st.integers(len(IMAGE) - 0x700, len(IMAGE) - 1), st.integers(0, 7))
@settings(deadline=None, max_examples=300)
def test_any_flipped_bit_of_footer_or_metadata_changes_the_digest_or_is_refused(offset: int, bit: int) -> None:
    data = bytearray(IMAGE)
    data[offset] ^= 1 << bit
    try:
        firmware = Firmware.from_bytes(bytes(data))
    except FirmwareMalformed:
        return
    assert snp_launch_digest(firmware, vcpus=2, vcpu_sig=1, hashes=None) != snp_launch_digest(
        SMALL, vcpus=2, vcpu_sig=1, hashes=None
    )


@given(st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.binary(max_size=40)), max_size=8))
def test_footer_entries_are_read_back(entries: list[tuple[bytes, bytes]]) -> None:
    expected = dict(entries)
    footer = parse_footer(fake.image([fake.entry(guid, data) for guid, data in expected.items()]))
    assert footer.entries == expected


@given(hashes)
def test_a_hash_table_is_read_back(value: KernelHashes) -> None:
    assert parse_hash_table(hash_table_bytes(value)) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_a_hash_table_or_refused(data: bytes) -> None:
    try:
        assert hash_table_bytes(parse_hash_table(data)) == data
    except HashTableMalformed:
        return


@given(st.integers(0, 2**40), st.integers(0, 40))
def test_a_range_is_its_pages_one_by_one(page: int, count: int) -> None:
    state = START
    for number in range(count):
        state = extend(state, ZERO, page * 4096 + number * 4096)
    assert extend_range(START, ZERO, page * 4096, count * 4096) == state


@given(
    st.integers(1, 40), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.none() | hashes,
    st.sampled_from(["qemu", "ec2", "gce"]),
)  # fmt: skip
@settings(deadline=None)
def test_a_recipe_gives_the_digest_of_its_inputs(
    vcpus: int, signature: int, features: int, boot: KernelHashes | None, vmm: str
) -> None:
    parameters = {"vcpus": vcpus, "vcpu_sig": signature, "guest_features": features, "hashes": boot, "vmm": vmm}
    direct = snp_launch_digest(SMALL, **parameters)
    assert digest_from_recipe(recipe(SMALL, **parameters)) == direct


@given(st.integers(1, 64), st.sampled_from([0x1, 0x21]), digests)
@settings(deadline=None, max_examples=30)
def test_an_explanation_always_reproduces_the_digest(vcpus: int, features: int, initrd: bytes) -> None:
    expected = recipe(SMALL, vcpus=2, vcpu_sig=0x800F12, hashes=KernelHashes(b"K" * 32, b"I" * 32, b"C" * 32))
    launched = expected._replace(vcpus=vcpus, guest_features=features, initrd_sha256=initrd)
    known = expected._replace(initrd_sha256=initrd)
    found = explain(digest_from_recipe(launched), expected, [known])
    assert found.recipe is not None
    assert digest_from_recipe(found.recipe) == digest_from_recipe(launched)
    wrong = {
        name
        for name, differs in (("vcpus", vcpus != 2), ("guest_features", features != 1), ("initrd", initrd != b"I" * 32))
        if differs
    }
    assert {difference.name for difference in found.differences} == wrong


def test_the_metadata_offset_of_any_entry_is_bounded() -> None:
    for offset in (*range(40), 0x5FF, 0x601, 8191, 8192):
        entries = [*fake.standard_entries()[:2], fake.entry(fake.SEV_METADATA, pack("<I", offset))]
        try:
            Firmware.from_bytes(fake.image(entries))
        except FirmwareMalformed:
            continue

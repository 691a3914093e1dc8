"""IGVM files: what is measured follows igvmmeasure's rules, and a file that contradicts itself is refused."""

from __future__ import annotations

from hashlib import sha384
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovmf.errors import IdBlockInvalid, IgvmMalformed, IgvmUnsupported
from ovmf.id_block import IdBlock, sign_id_block
from ovmf.igvm import MAX_HEADERS, MAX_PAGES, parse_igvm
from ovmf.igvm_launch import check_id_block, igvm_launch_digest, kvm_problems
from policy.errors import CvmError
from tests.fakes import igvm as fake
from tests.unit.ovmf.keys import private_key


def fold(*pages: tuple[int, int, bytes | None]) -> bytes:
    """The launch digest of (page type, gpa, contents), written out as in the firmware's specification."""
    state = bytes(48)
    for kind, gpa, contents in pages:
        digest = bytes(48) if contents is None else sha384(contents).digest()
        state = sha384(state + digest + pack("<HBBIQ", 0x70, kind, 0, 0, gpa)).digest()
    return state


def test_every_kind_of_page_is_measured_as_its_kind() -> None:
    file = parse_igvm(fake.typical())
    zeros = bytes(4096)
    expected = fold(
        (1, 0x1000, b"\x5a" * 4096),
        (1, 0x2000, zeros),
        (4, 0x3000, None),
        (5, 0x4000, None),
        (6, 0x5000, None),
        (6, 0x6000, None),
        *((1, 0x200000 + 4096 * n, zeros) for n in range(512)),
        (4, 0x10000, None),
        (4, 0x11000, None),
        (2, fake.VMSA_GPA, fake.vmsa()),
    )
    assert igvm_launch_digest(file) == expected
    assert file.policy == 0x30000


def test_native_zero_pages_change_only_pages_without_data() -> None:
    data = fake.image([fake.platform(), fake.page(0x2000)])
    assert igvm_launch_digest(parse_igvm(data), native_zero=True) == fold((3, 0x2000, None))
    assert igvm_launch_digest(parse_igvm(data)) == fold((1, 0x2000, bytes(4096)))


def test_version_two_measures_alike() -> None:
    headers = [fake.platform(), fake.page(0x2000), fake.page(0x1000, 0, 0, 1)]
    digests = [igvm_launch_digest(parse_igvm(fake.image(headers, version=version))) for version in (1, 2)]
    assert digests[0] == digests[1] == fold((1, 0x2000, bytes(4096)), (5, 0x1000, None))


def test_another_platforms_page_and_an_ignorable_header_do_not_count() -> None:
    front = [fake.platform(), fake.platform(2, 3)]
    plain = fake.image([*front, fake.page(0x1000)])
    more = fake.image([*front, fake.header(0x80000777, b"12345"), fake.page(0x1000), fake.page(0x2000, mask=2)])
    assert igvm_launch_digest(parse_igvm(plain)) == igvm_launch_digest(parse_igvm(more))


PAGE = fake.page(0x1000)
MALFORMED = {
    "not a file of this kind": b"IGVX" + bytes(28),
    "a wrong checksum": fake.image([fake.platform(), PAGE], checksum=1),
    "bytes after its end": fake.image([fake.platform(), PAGE]) + b"x",
    "a platform after a page": fake.image([fake.platform(), PAGE, fake.platform(2, 3)]),
    "a platform twice": fake.image([fake.platform(), fake.platform(2, 2)]),
    "a mask of two bits": fake.image([fake.platform(3)]),
    "a page for no platform": fake.image([fake.platform(), fake.page(0x1000, mask=4)]),
    "a page between pages": fake.image([fake.platform(), fake.page(0x1001)]),
    "a large page out of place": fake.image([fake.platform(), fake.page(0x1000, 0, 1)]),
    "a page with unknown flags": fake.image([fake.platform(), fake.page(0x1000, 0, 8)]),
    "a page of unknown type": fake.image([fake.platform(), fake.page(0x1000, 0, 0, 4)]),
    "a page whose data are headers": fake.image([fake.platform(), fake.page(0x1000, 24)], bytes(8192)),
    "a page whose data are missing": fake.image([fake.platform(), fake.page(0x1000, 100)], bytes(4000)),
    "parameters without an area": fake.image([fake.platform(), fake.insert(0x1000)]),
    "parameters inserted twice": fake.image([fake.platform(), fake.area(), fake.insert(0x1000), fake.insert(0x2000)]),
    "an area declared twice": fake.image([fake.platform(), fake.area(), fake.area()]),
    "an area of half a page": fake.image([fake.platform(), fake.area(0, 2048)]),
    "a header of the wrong length": fake.image([fake.platform(), fake.header(0x302, bytes(16))]),
    "a header longer than the file": fake.image([fake.platform(), fake.header(0x302, bytes(24), 1000)]),
    "padding that is not zero": fake.image([fake.platform(), pack("<II", 0x80000777, 4) + b"\0\0\0\0\0\0\0\1"]),
    "two policies": fake.image([fake.platform(), fake.policy(), fake.policy()]),
    "two contexts of one vCPU": fake.image([fake.platform(), fake.context(88), fake.context(88)], fake.vmsa()),
    "a VMSA with a tail": fake.image([fake.platform(), fake.context(24 + 24 + 32)], fake.vmsa()[:-1] + b"x"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_file_with_this_is_refused(name: str) -> None:
    with pytest.raises(IgvmMalformed):
        parse_igvm(MALFORMED[name])


@pytest.mark.parametrize(
    "data",
    [
        fake.image([fake.platform()], version=3),
        fake.image([fake.platform(1, 3)]),
        fake.image([fake.platform(), fake.header(0x102, bytes(48))]),
        fake.image([fake.platform(), fake.header(0x399, bytes(8))]),
        fake.image([fake.platform(1, 2, 2)]),
    ],
    ids=["version 3", "TDX only", "relocatable", "unknown header", "unknown platform version"],
)
def test_what_is_valid_but_cannot_be_measured_says_so(data: bytes) -> None:
    with pytest.raises(IgvmUnsupported):
        parse_igvm(data)


def test_a_small_file_that_describes_much_memory_is_refused_early() -> None:
    pages = [fake.page(0x200000 * n, 0, 1) for n in range(1, MAX_PAGES // 512 + 2)]
    with pytest.raises(IgvmMalformed, match="256 MiB"):
        parse_igvm(fake.image([fake.platform(), *pages]))


def test_a_file_of_nothing_but_headers_is_refused_early() -> None:
    with pytest.raises(IgvmMalformed, match="headers"):
        parse_igvm(fake.image([fake.platform(), bytes.fromhex("7707008000000000") * (MAX_HEADERS + 1)]))


def test_two_megabytes_of_parameters_may_start_at_any_page() -> None:
    file = parse_igvm(fake.image([fake.platform(), fake.area(0, 0x200000), fake.insert(0x1000)]))
    assert igvm_launch_digest(file) == fold(*((4, 0x1000 + 4096 * n, None) for n in range(512)))


def test_more_vcpus_than_there_can_be_are_refused() -> None:
    with pytest.raises(IgvmMalformed, match="vCPU"):
        parse_igvm(fake.image([fake.platform(), fake.context(24 + 24 + 32, vcpu=4096)], fake.vmsa()))


def test_an_id_block_in_the_file_is_checked_as_the_chip_will() -> None:
    body = [fake.platform(), fake.policy(), fake.page(0x1000)]
    digest = igvm_launch_digest(parse_igvm(fake.image(body)))
    key, author = private_key(1), private_key(2)
    auth = sign_id_block(IdBlock(digest, guest_svn=7), key, author).to_bytes()
    good = parse_igvm(fake.image([*body, fake.id_block(digest, auth, svn=7)]))
    assert igvm_launch_digest(good) == digest
    check_id_block(good, digest)
    for wrong in (
        fake.id_block(digest, auth, svn=8),
        fake.id_block(bytes(48), auth, svn=7),
        fake.id_block(digest, auth[:0x45] + bytes([auth[0x45] ^ 1]) + auth[0x46:], svn=7),
        fake.id_block(digest, auth[:0x685] + bytes([auth[0x685] ^ 1]) + auth[0x686:], svn=7),
    ):
        with pytest.raises(IdBlockInvalid):
            check_id_block(parse_igvm(fake.image([*body, wrong])), digest)
    unsigned = parse_igvm(fake.image([body[0], body[2], fake.id_block(digest, auth, svn=7)]))
    with pytest.raises(IgvmMalformed, match="policy"):
        check_id_block(unsigned, digest)


def test_what_kvm_would_not_reproduce_is_named() -> None:
    assert kvm_problems(parse_igvm(fake.typical())) == ()
    assert any("CR0" in text for text in kvm_problems(parse_igvm(fake.typical(cr0=0x11))))
    at = 24 + 24 + 32 + 32
    headers = [fake.platform(), fake.context(at, gpa=0x1000), fake.page(0x2000)]
    problems = kvm_problems(parse_igvm(fake.image(headers, fake.vmsa())))
    assert len(problems) == 2
    assert len(kvm_problems(parse_igvm(fake.image([fake.platform()])))) == 1


@given(st.binary(max_size=300), st.integers(0, 2000), st.integers(0, 255))
def test_any_bytes_are_measured_or_refused_with_our_error(tail: bytes, at: int, value: int) -> None:
    whole = bytearray(fake.typical())
    whole[at] = value
    for data in (bytes(whole), bytes(whole[:at]) + tail, tail, fake.image([fake.platform(), fake.header(0x302, tail)])):
        try:
            igvm_launch_digest(parse_igvm(data))
        except CvmError:
            pass

"""The SGX extension of PCK certificates: every entry once, every value of its type, in any order."""

from __future__ import annotations

import pytest

from attest.emulator.td_pki import encode_sgx_extension
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.sgx_extension import SgxExtension, parse_sgx_extension
from tests.fakes.intel_pki import SGX

PROCESSOR = SGX._replace(piid=None, dynamic_platform=None, cached_keys=None, smt_enabled=None)
PREFIX = bytes.fromhex("2a864886f84d010d01")
Entry = tuple[bytes, bytes]


def element(tag: int, content: bytes) -> bytes:
    """One element of up to 64 KB."""
    size = len(content)
    head = (
        bytes([size]) if size < 0x80 else b"\x81" + bytes([size]) if size < 0x100 else b"\x82" + size.to_bytes(2, "big")
    )
    return bytes([tag]) + head + content


def entry(path: bytes, value: bytes) -> bytes:
    return element(0x30, element(0x06, PREFIX + path) + value)


def sequence(entries: dict[bytes, bytes]) -> bytes:
    return element(0x30, b"".join(entry(path, value) for path, value in entries.items()))


def tcb_entries() -> dict[bytes, bytes]:
    found = {bytes([2, n]): element(2, bytes([n])) for n in range(1, 17)}
    return {**found, b"\x02\x11": element(2, b"\x0d"), b"\x02\x12": element(4, bytes(range(16)))}


def flags() -> dict[bytes, bytes]:
    return {bytes([7, n]): element(1, b"\xff" if n == 2 else b"\0") for n in (1, 2, 3)}


def entries(
    tcb: dict[bytes, bytes] | None = None, configuration: dict[bytes, bytes] | None = None
) -> dict[bytes, bytes]:
    """The entries of a platform's certificate, written here by hand."""
    return {
        b"\x01": element(4, b"P" * 16),
        b"\x02": sequence(tcb_entries() if tcb is None else tcb),
        b"\x03": element(4, b"\0\x01"),
        b"\x04": element(4, b"FMSPC!"),
        b"\x05": element(10, b"\x01"),
        b"\x06": element(4, b"I" * 16),
        b"\x07": sequence(flags() if configuration is None else configuration),
    }


def test_every_field_is_read() -> None:
    assert parse_sgx_extension(sequence(entries())) == SgxExtension(
        ppid=b"P" * 16, components=tuple(range(1, 17)), pcesvn=13, cpusvn=bytes(range(16)), pceid=b"\0\x01",
        fmspc=b"FMSPC!", sgx_type=1, piid=b"I" * 16, dynamic_platform=False, cached_keys=True, smt_enabled=False,
    )  # fmt: skip


@pytest.mark.parametrize("sgx", [SGX, PROCESSOR], ids=["platform", "processor"])
def test_what_the_emulator_writes_is_read_back(sgx: SgxExtension) -> None:
    assert parse_sgx_extension(encode_sgx_extension(sgx)) == sgx


def test_svns_above_127_are_positive() -> None:
    high = SGX._replace(components=(255, 128) + (0,) * 14, pcesvn=65535)
    assert parse_sgx_extension(encode_sgx_extension(high)) == high


def test_the_order_of_entries_does_not_matter() -> None:
    turned = entries(dict(reversed(tcb_entries().items())), dict(reversed(flags().items())))
    assert parse_sgx_extension(sequence(dict(reversed(turned.items())))) == parse_sgx_extension(sequence(entries()))


@pytest.mark.parametrize("number", range(1, 8))
def test_an_extension_without_one_of_its_entries_is_refused(number: int) -> None:
    found = entries()
    del found[bytes([number])]
    with pytest.raises(EvidenceMalformed, match="missing or unknown"):
        parse_sgx_extension(sequence(found))


@pytest.mark.parametrize("number", range(1, 19))
def test_a_tcb_without_one_of_its_entries_is_refused(number: int) -> None:
    found = tcb_entries()
    del found[bytes([2, number])]
    with pytest.raises(EvidenceMalformed, match="missing or unknown"):
        parse_sgx_extension(sequence(entries(found)))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_configuration_without_one_of_its_flags_is_refused(number: int) -> None:
    found = flags()
    del found[bytes([7, number])]
    with pytest.raises(EvidenceMalformed, match="missing or unknown"):
        parse_sgx_extension(sequence(entries(configuration=found)))


BROKEN = {
    "an unknown entry": (b"\x08", element(4, b"x")),
    "a PPID of 15 bytes": (b"\x01", element(4, bytes(15))),
    "a PPID that is an integer": (b"\x01", element(2, b"\x01" * 16)),
    "a PCE id of 3 bytes": (b"\x03", element(4, bytes(3))),
    "an FMSPC of 5 bytes": (b"\x04", element(4, bytes(5))),
    "an SGX type written as an integer": (b"\x05", element(2, b"\x01")),
    "an SGX type of two bytes": (b"\x05", element(10, b"\0\x01")),
    "an SGX type nobody defined": (b"\x05", element(10, b"\x03")),
    "an instance id of 17 bytes": (b"\x06", element(4, bytes(17))),
    "a value with something after it": (b"\x01", element(4, b"P" * 16) + b"\x05\0"),
    "no value": (b"\x01", b""),
}


@pytest.mark.parametrize("name", BROKEN)
def test_one_wrong_entry_is_refused(name: str) -> None:
    path, value = BROKEN[name]
    with pytest.raises(EvidenceMalformed, match="SGX extension"):
        parse_sgx_extension(sequence({**entries(), path: value}))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (b"\x02\x01", element(2, b"\x01\0")), (b"\x02\x01", element(2, b"\xff")), (b"\x02\x01", element(2, b"\0\x01")),
        (b"\x02\x01", element(4, b"\x01")), (b"\x02\x11", element(2, b"\x01\0\0")), (b"\x02\x12", element(4, bytes(15))),
        (b"\x02\x13", element(2, b"\x01")),
    ],
)  # fmt: skip
def test_one_wrong_svn_is_refused(path: bytes, value: bytes) -> None:
    with pytest.raises(EvidenceMalformed, match="SGX extension"):
        parse_sgx_extension(sequence(entries({**tcb_entries(), path: value})))


@pytest.mark.parametrize("value", [element(1, b"\x01"), element(1, b"\xff\xff"), element(2, b"\0")])
def test_a_flag_that_is_no_der_boolean_is_refused(value: bytes) -> None:
    with pytest.raises(EvidenceMalformed, match="want a BOOLEAN"):
        parse_sgx_extension(sequence(entries(configuration={**flags(), b"\x07\x01": value})))


def test_an_entry_that_appears_twice_is_refused() -> None:
    good = sequence(entries())
    content = good[4:] + entry(b"\x01", element(4, b"Q" * 16))
    with pytest.raises(EvidenceMalformed, match="appears twice"):
        parse_sgx_extension(element(0x30, content))


def test_an_entry_of_another_branch_is_refused() -> None:
    inside = element(0x30, b"".join(entry(path, value) for path, value in entries().items()) + element(
        0x30, element(0x06, bytes.fromhex("2a864886f84d010d0208")) + element(4, b"x")))  # fmt: skip
    with pytest.raises(EvidenceMalformed, match="is named"):
        parse_sgx_extension(inside)


def test_a_number_written_in_two_bytes_is_refused() -> None:
    found = {**entries(), b"\x88\x01": element(4, b"x")}
    with pytest.raises(EvidenceMalformed, match="is named"):
        parse_sgx_extension(sequence(found))


@pytest.mark.parametrize("data", [b"", b"\x30", b"\x31\0", b"\x30\0", sequence(entries()) + b"\0", b"\x30\x80\0\0"])
def test_what_is_not_one_complete_sequence_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceMalformed, match="SGX extension"):
        parse_sgx_extension(data)


def test_every_flipped_bit_is_refused_or_changes_the_result() -> None:
    raw = encode_sgx_extension(SGX)
    for place in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[place // 8] ^= 1 << place % 8
        try:
            assert parse_sgx_extension(bytes(flipped)) != SGX
        except EvidenceMalformed:
            continue

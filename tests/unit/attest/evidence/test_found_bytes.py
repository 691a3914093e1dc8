"""A report inside bytes nobody told us about, with AMD's certificates around it."""

from __future__ import annotations

import gzip
import io
import os
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attest.evidence.errors import EvidenceMalformed
from attest.evidence.found_bytes import find_endorsements, find_report
from attest.evidence.recognise import parse_evidence, parse_snp_evidence, recognise
from tests.fakes.amd_pki import FakeAmdPki
from tests.unit.attest.evidence.test_containers import hcl, pem
from tests.unit.attest.evidence.test_snp_proto import inside, message

WORLD = FakeAmdPki()
RAW = WORLD.raw
CBOR = b"\xa3\x67auxblob\x40\x67outblob\x59\x04\xa0" + RAW + b"\x68provider\x69sev_guest"


def archive() -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as tar:
        for name, data in (("report.bin", RAW), ("vcek.pem", pem(WORLD.leaf_der)), ("ask.der", WORLD.ask_der)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return written.getvalue()


@pytest.mark.parametrize("wrapped", [CBOR, b"0x" + RAW * 2, b"PK" + RAW, RAW[:700] + b"!" + RAW, b"\xa0\x04\0\0" + RAW])
def test_the_report_is_found_wherever_it_stands(wrapped: bytes) -> None:
    if wrapped.startswith(RAW[:8]):
        wrapped = b"\xff" + wrapped
    assert recognise(wrapped) == "embedded"
    evidence = parse_snp_evidence(wrapped)
    assert (evidence.kind, evidence.report.raw, evidence.certificates) == ("embedded", RAW, ())


def test_certificates_and_lists_around_it_come_along() -> None:
    crl = WORLD.crl()
    data = (
        b"\x30\x82\x12\x34"
        + WORLD.leaf_der
        + b"\x04\x82\x04\xa0"
        + RAW
        + crl
        + b"--"
        + WORLD.ask_der
        + pem(WORLD.ark_der)
    )
    evidence = parse_snp_evidence(data)
    assert evidence.report.raw == RAW
    assert sorted(evidence.certificates) == sorted(WORLD.certificates)
    assert evidence.crls == (crl,)
    packed = parse_snp_evidence(archive())
    assert (packed.kind, packed.report.raw) == ("embedded", RAW)
    assert set(packed.certificates) == {WORLD.leaf_der, WORLD.ask_der}


def test_a_message_inside_another_is_found_with_its_certificates() -> None:
    chain = inside(1, WORLD.leaf_der) + inside(2, WORLD.ask_der)
    outer = inside(1, b"attestation key") + inside(12, message(RAW, chain)) + inside(13, b"event log")
    evidence = parse_snp_evidence(outer)
    assert (evidence.kind, evidence.report.raw) == ("embedded", RAW)
    assert set(evidence.certificates) == {WORLD.leaf_der, WORLD.ask_der}
    assert parse_snp_evidence(b"\xff" + message(RAW)[:-4] + b"\x7f\x7f").report.raw == RAW
    assert find_report(b"\xff" + message(RAW) + RAW) == RAW
    other = bytearray(RAW)
    other[0x90] ^= 1
    with pytest.raises(EvidenceMalformed, match="more than one SNP report"):
        find_report(RAW + message(bytes(other)))


def test_a_blob_around_it_stays_a_blob() -> None:
    blob = hcl(RAW, b'{"user-data": ""}')
    evidence = parse_snp_evidence(b"\xa1\x63hcl\x59\x0a\x28" + blob + b"more")
    assert evidence.hcl is not None
    assert (evidence.kind, evidence.hcl.variable_data) == ("embedded", b'{"user-data": ""}')
    with pytest.raises(EvidenceMalformed, match="HCL blob"):
        parse_evidence(b"\xa1" + blob[:1240])
    assert parse_snp_evidence(b"\xa1" + b"HCLA" + bytes(27) + RAW).hcl is None


def test_two_different_reports_are_refused_and_one_that_stands_twice_is_not() -> None:
    other = bytearray(RAW)
    other[0x90] ^= 1
    assert find_report(b"x" + RAW + b"x" + RAW) == RAW
    with pytest.raises(EvidenceMalformed, match="more than one SNP report"):
        parse_evidence(b"x" * 9 + RAW + bytes(other))


@pytest.mark.parametrize(
    ("offset", "value"), [(0, 6), (0, 0), (0x34, 2), (0x0A, 0), (0x4C, 1), (0x18B, 1), (0x29F, 1), (0x49F, 1)]
)
def test_what_is_laid_out_as_no_report_is_none(offset: int, value: int) -> None:
    raw = bytearray(RAW)
    raw[offset] = value
    assert find_report(b"\xff\xff" + raw) is None
    with pytest.raises(EvidenceMalformed, match="no known kind"):
        parse_evidence(b"\xff\xff" + raw)


def test_a_report_cut_off_is_none() -> None:
    assert find_report(b"\xff" + RAW[:-1]) is None


@pytest.mark.parametrize(
    "hostile",
    [
        os.urandom(1 << 20), bytes(4 << 20), RAW[:0x38] * 60000, b"\x30\x82" * 100000 + b"Advanced Micro Devices" * 50000,
        b"\x30\x82\x04\x00" * 70 + b"Advanced Micro Devices", message(RAW)[:9] * 100000,
    ],
    ids=["random", "zeros", "beginnings", "owners", "frames", "messages"],
)  # fmt: skip
def test_hostile_bytes_are_gone_through_once(hostile: bytes) -> None:
    assert find_report(hostile) is None
    assert find_endorsements(hostile) == ()


@given(before=st.binary(max_size=200), after=st.binary(max_size=200))
def test_whatever_stands_around_a_report_it_is_the_one_found(before: bytes, after: bytes) -> None:
    assert find_report(before + RAW + after) == RAW
    assert find_endorsements(before + WORLD.leaf_der + after) == (WORLD.leaf_der,)


def test_compressed_bytes_are_unpacked_first() -> None:
    assert parse_snp_evidence(gzip.compress(CBOR)).kind == "embedded"

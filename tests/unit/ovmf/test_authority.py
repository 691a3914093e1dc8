"""Which certificate vouches for an image, and the event that says so."""

from __future__ import annotations

import hashlib

import pytest

from ovmf.authority import CERTIFICATE_HASHES, SHA256, authority_events, parse_database
from ovmf.errors import LaunchInvalid, PeMalformed, VariablesMalformed
from ovmf.pe import authenticode
from ovmf.signature import signing_chains
from ovmf.variables import IMAGE_SECURITY, variable_data
from policy.errors import CvmError
from tests.fakes.signed_images import Signer, database, make_signer, pkcs7, sign, signed
from tests.unit.ovmf.test_pe import small_pe

ROOT, OTHER = make_signer("root"), make_signer("other")
LEAF = make_signer("leaf", ROOT)
IMAGE = sign(LEAF)


def measured(image: bytes, db: bytes, dbx: bytes = b"") -> tuple[bytes | None, list[str]]:
    found, unknown = authority_events(image, {(IMAGE_SECURITY, "db"): db, (IMAGE_SECURITY, "dbx"): dbx})
    return (found[0].digest if found else None), unknown


def event_of(entry: bytes) -> bytes:
    return hashlib.sha384(variable_data(IMAGE_SECURITY, "db", b"o" * 16 + entry)).digest()


def test_the_first_certificate_in_db_that_is_in_the_signer_s_chain_is_measured() -> None:
    assert measured(IMAGE, database(OTHER.der, ROOT.der, LEAF.der)) == (event_of(ROOT.der), [])
    assert measured(IMAGE, database(LEAF.der, ROOT.der)) == (event_of(LEAF.der), [])


def test_certificates_that_came_with_the_image_lead_to_the_one_in_db() -> None:
    middle = make_signer("middle", ROOT)
    leaf = make_signer("below", middle)
    assert measured(sign(leaf, middle), database(ROOT.der)) == (event_of(ROOT.der), [])
    assert measured(sign(leaf), database(ROOT.der))[0] is None


def test_the_first_signature_somebody_vouches_for_counts() -> None:
    digest = authenticode(small_pe(), "sha256")
    both = signed(small_pe(), pkcs7(LEAF, digest), pkcs7(OTHER, digest))
    assert measured(both, database(OTHER.der, ROOT.der)) == (event_of(ROOT.der), [])
    assert measured(both, database(OTHER.der)) == (event_of(OTHER.der), [])


def test_an_image_listed_by_its_digest_needs_no_signature() -> None:
    digest = authenticode(small_pe(), "sha256")
    assert measured(small_pe(), database(digest, kind=SHA256)) == (event_of(digest), [])


def test_an_image_nobody_vouches_for_is_named() -> None:
    for image in (IMAGE, small_pe()):
        digest, unknown = measured(image, database(OTHER.der))
        assert digest is None
        assert unknown[0].startswith("RTMR0: Secure Boot is on and nothing in db vouches")


def test_what_dbx_refuses_is_refused() -> None:
    db = database(ROOT.der)
    for dbx in (database(authenticode(IMAGE, "sha256"), kind=SHA256), database(ROOT.der), database(LEAF.der)):
        with pytest.raises(LaunchInvalid, match="dbx"):
            measured(IMAGE, db, dbx)
    assert measured(IMAGE, db, database(OTHER.der))[0] == event_of(ROOT.der)


def named(signer: Signer, kind: str, time: bytes = bytes(16)) -> bytes:
    guid = next(guid for guid, name in CERTIFICATE_HASHES.items() if name == kind)
    return database(hashlib.new(kind, signer.cert.tbs_certificate_bytes).digest() + time, kind=guid)


@pytest.mark.parametrize("kind", ["sha256", "sha384", "sha512"])
def test_a_signer_named_by_its_hash_in_dbx_is_refused(kind: str) -> None:
    with pytest.raises(LaunchInvalid, match="dbx"):
        measured(IMAGE, database(ROOT.der), named(LEAF, kind))
    assert measured(IMAGE, database(ROOT.der), named(OTHER, kind))[0] == event_of(ROOT.der)


def test_an_entry_of_db_named_by_its_hash_in_dbx_does_not_vouch() -> None:
    assert measured(IMAGE, database(ROOT.der, LEAF.der), named(ROOT, "sha256"))[0] == event_of(LEAF.der)
    assert measured(IMAGE, database(ROOT.der), named(ROOT, "sha256"))[0] is None


def test_a_revocation_from_a_date_on_is_named() -> None:
    digest, unknown = measured(IMAGE, database(ROOT.der), named(LEAF, "sha256", b"\xea\7" + bytes(14)))
    assert digest is None
    assert "revokes from a date on" in unknown[0]


def test_a_hash_of_a_certificate_of_another_size_is_refused() -> None:
    with pytest.raises(VariablesMalformed, match="got 47 bytes, want 48"):
        measured(IMAGE, database(ROOT.der), named(LEAF, "sha256", bytes(15)))


@pytest.mark.parametrize("spoil", ["image digest", "message digest", "signature", "signer"])
def test_a_signature_with_one_thing_wrong_is_refused(spoil: str) -> None:
    assert len(signing_chains(sign(LEAF))) == 1
    with pytest.raises(PeMalformed, match="signature"):
        signing_chains(sign(LEAF, spoil=spoil))


def test_a_negative_serial_number_is_compared_as_it_stands() -> None:
    der = LEAF.der.replace(b"\x02\x02\x03\xe8", b"\x02\x02\x83\xe8")
    wild = IMAGE.replace(LEAF.der, der)
    with pytest.raises(PeMalformed, match="0 certificates of its signer"):
        signing_chains(wild)
    renamed = wild.replace(b"\x02\x02\x03\xe8", b"\x02\x02\x83\xe8")
    assert signing_chains(renamed)[0][0].der == der
    assert measured(renamed, database(ROOT.der))[0] is None  # nobody issued that certificate


def test_a_flipped_byte_of_the_signature_never_vouches_as_another_signer() -> None:
    start = len(small_pe())
    for at in range(start, len(IMAGE), 7):
        broken = IMAGE[:at] + bytes([IMAGE[at] ^ 0x20]) + IMAGE[at + 1 :]
        try:
            digest, unknown = measured(broken, database(ROOT.der))
        except CvmError:
            continue
        assert digest in (None, event_of(ROOT.der))
        assert (digest is None) == bool(unknown)


@pytest.mark.parametrize("data", [b"x", b"\0" * 28, database(b"x" * 40)[:-1], database(b"x" * 40) + b"y"])
def test_a_database_that_contradicts_itself_is_refused(data: bytes) -> None:
    with pytest.raises(VariablesMalformed):
        parse_database(data, "db")


def test_a_signer_of_the_same_name_with_another_key_does_not_vouch() -> None:
    twin: Signer = make_signer("root")
    assert measured(IMAGE, database(twin.der))[0] is None

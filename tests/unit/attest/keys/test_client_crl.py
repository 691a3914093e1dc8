"""Revocation lists of client certificates: what is no list of the whole is refused, and an old one lets nobody in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from attest.keys.authority import Credential, issue_crl, issue_operator, make_authority
from attest.keys.client_crl import (
    CertificateRevoked,
    ClientAuthority,
    ClientCrlEnded,
    ClientCrlRefused,
    ClientCrls,
    client_crls_of,
)
from tests.fakes.amd_pki import NOW

OURS, OTHER = make_authority("operators", NOW), make_authority("operators", NOW)
OLGA, OTTO = (issue_operator(OURS, name, NOW) for name in ("olga", "otto"))
MONTH = timedelta(days=30)
Builder = x509.CertificateRevocationListBuilder


def listed(authority: Credential, *revoked: Credential, at: timedelta = timedelta()) -> bytes:
    serials = {one.certificate.serial_number: NOW + at for one in revoked}
    return issue_crl(authority, serials, NOW + at, MONTH)


def read(folder: Path, data: bytes, *authorities: Credential, max_age: timedelta | None = None) -> ClientCrls:
    (folder / "ca.pem").write_bytes(b"".join(one.certificate_pem() for one in authorities or (OURS,)))
    (folder / "crl.pem").write_bytes(data)
    return ClientCrls(client_crls_of(ClientAuthority(folder / "ca.pem", folder / "crl.pem", max_age)))


def key_of(found: ClientCrls) -> bytes:
    (only,) = found.lists
    return only.authority


@pytest.mark.parametrize("form", [Encoding.PEM, Encoding.DER])
def test_who_is_on_the_list_is_refused_and_nobody_else(tmp_path: Path, form: Encoding) -> None:
    data = x509.load_pem_x509_crl(listed(OURS, OTTO)).public_bytes(form)
    found = read(tmp_path, data)
    found.check(OLGA.certificate, key_of(found), NOW)
    with pytest.raises(CertificateRevoked, match="taken it back"):
        found.check(OTTO.certificate, key_of(found), NOW)


def test_the_newest_list_of_an_authority_counts_wherever_it_stands(tmp_path: Path) -> None:
    old, new = listed(OURS), listed(OURS, OTTO, at=timedelta(days=1))
    for data in (old + new, new + old):
        found = read(tmp_path, data)
        with pytest.raises(CertificateRevoked):
            found.check(OTTO.certificate, key_of(found), NOW + timedelta(days=2))


@pytest.mark.parametrize(
    ("max_age", "good", "bad"),
    [
        (None, MONTH - timedelta(seconds=1), MONTH),
        (timedelta(days=2), timedelta(days=2, seconds=-1), timedelta(days=2)),
        (timedelta(days=90), MONTH - timedelta(seconds=1), MONTH),
        (None, timedelta(minutes=-4), timedelta(minutes=-6)),
    ],
    ids=["next update", "age", "next update before age", "not begun"],
)
def test_a_list_that_does_not_count_now_lets_nobody_in(
    tmp_path: Path, max_age: timedelta | None, good: timedelta, bad: timedelta
) -> None:
    found = read(tmp_path, listed(OURS), max_age=max_age)
    found.check(OLGA.certificate, key_of(found), NOW + good)
    with pytest.raises(ClientCrlEnded) as caught:
        found.check(OLGA.certificate, key_of(found), NOW + bad)
    assert caught.value.kind == "unavailable"


def test_every_authority_must_have_a_list(tmp_path: Path) -> None:
    second = make_authority("the new one", NOW)
    with pytest.raises(ClientCrlRefused, match="none of CN=the new one"):
        read(tmp_path, listed(OURS), OURS, second)
    assert len(read(tmp_path, listed(OURS) + listed(second), OURS, second).lists) == 2


def changed(change: Callable[[Builder], Builder], *, entries: tuple[x509.RevokedCertificate, ...] = ()) -> bytes:
    builder = Builder().issuer_name(OURS.certificate.subject).last_update(NOW).next_update(NOW + MONTH)
    for entry in entries:
        builder = builder.add_revoked_certificate(entry)
    return change(builder).sign(OURS.key, SHA256()).public_bytes(Encoding.PEM)


def indirect() -> x509.RevokedCertificate:
    entry = x509.RevokedCertificateBuilder().serial_number(5).revocation_date(NOW)
    names = [x509.DirectoryName(OURS.certificate.subject)]
    return entry.add_extension(x509.CertificateIssuer(names), critical=True).build()


def part(builder: Builder) -> Builder:
    point = x509.IssuingDistributionPoint(None, None, True, False, None, False, False)
    return builder.add_extension(point, critical=True)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "revocation lists"),
        (b"\x30\x03\x02\x01\x01", "revocation lists"),
        (listed(OURS)[:-60], "revocation lists"),
        (listed(OTHER), "signed by none of our authorities"),
        (changed(lambda builder: builder.add_extension(x509.DeltaCRLIndicator(1), critical=True)), "critical"),
        (changed(part), "critical"),
        (changed(lambda builder: builder, entries=(indirect(),)), "critical"),
    ],
    ids=["empty", "no list", "cut off", "another's key", "delta", "user certificates only", "another's entries"],
)
def test_what_is_no_list_of_the_whole_by_the_authority_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(ClientCrlRefused, match=said):
        read(tmp_path, data)


def test_a_list_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(OURS.certificate_pem())
    with pytest.raises(ClientCrlRefused, match="No such file"):
        client_crls_of(ClientAuthority(tmp_path / "ca.pem", tmp_path / "crl.pem"))


def test_two_lists_of_one_authority_for_two_roles_both_count(tmp_path: Path) -> None:
    first = read(tmp_path, listed(OURS, OTTO)).lists
    both = ClientCrls(first + read(tmp_path, listed(OURS)).lists)
    with pytest.raises(CertificateRevoked):
        both.check(OTTO.certificate, first[0].authority, NOW)


def test_an_authority_whose_settings_ask_for_no_list_needs_none(tmp_path: Path) -> None:
    assert client_crls_of(ClientAuthority(tmp_path / "not-read.pem")) == ()
    ClientCrls().check(OLGA.certificate, b"any key", NOW)

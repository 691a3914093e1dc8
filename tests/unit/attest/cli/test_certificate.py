"""``attest certificate``: what it issues and takes back, and what it refuses."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from attest.keys.authority import make_authority
from attest.keys.client_crl import ClientAuthority, client_crls_of
from attest.keys.files import write_private
from tests.fakes.served import Done, attest_command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("ours", "other"):
        made = make_authority("cvm operator CA", datetime.now(UTC))
        write_private(tmp_path / f"{name}.key", made.key_pem())
        (tmp_path / f"{name}.pem").write_bytes(made.certificate_pem())
    return tmp_path


def run(folder: Path, *words: str, authority: str = "ours", key: str | None = None) -> Done:
    files = (
        "--authority",
        str(folder / f"{authority}.pem"),
        "--authority-key",
        str(folder / f"{key or authority}.key"),
    )
    return attest_command("certificate", *words, *files)


def issued(folder: Path, name: str, authority: str = "ours") -> str:
    assert run(folder, "issue", name, "-o", str(folder / name), authority=authority).code == 0
    return str(folder / f"{name}.pem")


def test_a_list_keeps_what_is_in_it_with_its_date_and_is_renewed_without_a_certificate(folder: Path) -> None:
    listed = folder / "crl.pem"
    for names in (("olga",), ("otto", "petra"), ()):
        certificates = [issued(folder, name) for name in names]
        assert run(folder, "revoke", *certificates, "--list", str(listed)).code == 0
    (found,) = client_crls_of(ClientAuthority(folder / "ours.pem", listed))
    dates = {}
    for name in ("olga", "otto", "petra"):
        certificate = x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes())
        dates[name] = found.revoked[certificate.serial_number]
    assert len(found.revoked) == 3
    assert dates["olga"] <= dates["otto"] == dates["petra"] <= found.begins
    assert json.loads(run(folder, "revoke", "--list", str(listed), "--json").out)["revoked"] == 3


def test_a_certificate_has_the_name_it_was_issued_for_and_its_key_is_private(folder: Path) -> None:
    certificate = x509.load_pem_x509_certificate(Path(issued(folder, "olga")).read_bytes())
    assert certificate.subject.rfc4514_string() == "CN=olga"
    assert (folder / "olga.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("issue", "x" * 65, "-o", "new"), "want 1 to 64 printable characters"),
        (("issue", "olga\n", "-o", "new"), "want 1 to 64 printable characters"),
        (("issue", "olga", "-o", "ours"), "ours.key"),
        (("revoke", "foreign.pem", "--list", "crl.pem"), "not a certificate of this authority"),
        (("revoke", "ours.key", "--list", "crl.pem"), "not a certificate of this authority"),
        (("revoke", "gone.pem", "--list", "crl.pem"), "gone.pem: No such file"),
        (("revoke", "--list", "ours.pem"), "revocation lists"),
        (("revoke", "--list", "crl.pem", "--days", "0"), "got 0, want 1..366"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    issued(folder, "foreign", "other")
    monkeypatch.chdir(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    refused = run(folder, *words)
    assert (refused.code in (3, 10), refused.out) == (True, ""), refused
    assert said in refused.err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_key_of_another_authority_signs_nothing(folder: Path) -> None:
    refused = run(folder, "revoke", "--list", str(folder / "crl.pem"), key="other")
    assert (refused.code, "is not its key" in refused.err) == (3, True), refused.err
    assert not (folder / "crl.pem").exists()

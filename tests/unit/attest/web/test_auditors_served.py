"""Auditors on the operators' listener as it really runs: who the certificate's issuer makes of a connection."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attest.keys.authority import issue_operator, make_authority
from attest.keys.client_crl import ClientAuthority
from attest.web.authorities import Authorities
from attest.web.principals import actor_of
from attest.web.tls import TlsMisconfigured
from tests.fakes.amd_pki import NOW
from tests.fakes.kbs_client import Reply, TlsTransport
from tests.fakes.served import Served, attest_command
from tests.fakes.service_world import PATH, PKI, SECRET

OFF = '# auditor_ca = "auditor-ca.pem"'
_DER = Encoding.DER


def with_auditors(folder: Path) -> Served:
    served = Served(folder).init(PKI, "--dashboard", "127.0.0.1:0")
    text = served.config.read_text()
    assert OFF in text
    served.config.write_text(text.replace(OFF, OFF.removeprefix("# "), 1))
    return served


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = with_auditors(tmp_path_factory.mktemp("served") / "service").start()
    yield served
    served.stop()


def send(served: Served, name: str, method: str, path: str, body: bytes | None = None) -> Reply:
    context = ssl.create_default_context(cafile=served.folder / "ca.pem")
    context.load_cert_chain(served.folder / f"{name}.pem", served.folder / f"{name}.key")
    return TlsTransport("localhost", served.admin_port, context).send(method, path, body, {})


def test_an_auditor_reads_and_an_operator_still_does_everything(served: Served) -> None:
    resource = f"/kbs/v0/resource/{PATH}"
    refused = send(served, "auditor", "POST", resource, SECRET)
    assert refused.status == 403
    assert b"who asks is an auditor" in refused.body
    assert send(served, "operator", "POST", resource, SECRET).status == 200
    for path in ("/cvm/v0/decisions", f"/cvm/v0/audit-questions/releases?value={PATH}", "/metrics"):
        assert send(served, "auditor", "GET", path).status == 200, path
    assert send(served, "auditor", "DELETE", resource).status == 403
    assert send(served, "auditor", "GET", "/readyz").status == 403


def test_the_dashboards_own_certificate_which_the_same_authority_issued_opens_nothing(served: Served) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        send(served, "dashboard", "GET", "/cvm/v0/decisions")


def test_a_name_in_the_certificate_makes_nobody_an_operator(tmp_path: Path) -> None:
    operators, auditors, other = (make_authority("cvm operator CA", NOW) for _ in range(3))
    for name, authority in (("o.pem", operators), ("a.pem", auditors)):
        (tmp_path / name).write_bytes(authority.certificate_pem())
    known = Authorities.of(ClientAuthority(tmp_path / "o.pem"), ClientAuthority(tmp_path / "a.pem")).apart()
    found = {
        kind: actor_of(issue_operator(authority, "olga", NOW).certificate.public_bytes(_DER), known, NOW)
        for kind, authority in (("operator", operators), ("auditor", auditors), ("nobody", other))
    }
    assert found["nobody"] is None
    for kind in ("operator", "auditor"):
        actor = found[kind]
        assert actor is not None
        assert (actor.kind, actor.name) == (kind, "olga")


def test_one_authority_for_both_roles_is_refused_at_the_start(tmp_path: Path) -> None:
    served = with_auditors(tmp_path / "service")
    shutil.copy(served.folder / "operator-ca.pem", served.folder / "auditor-ca.pem")
    with pytest.raises(TlsMisconfigured, match="an authority of both"):
        Authorities.of(*(ClientAuthority(served.folder / f"{who}-ca.pem") for who in ("operator", "auditor"))).apart()
    done = attest_command("serve", str(served.config))
    assert done.code != 0
    assert "an authority of both" in done.err
    assert "Traceback" not in done.err

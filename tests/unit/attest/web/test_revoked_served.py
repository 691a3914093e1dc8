"""Client certificates that were taken back, on a service as it really runs: at the next request, after a reload."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from attest.keys.authority import issue_crl, load_authority
from attest.settings import SettingsInvalid, load_settings
from tests.fakes.kbs_client import TlsTransport
from tests.fakes.served import Served, attest_command
from tests.fakes.service_world import PKI
from tests.unit.attest.web.dashboard.test_role import get
from tests.unit.attest.web.test_auditors_served import send, with_auditors
from tests.until import until


def authority(served: Served, who: str) -> tuple[str, ...]:
    return tuple(
        str(word)
        for word in ("--authority", served.folder / f"{who}-ca.pem", "--authority-key", served.folder / f"{who}-ca.key")
    )


def revoke(served: Served, who: str, *names: str) -> None:
    files = [str(served.folder / f"{name}.pem") for name in names]
    listed = str(served.folder / f"{who}-crl.pem")
    done = attest_command("certificate", "revoke", *files, "--list", listed, *authority(served, who))
    assert done.code == 0, done.err


def change(served: Served, old: str, new: str) -> None:
    text = served.config.read_text()
    assert old in text
    served.config.write_text(text.replace(old, new, 1))


def reload(served: Served, told: str = "reloaded https://") -> None:
    before = served.log.read_text().count(told)
    os.kill(served.process.pid, signal.SIGHUP)
    until(lambda: served.log.read_text().count(told) > before, told)


def test_a_certificate_that_was_taken_back_ends_at_a_reload_and_others_go_on(tmp_path: Path) -> None:
    served = with_auditors(tmp_path / "service")
    issued = attest_command(
        "certificate", "issue", "otto", "-o", str(served.folder / "otto"), *authority(served, "operator")
    )
    assert issued.code == 0, issued.err
    for who in ("operator", "auditor"):
        revoke(served, who)
    change(
        served, 'operator_ca = "operator-ca.pem"', 'operator_ca = "operator-ca.pem"\noperator_crl = "operator-crl.pem"'
    )
    change(served, 'auditor_ca = "auditor-ca.pem"', 'auditor_ca = "auditor-ca.pem"\nauditor_crl = "auditor-crl.pem"')
    change(served, "[dashboard]", '[dashboard]\nauditor_crl = "auditor-crl.pem"')
    served.start()
    try:
        assert get(served, "/overview", "auditor")[0] == 200
        names = ("operator", "otto", "auditor")
        for name in names:
            assert send(served, name, "GET", "/cvm/v0/decisions").status == 200, name
        revoke(served, "operator", "otto")
        revoke(served, "auditor", "auditor")
        reload(served)
        replies = {name: send(served, name, "GET", "/cvm/v0/decisions") for name in names}
        assert {name: reply.status for name, reply in replies.items()} == {"operator": 200, "otto": 403, "auditor": 403}
        assert replies["otto"].json()["code"] == "certificate.revoked"
        assert [get(served, "/overview", name)[0] for name in ("operator", "otto", "auditor")] == [200, 403, 403]
        (served.folder / "operator-crl.pem").write_bytes((served.folder / "auditor-crl.pem").read_bytes())
        reload(served, "reload refused")  # not the operators' authority's: the list from before goes on counting
        assert send(served, "operator", "GET", "/cvm/v0/decisions").status == 200
        assert send(served, "otto", "GET", "/cvm/v0/decisions").status == 403
        expiry = send(served, "operator", "GET", "/cvm/v0/expiry").json()["items"]
        problems = {item["name"]: item["problem"] for item in expiry if item["kind"] == "client-crl"}
        assert "signed by none of our" in problems["of operators (operator-crl.pem)"]
    finally:
        served.stop()


def test_after_the_end_of_its_list_nobody_of_the_authority_comes_in_and_guests_do(tmp_path: Path) -> None:
    served = Served(tmp_path / "service").init(PKI)
    own = load_authority(served.folder / "operator-ca.pem", served.folder / "operator-ca.key")
    made = datetime.now(UTC) - timedelta(hours=25)
    (served.folder / "operator-crl.pem").write_bytes(issue_crl(own, {}, made, timedelta(days=30)))
    change(
        served,
        'operator_ca = "operator-ca.pem"',
        'operator_ca = "operator-ca.pem"\noperator_crl = "operator-crl.pem"\ncrl_max_age_hours = 24',
    )
    served.start()
    try:
        reply = send(served, "operator", "GET", "/cvm/v0/decisions")
        assert (reply.status, reply.json()["code"]) == (503, "client-crl.ended")
        guest = TlsTransport("localhost", served.port, served.tls())
        assert guest.send("GET", "/readyz", None, {}).status == 200
    finally:
        served.stop()


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ("crl_max_age_hours = 24", "means nothing without a revocation list"),
        ('operator_crl = "x.pem"\ncrl_max_age_hours = 0', "got 0, want 1"),
        ('auditor_crl = "x.pem"', "means nothing without auditor_ca"),
    ],
)
def test_settings_of_lists_that_mean_nothing_are_refused(tmp_path: Path, new: str, said: str) -> None:
    served = Served(tmp_path / "service").init(PKI)
    change(served, 'operator_ca = "operator-ca.pem"', f'operator_ca = "operator-ca.pem"\n{new}')
    with pytest.raises(SettingsInvalid, match=said):
        load_settings(served.config)

"""``attest host add --evidence``: a host is enrolled together with the certificates its guests will need."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attest.cli import main
from tests.fakes.kds import FakeKds, Reply
from tests.fakes.served import Served
from tests.fakes.service_world import PKI


class Desk:
    """A service's folder whose settings ask a key distribution service on loopback."""

    def __init__(self, folder: Path, kds: FakeKds, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.kds, self.capsys = folder, kds, capsys
        served = Served(folder / "service").init()
        self.config = served.config
        text = self.config.read_text()
        self.config.write_text(text.replace("online = false", f'online = true\nkds_url = "{kds.url}"'))
        self.key, self.root, self.report = folder / "host.pem", folder / "root.der", folder / "report.bin"
        key = Ed25519PrivateKey.generate().public_key()
        self.key.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        self.root.write_bytes(PKI.ark_der)
        self.report.write_bytes(PKI.raw)

    def run(self, *words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in ("host", *words, "--config", self.config)])
        done = self.capsys.readouterr()
        return code, done.out, done.err

    def add(self, *words: object) -> tuple[int, Any]:
        code, out, _ = self.run("add", "h1", self.key, "--root", self.root, "--json", *words)
        return code, json.loads(out) if out else None

    def hosts(self) -> list[str]:
        return [host["name"] for host in json.loads(self.run("list", "--json")[1])["hosts"]]


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakeKds(PKI) as kds:
        found = Desk(tmp_path, kds, capsys)
        capsys.readouterr()
        yield found


def test_a_host_is_registered_and_what_its_guests_need_is_in_the_services_cache(desk: Desk) -> None:
    code, done = desk.add("--evidence", desk.report)
    assert code == 0
    assert done["name"] == "h1"
    assert [item["kind"] for item in done["collateral"]["items"]] == ["chain", "vcek", "crl"]
    assert Path(done["collateral"]["cache"]) == desk.config.parent / "collateral-cache"
    assert sorted(desk.kds.asked) == sorted([desk.kds.leaf.path, desk.kds.chain.path, desk.kds.list.path])
    assert desk.hosts() == ["h1"]


def test_without_evidence_nobody_is_asked(desk: Desk) -> None:
    code, done = desk.add()
    assert (code, "collateral" in done, desk.kds.asked) == (0, False, [])


def test_a_host_is_registered_also_when_the_key_service_is_away(desk: Desk) -> None:
    desk.kds.always = Reply(status=404)
    code, out, err = desk.run("add", "h1", desk.key, "--root", desk.root, "--evidence", desk.report)
    assert code == 8
    assert "host h1 registered" in out
    assert "404" in err
    assert desk.hosts() == ["h1"]


def test_what_is_no_evidence_registers_nothing(desk: Desk) -> None:
    desk.report.write_bytes(b"hello")
    assert desk.add("--evidence", desk.report)[0] == 5
    assert desk.hosts() == []

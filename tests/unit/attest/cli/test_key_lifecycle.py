"""``attest key`` after a resource is stored, against a service that runs: approvals by certificate, everything else local."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import luks
from tests.fakes.served import Served, attest_command

PATH = "default/web-1/root"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    found = Served(tmp_path_factory.mktemp("keys") / "service").init().start()
    yield found
    found.stop()


def over(served: Served) -> list[str]:
    folder = served.folder
    return [
        "--service", f"https://localhost:{served.admin_port}", "--ca", f"{folder}/ca.pem",
        "--certificate", f"{folder}/operator.pem", "--key", f"{folder}/operator.key",
    ]  # fmt: skip


def test_from_a_random_value_to_its_approved_export(served: Served, tmp_path: Path) -> None:
    assert served.attest("key", "generate", PATH, "--bytes", "48").code == 0
    document = tmp_path / "conditions.toml"
    document.write_text('approval = {need = 1, of = ["operator"]}\n')
    assert served.attest("key", "conditions", PATH, str(document)).code == 0
    output = tmp_path / "value"
    export = ("key", "export", PATH, "--reason", "moving", "-o", str(output), *over(served))
    refused = attest_command(*export)
    assert refused.code != 0
    assert "export has 0 approvals, want 1" in refused.err
    assert not output.exists()
    approved = attest_command("key", "approve", PATH, "--purpose", "export", "--json", *over(served))
    assert (approved.code, json.loads(approved.out)["purpose"]) == (0, "export")
    shown = json.loads(served.attest("key", "show", PATH, "--json").out)
    assert [one["operator"] for one in shown["approvals"]] == ["operator"]
    assert attest_command(*export).code == 0
    assert (output.stat().st_size, stat.S_IMODE(output.stat().st_mode)) == (48, 0o600)
    assert output.read_bytes() not in served.log.read_bytes()
    for words in (("disable", "--reason", "x"), ("enable", "--reason", "x"), ("break-glass", "--reason", "x")):
        assert served.attest("key", words[0], PATH, *words[1:]).code == 0


def test_a_service_that_is_not_there_or_no_address_is_said(served: Served, tmp_path: Path) -> None:
    words = over(served)
    for url, code, text in (("https://localhost:1", 8, "service https://localhost:1"), ("http://x", 3, "--service")):
        words[1] = url
        done = attest_command("key", "approve", PATH, *words)
        assert (done.code, text in done.err) == (code, True), done.err


def test_a_certificate_that_is_none_is_said(served: Served, tmp_path: Path) -> None:
    words = over(served)
    words[5] = str(tmp_path / "missing.pem")
    done = attest_command("key", "approve", PATH, *words)
    assert (done.code, "--certificate" in done.err) == (3, True), done.err


def test_a_disk_key_is_rotated_and_its_header_recorded(served: Served, tmp_path: Path) -> None:
    disk = "default/web-9/root"
    assert served.attest("key", "generate", disk).code == 0
    header = tmp_path / "header"
    header.write_bytes(luks.header().ljust(16 * luks.MIB, b"\0"))
    done = json.loads(served.attest("key", "luks-header", disk, str(header), "--json").out)
    assert len(done["header"]) == 64
    assert served.attest("key", "luks-header", disk, done["header"]).code == 0
    again = served.attest("key", "put", disk, "--replace", "--luks-header", str(header), stdin=b"k" * 32)
    assert again.code == 0, again.err
    shown = json.loads(served.attest("key", "show", disk, "--json").out)["disk"]
    assert shown == {"headers": [done["header"]], "rotation": None}
    assert json.loads(served.attest("key", "rotate", disk, "--json").out)["version"] == 3
    assert "waiting for the guest" in served.attest("key", "show", disk).out
    assert "waiting" in served.attest("key", "list", "--history").out
    assert served.attest("key", "rotate", disk).code == 10
    assert served.attest("key", "rotate", "--abort", disk).code == 0
    header.write_bytes(bytes(16 * luks.MIB))
    for words, code, text in (((str(header),), 5, "magic 0000"), ((str(tmp_path / "no"),), 3, "No such file")):
        refused = served.attest("key", "luks-header", disk, *words)
        assert (refused.code, text in refused.err) == (code, True), refused.err


def test_a_vm_that_moves_is_forgotten_over_the_service(served: Served) -> None:
    from attest.broker.opening import open_database
    from attest.settings import load_settings
    from attest.store import grants
    from tests.fakes.amd_pki import NOW

    words = ("vm", "forget", "web 1", "--reason", "new rack", "--json", *over(served))
    done = attest_command(*words)
    assert (done.code, "no launch of it is on record" in done.err) == (10, True), done.err
    with open_database(load_settings(served.config)).write() as tx:
        grants.add_instance(tx, "web-1", "aa", "01", NOW)
    words = ("vm", "forget", "web-1", "--reason", "new rack", "--json", *over(served))
    assert json.loads(attest_command(*words).out) == {"schema": "attest.vm.forget/1", "vm": "web-1", "launches": 1}
    assert attest_command(*words).code == 10

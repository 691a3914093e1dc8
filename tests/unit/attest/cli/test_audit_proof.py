"""``attest audit checkpoint``, ``prove`` and ``verify FILE`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attest.audit.checkpoint import parse_checkpoint
from attest.audit.merkle import leaf_hash, root_of
from attest.audit.note import Verifier, verify_note
from attest.audit.tiles import decode_entries, nodes_from_tiles
from tests.fakes.served import Served, attest_command
from tests.fakes.service_world import PATH, SECRET
from tests.fakes.witness import FakeWitness


@pytest.fixture
def service(tmp_path: Path) -> Served:
    served = Served(tmp_path / "service").init()
    assert served.attest("key", "put", PATH, stdin=SECRET).code == 0
    return served


def test_a_proof_is_written_and_checked_with_the_public_key_alone(service: Served, tmp_path: Path) -> None:
    proof = tmp_path / "proof.json"
    assert service.attest("audit", "prove", "2", "-o", str(proof)).code == 0
    public = tmp_path / "log.pub"
    public.write_bytes((service.folder / "log.pub").read_bytes())
    done = attest_command("audit", "verify", str(proof), "--log-key", str(public))
    assert (done.code, "record 2 of localhost/audit" in done.out) == (0, True)
    shown = attest_command("audit", "verify", str(proof), "--log-key", public.read_text().strip(), "--json")
    assert json.loads(shown.out)["proofs"][0]["record"]["kind"] == "resource-put"


def test_a_changed_proof_is_exit_6(service: Served, tmp_path: Path) -> None:
    proof = tmp_path / "proof.json"
    assert service.attest("audit", "prove", "2", "-o", str(proof), "--json").code == 0
    proof.write_text(proof.read_text().replace("stored", "erased"))
    done = attest_command("audit", "verify", str(proof), "--log-key", str(service.folder / "log.pub"))
    assert done.code == 6


def test_a_proof_without_the_log_s_key_is_not_checked(service: Served, tmp_path: Path) -> None:
    proof = tmp_path / "proof.json"
    assert service.attest("audit", "prove", "1", "-o", str(proof)).code == 0
    done = attest_command("audit", "verify", str(proof))
    assert (done.code, "log.pub" in done.err) == (3, True)


def test_the_checkpoint_is_a_signed_note(service: Served) -> None:
    done = service.attest("audit", "checkpoint")
    assert done.out.startswith("localhost/audit\n2\n")
    assert service.attest("audit", "checkpoint").out == done.out


def test_the_log_as_files_is_a_tree_anybody_can_rebuild(service: Served, tmp_path: Path) -> None:
    for number in range(5):
        assert service.attest("key", "put", f"default/web-{number}/key", stdin=SECRET).code == 0
    folder = tmp_path / "tiles"
    assert json.loads(service.attest("audit", "tiles", str(folder), "--json").out)["written"] == 3
    point, note = parse_checkpoint((folder / "checkpoint").read_bytes())
    assert verify_note(note, [Verifier.parse((service.folder / "log.pub").read_text())])
    entries = decode_entries((folder / "tile/entries/000.p/7").read_bytes())
    tile = (folder / "tile/0/000.p/7").read_bytes()
    assert b"".join(map(leaf_hash, entries)) == tile
    assert root_of(point.size, nodes_from_tiles(lambda _level, _number: tile)) == point.root
    assert [json.loads(entry)["seq"] for entry in entries] == list(range(1, 8))
    assert service.attest("audit", "tiles", str(folder)).out.endswith("1 files written\n")


def test_a_witness_of_the_settings_is_asked_and_named_when_it_is_down(service: Served) -> None:
    log = Verifier.parse((service.folder / "log.pub").read_text())
    witness = FakeWitness({log.name: log})
    with service.config.open("a") as file:
        file.write(f'\n[[audit.witness]]\nurl = "{witness.url}"\nkey = "{witness.verifier.vkey}"\n')
    assert f"— {witness.key.name} " in service.attest("audit", "checkpoint").out
    witness.close()
    assert service.attest("key", "put", "default/x/y", stdin=SECRET).code == 0
    done = service.attest("audit", "checkpoint")
    assert (done.code, "cannot be reached" in done.err) == (0, True)


@pytest.mark.parametrize("number", ["0", "99"])
def test_a_record_that_is_not_there_is_exit_10(service: Served, tmp_path: Path, number: str) -> None:
    assert service.attest("audit", "prove", number, "-o", str(tmp_path / "p")).code == 10

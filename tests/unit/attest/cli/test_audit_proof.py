"""``attest audit checkpoint``, ``prove`` and ``verify FILE`` from the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from attest.audit.checkpoint import parse_checkpoint
from attest.audit.merkle import leaf_hash, root_of
from attest.audit.note import Verifier, verify_note
from attest.audit.record import Actor, Event
from attest.audit.tiles import decode_entries, nodes_from_tiles
from attest.broker.log import checkpoint as make_checkpoint
from attest.broker.log_tiles import export_tiles
from attest.broker.trail import append
from tests.fakes.killed import NOW, database_of, prepare, signer_of
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
    said = json.loads(service.attest("audit", "checkpoint", "--json").out)
    assert (said["size"], said["signed_by"], said["checkpoint"]) == (2, ["localhost/audit"], done.out)


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


def test_a_log_is_proven_to_extend_an_older_checkpoint(service: Served, tmp_path: Path) -> None:
    old, proof, key = tmp_path / "old", tmp_path / "growth.json", str(service.folder / "log.pub")
    old.write_text(service.attest("audit", "checkpoint").out)
    assert service.attest("key", "put", "default/x/y", stdin=SECRET).code == 0
    assert service.attest("audit", "growth", str(old), "-o", str(proof)).code == 0
    done = attest_command("audit", "verify", str(proof), "--log-key", key)
    assert (done.code, "3 records extends that of 2" in done.out) == (0, True)
    document = json.loads(proof.read_text())
    proof.write_text(json.dumps({**document, "path": document["path"][:-1]}))
    assert attest_command("audit", "verify", str(proof), "--log-key", key).code == 6
    old.write_text(service.attest("audit", "checkpoint").out.replace("localhost/audit\n3", "localhost/audit\n9"))
    done = service.attest("audit", "growth", str(old), "-o", str(proof))
    assert (done.code, "a fork, or a restored backup" in done.err) == (6, True)


def test_many_proofs_are_checked_by_many_processes_and_each_that_does_not_hold_is_named(
    service: Served, tmp_path: Path
) -> None:
    folder, key = tmp_path / "proofs", str(service.folder / "log.pub")
    folder.mkdir()
    for number in range(4):
        assert service.attest("audit", "prove", f"{number % 2 + 1}", "-o", str(folder / f"{number}.json")).code == 0
    done = attest_command("audit", "verify", str(folder), "--log-key", key, "--processes", "2")
    assert (done.code, done.out.endswith("4 hold\n")) == (0, True)
    (folder / "1.json").write_text((folder / "1.json").read_text().replace("stored", "erased"))
    for processes in ("1", "2"):
        done = attest_command("audit", "verify", str(folder), "--log-key", key, "--processes", processes)
        assert (done.code, f"{folder / '1.json'}: REFUSED" in done.out, "1 of 4" in done.err) == (6, True, True)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A log of 300 records as files: two tiles below, one above."""
    base = tmp_path_factory.mktemp("exported")
    prepare(base / "log")
    database, signer = database_of(base / "log"), signer_of(base / "log")
    with database.write() as tx:
        for number in range(300):
            append(tx, Event(NOW, "test", f"{number}", "ok", Actor("guest")))
    export_tiles(database, make_checkpoint(database, signer, NOW), base / "tiles")
    return base / "tiles", signer.key.verifier.vkey


def test_the_log_as_files_is_checked_whole(exported: tuple[Path, str]) -> None:
    done = attest_command("audit", "verify", str(exported[0]), "--log-key", exported[1])
    assert (done.code, "300 records, 3 tiles, 300 records" in done.out) == (0, True)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("tile/0/000", lambda data: data[:-7], "torn"),
        ("tile/0/000", lambda data: bytes(32) + data[32:], "does not follow"),
        ("tile/0/001.p/44", lambda data: bytes(32) + data[32:], "another root"),
        ("tile/1/000.p/1", lambda data: data[::-1], "does not follow"),
        ("tile/entries/000", lambda data: data[:-3], "torn"),
        ("tile/entries/000", lambda data: data.replace(b'"ok"', b'"no"', 1), "not those of the tree"),
        ("checkpoint", lambda data: data.replace(b"300", b"299"), "signature"),
    ],
)
def test_a_torn_or_changed_file_of_the_log_is_named(
    exported: tuple[Path, str], tmp_path: Path, name: str, change: Callable[[bytes], bytes], words: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(exported[0], copy)
    (copy / name).write_bytes(change((copy / name).read_bytes()))
    done = attest_command("audit", "verify", str(copy), "--log-key", exported[1])
    assert done.code in (5, 6)
    assert words in done.err


@pytest.mark.parametrize("number", ["0", "99"])
def test_a_record_that_is_not_there_is_exit_10(service: Served, tmp_path: Path, number: str) -> None:
    assert service.attest("audit", "prove", number, "-o", str(tmp_path / "p")).code == 10


def test_many_records_go_into_one_file_that_processes_share(service: Served, tmp_path: Path) -> None:
    bundle, key = tmp_path / "all.jsonl", str(service.folder / "log.pub")
    for number in range(3):
        assert service.attest("key", "put", f"default/x/{number}", stdin=SECRET).code == 0
    made = service.attest("audit", "prove", "--all", "-o", str(bundle))
    assert (made.code, "proofs of records 1 to 5" in made.out) == (0, True)
    for processes in ("1", "2"):
        done = attest_command("audit", "verify", str(bundle), "--log-key", key, "--processes", processes)
        assert (done.code, done.out.count(f"{bundle}: record"), "5 hold" in done.out) == (0, 5, True)
    shown = attest_command("audit", "verify", str(bundle), "--log-key", key, "--json")
    assert [proof["record"]["seq"] for proof in json.loads(shown.out)["proofs"]] == [1, 2, 3, 4, 5]
    assert service.attest("audit", "prove", "2..3", "-o", str(bundle)).code == 0
    bundle.write_text(bundle.read_text().replace("stored", "erased", 1))
    done = attest_command("audit", "verify", str(bundle), "--log-key", key)
    assert (done.code, "REFUSED: subtree proof: entries 1 to 1" in done.out) == (6, True)
    bundle.write_text('{"checkpoint":')
    assert attest_command("audit", "verify", str(bundle), "--log-key", key).code == 6


@pytest.mark.parametrize("which", [["3..1"], ["x"], [], ["1", "--all"], ["1.."]])
def test_records_to_prove_are_named_by_numbers(service: Served, tmp_path: Path, which: list[str]) -> None:
    done = service.attest("audit", "prove", *which, "-o", str(tmp_path / "p"))
    assert (done.code, (tmp_path / "p").exists()) == (3, False)
    assert service.attest("audit", "prove", "1..99", "-o", str(tmp_path / "p")).code == 10
    assert not list(tmp_path.glob("p*"))

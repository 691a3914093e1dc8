"""Many proofs in one file: each record is checked as by its own proof, and no part that is shared vouches for another."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from attest.audit.errors import NoteMalformed, ProofInvalid
from attest.audit.note import COSIGNATURE, verifier_of
from attest.broker.log import LogSigner, checkpoint
from attest.broker.presented import Memory
from attest.broker.proof_bundle import Bundle, Checked, Trust
from attest.broker.proof_bundle_make import write_bundle
from attest.broker.proof_file import check_proof_file, parse_proof_file
from attest.broker.proof_file_make import make_proof_file
from attest.keys.log_key import load_log_key, make_log_key
from attest.store.errors import NotFound
from tests.fakes.kbs_client import KbsError
from tests.fakes.proof_bundles import LOG_KEY, WITNESS
from tests.fakes.service_world import GOOD, OTHER, ServiceWorld

ORIGIN = "kbs.example/audit"


class Log:
    """A service with accepted and refused guests, and its log."""

    def __init__(self, folder: Path) -> None:
        self.world = ServiceWorld(folder / "service")
        for measurement in (GOOD, OTHER, GOOD, GOOD, GOOD, GOOD):
            with suppress(KbsError):
                self.world.client(measurement=measurement).handshake()
        make_log_key(folder / "log.key", ORIGIN)
        signer = LogSigner(load_log_key(folder / "log.key", ORIGIN), folder / "seen")
        self.note, self.trust = checkpoint(self.world.database, signer, self.world.now), Trust(signer.key.verifier)
        self.size = len(self.world.records())

    def bundle(self, numbers: range) -> bytes:
        out = io.BytesIO()
        assert write_bundle(self.world.database, self.note, numbers, out) == len(out.getvalue())
        return out.getvalue()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return Log(tmp_path_factory.mktemp("log"))


def check(data: bytes, folder: Path, trust: Trust) -> list[Checked]:
    (folder / "bundle.jsonl").write_bytes(data)
    bundle, memory = Bundle(folder / "bundle.jsonl"), Memory()
    return [one for block in bundle.blocks for one in bundle.check(block, trust, memory)]


def test_a_bundle_says_of_every_record_what_its_own_proof_says(log: Log, tmp_path: Path) -> None:
    found = check(log.bundle(range(1, log.size + 1)), tmp_path, log.trust)
    assert [one.number for one in found] == list(range(1, log.size + 1))
    assert sum(one.proven.repeated for one in found if one.proven) == 6
    for number, one in enumerate(found, 1):
        file = make_proof_file(log.world.database, number, log.note)
        assert one.proven == check_proof_file(parse_proof_file(file.encode()), log.trust.log)


def test_what_several_records_rest_on_stands_in_the_file_once(log: Log) -> None:
    data = log.bundle(range(1, log.size + 1))
    policy = next(line for line in data.split(b"\n") if line.startswith(b'{"shared"'))
    for text in json.loads(policy)["shared"].values():
        assert data.count(text.encode()) == 1
    alone = sum(
        len(make_proof_file(log.world.database, number, log.note).encode()) for number in range(1, log.size + 1)
    )
    assert len(data) < alone * 0.8


def lines(edit: Callable[[list[bytes]], None]) -> Callable[[bytes], bytes]:
    def edited(data: bytes) -> bytes:
        found = data.split(b"\n")
        edit(found)
        return b"\n".join(found)

    return edited


def without_shared(found: list[bytes]) -> None:
    place = next(at for at, line in enumerate(found) if line.startswith(b'{"shared"'))
    found[place] = b'{"shared":{}}'


def test_a_record_whose_bytes_are_missing_is_refused_and_the_others_are_not(log: Log, tmp_path: Path) -> None:
    found = check(lines(without_shared)(log.bundle(range(1, log.size + 1))), tmp_path, log.trust)
    refused = [one for one in found if one.refused]
    assert {log.world.records()[one.number - 1]["kind"] for one in refused} == {"decision"}
    assert all("are gone" in str(one.refused) for one in refused)
    assert len(refused) < len(found)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda data: data.replace(b'"outcome":"affirming"', b'"outcome":"affirminG"', 1), "are not in the tree"),
        (lambda data: data.replace(b'"path":["', b'"path":["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","'), "subtree|too many"),
        (lambda data: data[: len(data) - 9], "whole lines"),
        (lambda data: data.replace(b'"first":1}', b'"first":2}').replace(b'"first":1,', b'"first":2,'), "no subtree"),
        (lambda data: data.replace(b'"count":8', b'"count":3'), "whole lines"),
        (lambda data: data.replace(b'"count":8', b'"count":999'), "at most"),
        (lambda data: data.replace(b'"count":8', b'"count":true'), "at most"),
        (lambda data: data.replace(b'"bytes":', b'"bytes":-'), "at most"),
        (lambda data: data.replace(b'"bytes":', b'"size":'), "want shared bytes, or a block"),
        (lambda data: data.replace(b'"first":', b'"bytes":1,"first":'), "twice"),
        (lambda data: data.replace(b'"path":[', b'"path":[7,'), "hashes"),
        (lambda data: data.replace(b'{"shared":{"', b'{"shared":{"0'), "is not|another digest"),
        (lambda data: data.replace(b"bundle/1", b"bundle/2"), "first line of"),
        (lambda data: data.split(b"\n")[0] + b"\n", "no records"),
        (lambda data: data.split(b"\n")[0], "cut off"),
        (lambda data: data.replace(b'"checkpoint":"', b'"checkpoint":["').replace(b'","schema"', b'"],"schema"'), "want text"),
        (lines(lambda found: found.__setitem__(1, b'{"shared":[]}')), "want an object"),
    ],
)  # fmt: skip
def test_a_bundle_that_was_changed_is_refused(
    log: Log, tmp_path: Path, edit: Callable[[bytes], bytes], message: str
) -> None:
    good = log.bundle(range(1, 9))
    changed = edit(good)
    assert changed != good
    with pytest.raises((NoteMalformed, ProofInvalid), match=message):
        check(changed, tmp_path, log.trust)


@pytest.mark.parametrize("own", [b"{}", b'["!"]', b"[1]", b"nothing"])
def test_own_bytes_that_are_none_refuse_their_record(log: Log, tmp_path: Path, own: bytes) -> None:
    good = log.bundle(range(1, 2))
    head, rest = good.rsplit(b"\n", 3)[0], good.rsplit(b"\n", 3)[1:]
    size = len(own) - len(rest[0])
    before = json.loads(head.split(b"\n")[-1])
    block = json.dumps(before | {"bytes": before["bytes"] + size}).encode()
    changed = b"\n".join([*head.split(b"\n")[:-1], block, own, *rest[1:]])
    found = check(changed, tmp_path, log.trust)
    assert [one.proven for one in found] == [None]
    assert "list of base64" in str(found[0].refused)


def test_another_key_and_missing_witnesses_are_refused(log: Log, tmp_path: Path) -> None:
    data = log.bundle(range(1, 3))
    with pytest.raises(ProofInvalid, match="of the log"):
        check(data, tmp_path, Trust(LOG_KEY))
    witness = verifier_of("witness.example/w1", WITNESS, COSIGNATURE)
    with pytest.raises(ProofInvalid, match="0 of the known witnesses"):
        check(data, tmp_path, Trust(log.trust.log, (witness,), 1))


def test_shared_bytes_have_a_limit(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = log.bundle(range(1, 9))
    monkeypatch.setattr("attest.broker.proof_bundle.MAX_FILE", len(data))
    twice = data.replace(b'{"shared"', b'{"shared":{}}\n' * (len(data) // 10) + b'{"shared"', 1)
    with pytest.raises(NoteMalformed, match="more than"):
        check(twice, tmp_path, log.trust)


@pytest.mark.parametrize("numbers", [range(2), range(1, 1), range(3, 10_000)])
def test_records_that_are_not_in_the_log_are_not_found(log: Log, numbers: range) -> None:
    with pytest.raises(NotFound):
        write_bundle(log.world.database, log.note, numbers, io.BytesIO())

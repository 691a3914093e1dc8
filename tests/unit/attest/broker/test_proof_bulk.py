"""Many proofs at once: nothing that is done sooner, or only once, lets a proof pass that would not pass alone."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attest.audit.canonical import canonical, written
from attest.audit.errors import AuditBroken, NoteMalformed
from attest.broker.evidence_record import findings
from attest.broker.findings_text import written_findings
from attest.broker.log import LogSigner, checkpoint
from attest.broker.presented import Memory
from attest.broker.proof_file import ProofFile, parse_proof_file
from attest.broker.proof_file_make import make_proof_file
from attest.broker.proof_form import Shelf
from attest.broker.repeat import Instead, check_record, decide_again
from attest.keys.log_key import load_log_key, make_log_key
from tests.fakes.service_world import PATH, ServiceWorld


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ProofFile]:
    """The proofs of a decision and of a release, by kind."""
    folder: Path = tmp_path_factory.mktemp("log")
    world = ServiceWorld(folder / "service")
    world.client().resource(PATH)
    make_log_key(folder / "log.key", "kbs.example/audit")
    note = checkpoint(
        world.database, LogSigner(load_log_key(folder / "log.key", "kbs.example/audit"), folder / "seen"), world.now
    )
    return {
        kind: make_proof_file(world.database, world.records(kind)[0]["number"], note)
        for kind in ("decision", "release")
    }


@pytest.fixture(scope="module")
def decided(made: dict[str, ProofFile]) -> ProofFile:
    """The proof of an accepted guest."""
    return made["decision"]


@pytest.fixture(scope="module")
def released(made: dict[str, ProofFile]) -> ProofFile:
    """The proof that it got its key."""
    return made["release"]


def test_a_file_in_another_layout_proves_the_same(decided: ProofFile) -> None:
    other = json.dumps(json.loads(decided.encode()), sort_keys=True).encode()
    assert other != decided.encode()
    assert parse_proof_file(other) == parse_proof_file(decided.encode(), Memory()) == decided


@pytest.mark.parametrize("name", ["schema", "record", "proof", "blobs"])
def test_a_member_that_stands_twice_in_the_file_is_refused(decided: ProofFile, name: str) -> None:
    data = decided.encode()
    line = next(line for line in data.split(b"\n") if line.startswith(f' "{name}"'.encode()))
    more = b' "blobs": {},' if name == "blobs" else line
    twice = data.replace(b"{\n", b"{\n" + more + b"\n", 1)
    with pytest.raises(NoteMalformed, match="appears twice"):
        parse_proof_file(twice)


def test_an_attached_file_that_stands_twice_is_refused(decided: ProofFile) -> None:
    data = decided.encode()
    line = next(line for line in data.split(b"\n") if line.startswith(b"  "))
    with pytest.raises(NoteMalformed, match="appears twice"):
        parse_proof_file(data.replace(line, line + b"\n" + line, 1))


def test_what_was_met_before_does_not_vouch_for_other_bytes_under_its_name(decided: ProofFile) -> None:
    memory, document = Memory(), json.loads(decided.encode())
    parse_proof_file(decided.encode(), memory)
    document["blobs"][next(iter(document["blobs"]))] = base64.b64encode(b"other bytes").decode()
    changed = json.dumps(document, indent=1).encode() + b"\n"
    with pytest.raises(NoteMalformed, match="another digest"):
        parse_proof_file(changed, memory)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text.replace('{"actor":', '{"seq":1,"actor":', 1), "appears twice"),
        (lambda text: text.replace('"kind":"decision"', '"kind": "decision"', 1), "not in canonical form"),
        (lambda text: text.replace('"init_data":null', '"peer":1.5', 1), "not an integer"),
        (lambda text: text.replace('"init_data":null', '"peer":9007199254740993', 1), "not in canonical form"),
        (lambda text: text.replace('"init_data":null', f'"peer":{"[" * 40}{"]" * 40}', 1), "nested deeper"),
        (lambda text: text.replace('"vmpl":0', '"vmpl":1', 1), "claims is another one"),
        (lambda text: text.replace('"vmpl":0', '"vmpl":0.0', 1), "not an integer"),
        (lambda text: text.replace('"vmpl":0', '"vmpl":false', 1), "claims is another one"),
        (lambda text: text.replace('"outcome":"pass"', '"outcome":"fail"', 1), "decision is another one"),
        (lambda text: text.replace('"outcome":"affirming"', '"outcome":"not-genuine"', 1), "the outcome is affirming"),
        (lambda text: text.replace('"schema":"cvm.audit/1"', '"schema":"cvm.audit/2"', 1), "not a cvm.audit/1"),
    ],
)  # fmt: skip
def test_a_record_is_refused_the_fast_way_as_the_strict_way(
    decided: ProofFile, edit: Callable[[str], str], message: str
) -> None:
    text = decided.entry.record.decode()
    changed = edit(text)
    assert changed != text
    with pytest.raises(AuditBroken, match=message):
        check_record(changed.encode(), "audit record 4", decided.blobs, Memory())


@pytest.mark.parametrize("left", [{}, {"claims": None}, {"decision": None}, {"claims": None, "decision": None}])
def test_evidence_that_never_parsed_cannot_have_been_accepted(decided: ProofFile, left: dict[str, None]) -> None:
    record = json.loads(decided.entry.record)
    record["body"] |= {"evidence": {"received_sha256": "0" * 64, "received_bytes": 9}, **left}
    for outcome in ("affirming", "malformed"):
        record["outcome"] = outcome
        if outcome == "malformed" and len(left) == 2:
            assert check_record(canonical(record), "audit record 4", decided.blobs)[1] is False
        else:
            with pytest.raises(AuditBroken, match="never parsed"):
                check_record(canonical(record), "audit record 4", decided.blobs)


def test_what_is_remembered_of_one_proof_changes_nothing_about_the_next(decided: ProofFile) -> None:
    memory = Memory()
    first = check_record(decided.entry.record, "audit record 4", decided.blobs, memory)
    assert first == check_record(decided.entry.record, "audit record 4", decided.blobs, memory)
    assert first == check_record(decided.entry.record, "audit record 4", decided.blobs)
    for gone in decided.blobs:
        rest = {digest: data for digest, data in decided.blobs.items() if digest != gone}
        with pytest.raises(AuditBroken, match="are gone"):
            check_record(decided.entry.record, "audit record 4", rest, memory)


def blob_text(byte: int) -> tuple[str, bytes]:
    data = bytes([byte]) * 750
    return hashlib.sha256(data).hexdigest(), base64.b64encode(data)


def test_the_shelf_forgets_what_was_not_met_for_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attest.broker.proof_form._SHELF", 2500)  # two of a thousand characters
    shelf = Shelf()
    first, second = shelf.blob(*blob_text(1)), shelf.blob(*blob_text(2))
    assert shelf.blob(*blob_text(1)) is first
    shelf.blob(*blob_text(3))
    assert shelf.blob(*blob_text(1)) is first
    assert shelf.blob(*blob_text(2)) is not second


def escaped_blob(data: bytes) -> bytes:
    """The first character of an attached file as an escape: other bytes, the same text."""
    place = data.index(b'": "', data.index(b'"blobs"')) + 4
    return data[:place] + f"\\u{data[place]:04x}".encode() + data[place + 1 :]


@pytest.mark.parametrize(
    "change",
    [
        escaped_blob,
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.rstrip(b"\n"),
        lambda data: data + b"\n",
        lambda data: data.replace(b"\n  ", b"\n   "),
        lambda data: data.replace(b"kbs.example", b"kbs\\u002eexample"),
    ],
)
def test_any_layout_of_the_same_json_is_the_same_proof(decided: ProofFile, change: Callable[[bytes], bytes]) -> None:
    changed = change(decided.encode())
    assert changed != decided.encode()
    assert parse_proof_file(changed) == decided


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b'",\n "proof"', b'", "more": "1",\n "proof"'),
        lambda data: data.replace(b'"\n }', b'",\n }'),
        lambda data: data.replace(b'",\n  "', b'"\n  "', 1),
        lambda data: data.replace(b' "schema": "attest.audit.proof/1",\n', b""),
        lambda data: data.replace(b"\n }\n}\n", b"\n }\n}\n}\n"),
        lambda data: data[: data.rindex(b"\n }")],
    ],
)
def test_what_is_nearly_our_layout_is_refused_as_json(decided: ProofFile, change: Callable[[bytes], bytes]) -> None:
    changed = change(decided.encode())
    assert changed != decided.encode()
    with pytest.raises(NoteMalformed):
        parse_proof_file(changed)


def outcome(data: bytes) -> ProofFile | None:
    try:
        return parse_proof_file(data)
    except NoteMalformed:
        return None


@given(st.data())
def test_a_byte_changed_anywhere_is_read_as_the_strict_reader_reads_it(decided: ProofFile, data: st.DataObject) -> None:
    file = bytearray(decided.encode())
    file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.sampled_from(range(256)))
    with pytest.MonkeyPatch.context() as patch:
        fast = outcome(bytes(file))
        patch.setattr("attest.broker.proof_form._as_written", lambda data: None)
        assert fast == outcome(bytes(file))


def test_a_record_that_is_too_long_is_refused_the_fast_way_too(
    decided: ProofFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("attest.audit.chain", "attest.broker.repeat"):
        monkeypatch.setattr(f"{module}.MAX_RECORD", 100)
    with pytest.raises(AuditBroken, match="want at most 100"):
        check_record(decided.entry.record, "audit record 4", decided.blobs)


@pytest.mark.parametrize("references", [None, ()])
def test_findings_in_writing_are_the_findings_in_canonical_form(decided: ProofFile, references: Any) -> None:
    record = json.loads(decided.entry.record)
    found = decide_again(
        decided.blobs.get, record["body"], datetime.fromisoformat(record["time"]), "it", Instead(references=references)
    )
    assert found.decision is not None
    assert found.decision.affirming is (references is None)
    said = replace(found, decision=found.decision._replace(policy_name='100 % "strict"', warnings=("web-1 retires",)))
    for one in (found, said):
        assert written(written_findings(one)) == canonical(findings(one))


def test_a_record_that_is_not_ascii_is_made_again_too(decided: ProofFile) -> None:
    record = json.loads(decided.entry.record)
    record["subject"] = "pr\u00fcfer"
    found, repeated = check_record(canonical(record), "audit record 4", decided.blobs)
    assert (found["subject"], repeated) == ("pr\u00fcfer", True)


def test_a_release_is_read_the_fast_way_too(released: ProofFile, monkeypatch: pytest.MonkeyPatch) -> None:
    data = released.encode()
    monkeypatch.setattr("attest.broker.proof_form._as_json", None)
    assert parse_proof_file(data) == released
    assert released.decision is not None


@given(st.data())
def test_a_byte_of_a_release_s_decision_changed_is_read_as_the_strict_reader_reads_it(
    released: ProofFile, data: st.DataObject
) -> None:
    file = bytearray(released.encode())
    start = file.index(b' "decision": ')
    place = data.draw(st.integers(start - 3, start + 60) | st.integers(start, file.index(b' "blobs"') + 12))
    file[place] = data.draw(st.sampled_from(b'"\\,:{}[]\n x1') | st.sampled_from(range(256)))
    with pytest.MonkeyPatch.context() as patch:
        fast = outcome(bytes(file))
        patch.setattr("attest.broker.proof_form._as_written", lambda data: None)
        assert fast == outcome(bytes(file))


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line + line,
        lambda line: line.replace(b'{"record":', b'{"record":"x","record":'),
        lambda line: line.replace(b'{"record":', b'{"more":1,"record":'),
        lambda line: b' "decision": null,\n',
        lambda line: b' "decision": {"record":"x","proof":1},\n',
        lambda line: b' "decision": {"record":"x"},\n',
        lambda line: b' "decision": [],\n',
        lambda line: line.rstrip(b",\n") + b"\n",
    ],
)
def test_a_release_s_decision_in_any_other_form_is_refused(
    released: ProofFile, change: Callable[[bytes], bytes]
) -> None:
    line = next(line for line in released.encode().splitlines(keepends=True) if line.startswith(b' "decision"'))
    with pytest.raises(NoteMalformed):
        parse_proof_file(released.encode().replace(line, change(line)))

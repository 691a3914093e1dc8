"""Signed notes, checkpoints, proof files and tiles."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from attest.audit.checkpoint import Checkpoint, LogProof, checkpoint_of, parse_checkpoint, parse_proof
from attest.audit.errors import NoteMalformed, ProofInvalid
from attest.audit.merkle import Frontier, leaf_hash, root_of
from attest.audit.note import (
    COSIGNATURE,
    Note,
    Verifier,
    cosign,
    parse_note,
    parse_signatures,
    sign,
    verifier_of,
    verify_note,
)
from attest.audit.tiles import (
    WIDTH,
    Tile,
    decode_entries,
    encode_entries,
    entries_path,
    nodes_from_tiles,
    tiles_of,
)

LOG = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
WITNESS = Ed25519PrivateKey.from_private_bytes(b"\2" * 32)
NAME, OTHER = "log.example/audit", "witness.example/w1"
LOG_KEY, WITNESS_KEY = verifier_of(NAME, LOG), verifier_of(OTHER, WITNESS, COSIGNATURE)
POINT = Checkpoint(NAME, 109482, bytes(range(32)))
NOTE = Note(POINT.text, (sign(POINT.text, NAME, LOG), cosign(POINT.text, OTHER, WITNESS, 1679315147)))
# The example of C2SP signed-note, signed by a key of its own name.
FOREIGN = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n"
    "— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
)


def test_a_note_comes_back_and_its_known_signatures_verify() -> None:
    note = parse_note(NOTE.encode())
    assert note == NOTE
    log, witness = verify_note(note, [WITNESS_KEY, LOG_KEY])
    assert (log.verifier, log.time) == (LOG_KEY, None)
    assert (witness.verifier, witness.time) == (WITNESS_KEY, 1679315147)


def test_the_text_of_a_note_may_hold_empty_lines() -> None:
    note = parse_note(FOREIGN.encode())
    assert note.text.endswith("ed è subito sera.\n")
    assert note.encode() == FOREIGN.encode()


def test_signatures_of_unknown_keys_are_ignored() -> None:
    assert verify_note(NOTE, []) == ()
    assert verify_note(NOTE, [LOG_KEY._replace(name="another.example")]) == ()


@pytest.mark.parametrize("place", range(0, len(POINT.text), 7))
def test_a_changed_text_is_refused(place: int) -> None:
    text = POINT.text[:place] + ("0" if POINT.text[place] != "0" else "1") + POINT.text[place + 1 :]
    with pytest.raises(ProofInvalid, match="does not verify"):
        verify_note(NOTE._replace(text=text), [LOG_KEY])


def test_a_cosignature_says_when_and_the_time_is_signed() -> None:
    signature = NOTE.signatures[1]
    later = signature._replace(value=(1679315148).to_bytes(8, "big") + signature.value[8:])
    with pytest.raises(ProofInvalid):
        verify_note(NOTE._replace(signatures=(later,)), [WITNESS_KEY])


def test_a_log_signature_is_not_a_cosignature_of_the_same_key() -> None:
    as_witness = verifier_of(NAME, LOG, COSIGNATURE)
    assert as_witness.key_id != LOG_KEY.key_id
    forged = NOTE.signatures[0]._replace(key_id=as_witness.key_id)
    with pytest.raises(ProofInvalid):
        verify_note(NOTE._replace(signatures=(forged,)), [as_witness])


def test_a_public_key_comes_back_from_its_text() -> None:
    assert Verifier.parse(LOG_KEY.vkey) == LOG_KEY
    assert Verifier.parse(WITNESS_KEY.vkey + "\n") == WITNESS_KEY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a+b",
        "a+b+c",
        LOG_KEY.vkey.replace("log", "lag"),
        LOG_KEY.vkey[:-4],
        "n+00000000+" + base64.b64encode(bytes(33)).decode(),
    ],
)
def test_a_wrong_public_key_text_is_refused(text: str) -> None:
    with pytest.raises(NoteMalformed):
        Verifier.parse(text)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no empty line"),
        (b"text\n", "no empty line"),
        (b"text\n\n", "no signature"),
        (b"\n\n", "no empty line"),
        (b"text\n\n- name QUFBQUFB\n", "signature line 1"),
        ("text\n\n— name QUFBQUFB".encode(), "signature line 1"),
        ("text\n\n— na+me QUFBQUFB\n".encode(), "signature line 1"),
        ("text\n\n— name QUFBQQ==\n".encode(), "holds no signature"),
        ("text\n\n— name !!!\n".encode(), "signature line 1"),
        ("te\txt\n\n— name QUFBQUFB\n".encode(), "control character"),
        (b"\xff\n\n", "not UTF-8"),
        (b"a" * 70000, "at most"),
        (("text\n\n" + "— name QUFBQUFB\n" * 65).encode(), "one too many"),
    ],
)
def test_a_malformed_note_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(NoteMalformed, match=words):
        parse_note(data)


def test_a_name_that_would_break_a_line_cannot_sign() -> None:
    with pytest.raises(NoteMalformed, match="key name"):
        sign("text\n", "two words", LOG)


def test_signature_lines_alone_parse() -> None:
    assert parse_signatures("".join(item.line for item in NOTE.signatures)) == NOTE.signatures


def test_a_checkpoint_comes_back() -> None:
    assert parse_checkpoint(NOTE.encode()) == (POINT, NOTE)


@pytest.mark.parametrize(
    "text",
    ["a\n1\n", "a\n01\n" + "A" * 43 + "=\n", "\n1\n" + "A" * 43 + "=\n", "a\n1\n" + "A" * 43 + "=\nextension\n", "a\n-1\n" + "A" * 43 + "=\n",
     "a\n1\n" + "A" * 42 + "B=\n", "a\n9999999999999999999\n" + "A" * 43 + "=\n", "a\n1\nAAAA\n"],
)  # fmt: skip
def test_a_malformed_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteMalformed):
        checkpoint_of(NOTE._replace(text=text))


def test_a_proof_file_comes_back() -> None:
    proof = LogProof(73894, (bytes(32), b"\1" * 32), NOTE)
    assert parse_proof(proof.encode()) == proof
    assert proof.encode().startswith(b"c2sp.org/tlog-proof@v1\nindex 73894\nAAAA")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"@v1", b"@v2"),
        (b"index ", b"place "),
        (b"index 7", b"index 07"),
        (b"AAAA", b"AAA"),
        (b"\n\n", b"\n"),
        (b"index", b"extra YQ==\nindex"),
    ],
)
def test_a_malformed_proof_file_is_refused(old: bytes, new: bytes) -> None:
    data = LogProof(73894, (bytes(32),), NOTE).encode()
    with pytest.raises(NoteMalformed):
        parse_proof(data.replace(old, new, 1))


def test_a_proof_file_has_a_bounded_number_of_hashes() -> None:
    with pytest.raises(NoteMalformed, match="at most 64"):
        parse_proof(LogProof(0, (bytes(32),) * 65, NOTE).encode())


def test_tiles_have_the_paths_of_the_specification() -> None:
    assert Tile(0, 1234067, 256).path == "tile/0/x001/x234/067"
    assert Tile(1, 0, 17).path == "tile/1/000.p/17"
    assert entries_path(273, 112) == "tile/entries/273.p/112"


def test_a_tree_of_70000_has_the_tiles_of_the_specification() -> None:
    tiles = list(tiles_of(70000))
    assert sum(tile.level == 0 and tile.width == WIDTH for tile in tiles) == 273
    assert [tile for tile in tiles if tile.width != WIDTH] == [Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert list(tiles_of(256)) == [Tile(0, 0, 256), Tile(1, 0, 1)]
    assert list(tiles_of(70000, since=69999)) == [Tile(0, 273, 112)]
    assert list(tiles_of(0)) == []


@given(st.integers(1, 1200), st.integers(0, 1200))
def test_what_is_added_to_an_older_tree_is_all_that_is_missing(size: int, since: int) -> None:
    since = min(since, size)
    assert set(tiles_of(size)) <= set(tiles_of(since)) | set(tiles_of(size, since))


def test_every_node_is_found_in_tiles() -> None:
    frontier, nodes = Frontier(), {}
    for index in range(700):
        nodes.update({(level, place): value for level, place, value in frontier.push(leaf_hash(b"%d" % index))})
    files = {
        (tile.level, tile.number): b"".join(nodes[8 * tile.level, tile.number * WIDTH + at] for at in range(tile.width))
        for tile in tiles_of(700)
    }
    read = nodes_from_tiles(lambda level, index: files[level, index])
    assert all(read(*key) == value for key, value in nodes.items())
    assert root_of(700, read) == frontier.root()
    with pytest.raises(NoteMalformed, match="want hash"):
        nodes_from_tiles(lambda _level, _index: bytes(32))(0, 5)


@given(st.lists(st.binary(max_size=300), max_size=WIDTH))
def test_entry_bundles_come_back(entries: list[bytes]) -> None:
    assert decode_entries(encode_entries(entries)) == entries


@pytest.mark.parametrize("data", [b"\0", b"\0\5abc", b"\0\0" * 257])
def test_a_malformed_bundle_is_refused(data: bytes) -> None:
    with pytest.raises(NoteMalformed):
        decode_entries(data)


def test_an_entry_that_does_not_fit_is_misuse() -> None:
    with pytest.raises(ValueError, match="65535"):
        encode_entries([bytes(65536)])

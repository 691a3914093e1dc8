"""An archive opens whole and unchanged, under its master key, or not at all."""

from __future__ import annotations

import io
import json

import pytest

from attest.keys.archive import MAGIC, PIECE, TAG, ArchiveReader, ArchiveWriter
from attest.keys.errors import SealBroken
from attest.keys.master import MasterKeys
from policy.secret import SecretBytes

KEYS = MasterKeys([SecretBytes(b"m" * 32)])


def written(content: bytes) -> bytes:
    file = io.BytesIO()
    writer = ArchiveWriter(file, KEYS, {"schema": "test"})
    for at in range(0, len(content), 1000):
        writer.write(content[at : at + 1000])
    writer.close()
    return file.getvalue()


def read(data: bytes, keys: MasterKeys = KEYS) -> bytes:
    reader = ArchiveReader(io.BufferedReader(io.BytesIO(data)), "archive")
    reader.open(keys)
    content = reader.read()
    reader.finish()
    return content


def start_of_pieces(data: bytes) -> int:
    return data.index(b"\n", len(MAGIC)) + 1


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 5])
def test_what_was_written_is_read_at_every_boundary_of_a_piece(size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    assert read(written(content[:size])) == content[:size]


def test_the_content_is_not_in_the_file() -> None:
    assert b"a secret that is long" not in written(b"a secret that is long")


def test_a_file_cut_after_a_whole_piece_does_not_open() -> None:
    data = written(bytes(2 * PIECE))
    with pytest.raises(SealBroken, match="altered or cut off at byte 0"):
        read(data[: start_of_pieces(data) + PIECE + TAG])


def test_two_pieces_that_changed_places_do_not_open() -> None:
    data = written(b"a" * PIECE + b"b" * PIECE + b"c")
    start, long = start_of_pieces(data), PIECE + TAG
    first, second, rest = data[start : start + long], data[start + long : start + 2 * long], data[start + 2 * long :]
    with pytest.raises(SealBroken):
        read(data[:start] + second + first + rest)


def test_something_after_the_last_piece_is_refused() -> None:
    with pytest.raises(SealBroken):
        read(written(b"content") + b"\0")


def test_a_changed_header_does_not_open() -> None:
    magic, header, rest = written(b"content").split(b"\n", 2)
    changed = json.dumps({**json.loads(header), "schema": "other"}).encode()
    with pytest.raises(SealBroken):
        read(b"\n".join((magic, changed, rest)))


def test_another_master_key_is_named_as_missing() -> None:
    with pytest.raises(SealBroken, match="not in the master key file"):
        read(written(b"content"), MasterKeys([SecretBytes(b"o" * 32)]))


@pytest.mark.parametrize("data", [b"", b"other\n{}\n", MAGIC, MAGIC + b"[]\n", MAGIC + b"{}\n", MAGIC + b"{" * 70000])
def test_what_is_no_archive_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(SealBroken, match="archive: "):
        ArchiveReader(io.BufferedReader(io.BytesIO(data)), "archive")

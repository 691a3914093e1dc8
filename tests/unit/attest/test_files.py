"""Files of which only so much is read."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from attest.files import read_at_most


def test_a_file_of_as_many_bytes_as_may_be_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1234")
    assert read_at_most(tmp_path / "file", 4) == b"1234"


def test_a_longer_file_is_too_large_and_not_cut(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    with pytest.raises(OSError, match="more than 4 bytes") as caught:
        read_at_most(tmp_path / "file", 4)
    assert caught.value.errno == errno.EFBIG


def test_a_missing_file_is_told_as_the_system_tells_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_at_most(tmp_path / "file", 4)

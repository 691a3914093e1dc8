"""Fuzz target: an IGVM file is measured, or refused; ID blocks read back as they were."""

from __future__ import annotations

from zlib import crc32

from ovmf.id_block import parse_id_auth, parse_id_block, verify_id_block
from ovmf.igvm import parse_igvm
from ovmf.igvm_launch import check_id_block, igvm_launch_digest, kvm_problems
from policy.errors import CvmError

_MOST_PAGES = 2048


def one(data: bytes) -> None:
    """Feed one input, as it is and with the checksum that no fuzzer guesses."""
    _igvm(data)
    _igvm(_checked(data))
    _id_block(data)


def _checked(data: bytes) -> bytes:
    fixed = 32 if data[4:8] == b"\2\0\0\0" else 24
    end = fixed + int.from_bytes(data[12:16], "little")
    front = data[:20] + bytes(4) + data[24:end]
    return data[:16] + len(data).to_bytes(4, "little") + crc32(front[:16] + len(data).to_bytes(4, "little")
        + front[20:]).to_bytes(4, "little") + data[24:]  # fmt: skip


def _igvm(data: bytes) -> None:
    try:
        file = parse_igvm(data)
        if sum(getattr(item, "size", 4096) for item in file.directives) <= _MOST_PAGES * 4096:
            kvm_problems(file)
            check_id_block(file, igvm_launch_digest(file))
    except CvmError:
        return


def _id_block(data: bytes) -> None:
    try:
        if parse_id_block(data[:96]).to_bytes() != data[:96]:
            raise AssertionError("an ID block that was accepted is written differently")
        auth = parse_id_auth(data[96:])
        if auth.author_key is not None and auth.to_bytes() != data[96:]:
            raise AssertionError("an ID authentication that was accepted is written differently")
        verify_id_block(data[:96], data[96:])
    except CvmError:
        return

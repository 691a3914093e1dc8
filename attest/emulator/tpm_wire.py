"""The few TPM 2.0 commands the emulated TD must understand: PCR_Extend when it passes by, PCR_Read for its own check.

Integers big-endian. Source: TCG, *TPM 2.0 Library*, part 1 section 18 (command and response structure), part 2
(TPM_CC, TPML_DIGEST_VALUES, TPML_PCR_SELECTION), part 3 section 22 (integrity collection).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from policy.errors import MalformedInput
from policy.wire import ByteReader

HEADER = struct.Struct(">HII")
"""Tag, size of the whole, command or response code."""
MAX_COMMAND = 4096
"""The most swtpm takes in either direction."""
SHA384 = 0x000C
SHA384_BYTES = 48
PCR_COUNT = 24

_TAG_NO_SESSIONS, _TAG_SESSIONS = 0x8001, 0x8002
_CC_PCR_EXTEND, _CC_PCR_READ = 0x182, 0x17E
_SHA_SIZES = {0x0004: 20, 0x000B: 32, SHA384: 48, 0x000D: 64, 0x0012: 32}
_RC_COMMAND_CODE = 0x143
# PCR_Event, EventSequenceComplete, PCR_Allocate: other ways to change PCRs, which neither edk2 nor Linux uses.
_REFUSED = frozenset((0x13C, 0x185, 0x12B))


class TpmMalformed(MalformedInput):
    """Bytes that are no TPM command, or an answer the TPM should not have given."""

    code = "emulator.tpm-malformed"


class Extend(NamedTuple):
    """One PCR_Extend: the register's number and the SHA-384 digest, 48 bytes."""

    pcr: int
    digest: bytes


def refusal(command: bytes) -> bytes | None:
    """The TPM's answer "no such command" for those that would change PCRs unseen; ``None`` for all others."""
    if _header(command)[2] not in _REFUSED:
        return None
    return HEADER.pack(_TAG_NO_SESSIONS, HEADER.size, _RC_COMMAND_CODE)


def succeeded(response: bytes) -> bool:
    """Whether the response code is TPM_RC_SUCCESS."""
    return _header(response)[2] == 0


def parse_extend(command: bytes) -> Extend | None:
    """What a PCR_Extend extends in the SHA-384 bank; ``None`` for other commands.

    A PCR_Extend that leaves that bank out is :class:`TpmMalformed`: the bank is the only one there is.
    """
    tag, _, code = _header(command)
    if code != _CC_PCR_EXTEND:
        return None
    if tag != _TAG_SESSIONS:
        raise TpmMalformed(f"PCR_Extend: tag {tag:#x}, want {_TAG_SESSIONS:#x}")
    reader = ByteReader(command[HEADER.size :], "PCR_Extend", error=TpmMalformed)
    pcr = _u32(reader, "pcrHandle")
    reader.take(_u32(reader, "authorizationSize"), "authorization")
    digests = [_digest(reader) for _ in range(min(_u32(reader, "count"), len(_SHA_SIZES) + 1))]
    reader.end()
    found = [digest for algorithm, digest in digests if algorithm == SHA384]
    if pcr >= PCR_COUNT or len(found) != 1:
        raise TpmMalformed(f"PCR_Extend: PCR {pcr} with {len(found)} SHA-384 digests, want a PCR below 24 with one")
    return Extend(pcr, found[0])


def pcr_read(pcr: int) -> bytes:
    """The command that reads one PCR of the SHA-384 bank."""
    selection = (1 << pcr).to_bytes(3, "little")
    body = struct.pack(">IHB", 1, SHA384, 3) + selection
    return HEADER.pack(_TAG_NO_SESSIONS, HEADER.size + len(body), _CC_PCR_READ) + body


def parse_pcr_read(response: bytes) -> bytes:
    """The 48 bytes of the PCR that :func:`pcr_read` asked for."""
    code = _header(response)[2]
    if code != 0:
        raise TpmMalformed(f"PCR_Read: response code {code:#x}, want 0")
    reader = ByteReader(response[HEADER.size :], "PCR_Read", error=TpmMalformed)
    reader.take(4 + 4 + 2 + 1 + 3, "update counter and selection")
    count, size = _u32(reader, "count"), int.from_bytes(reader.take(2, "size"), "big")
    if (count, size) != (1, SHA384_BYTES):
        raise TpmMalformed(f"PCR_Read: {count} values of {size} bytes, want one of {SHA384_BYTES}")
    value = reader.take(SHA384_BYTES, "value")
    reader.end()
    return value


def _digest(reader: ByteReader) -> tuple[int, bytes]:
    algorithm = int.from_bytes(reader.take(2, "hash algorithm"), "big")
    size = _SHA_SIZES.get(algorithm)
    if size is None:
        raise TpmMalformed(f"PCR_Extend: hash algorithm {algorithm:#x} is not known")
    return algorithm, reader.take(size, "digest")


def _u32(reader: ByteReader, what: str) -> int:
    return int.from_bytes(reader.take(4, what), "big")


def _header(data: bytes) -> tuple[int, int, int]:
    if len(data) < HEADER.size:
        raise TpmMalformed(f"TPM message: {len(data)} bytes, want at least {HEADER.size}")
    tag, size, code = HEADER.unpack_from(data)
    if size != len(data):
        raise TpmMalformed(f"TPM message: says {size} bytes, has {len(data)}")
    return tag, size, code

"""What `cvm explain` needs of an SNP report, **unverified**: the launch digest, out of what reports come wrapped in.

Sources: AMD 56860, *SEV-SNP Firmware ABI*, table 23; Linux, ``struct snp_report_resp``; Microsoft, *Guest attestation
for confidential VMs*, "HCL report".
"""

from __future__ import annotations

from policy.errors import MalformedInput, UnsupportedInput
from policy.vocab import LaunchDigest
from policy.wire import ByteReader

_REPORT_SIZE = 0x4A0
_WRAPPING = 32
_BLOB_MAGIC = b"HCLA"
_ANSWER = bytes(4) + _REPORT_SIZE.to_bytes(4, "little")  # status, size


def unwrapped(data: bytes) -> bytes:
    """The report or quote in the kernel's answer, in Azure's blob, or written as hexadecimal or base64.

    Raises :class:`UnsupportedInput` for JSON.
    """
    if data.lstrip()[:1] in (b"{", b"["):
        raise UnsupportedInput(
            "evidence: got JSON, want the report itself; or give the member measurement of "
            '"attest evidence show --json" as --digest',
            code="evidence.unsupported",
        )
    if data[:8].isascii() and b"\0" not in data[:8]:
        from policy.spelled import spelled_bytes

        data = spelled_bytes(data) or data
    return data[_WRAPPING:] if data.startswith((_BLOB_MAGIC, _ANSWER)) else data


def digest_of_report(data: bytes) -> LaunchDigest:
    """MEASUREMENT (48 bytes at 0x90) of a report of 1184 bytes, whatever follows it (certificates, a blob's rest)."""
    reader = ByteReader(data, "report")
    if len(data) < _REPORT_SIZE:
        raise MalformedInput(f"report: got {len(data)} bytes, want at least {_REPORT_SIZE}", code="evidence.malformed")
    version = reader.u32("version")
    if not 1 <= version <= 5:
        raise UnsupportedInput(f"report: version got {version}, want 1..5", code="evidence.unsupported")
    reader.skip(0x34 - reader.offset, "fields before the algorithm")
    algorithm = reader.u32("signature algorithm")
    if algorithm != 1:
        raise UnsupportedInput(
            f"report: signature algorithm at 0x34 got {algorithm}, want 1", code="evidence.unsupported"
        )
    reader.skip(0x90 - reader.offset, "fields before the measurement")
    return LaunchDigest(reader.take(48, "measurement"))

"""Which entry of ``db`` vouches for an image, and the event firmware measures about it.

A database is a row of EFI_SIGNATURE_LIST {type 16, list size u32, header size u32, signature size u32} with entries
{owner 16, data}. Firmware takes the signatures of the image in their order, and for each the certificates of ``db`` in
theirs; the first in the signer's chain counts, wherever it stands in it. An image whose digest stands in ``db`` needs
no signature. The entry is measured as UEFI_VARIABLE_DATA, and once per boot however many images it vouches for. ``dbx``
may name a certificate by the hash of its signed part, with the time {EFI_TIME} from which it does not count, or zeros.
Sources: UEFI specification 2.10, sections 32.4.1, 32.5.3; edk2 ``DxeImageVerificationLib`` (and its ``Measurement.c``).
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from ovmf import td_events as make
from ovmf.errors import LaunchInvalid, VariablesMalformed
from ovmf.guid import efi_guid
from ovmf.pe import authenticode
from ovmf.signature import Certificate, Unsupported, certificate, signing_chains
from ovmf.variables import IMAGE_SECURITY, Key, variable_data
from policy.measured import MeasuredEvent
from policy.wire import ByteReader

X509 = efi_guid("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
SHA256 = efi_guid("c1c41626-504c-4092-aca9-41f936934328")
CERTIFICATE_HASHES = {
    efi_guid("3bd2a492-96c0-4079-b420-fcf98ef103ed"): "sha256",
    efi_guid("7076876e-80c2-4ee6-aad2-28b349a6865b"): "sha384",
    efi_guid("446dbf63-2502-4cda-bcfa-2465d2b0fe9d"): "sha512",
}
_TIME = 16


class Signature(NamedTuple):
    """An entry of a database; ``kind`` and ``owner`` are GUIDs in EFI order."""

    kind: bytes
    owner: bytes
    data: bytes


def parse_database(data: bytes, name: str) -> list[Signature]:
    """The entries of all lists in order, or :class:`VariablesMalformed`."""
    reader = ByteReader(data, name, error=VariablesMalformed)
    found = []
    while reader.remaining:
        kind = reader.take(16, "list type")
        size, header, each = reader.u32("list size"), reader.u32("header size"), reader.u32("signature size")
        if each <= 16 or size < 28 + header or (size - 28 - header) % each:
            raise reader.fail(f"list of {size} bytes, header {header}, entries {each}: want whole entries")
        reader.skip(header, "list header")
        for _ in range((size - 28 - header) // each):
            found.append(Signature(kind, reader.take(16, "owner"), reader.take(each - 16, "entry")))
    return found


def authority_events(image: bytes, variables: dict[Key, bytes]) -> tuple[list[MeasuredEvent], list[str]]:
    """The event for an image the firmware starts with Secure Boot on, and what cannot be known of it.

    Raises `ovmf.errors.LaunchInvalid` when ``dbx`` refuses the image, `ovmf.errors.PeMalformed` for a signature that is
    wrong or malformed (firmware would pass it over) and `ovmf.errors.VariablesMalformed`.
    """
    allowed = parse_database(variables.get((IMAGE_SECURITY, "db"), b""), "db")
    refused = parse_database(variables.get((IMAGE_SECURITY, "dbx"), b""), "dbx")
    digest = authenticode(image, "sha256")
    if any(entry.kind == SHA256 and entry.data == digest for entry in refused):
        raise LaunchInvalid(f"Secure Boot: the image with SHA-256 digest {digest.hex()} is refused by dbx")
    try:
        entry = vouching(signing_chains(image), digest, allowed, refused)
    except Unsupported as reason:
        return [], [f"RTMR0: which certificate vouches for the image: it has {reason}"]
    if entry is None:  # a build may still start a kernel given to QEMU, in another way
        return [], [f"RTMR0: Secure Boot is on and nothing in db vouches for the image (SHA-256 {digest.hex()})"]
    data = variable_data(IMAGE_SECURITY, "db", entry.owner + entry.data)
    return [make.event(0, make.AUTHORITY, data, "authority:db", _words(entry))], []


def vouching(
    chains: list[list[Certificate]], digest: bytes, allowed: list[Signature], refused: list[Signature]
) -> Signature | None:
    """The entry of ``allowed`` that vouches first, ``None`` when none does."""
    known = [(entry, certificate(entry.data)) for entry in allowed if entry.kind == X509]
    bad = [certificate(entry.data) for entry in refused if entry.kind == X509]
    for chain in chains:
        if any(in_chain(item, chain) for item in bad) or _revoked(chain[0], refused):
            raise LaunchInvalid("Secure Boot: a certificate in the image's chain is refused by dbx")
    for chain in chains:
        for entry, item in known:
            if in_chain(item, chain) and not _revoked(item, refused):
                return entry
    return next((entry for entry in allowed if entry.kind == SHA256 and entry.data == digest), None)


def _revoked(item: Certificate, refused: list[Signature]) -> bool:
    """``dbx`` names it by its hash. Raises :class:`Unsupported` for a revocation from a date on: what was signed
    before would need a time stamp."""
    for entry in refused:
        if entry.kind not in CERTIFICATE_HASHES:
            continue
        digest = hashlib.new(CERTIFICATE_HASHES[entry.kind], item.parsed.tbs_certificate_bytes).digest()
        if len(entry.data) != len(digest) + _TIME:
            raise VariablesMalformed(
                f"dbx: a certificate's hash: got {len(entry.data)} bytes, want {len(digest) + _TIME}"
            )
        if entry.data[:-_TIME] == digest and any(entry.data[-_TIME:]):
            raise Unsupported("a certificate that dbx revokes from a date on")
        if entry.data[:-_TIME] == digest:
            return True
    return False


def in_chain(item: Certificate, chain: list[Certificate]) -> bool:
    """It is a member, or issued one."""
    return any(item.der == link.der or item.issued(link) for link in chain)


def _words(entry: Signature) -> str:
    if entry.kind == SHA256:
        return f"digest {entry.data.hex()}"
    return certificate(entry.data).parsed.subject.rfc4514_string()

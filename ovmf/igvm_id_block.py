"""The SNP_ID_BLOCK header of an IGVM file: what an ID block and its authentication say, in another layout.

Signatures have 144 bytes {r 72, s 72} and public keys 152 {curve u32, reserved u32, qx 72, qy 72}: the reserved word is
not part of what the firmware hashes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from policy.fixed import LaunchDigest

if TYPE_CHECKING:
    from policy.wire import ByteReader

ID_BLOCK_LENGTH = 696
"""Bytes of the header's content."""
_PUBLIC_KEY_SIZE, _SIGNATURE_SIZE = 0x404, 512


class IgvmIdBlock(NamedTuple):
    """The block without its policy, which the file states elsewhere; keys and signatures as the firmware reads them
    (0x404 and 512 bytes), ``author_key`` ``None`` where none is enabled."""

    launch_digest: LaunchDigest
    family_id: bytes
    image_id: bytes
    guest_svn: int
    id_signature: bytes
    id_key: bytes
    author_signature: bytes | None
    author_key: bytes | None


def read_id_block(reader: ByteReader) -> tuple[IgvmIdBlock, int]:
    """The block and its compatibility mask; the reader's error class otherwise."""
    mask = reader.u32("compatibility mask")
    enabled = reader.u8("author key enabled")
    reader.zero(3, "reserved")
    digest, family, image = reader.take(48, "launch digest"), reader.take(16, "family id"), reader.take(16, "image id")
    version, svn = reader.u32("version"), reader.u32("guest SVN")
    algorithm, author_algorithm = reader.u32("ID key algorithm"), reader.u32("author key algorithm")
    if version != 1 or algorithm != 1 or enabled > 1 or author_algorithm > 1:
        raise reader.fail(f"ID block: version {version}, algorithms {algorithm} and {author_algorithm}: want 1")
    signature, key = _signature(reader), _key(reader)
    author_signature, author_key = _signature(reader), _key(reader)
    author = (author_signature, author_key) if enabled else (None, None)
    return IgvmIdBlock(LaunchDigest(digest), family, image, svn, signature, key, *author), mask


def _signature(reader: ByteReader) -> bytes:
    return reader.take(144, "signature").ljust(_SIGNATURE_SIZE, b"\0")


def _key(reader: ByteReader) -> bytes:
    curve = reader.take(4, "curve")
    reader.zero(4, "reserved")
    return (curve + reader.take(144, "public key")).ljust(_PUBLIC_KEY_SIZE, b"\0")

"""ID block and ID authentication: a launch the chip itself refuses when image, policy or signer is not the expected
one.

The ID block (96 bytes) states the launch digest, family and image ids, guest SVN and guest policy; the ID
authentication (4096 bytes) has its signature by the *ID key* and, optionally, the ID key's signature by the *author
key*. Family, image, SVN and the digests of both keys appear in every report. Source: SEV-SNP Firmware ABI (AMD
publication 56860), 8.18 (SNP_LAUNCH_FINISH).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ovmf.errors import IdBlockInvalid, IdBlockMalformed, LaunchInvalid
from ovmf.sev_key import PUBLIC_KEY_SIZE, SIGNATURE_SIZE, key_digest, public_key_bytes, sign, verify
from policy.fixed import LaunchDigest
from policy.wire import ByteReader

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

ID_AUTH_SIZE = 4096
_VERSION = 1
_ECDSA_P384_SHA384 = 1
_DEFAULT_POLICY = 0x30000


class IdBlock(NamedTuple):
    """What the chip compares at launch. ``family_id`` and ``image_id`` are 16 bytes, ``guest_svn`` is u32, ``policy``
    the 64-bit guest policy the VM must be launched with (bit 17 is always set)."""

    launch_digest: LaunchDigest
    family_id: bytes = bytes(16)
    image_id: bytes = bytes(16)
    guest_svn: int = 0
    policy: int = _DEFAULT_POLICY

    def to_bytes(self) -> bytes:
        """The 96 bytes, or :class:`LaunchInvalid` when a field does not fit."""
        if len(self.family_id) != 16 or len(self.image_id) != 16:
            raise LaunchInvalid("ID block: family and image id: want 16 bytes each")
        if not 0 <= self.guest_svn < 1 << 32:
            raise LaunchInvalid(f"ID block: guest SVN: got {self.guest_svn}, want 32 bits")
        if not 0 <= self.policy < 1 << 64 or not self.policy >> 17 & 1:
            raise LaunchInvalid(f"ID block: policy: got 0x{self.policy:X}, want 64 bits with bit 17 set")
        numbers = (
            _VERSION.to_bytes(4, "little") + self.guest_svn.to_bytes(4, "little") + self.policy.to_bytes(8, "little")
        )
        return self.launch_digest + self.family_id + self.image_id + numbers


class IdAuth(NamedTuple):
    """Keys (0x404 bytes each) and signatures (512 bytes each) as the firmware reads them; no author key is ``None``."""

    id_signature: bytes
    id_key: bytes
    author_signature: bytes | None = None
    author_key: bytes | None = None

    @property
    def id_key_digest(self) -> bytes:
        """ID_KEY_DIGEST of reports, 48 bytes."""
        return key_digest(self.id_key)

    @property
    def author_key_digest(self) -> bytes | None:
        """AUTHOR_KEY_DIGEST of reports, 48 bytes, if an author signed."""
        return None if self.author_key is None else key_digest(self.author_key)

    def to_bytes(self) -> bytes:
        """The 4096 bytes."""
        author = self.author_key is not None
        head = _ECDSA_P384_SHA384.to_bytes(4, "little") + (_ECDSA_P384_SHA384 if author else 0).to_bytes(4, "little")
        body = head.ljust(0x40, b"\0") + self.id_signature + self.id_key
        body = body.ljust(0x680, b"\0") + (self.author_signature or bytes(SIGNATURE_SIZE))
        return (body + (self.author_key or b"")).ljust(ID_AUTH_SIZE, b"\0")


def sign_id_block(
    block: IdBlock, id_key: EllipticCurvePrivateKey, author_key: EllipticCurvePrivateKey | None = None
) -> IdAuth:
    """Sign with P-384 keys; the author key signs the ID key's 0x404 bytes. The same input gives the same bytes."""
    public = public_key_bytes(id_key.public_key())
    signature = sign(id_key, block.to_bytes())
    if author_key is None:
        return IdAuth(signature, public)
    return IdAuth(signature, public, sign(author_key, public), public_key_bytes(author_key.public_key()))


def parse_id_block(raw: bytes) -> IdBlock:
    """The 96 bytes, or :class:`IdBlockMalformed`."""
    reader = ByteReader(raw, "ID block", error=IdBlockMalformed)
    digest, family, image = reader.take(48, "launch digest"), reader.take(16, "family id"), reader.take(16, "image id")
    version, svn, policy = reader.u32("version"), reader.u32("guest SVN"), reader.u64("policy")
    reader.end()
    if version != _VERSION:
        raise reader.fail(f"version: got {version}, want 1")
    if not policy >> 17 & 1:
        raise reader.fail(f"policy: got 0x{policy:X}, want bit 17 set")
    return IdBlock(LaunchDigest(digest), family, image, svn, policy)


def parse_id_auth(raw: bytes) -> IdAuth:
    """The 4096 bytes, or :class:`IdBlockMalformed`. Keys and signatures are looked at by :func:`verify_id_block`."""
    reader = ByteReader(raw, "ID auth", error=IdBlockMalformed)
    id_algorithm, author_algorithm = reader.u32("ID key algorithm"), reader.u32("author key algorithm")
    if id_algorithm != _ECDSA_P384_SHA384:
        raise reader.fail(f"ID key algorithm: got {id_algorithm}, want 1 (ECDSA P-384 with SHA-384)")
    if author_algorithm not in (0, _ECDSA_P384_SHA384):
        raise reader.fail(f"author key algorithm: got {author_algorithm}, want 0 or 1")
    reader.zero(0x40 - reader.offset, "reserved")
    id_signature, id_key = reader.take(SIGNATURE_SIZE, "ID signature"), reader.take(PUBLIC_KEY_SIZE, "ID key")
    reader.zero(0x680 - reader.offset, "reserved")
    author_signature = reader.take(SIGNATURE_SIZE, "author signature")
    author_key = reader.take(PUBLIC_KEY_SIZE, "author key")
    reader.zero(ID_AUTH_SIZE - reader.offset, "reserved")
    reader.end()
    if any(author_key):
        if not author_algorithm:
            raise reader.fail("author key algorithm: got 0, but there is an author key")
        return IdAuth(id_signature, id_key, author_signature, author_key)
    if any(author_signature):
        raise reader.fail("author signature: got one, but no author key")
    return IdAuth(id_signature, id_key)  # some tools name an algorithm all the same


def verify_id_block(block: bytes, auth: bytes, *, launch_digest: LaunchDigest | None = None) -> tuple[IdBlock, IdAuth]:
    """What the chip checks at launch, on the bytes as given; both parsed, or an error.

    1. the block and the authentication have no unknown version, algorithm or reserved bit;
    2. the ID key made the signature over the block's 96 bytes;
    3. with an author key, it made the signature over the ID key's 0x404 bytes;
    4. with ``launch_digest``, it is the one the block states.

    Who the keys belong to is for the caller to know: compare the digests. Raises :class:`IdBlockMalformed` or
    :class:`IdBlockInvalid`.
    """
    parsed, authentication = parse_id_block(block), parse_id_auth(auth)
    verify(authentication.id_key, authentication.id_signature, block, "ID signature")
    if authentication.author_key is not None:
        signature = authentication.author_signature or b""
        verify(authentication.author_key, signature, authentication.id_key, "author signature")
    if launch_digest is not None and parsed.launch_digest != launch_digest:
        raise IdBlockInvalid(f"ID block: launch digest: got {parsed.launch_digest.hex()}, want {launch_digest.hex()}")
    return parsed, authentication

"""Byte strings of one length. Part of `policy.vocab`, which re-exports them; apart so that ``cvm measure`` can start
without loading enumerations and regular expressions.
"""

from __future__ import annotations

from policy.errors import MalformedInput

TYPE_CHECKING = False  # typing itself costs start-up time
if TYPE_CHECKING:
    from typing import Self


class FixedBytes(bytes):
    """A byte string of one length; construction refuses any other."""

    LENGTH = 0
    WORD = "value"

    def __new__(cls, data: bytes) -> Self:
        if len(data) != cls.LENGTH:
            raise MalformedInput(f"{cls.WORD}: got {len(data)} bytes, want {cls.LENGTH}")
        return super().__new__(cls, data)

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """From hexadecimal digits of either case, without separators."""
        if len(text) % 2 or text.strip("0123456789abcdefABCDEF"):
            raise MalformedInput(f"{cls.WORD}: {text[:100]!r} is not hexadecimal")
        return cls(bytes.fromhex(text))


class LaunchDigest(FixedBytes):
    """SEV-SNP MEASUREMENT (or TDX MRTD): 48 bytes, SHA-384."""

    LENGTH = 48
    WORD = "launch digest"


class Nonce(FixedBytes):
    """A challenge: 32 random bytes, used once."""

    LENGTH = 32
    WORD = "nonce"

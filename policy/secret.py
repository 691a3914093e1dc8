"""SecretBytes: a key that does not leak by being printed, compared, pickled or formatted."""

from __future__ import annotations

from hmac import compare_digest
from typing import NoReturn


class SecretBytes:
    """Secret bytes held in one mutable buffer, so that :meth:`wipe` can overwrite what this object holds.

    CPython may have made copies before (reading from a socket, decrypting); wiping is best effort and says so. The
    kernel and the TEE's memory encryption are the boundary, not this class.
    """

    __slots__ = ("_buffer",)

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._buffer = bytearray(data)

    def reveal(self) -> bytes:
        """The bytes themselves. Call at the last moment and keep no copy."""
        return bytes(self._buffer)

    def wipe(self) -> None:
        """Overwrite the buffer with zeros and empty it."""
        for index in range(len(self._buffer)):
            self._buffer[index] = 0
        self._buffer.clear()

    def __len__(self) -> int:
        return len(self._buffer)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretBytes):
            return NotImplemented
        return compare_digest(bytes(self._buffer), bytes(other._buffer))

    __hash__ = None  # type: ignore[assignment]  # a hash would be a fingerprint of the secret

    def __repr__(self) -> str:
        return f"<secret {len(self._buffer)} bytes>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")

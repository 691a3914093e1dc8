"""ByteReader: the only code that slices untrusted binary structures.

Every read names the field, so an error says *what, where, got, want*:
``report: reserved at 0x4C..0x50 must be zero, got 01000000``. Offsets in messages are hexadecimal from the start of
the structure (plus ``base`` when the structure lies inside a larger file). Light on purpose: it is imported on
start-up paths.
"""

from __future__ import annotations

from struct import Struct

from policy.errors import MalformedInput

_U16, _U32, _U64 = Struct("<H"), Struct("<I"), Struct("<Q")
_U16BE, _U32BE = Struct(">H"), Struct(">I")


class ByteReader:
    """A cursor over ``data`` that raises ``error`` instead of reading out of bounds."""

    __slots__ = ("_base", "_data", "_error", "_offset", "what")

    def __init__(
        self, data: bytes | memoryview, what: str, *, error: type[MalformedInput] = MalformedInput, base: int = 0
    ) -> None:
        self._data = bytes(data)
        self._offset = 0
        self._base = base
        self._error = error
        self.what = what

    @property
    def offset(self) -> int:
        """Bytes consumed so far."""
        return self._offset

    @property
    def remaining(self) -> int:
        """Bytes not yet consumed."""
        return len(self._data) - self._offset

    def fail(self, text: str) -> MalformedInput:
        """An error of this reader's class about the structure; the caller raises it."""
        return self._error(f"{self.what}: {text}")

    def take(self, count: int, name: str) -> bytes:
        """The next ``count`` bytes."""
        start = self._offset
        if count < 0 or count > len(self._data) - start:
            raise self.fail(f"{name} at 0x{start + self._base:X}: got {self.remaining} bytes, want {count}")
        self._offset = start + count
        return self._data[start : self._offset]

    def skip(self, count: int, name: str) -> None:
        """Pass over ``count`` bytes that carry nothing for us."""
        self.take(count, name)

    def zero(self, count: int, name: str) -> None:
        """``count`` reserved bytes that must be zero."""
        start = self._offset + self._base
        got = self.take(count, name)
        if got != bytes(count):
            shown = got.hex() if count <= 16 else f"{got[:16].hex()}…"
            raise self.fail(f"{name} at 0x{start:X}..0x{start + count:X} must be zero, got {shown}")

    def unpack(self, layout: Struct, name: str) -> tuple[int, ...]:
        """Several integers at once, as ``layout`` has them."""
        return layout.unpack(self.take(layout.size, name))

    def u8(self, name: str) -> int:
        """One byte."""
        return self.take(1, name)[0]

    def u16(self, name: str) -> int:
        """Little-endian 16-bit integer."""
        return int(_U16.unpack(self.take(2, name))[0])

    def u32(self, name: str) -> int:
        """Little-endian 32-bit integer."""
        return int(_U32.unpack(self.take(4, name))[0])

    def u64(self, name: str) -> int:
        """Little-endian 64-bit integer."""
        return int(_U64.unpack(self.take(8, name))[0])

    def u16be(self, name: str) -> int:
        """Big-endian 16-bit integer."""
        return int(_U16BE.unpack(self.take(2, name))[0])

    def u32be(self, name: str) -> int:
        """Big-endian 32-bit integer."""
        return int(_U32BE.unpack(self.take(4, name))[0])

    def end(self) -> None:
        """Nothing may follow."""
        if self.remaining:
            raise self.fail(f"{self.remaining} bytes follow the end at 0x{self._offset + self._base:X}, want none")

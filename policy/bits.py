"""An integer whose bits have names."""

from __future__ import annotations

from typing import ClassVar


class Bits(int):
    """A bit field; ``NAMES`` says what its bits are called, by index, where a subclass knows."""

    NAMES: ClassVar[dict[int, str]] = {}

    def bit(self, index: int) -> bool:
        """Bit ``index``, 0 the least significant."""
        return bool(self >> index & 1)

    @property
    def names(self) -> tuple[str, ...]:
        """The bits that are set, lowest first; one without a name is called ``bit N``."""
        return tuple(self.NAMES.get(index, f"bit {index}") for index in range(self.bit_length()) if self.bit(index))

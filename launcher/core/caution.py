"""What is allowed and deserves a second look."""

from __future__ import annotations

from policy.named import NamedTuple


class Caution(NamedTuple):
    """``id`` never changes its meaning, ``text`` is for people."""

    id: str
    text: str

    @property
    def shown(self) -> str:
        """One line."""
        return f"{self.text} [{self.id}]"

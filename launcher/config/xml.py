"""An XML element as the importer sees it."""

from __future__ import annotations

from typing import NamedTuple


class Element(NamedTuple):
    """One XML element."""

    name: str
    attributes: dict[str, str]
    children: list[Element]
    text: list[str]

    def child(self, name: str) -> Element | None:
        """The first child of that name."""
        return next((item for item in self.children if item.name == name), None)

    @property
    def words(self) -> str:
        """Its own text, trimmed."""
        return "".join(self.text).strip()

"""XML of strangers as the importer sees it: expat reads it with entity and document type declarations refused before
anything is expanded, and with bounds on size, depth and elements.
"""

from __future__ import annotations

from xml.parsers import expat

from policy.errors import MalformedInput
from policy.named import NamedTuple

MAX_BYTES = 1 << 20
MAX_DEPTH = 24
MAX_ELEMENTS = 5000


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


class DomainMalformed(MalformedInput):
    """Not a libvirt domain, or more of it than is read here."""

    code = "import.malformed"


def parse_xml(data: bytes) -> Element:
    """The document's root. Raises :class:`DomainMalformed`."""
    if len(data) > MAX_BYTES:
        raise DomainMalformed(f"domain: {len(data)} bytes, want at most {MAX_BYTES}")
    reader = _Reader()
    try:
        reader.parser.Parse(data, True)
    except expat.ExpatError as exc:
        raise DomainMalformed(f"domain: not XML: {exc}") from None
    except (UnicodeError, LookupError, ValueError) as exc:
        raise DomainMalformed(f"domain: not XML: {type(exc).__name__}") from None
    return reader.root


class _Reader:
    """Builds elements; refuses every declaration, for only they can make a small document large."""

    def __init__(self) -> None:
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.EntityDeclHandler = self._refuse
        self.parser.UnparsedEntityDeclHandler = self._refuse
        self.parser.ExternalEntityRefHandler = self._refuse
        self.root = Element("", {}, [], [])
        self._open: list[Element] = []
        self._count = 0

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MAX_ELEMENTS or len(self._open) >= MAX_DEPTH:
            raise DomainMalformed(f"domain: more than {MAX_ELEMENTS} elements or {MAX_DEPTH} levels")
        made = Element(name, attributes, [], [])
        if self._open:
            self._open[-1].children.append(made)
        else:
            self.root = made
        self._open.append(made)

    def _end(self, name: str) -> None:
        del name
        self._open.pop()

    def _characters(self, text: str) -> None:
        self._open[-1].text.append(text)

    def _refuse(self, *_: object) -> int:
        raise DomainMalformed("domain: declares a document type or an entity; a libvirt domain needs neither")

"""GRUB's script language, as far as the configurations that ``grub-mkconfig`` writes use it: text into a tree.

Commands of words, ``if``/``elif``/``else``/``fi``, functions, and commands with a block. Words are pieces of literal
text and variables, quoted or not. What has more than one reading or another meaning (loops, pipes, wildcards,
backslashes, positional parameters) is refused with the line it stands in. Source: GRUB manual, "Shell-like scripting".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple


class ScriptUnknown(Exception):
    """Text whose meaning is not known here."""


class Piece(NamedTuple):
    """Part of a word: literal text, or the name of a variable."""

    text: str
    variable: bool
    quoted: bool


Word = tuple[Piece, ...]


class Command(NamedTuple):
    """``block``: the commands in braces behind the words; ``source``: their text with the braces."""

    words: tuple[Word, ...]
    block: tuple[Node, ...] | None = None
    source: str = ""


class If(NamedTuple):
    """Branches of (condition, body) in order, then what is done otherwise."""

    branches: tuple[tuple[tuple[Node, ...], tuple[Node, ...]], ...]
    otherwise: tuple[Node, ...]


class Function(NamedTuple):
    """A definition."""

    name: str
    body: tuple[Node, ...]


Node = Command | If | Function

_BLANK = re.compile(r"(?:[ \t\r\n;]|#[^\n]*)*")
_GAP = re.compile(r"[ \t]*")
_END = " \t\r\n;"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|\?")
_LITERAL = re.compile(r"[^\s;'\"$\\|&<>*?#{}][^\s;'\"$\\|&<>*?{}]*|(?<![^\s;])[{}](?![^\s;])")
_QUOTED = re.compile(r'[^"$\\\n]+')
_REFUSED = ("for", "while", "until", "do", "done", "case", "esac", "select", "time", "!", "[[", "]]")
_MAX_DEPTH = 16
_WITH_BLOCK = ("menuentry", "submenu")


def parse_script(text: str) -> tuple[Node, ...]:
    """The commands of a whole script, or :class:`ScriptUnknown`."""
    parser = _Parser(text)
    nodes, end = parser.nodes((), 0)
    if end is not None:
        raise parser.unknown()
    return nodes


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def unknown(self) -> ScriptUnknown:
        """The line the parser stands in."""
        start = self._text.rfind("\n", 0, self._at) + 1
        line = self._text[start:].partition("\n")[0].strip()
        return ScriptUnknown(f"the line {line[:80]!r}")

    def nodes(self, ends: tuple[str, ...], depth: int) -> tuple[tuple[Node, ...], str | None]:
        """Commands up to one of the words ``ends`` (returned with them) or the end of the text (``None``)."""
        if depth > _MAX_DEPTH:
            raise self.unknown()
        found: list[Node] = []
        while True:
            self._skip(_BLANK)
            if self._at == len(self._text):
                return tuple(found), None
            word = self._plain_word()
            if word in ends:
                return tuple(found), word
            found.append(self._node(word, depth))

    def _node(self, word: str, depth: int) -> Node:
        """What ``word``, already read where it is plain, begins."""
        if word in _REFUSED or word in ("then", "elif", "else", "fi", "{", "}"):
            raise self.unknown()
        if word == "if":
            return self._if(depth)
        if word == "function":
            self._skip(_GAP)
            name = self._plain_word()
            self._skip(_BLANK)
            if not _NAME.fullmatch(name) or self._plain_word() != "{":
                raise self.unknown()
            return Function(name, self._block(depth))
        return self._command(word, depth)

    def _if(self, depth: int) -> If:
        branches, end = [], "elif"
        while end == "elif":
            condition, then = self.nodes(("then",), depth + 1)
            body, closing = self.nodes(("elif", "else", "fi"), depth + 1)
            if not condition or then is None or closing is None:
                raise self.unknown()
            branches.append((condition, body))
            end = closing
        otherwise: tuple[Node, ...] = ()
        if end == "else":
            otherwise, last = self.nodes(("fi",), depth + 1)
            if last is None:
                raise self.unknown()
        return If(tuple(branches), otherwise)

    def _block(self, depth: int) -> tuple[Node, ...]:
        body, end = self.nodes(("}",), depth + 1)
        if end is None:
            raise self.unknown()
        return body

    def _command(self, first: str, depth: int) -> Command:
        words: list[Word] = [(Piece(first, variable=False, quoted=False),)] if first else [self._word()]
        while True:
            self._skip(_GAP)
            if self._at == len(self._text) or self._text[self._at] in "\r\n;":
                return Command(tuple(words))
            if self._text[self._at] == "{" and first in _WITH_BLOCK:
                start = self._at
                self._at += 1
                body = self._block(depth)
                return Command(tuple(words), body, self._text[start : self._at])
            words.append(self._word())

    def _plain_word(self) -> str:
        """The word here if it is nothing but literal text; empty, and nothing is read, otherwise."""
        start = self._at
        word = self._word()
        if len(word) == 1 and not word[0].variable and not word[0].quoted:
            return word[0].text
        self._at = start
        return ""

    def _word(self) -> Word:
        pieces = tuple(self._pieces())
        if not pieces:
            raise self.unknown()
        return pieces

    def _pieces(self) -> Iterator[Piece]:
        while self._at < len(self._text) and self._text[self._at] not in _END:
            char = self._text[self._at]
            if char == "'":
                yield Piece(self._until("'"), variable=False, quoted=True)
            elif char == '"':
                yield from self._double_quoted()
            elif char == "$":
                yield self._variable(quoted=False)
            else:
                yield self._literal()

    def _literal(self) -> Piece:
        match = _LITERAL.match(self._text, self._at)
        if match is None:
            raise self.unknown()
        self._at = match.end()
        return Piece(match[0], variable=False, quoted=False)

    def _double_quoted(self) -> Iterator[Piece]:
        yield Piece("", variable=False, quoted=True)
        self._at += 1
        while not self._text.startswith('"', self._at):
            if self._text.startswith("$", self._at):
                yield self._variable(quoted=True)
                continue
            match = _QUOTED.match(self._text, self._at)
            if match is None:
                raise self.unknown()
            self._at = match.end()
            yield Piece(match[0], variable=False, quoted=True)
        self._at += 1

    def _variable(self, *, quoted: bool) -> Piece:
        braces = self._text.startswith("${", self._at)
        match = _NAME.match(self._text, self._at + (2 if braces else 1))
        if match is None or (braces and not self._text.startswith("}", match.end())):
            raise self.unknown()
        self._at = match.end() + braces
        return Piece(match[0], variable=True, quoted=quoted)

    def _until(self, quote: str) -> str:
        end = self._text.find(quote, self._at + 1)
        if end < 0:
            raise self.unknown()
        found = self._text[self._at + 1 : end]
        self._at = end + 1
        return found

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at

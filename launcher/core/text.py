"""Text from a guest, made safe to show. A guest is not the launcher's friend: its console can carry escape sequences
that rewrite a terminal, its lines have no length limit, its names may hide direction changes.
"""

from __future__ import annotations

from codecs import getincrementaldecoder

_HIDDEN = frozenset(
    "\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)

_UNQUOTED = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-"


def safe_text(text: str, limit: int = 1000) -> str:
    """``text`` on one line: characters that do not print, and invisible direction marks, become escapes such as
    ``\\x1b``; what is longer than ``limit`` characters is cut and ends in ``…``.
    """
    if len(text) > limit:
        text = text[:limit] + "…"
    if text.isprintable() and not _HIDDEN.intersection(text):
        return text
    return "".join(char if char.isprintable() and char not in _HIDDEN else _escape(char) for char in text)


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shell_word(text: str) -> str:
    """As `shlex.quote`, which takes regular expressions for it."""
    if text and not text.strip(_UNQUOTED):
        return text
    return "'" + text.replace("'", "'\"'\"'") + "'"


class LineSplitter:
    """Cuts a byte stream into lines of at most ``limit`` bytes; longer ones are cut there and the rest is dropped.

    Terminal escape sequences are removed (firmware clears the screen before its first word), other control characters
    become escapes, bytes that are not UTF-8 become U+FFFD.
    """

    __slots__ = ("_limit", "_line", "_skipping")

    def __init__(self, limit: int = 2048) -> None:
        self._limit = limit
        self._line = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> list[str]:
        """The lines that ``data`` completes."""
        done: list[str] = []
        pieces = data.split(b"\n")
        for number, piece in enumerate(pieces):
            if not self._skipping:
                room = self._limit - len(self._line)
                self._line += piece[:room]
                self._skipping = len(piece) > room
            if number < len(pieces) - 1:
                done.append(clean_line(bytes(self._line)))
                self._line.clear()
                self._skipping = False
        return done

    @property
    def pending(self) -> str:
        """The line that has no end yet."""
        return clean_line(bytes(self._line))


def clean_line(raw: bytes) -> str:
    """One line of console text as :class:`LineSplitter` gives it."""
    return safe_text(strip_escapes(raw.decode("utf-8", "replace")).strip("\r"), limit=len(raw) + 1)


def strip_escapes(text: str) -> str:
    """``text`` without ANSI sequences: ESC [ … final byte, ESC ] … BEL, ESC and one character (ECMA-48, section 5)."""
    if "\x1b" not in text:
        return text
    kept: list[str] = []
    at = 0
    while at < len(text):
        if text[at] != "\x1b":
            kept.append(text[at])
            at += 1
        else:
            at = _after_escape(text, at + 1)
    return "".join(kept)


def _after_escape(text: str, at: int) -> int:
    kind = text[at : at + 1]
    at += 1
    if kind == "[":
        while at < len(text) and " " <= text[at] <= "?":
            at += 1
        return at + 1
    if kind == "]":
        end = text.find("\x07", at)
        return len(text) if end < 0 else end + 1
    return at


class ConsoleFilter:
    """What an interactive console may show: text, CR, LF, TAB, BS and BEL. Escape sequences vanish, also when they
    arrive in pieces; other control characters become ``?``. Bytes above 0x7F pass (UTF-8) except C1 controls.
    """

    __slots__ = ("_decoder", "_pending")

    def __init__(self) -> None:
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._pending = ""

    def feed(self, data: bytes) -> bytes:
        """The presentable part of ``data`` and of what was kept from before."""
        text = self._pending + self._decoder.decode(data)
        cut = _unfinished(text)
        self._pending = text[cut:] if len(text) - cut < 256 else ""
        shown = strip_escapes(text[:cut])
        return "".join(char if char.isprintable() or char in "\r\n\t\b\a" else "?" for char in shown).encode("utf-8")


def _unfinished(text: str) -> int:
    """Where an escape sequence begins that may go on in the next piece; the length of ``text`` if none does."""
    start = text.rfind("\x1b")
    if start < 0:
        return len(text)
    rest = text[start + 1 :]
    if rest[:1] == "[":
        done = any("@" <= char <= "~" for char in rest[1:])
    elif rest[:1] == "]":
        done = "\x07" in rest
    else:
        done = bool(rest)
    return len(text) if done else start

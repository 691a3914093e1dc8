"""The plain part of TOML: what VM files are mostly written in. Everything else is left to the standard library's
reader, whose import and regular expressions take five milliseconds before every launch.

Plain are lines of ``[table]`` and ``[[table]]`` with a bare name, and of ``key = value`` with a bare key and as the
value ``true``, ``false``, a decimal integer without sign, or a string in double quotes without escapes; lists and
inline tables of such strings; and comments. Grammar: TOML 1.0.0.
"""

from __future__ import annotations

_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_MOST_LINES = 500
_MOST_DIGITS, _LONGEST_NAME = 15, 64
_WORDS = {"true": True, "false": False}


class _NotPlain(Exception):
    """For the whole grammar to read, or to refuse."""


def plain_toml(text: str) -> dict[str, object] | None:
    """The document as `tomllib.loads` gives it, or ``None``: it is not plain, or no TOML at all."""
    lines = text.split("\n")
    if len(lines) > _MOST_LINES:
        return None
    document: dict[str, object] = {}
    table = document
    try:
        for line in lines:
            word = line.strip(" ")
            if not word:
                continue
            if not word.isprintable():
                return None
            if word[0] == "[":
                table = _opened(document, word)
            elif word[0] != "#":
                _add(table, word)
    except _NotPlain:
        return None
    return document


def _opened(document: dict[str, object], word: str) -> dict[str, object]:
    fresh: dict[str, object] = {}
    if word.startswith("[["):
        name = _name(word.removeprefix("[[").removesuffix("]]"), word, "[[]]")
        items = document.setdefault(name, _Tables())
        if not isinstance(items, _Tables):
            raise _NotPlain
        items.append(fresh)
        return fresh
    name = _name(word.removeprefix("[").removesuffix("]"), word, "[]")
    if name in document:
        raise _NotPlain
    document[name] = fresh
    return fresh


def _name(name: str, word: str, brackets: str) -> str:
    half = len(brackets) // 2
    if word != brackets[:half] + name + brackets[half:]:
        raise _NotPlain
    return _bare(name)


def _bare(name: str) -> str:
    if not 0 < len(name) <= _LONGEST_NAME or not _BARE.issuperset(name):
        raise _NotPlain
    return name


def _add(table: dict[str, object], word: str) -> None:
    key, equals, text = word.partition("=")
    key = _bare(key.rstrip(" "))
    if not equals or key in table:
        raise _NotPlain
    table[key] = _value(text.lstrip(" "))


def _value(text: str) -> object:
    if text.startswith('"'):
        value, rest = _string(text)
    elif text.startswith("["):
        value, rest = _strings(text[1:].lstrip(" "))
    elif text.startswith("{"):
        value, rest = _members(text[1:].lstrip(" "))
    else:
        return _number(text.partition("#")[0].rstrip(" "))
    if rest and rest[0] != "#":
        raise _NotPlain
    return value


def _number(text: str) -> int:
    if text in _WORDS:
        return _WORDS[text]
    if not (text.isascii() and text.isdigit()) or len(text) > _MOST_DIGITS or (text[0] == "0" and text != "0"):
        raise _NotPlain
    return int(text)


def _string(text: str) -> tuple[object, str]:
    """It, and what follows it behind spaces."""
    inside, quote, rest = text[1:].partition('"')
    if text[:1] != '"' or not quote or "\\" in inside:
        raise _NotPlain
    return inside, rest.lstrip(" ")


def _strings(text: str) -> tuple[object, str]:
    """What follows a list's opening bracket."""
    items: list[object] = []
    if text.startswith("]"):
        return items, text[1:].lstrip(" ")
    while True:
        item, text = _string(text)
        items.append(item)
        if text.startswith("]"):
            return items, text[1:].lstrip(" ")
        if not text.startswith(","):
            raise _NotPlain
        text = text[1:].lstrip(" ")


def _members(text: str) -> tuple[object, str]:
    """What follows the opening brace of an inline table."""
    items: dict[str, object] = {}
    while True:
        key, equals, text = text.partition("=")
        name = _bare(key.rstrip(" "))
        if not equals or name in items:
            raise _NotPlain
        items[name], text = _string(text.lstrip(" "))
        if text.startswith("}"):
            return items, text[1:].lstrip(" ")
        if not text.startswith(","):
            raise _NotPlain
        text = text[1:].lstrip(" ")


class _Tables(list[dict[str, object]]):
    """An array of tables, which ``[[name]]`` may make longer; an array that is a value it may not."""

"""A request as the WSGI environment (PEP 3333) has it: path, query, cookies, body."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from attest.web.problems import HttpRefused

Environ = dict[str, Any]


def path_of(environ: Environ) -> str:
    """The path, its percent signs decoded; what is not UTF-8 is replaced."""
    return _text(environ["PATH_INFO"])


def target_of(environ: Environ) -> str:
    """The path and what stands behind the question mark, as proofs of answers name them."""
    query = environ.get("QUERY_STRING", "")
    return f"{path_of(environ)}?{_text(query)}" if query else path_of(environ)


def query_of(environ: Environ) -> dict[str, str]:
    """What stands behind the question mark; the first of several values of one name counts."""
    query = environ.get("QUERY_STRING", "")
    if not query:
        return {}
    return dict(reversed(parse_qsl(_text(query), keep_blank_values=True)))


def cookie_of(environ: Environ, name: str) -> str:
    """The first cookie of that name, or nothing (RFC 6265, section 5.4)."""
    for part in environ.get("HTTP_COOKIE", "").split(";"):
        found, _, value = part.partition("=")
        if found.strip() == name:
            return str(value.strip())
    return ""


def body_of(environ: Environ, most: int) -> bytes:
    """The whole body. Raises HttpRefused where it is longer than ``most`` bytes: of such a one nothing is kept."""
    length = environ.get("CONTENT_LENGTH", "")
    if length and int(length) > most:  # the server takes digits only
        raise _too_large(most)
    if not length and "HTTP_TRANSFER_ENCODING" not in environ:
        return b""
    stream = environ["wsgi.input"]
    parts, room = [], most + 1 if not length else int(length)
    while room and (part := stream.read(room)):
        parts.append(part)
        room -= len(part)
    if not room and not length:
        raise _too_large(most)
    return b"".join(parts)


def _too_large(most: int) -> HttpRefused:
    return HttpRefused(413, "Content Too Large", f"the body is longer than {most} bytes, the most that is taken here")


def _text(raw: str) -> str:
    return raw if raw.isascii() else raw.encode("latin-1").decode("utf-8", "replace")

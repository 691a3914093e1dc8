"""Where AMD's and Intel's services, or mirrors and caches of them, are asked."""

from __future__ import annotations

from urllib.parse import urlsplit

KDS_URL = "https://kdsintf.amd.com"
"""AMD's own."""

PCS_URL = "https://api.trustedservices.intel.com"
"""Intel's own."""


def base_url(text: str) -> str:
    """``text`` without a trailing slash. Raises ValueError for anything but ``http(s)://host[:port][/path]``.

    Plain HTTP is allowed, for mirrors inside a machine room: every answer is verified by its signature.
    """
    problem = f'got "{text[:200]}", want "https://host[:port][/path]"'
    try:
        parts = urlsplit(text)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError(problem) from None
    if not fits or parts.query or parts.fragment or "@" in parts.netloc or not text.isprintable() or " " in text:
        raise ValueError(problem)
    return text.rstrip("/")

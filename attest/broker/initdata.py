"""Init-data that a guest sent, for `policy.initdata` to read: what is wrong with it is wrong with the request."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from attest.broker.errors import RequestMalformed, RequestUnsupported
from policy.initdata import Identity, InitDataMalformed, InitDataUnsupported, digest_of, identity_of

T = TypeVar("T")


def init_data_digest(text: str) -> bytes:
    """The digest of this text, 32 to 64 bytes. Raises RequestMalformed and RequestUnsupported."""
    return _read(digest_of, text)


def init_data_identity(text: str) -> Identity:
    """Who it says the VM is. Raises RequestMalformed: a guest with half a name is nobody."""
    return _read(identity_of, text)


def _read(read: Callable[[str], T], text: str) -> T:
    try:
        return read(text)
    except InitDataUnsupported as exc:
        raise RequestUnsupported(f"attest: {exc.message}") from None
    except InitDataMalformed as exc:
        raise RequestMalformed(f"attest: {exc.message}") from None

"""What the service gives with a disk's key: which header the disk has, and the key that shall replace this one.

A member ``cvm-disk`` beside those of the answer to ``GET /kbs/v0/resource/…?cvm-disk=1``; services that are not ours
pass over the query and send none::

    {"version": 3, "headers": ["<sha256>", …], "finish": false,
     "next": {"version": 4, "headers": ["<sha256>", …], "key": {JWE}}}

``headers`` are the digests (`policy.luks_header`) the disk's header may have; none: nothing is known of it. ``next`` is
there while the key is being replaced: its headers are those that guests of this disk said they would write. ``finish``
says that the keyslot of a key that counts no more is still there, or may be.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from attest.attester.errors import ServiceMalformed
from policy.secret import SecretBytes

MEMBER = "cvm-disk"
MAX_HEADERS = 64
_SHA256 = re.compile(r"[0-9a-f]{64}")


class NextKey(NamedTuple):
    """The key that shall replace the present one; ``wrapped`` is a JWE, unchecked."""

    version: int
    headers: frozenset[str]
    wrapped: object


class DiskFacts(NamedTuple):
    """The member ``cvm-disk``. Version 0: the service said nothing, as one that is not ours does."""

    version: int = 0
    headers: frozenset[str] = frozenset()
    finish: bool = False
    next: NextKey | None = None

    @property
    def accepted(self) -> frozenset[str]:
        """Every header the disk may have; empty where nothing is known of the one it had first."""
        return self.headers | self.next.headers if self.headers and self.next else self.headers


class DiskKey(NamedTuple):
    """The opened keys of a disk, and the facts."""

    key: SecretBytes
    facts: DiskFacts
    next_key: SecretBytes | None = None

    def wipe(self) -> None:
        """Overwrite both keys."""
        self.key.wipe()
        if self.next_key is not None:
            self.next_key.wipe()


def disk_facts(value: object) -> DiskFacts:
    """Read the member; ``None`` says nothing. Raises ServiceMalformed."""
    if value is None:
        return DiskFacts()
    if not isinstance(value, dict) or not isinstance(value.get("finish"), bool):
        raise ServiceMalformed(f"{MEMBER}: want an object with version, headers, finish, next")
    following = value.get("next")
    return DiskFacts(_version(value), _headers(value), value["finish"], None if following is None else _next(following))


def _next(value: object) -> NextKey:
    if not isinstance(value, dict):
        raise ServiceMalformed(f"{MEMBER}: next: want an object with version, headers, key")
    return NextKey(_version(value), _headers(value), value.get("key"))


def _version(value: dict[str, object]) -> int:
    found = value.get("version")
    if type(found) is not int or not 0 < found < 2**31:
        raise ServiceMalformed(f"{MEMBER}: version {found!r:.40}, want a number from 1")
    return found


def _headers(value: dict[str, object]) -> frozenset[str]:
    found = value.get("headers")
    if not isinstance(found, list) or len(found) > MAX_HEADERS:
        raise ServiceMalformed(f"{MEMBER}: headers: want a list of at most {MAX_HEADERS}")
    if not all(isinstance(one, str) and _SHA256.fullmatch(one) for one in found):
        raise ServiceMalformed(f"{MEMBER}: headers: want SHA-256 digests in lower-case hexadecimal")
    return frozenset(found)

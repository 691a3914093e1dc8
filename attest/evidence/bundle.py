"""The offline bundle: collateral of many machines in one file, for a service that reaches no network.

JSON of schema ``attest.collateral.bundle/1``: ``items``, sorted by ``name`` (see ``attest.collateral.wanted`` and
``intel_wanted``), each with ``fetched`` (RFC 3339) and ``objects``: ``der``, or ``json`` for a document whose text is
signed, in standard base64, each beside its SHA-256 in lower-case hex. The same items give the same bytes. Nothing in a
bundle is trusted; importing it verifies every item.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from attest.evidence.errors import EvidenceMalformed
from policy.strictjson import strict_json

SCHEMA = "attest.collateral.bundle/1"
MAX_BUNDLE = 8 << 20
MAX_ITEMS = 20_000
_MAX_OBJECTS = 3
_DER, _JSON = "der", "json"
_MAX_NAME = 200
_MARK = b'"attest.collateral.bundle/'
_MARK_WITHIN = 200


class BundleMalformed(EvidenceMalformed):
    """A bundle that does not parse completely, or holds an object whose digest is another one."""

    code = "bundle.malformed"


class BundleItem(NamedTuple):
    """One item, unverified: DER values and JSON documents as they were served."""

    name: str
    fetched: datetime
    parts: tuple[bytes, ...]


def looks_like_bundle(data: bytes) -> bool:
    """Whether ``data`` is JSON whose beginning names the schema, whatever the version."""
    head = data[:_MARK_WITHIN]
    return head.lstrip().startswith(b"{") and _MARK in head


def build_bundle(items: Iterable[BundleItem]) -> bytes:
    """The bytes of a bundle."""
    value = {
        "schema": SCHEMA,
        "items": [
            {
                "name": item.name,
                "fetched": item.fetched.astimezone(UTC).isoformat(),
                "objects": [
                    {"sha256": hashlib.sha256(part).hexdigest(), _word(part): base64.b64encode(part).decode("ascii")}
                    for part in item.parts
                ],
            }
            for item in sorted(items)
        ],
    }
    return json.dumps(value, indent=1).encode("ascii") + b"\n"


def parse_bundle(data: bytes) -> tuple[BundleItem, ...]:
    """The items of a bundle, names unique. Raises :class:`BundleMalformed`."""
    value = strict_json(data, "bundle", max_bytes=MAX_BUNDLE, error=BundleMalformed)
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise BundleMalformed(f"bundle: want an object of schema {SCHEMA}")
    listed = _members(value, "bundle", ("schema", "items"))["items"]
    if not isinstance(listed, list) or len(listed) > MAX_ITEMS:
        raise BundleMalformed(f"bundle: items must be a list of at most {MAX_ITEMS}")
    items = tuple(_item(entry, f"bundle: item {number}") for number, entry in enumerate(listed))
    if len({item.name for item in items}) != len(items):
        raise BundleMalformed("bundle: two items have the same name")
    return items


def _item(value: Any, what: str) -> BundleItem:
    members = _members(value, what, ("name", "fetched", "objects"))
    name, objects = members["name"], members["objects"]
    if not isinstance(name, str) or not 1 <= len(name) <= _MAX_NAME:
        raise BundleMalformed(f"{what}: name must be a string of 1 to {_MAX_NAME} characters")
    if not isinstance(objects, list) or not 1 <= len(objects) <= _MAX_OBJECTS:
        raise BundleMalformed(f"{what}: objects must be a list of 1 to {_MAX_OBJECTS}")
    return BundleItem(name, _time(members["fetched"], what), tuple(_object(entry, what) for entry in objects))


def _word(part: bytes) -> str:
    """The name of the member that holds ``part``: DER never begins with a brace."""
    return _JSON if part.startswith(b"{") else _DER


def _object(value: Any, what: str) -> bytes:
    word = _JSON if isinstance(value, dict) and _JSON in value else _DER
    members = _members(value, f"{what}: object", ("sha256", word))
    text, digest = members[word], members["sha256"]
    if not isinstance(text, str) or not isinstance(digest, str):
        raise BundleMalformed(f"{what}: sha256 and {word} must be strings")
    try:
        part = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BundleMalformed(f"{what}: {word} is not base64") from None
    if hashlib.sha256(part).hexdigest() != digest:
        raise BundleMalformed(f"{what}: sha256 of the object is {hashlib.sha256(part).hexdigest()}, want {digest[:64]}")
    if _word(part) != word:
        raise BundleMalformed(f"{what}: an object named {word} holds something else")
    return part


def _members(value: Any, what: str, names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != set(names):
        raise BundleMalformed(f"{what}: want exactly the members {', '.join(names)}")
    return value


def _time(text: Any, what: str) -> datetime:
    try:
        value = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise BundleMalformed(f"{what}: fetched is not an RFC 3339 time") from None
    if value.tzinfo is None:
        raise BundleMalformed(f"{what}: fetched has no zone")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise BundleMalformed(f"{what}: fetched is out of range") from None

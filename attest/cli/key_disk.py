"""``attest key rotate`` and ``attest key luks-header``: the keys of encrypted disks."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attest.cli.remote import Request

FORGET = "none"


def add_disk_verbs(verb: Callable[[str, str], ArgumentParser]) -> None:
    """``verb`` makes a parser with PATH, where to ask, and ``--json``."""
    rotate = verb("rotate", "make the key that shall replace a disk's key; its guest does the rest at its next boot")
    rotate.add_argument("--bytes", type=int, metavar="N", help="its size (that of the present key, at least 32)")
    rotate.add_argument("--abort", action="store_true", help="give it up, as long as no guest has confirmed it")
    header = verb("luks-header", "say which LUKS2 header the disk of a key has")
    header.add_argument(
        "header", metavar="FILE|SHA256|none", help="disk image, header backup, or digest; none: unknown"
    )


def rotate(args: Namespace) -> dict[str, Any]:
    """Start or give up a replacement."""
    from attest.broker import rotation
    from attest.broker.opening import open_database
    from attest.broker.views import aborted_json, started_json
    from attest.cli.common import by_local_user, settings_of
    from attest.keys.master import load_master_keys
    from policy.vocab import ResourcePath

    settings, path = settings_of(args), ResourcePath.parse(args.path)
    database = open_database(settings)
    if args.abort:
        return aborted_json(path, rotation.abort(database, path, by_local_user()))
    keys = load_master_keys(settings.master_key_file)
    return started_json(path, rotation.start(database, keys, path, args.bytes, by_local_user()))


def rotate_request(args: Namespace) -> Request:
    """The same of a service."""
    from attest.cli.remote import Request
    from policy.vocab import ResourcePath

    where = f"/cvm/v0/rotation/{ResourcePath.parse(args.path)}"
    if args.abort:
        return Request("DELETE", where)
    return Request("POST", where, {} if args.bytes is None else {"bytes": str(args.bytes)})


def luks_header(args: Namespace) -> dict[str, Any]:
    """Record a header's digest."""
    from attest.broker import rotation
    from attest.broker.opening import open_database
    from attest.cli.common import by_local_user, settings_of
    from policy.vocab import ResourcePath

    path, digest = ResourcePath.parse(args.path), digest_of(args.header)
    version = rotation.record_header(open_database(settings_of(args)), path, digest, by_local_user())
    return {"path": path, "version": version, "header": digest}


def header_request(args: Namespace) -> Request:
    """The same of a service."""
    from attest.cli.remote import Request
    from policy.vocab import ResourcePath

    digest = digest_of(args.header)
    query = {} if digest is None else {"sha256": digest}
    return Request("POST", f"/cvm/v0/luks-header/{ResourcePath.parse(args.path)}", query)


def digest_of(text: str) -> str | None:
    """A digest as it is, or that of the header in a file. Raises HeaderRefused, KeyFileRefused; ``none`` is None."""
    import re
    from pathlib import Path

    from attest.keys.errors import KeyFileRefused
    from policy.luks_header import check_luks_header, header_digest
    from policy.luks_metadata import PAYLOAD_OFFSET

    if text == FORGET:
        return None
    if re.fullmatch(r"[0-9a-f]{64}", text):
        return text
    try:
        with Path(text).open("rb") as file:
            data = file.read(PAYLOAD_OFFSET)
    except OSError as exc:
        raise KeyFileRefused(f"LUKS header {text}: {exc.strerror}") from None
    return header_digest(data, check_luks_header(data))

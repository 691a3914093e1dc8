"""Init-data: a text the host hands to a guest, whose digest the launch is bound to by HOST_DATA or MRCONFIGID.

    algorithm = "sha384"
    version = "0.1.0"

    [data]
    "cvm-identity.toml" = '''
    vm = "web-1"
    service = "shop"
    resources = ["default/web-1/root"]
    '''

The digest is over the text as it is, by the algorithm the text itself names. HOST_DATA holds its first 32 bytes,
MRCONFIGID its first 48, padded with zeros. Source: Confidential Containers, init-data specification 0.1.0.

The file of the identity is ours; its three members are optional. Only resources it lists are released to the VM where
it lists any. A TD may extend RTMR3 by the event ``init-data``, in the form of dstack's run-time events, whose payload
is MRCONFIGID.
"""

from __future__ import annotations

import hashlib
import re

from policy.errors import MalformedInput, UnsupportedInput
from policy.named import NamedTuple
from policy.toml import TomlInvalid, strict_toml
from policy.vocab import ResourcePath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_BYTES = 64 << 10
"""Of a text that our launcher hands over and our agent takes."""
VERSION = "0.1.0"
IDENTITY = "cvm-identity.toml"
MAX_RESOURCES = 64
ALGORITHMS = {"sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}
_MEMBERS = ("vm", "service", "resources")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@ -]{0,127}")
_EVENT = b"\1\0\0\x08:init-data:"
"""Type 0x08000001 as u32, little-endian, and the name: what stands before the payload of a run-time event."""


class InitDataMalformed(MalformedInput):
    """Init-data that does not parse completely."""

    code = "init-data.malformed"


class InitDataUnsupported(InitDataMalformed, UnsupportedInput):
    """It names a version or an algorithm that is not known here."""

    code = "init-data.unsupported"


class Identity(NamedTuple):
    """Who the VM is; ``resources`` are paths, ``None`` where the text lists none."""

    vm: str | None = None
    service: str | None = None
    resources: tuple[str, ...] | None = None


class InitDataText(NamedTuple):
    """A text that is complete and right by itself; whether a launch is bound to it is another question.

    ``digest`` has 32, 48 or 64 bytes.
    """

    text: str
    algorithm: str
    digest: bytes
    identity: Identity


def parse_sent(text: str) -> InitDataText:
    """A text that some client sent: its algorithm and its identity are right, the rest is the client's business.

    Raises the two errors of this module.
    """
    return _text(text, _toml(text))


def parse_init_data(data: bytes) -> InitDataText:
    """Everything about the text is right, not only what is asked of it now. Raises the two errors of this module."""
    if len(data) > MAX_BYTES:
        raise InitDataMalformed(f"init-data: {len(data)} bytes, want at most {MAX_BYTES}")
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        raise InitDataMalformed(f"init-data: byte {exc.start} is not UTF-8") from None
    found = _toml(text)
    sent = _text(text, found)
    if (version := found.get("version")) != VERSION:
        raise InitDataUnsupported(f'init-data: version {str(version)[:20]!r}, want "{VERSION}"')
    if unknown := set(found) - {"algorithm", "version", "data"}:
        raise InitDataMalformed(f"init-data: {sorted(unknown)[0][:40]!r} is unknown, want algorithm, version and data")
    table = found.get("data")
    if not isinstance(table, dict) or not all(isinstance(item, str) for item in table.values()):
        raise InitDataMalformed("init-data: data: want a table whose values are texts")
    return sent


def write_init_data(algorithm: str, identity: Identity) -> bytes:
    """A text that names this VM; the same bytes for the same values. Names and paths are of their alphabets."""
    members = [f'{name} = "{value}"' for name, value in (("vm", identity.vm), ("service", identity.service)) if value]
    if identity.resources is not None:
        paths = ", ".join(f'"{path}"' for path in identity.resources)
        members.append(f"resources = [{paths}]")
    inner = "".join(f"{line}\n" for line in members)
    head = f'algorithm = "{algorithm}"\nversion = "{VERSION}"\n\n[data]\n'
    return f"{head}\"{IDENTITY}\" = '''\n{inner}'''\n".encode()


def is_name(text: str) -> bool:
    """Whether a VM or a service can be called so."""
    return _NAME.fullmatch(text) is not None


def held_by(size: int, digest: bytes) -> bytes:
    """What a field of ``size`` bytes holds that binds ``digest``: its beginning, padded with zeros."""
    return digest[:size].ljust(size, b"\0")


def runtime_event(mrconfigid: bytes) -> bytes:
    """What is hashed to extend RTMR3 by it; 48 bytes in, the data of the event log's entry out."""
    return _EVENT + mrconfigid


def rtmr3_after(mrconfigid: bytes) -> bytes:
    """RTMR3 (48 bytes) of a TD that was extended by this event and by nothing else."""
    return hashlib.sha384(bytes(48) + hashlib.sha384(runtime_event(mrconfigid)).digest()).digest()


def _toml(text: str) -> dict[str, Any]:
    try:
        return strict_toml(text)
    except TomlInvalid as exc:
        raise InitDataMalformed(f"init-data: {exc.message}") from None


def _text(text: str, found: dict[str, Any]) -> InitDataText:
    algorithm = _algorithm(found)
    return InitDataText(text, algorithm, ALGORITHMS[algorithm](text.encode()).digest(), _identity(found))


def _algorithm(found: dict[str, Any]) -> str:
    algorithm = found.get("algorithm")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise InitDataUnsupported(f"init-data: algorithm {str(algorithm)[:20]!r}, want one of {', '.join(ALGORITHMS)}")
    return algorithm


def _identity(found: dict[str, Any]) -> Identity:
    table = found.get("data")
    text = table.get(IDENTITY) if isinstance(table, dict) else None
    if text is None:
        return Identity()
    if not isinstance(text, str):
        raise InitDataMalformed(f"init-data: {IDENTITY}: want text")
    try:
        members = strict_toml(text)
    except TomlInvalid as exc:
        raise InitDataMalformed(f"init-data: {IDENTITY}: {exc.message}") from None
    if unknown := set(members) - set(_MEMBERS):
        raise InitDataMalformed(f"init-data: {IDENTITY}: {sorted(unknown)[0][:40]!r} is unknown")
    for name in ("vm", "service"):
        value = members.get(name)
        if value is not None and not (isinstance(value, str) and is_name(value)):
            raise InitDataMalformed(f"init-data: {IDENTITY}: {name}: want a name of at most 128 characters")
    listed = members.get("resources")
    return Identity(members.get("vm"), members.get("service"), None if listed is None else _resources(listed))


def _resources(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_RESOURCES or not all(isinstance(one, str) for one in value):
        raise InitDataMalformed(f"init-data: {IDENTITY}: resources: want a list of at most {MAX_RESOURCES}")
    try:
        return tuple(str(ResourcePath.parse(one)) for one in value)
    except MalformedInput as exc:
        raise InitDataMalformed(f"init-data: {IDENTITY}: resources: {exc.message}") from None

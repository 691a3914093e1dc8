"""The kernel command line's ``cvm.*`` words: what this guest shall do, all of it measured.

Whoever may change one of these words changes the launch digest, so the agent takes its orders from here and from
nowhere else. Strict: an unknown ``cvm.*`` word, a word given twice or a value of the wrong form stops the boot,
because a guest that guesses what its owner meant is worse than one that says what is wrong.

    cvm.service=https://10.0.2.2:8443        key broker (https only, no path)
    cvm.ca=<base64 DER>                      the only CA whose certificates that service may show
    cvm.disk=<name>:<repository/type/tag>    one per encrypted disk; <name> is the virtio-blk serial
    cvm.net=10.0.2.15/24,10.0.2.2[,10.0.2.3] static IPv4 address/prefix, gateway, name server
    cvm.root=<name>:<blocks>:<root hash>     root file system with a hash tree; <name> is the virtio-blk serial
    cvm.run=/path                            program in that root file system, else on the first disk
    cvm.evidence=emulated                    ask the emulated chip, and only it
    cvm.initdata=required                    the host hands over a text that HOST_DATA or MRCONFIGID is bound to
    cvm.poweroff=1                           power off when the work is done
    cvm.pin=<thumbprint>                     the key that signs the service's answers (RFC 7638); once per key
    cvm.secret=<name>:<repository/type/tag>[:uid:gid:mode]   a secret as the file /run/cvm/secrets/<name>; once per file
    cvm.api=resource,token,evidence          serve these on 127.0.0.1:8006
    cvm.reattest=<seconds>                   attest again this often
    cvm.exec=<base64url>[,<base64url>]       Ed25519 keys of operators who may run commands, once attested
"""

from __future__ import annotations

import re
from base64 import b64decode, urlsafe_b64decode
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from attest.attester.errors import CommandLineMalformed
from policy.errors import MalformedInput
from policy.verity import MAX_BLOCKS, MIN_BLOCKS
from policy.vocab import ResourcePath

# x86 keeps COMMAND_LINE_SIZE = 2048 bytes including the NUL and cuts the rest off without a word, after it was
# measured.
KERNEL_LIMIT = 2047
MAX_DISKS = 16
WORDS = (
    "api", "ca", "disk", "evidence", "exec", "initdata", "net", "pin", "poweroff", "reattest", "root", "run", "secret",
    "service",
)  # fmt: skip
APIS = ("resource", "token", "evidence")
MAX_SECRETS, MAX_PINS = 32, 4
MAX_OPERATORS = 8
T = TypeVar("T")
# VIRTIO_BLK_ID_BYTES (VIRTIO 1.2, section 5.2.6): longer serials are cut.
_DISK_NAME = re.compile(r"(?!control$)[a-z0-9][a-z0-9_-]{0,19}")
_SERVICE = re.compile(
    r"https://([A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?/?"
)
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!$)|$)){4}")
_PATH = re.compile(r"(?:/[A-Za-z0-9._+@-]+)+")
_WORD = re.compile(r"cvm\.([a-z]+)=([\x21-\x7e]+)")


class ServiceAddress(NamedTuple):
    """Where the key broker is: host (name, IPv4, or IPv6 without brackets) and TCP port."""

    host: str
    port: int


SPEAKS_FOR_THE_GUEST = frozenset(("evidence", "token"))
"""Parts of ``cvm.api`` that give programs in the guest a token's key, or a report over data of their own."""


class DiskOrder(NamedTuple):
    """Unlock the disk with serial ``name`` with the key stored as ``resource``."""

    name: str
    resource: ResourcePath


class RootOrder(NamedTuple):
    """The disk with serial ``name`` is a root file system: ``blocks`` of 4096 bytes with this root hash (hex)."""

    name: str
    blocks: int
    root_hash: str


class SecretOrder(NamedTuple):
    """Keep ``resource`` as the file ``name``, owned by ``uid`` and ``gid``, with ``mode``."""

    name: str
    resource: ResourcePath
    uid: int = 0
    gid: int = 0
    mode: int = 0o400


class NetOrder(NamedTuple):
    """Static IPv4 set-up, dotted quads. ``dns`` is a name server; what it answers is not trusted, TLS decides."""

    address: str
    prefix: int
    gateway: str
    dns: str | None = None


class Orders(NamedTuple):
    """Everything the measured command line asks of the agent."""

    service: ServiceAddress | None = None
    ca: bytes | None = None
    disks: tuple[DiskOrder, ...] = ()
    net: NetOrder | None = None
    run: str | None = None
    emulated: bool = False
    poweroff: bool = False
    pins: tuple[str, ...] = ()
    secrets: tuple[SecretOrder, ...] = ()
    api: tuple[str, ...] = ()
    reattest: int = 0
    operators: tuple[bytes, ...] = ()
    root: RootOrder | None = None
    init_data: bool = False

    @property
    def stays(self) -> bool:
        """Whether the agent has something to do while the payload runs."""
        return bool(self.secrets or self.api or self.reattest)


def parse_orders(line: str) -> Orders:
    """Read a whole kernel command line; raises :class:`CommandLineMalformed`."""
    line = line.removesuffix("\n")
    if len(line) >= KERNEL_LIMIT:
        raise CommandLineMalformed(
            f"command line: {len(line)} characters; the kernel cuts at {KERNEL_LIMIT}, so words may be missing"
        )
    values: dict[str, list[str]] = {}
    for word in split_words(line):
        if not word.lstrip('"').startswith("cvm."):
            continue
        match = _WORD.fullmatch(word)
        if match is None or match[1] not in WORDS:
            known = " ".join(f"cvm.{name}" for name in WORDS)
            raise CommandLineMalformed(f"command line: {word[:80]!r} is no word of this agent, want one of {known}")
        values.setdefault(match[1], []).append(match[2])
    return _together(values)


def split_words(line: str) -> list[str]:
    """Words as the kernel's ``next_arg`` cuts them: at white space outside double quotes."""
    if line.count('"') % 2:
        raise CommandLineMalformed("command line: a double quote is never closed")
    words = [""]
    quoted = False
    for char in line:
        if char == '"':
            quoted = not quoted
        if char.isspace() and not quoted:
            words.append("")
        else:
            words[-1] += char
    return [word for word in words if word]


def _together(values: dict[str, list[str]]) -> Orders:
    disks = tuple(_disk(text) for text in values.get("disk", []))
    if len(disks) > MAX_DISKS or len({disk.name for disk in disks}) != len(disks):
        raise CommandLineMalformed(
            f"command line: {len(disks)} cvm.disk words, want at most {MAX_DISKS}, each with its own name"
        )
    orders = Orders(
        service=_only(values, "service", _service),
        ca=_only(values, "ca", _ca),
        disks=disks,
        net=_only(values, "net", _net),
        run=_only(values, "run", _run),
        emulated=_only(values, "evidence", _emulated) or False,
        poweroff=_only(values, "poweroff", _poweroff) or False,
        pins=tuple(_pin(text) for text in values.get("pin", [])),
        secrets=tuple(_secret(text) for text in values.get("secret", [])),
        api=_only(values, "api", _api) or (),
        reattest=_only(values, "reattest", _reattest) or 0,
        operators=_only(values, "exec", _operators) or (),
        root=_only(values, "root", _root),
        init_data=_only(values, "initdata", _init_data) or False,
    )
    _check_lasting(orders)
    if (orders.service is None) != (orders.ca is None):
        raise CommandLineMalformed("command line: cvm.service and cvm.ca come together or not at all")
    if disks and orders.service is None:
        raise CommandLineMalformed("command line: cvm.disk needs cvm.service, there is nobody to ask for the key")
    if orders.operators and orders.service is None:
        raise CommandLineMalformed("command line: cvm.exec needs cvm.service: only an attested guest runs commands")
    speaking = sorted(set(orders.api) & SPEAKS_FOR_THE_GUEST)
    if orders.operators and speaking:
        raise CommandLineMalformed(
            f"command line: cvm.exec beside cvm.api {', '.join(speaking)}: a program that gets an attestation of its "
            "own from the interface could answer operators as this guest"
        )
    if orders.init_data and orders.service is None:
        raise CommandLineMalformed("command line: cvm.initdata needs cvm.service: there is nobody to show it to")
    if orders.run is not None and not disks and orders.root is None:
        raise CommandLineMalformed(
            "command line: cvm.run names a program on cvm.root or the first cvm.disk, but there is neither"
        )
    if orders.root is not None and orders.root.name in {disk.name for disk in disks}:
        raise CommandLineMalformed(f"command line: cvm.root and a cvm.disk are both named {orders.root.name}")
    return orders


def _check_lasting(orders: Orders) -> None:
    if len(orders.pins) > MAX_PINS or len(orders.secrets) > MAX_SECRETS:
        raise CommandLineMalformed(f"command line: want at most {MAX_PINS} cvm.pin and {MAX_SECRETS} cvm.secret words")
    if len({secret.name for secret in orders.secrets}) != len(orders.secrets):
        raise CommandLineMalformed("command line: two cvm.secret words name one file")
    if (orders.pins or orders.stays) and orders.service is None:
        raise CommandLineMalformed("command line: cvm.pin, cvm.secret, cvm.api and cvm.reattest need cvm.service")


def _only(values: dict[str, list[str]], name: str, read: Callable[[str], T]) -> T | None:
    given = values.get(name, [])
    if len(given) > 1:
        raise CommandLineMalformed(f"command line: cvm.{name} stands {len(given)} times, want once")
    return read(given[0]) if given else None


def _service(text: str) -> ServiceAddress:
    match = _SERVICE.fullmatch(text)
    port = int(match[2] or "443") if match else 0
    if match is None or not 0 < port < 65536:
        raise CommandLineMalformed(f"cvm.service: {text[:80]!r}, want https://host or https://host:port")
    return ServiceAddress(match[1].strip("[]"), port)


def _ca(text: str) -> bytes:
    try:
        der = b64decode(text, validate=True)
    except ValueError:
        raise CommandLineMalformed(f"cvm.ca: {text[:16]}… is not base64") from None
    # A SEQUENCE that covers everything, its length in one or two bytes as for every certificate (X.690 section 8.1.3).
    size = {b"\x30\x81": 3, b"\x30\x82": 4}.get(der[:2], 0)
    if not size or len(der) != size + int.from_bytes(der[2:size], "big"):
        raise CommandLineMalformed(f"cvm.ca: {len(der)} bytes beginning {der[:4].hex()} are not one DER certificate")
    return der


def _disk(text: str) -> DiskOrder:
    name, colon, resource = text.partition(":")
    if not colon or not _DISK_NAME.fullmatch(name):
        raise CommandLineMalformed(
            f"cvm.disk: {text[:80]!r}, want name:repository/type/tag (name of at most 20 of a-z 0-9 _ -)"
        )
    try:
        return DiskOrder(name, ResourcePath.parse(resource))
    except MalformedInput as exc:
        raise CommandLineMalformed(f"cvm.disk: {exc}") from None


def _root(text: str) -> RootOrder:
    name, _, rest = text.partition(":")
    match = re.fullmatch(r"([1-9][0-9]{0,9}):([0-9a-f]{64})", rest)
    if match is None or not _DISK_NAME.fullmatch(name) or not MIN_BLOCKS <= int(match[1]) <= MAX_BLOCKS:
        raise CommandLineMalformed(
            f"cvm.root: {text[:80]!r}, want name:blocks:hash ({MIN_BLOCKS} blocks or more, 64 lower-case hex digits)"
        )
    return RootOrder(name, int(match[1]), match[2])


def _pin(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{43}", text):
        raise CommandLineMalformed(f"cvm.pin: {text[:80]!r}, want the 43 characters of a key's thumbprint")
    return text


def _secret(text: str) -> SecretOrder:
    match = re.fullmatch(r"([A-Za-z0-9_][A-Za-z0-9._-]{0,63}):([^:]+)(?::([0-9]{1,9}):([0-9]{1,9}):(0[0-7]{3}))?", text)
    if match is None:
        raise CommandLineMalformed(
            f"cvm.secret: {text[:80]!r}, want name:repository/type/tag or name:repository/type/tag:uid:gid:mode (0400)"
        )
    try:
        resource = ResourcePath.parse(match[2])
    except MalformedInput as exc:
        raise CommandLineMalformed(f"cvm.secret: {exc}") from None
    if match[3] is None:
        return SecretOrder(match[1], resource)
    return SecretOrder(match[1], resource, int(match[3]), int(match[4]), int(match[5], 8))


def _api(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if not set(names) <= set(APIS) or len(set(names)) != len(names):
        raise CommandLineMalformed(f"cvm.api: {text[:80]!r}, want some of {', '.join(APIS)}, separated by commas")
    return names


def _reattest(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 10 <= int(text) <= 86400:
        raise CommandLineMalformed(f"cvm.reattest: {text[:80]!r}, want 10 to 86400 seconds")
    return int(text)


def _net(text: str) -> NetOrder:
    interface, *others = text.split(",")
    address, _, prefix = interface.partition("/")
    quads = (address, *others)
    if len(quads) not in (2, 3) or not all(map(_IPV4.fullmatch, quads)) or not re.fullmatch(r"[0-9]{1,2}", prefix):
        raise CommandLineMalformed(
            f"cvm.net: {text[:80]!r}, want address/prefix,gateway or address/prefix,gateway,dns (IPv4)"
        )
    if not 8 <= int(prefix) <= 30:
        raise CommandLineMalformed(f"cvm.net: prefix {prefix}, want 8 to 30")
    return NetOrder(address, int(prefix), *others)


def _run(text: str) -> str:
    if not _PATH.fullmatch(text) or any(set(part) == {"."} for part in text.split("/")[1:]):
        raise CommandLineMalformed(f"cvm.run: {text[:80]!r}, want an absolute path without '.' and '..'")
    return text


def _operators(text: str) -> tuple[bytes, ...]:
    keys = []
    for item in text.split(","):
        if not re.fullmatch(r"[A-Za-z0-9_-]{43}", item):
            raise CommandLineMalformed(f"cvm.exec: {item[:60]!r}, want base64url of a 32-byte Ed25519 public key")
        keys.append(urlsafe_b64decode(item + "="))
    if len(keys) > MAX_OPERATORS or len(set(keys)) != len(keys):
        raise CommandLineMalformed(f"cvm.exec: {len(keys)} keys, want at most {MAX_OPERATORS}, each once")
    return tuple(keys)


def _emulated(text: str) -> bool:
    if text != "emulated":
        raise CommandLineMalformed(f"cvm.evidence: {text[:80]!r}, want 'emulated' (or no such word, for real hardware)")
    return True


def _init_data(text: str) -> bool:
    if text != "required":
        raise CommandLineMalformed(f"cvm.initdata: {text[:80]!r}, want 'required' (or no such word)")
    return True


def _poweroff(text: str) -> bool:
    if text not in ("0", "1"):
        raise CommandLineMalformed(f"cvm.poweroff: {text[:80]!r}, want 0 or 1")
    return text == "1"

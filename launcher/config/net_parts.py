"""``[[net]]`` and ``[vsock]``: problems go into the table, and every key that another kind would ignore is one."""

from __future__ import annotations

from launcher.config.numbers import optional_number
from launcher.core import network
from launcher.core.network import Forward, Guest, Net, Rate, Vsock
from policy.late import fullmatch
from policy.table import Table

MIN_MTU, MAX_MTU = 576, 65521
MAX_QUEUES = 16
MIN_RATE, MAX_RATE = 64_000, 400_000_000_000
MAX_BURST = 256 << 20
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}"
_MAC = r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}"
_RATE = r"([1-9][0-9]{0,8})([kMG])bit"
_BURST = r"([1-9][0-9]{0,8})([KM])iB"
_FORWARD = r"(tcp|udp):([0-9.]*):([0-9]{1,5})-:([0-9]{1,5})"
_DECIMAL = {"k": 1000, "M": 10**6, "G": 10**9}
_BINARY = {"K": 1 << 10, "M": 1 << 20}


def net(root: Table, tables: tuple[Table, ...], name: str) -> Net | None:
    """``[[net]]``, at least one; ``name`` is the VM's, from which its MAC address follows."""
    if len(tables) > 1:
        root.problem("net", f"{len(tables)} networks, want at most one in this release")
    parsed = [_net(table, name) for table in tables]
    return None if parsed[0].kind == network.NONE else parsed[0]


def _net(table: Table, name: str) -> Net:
    kind = table.choice("kind", network.KINDS) or network.USER
    forwards = [_forward(table, text) for text in table.strings("forward", ())]
    found = Net(
        kind=kind,
        backend=table.choice("backend", (network.SLIRP, network.PASST), network.SLIRP) or network.SLIRP,
        forward=tuple(item for item in forwards if item is not None),
        model=table.choice("model", network.MODELS, network.VIRTIO) or network.VIRTIO,
        mac=_mac(table) or network.default_mac(name),
        mtu=optional_number(table, "mtu", MIN_MTU, MAX_MTU),
        queues=optional_number(table, "queues", 1, MAX_QUEUES) or 1,
        interface=_interface(table, "interface"),
        bridge=_interface(table, "bridge"),
        guest=_guest(table),
        rx=_rate(table, "rx"),
        tx=_rate(table, "tx"),
    )
    _belongs(table, found)
    table.finish()
    return found


def _belongs(table: Table, found: Net) -> None:
    """Keys that this kind has no use for, and those it cannot do without."""
    kind = found.kind
    if kind == network.NONE:
        for key in ("forward", "backend", "model", "mac", "mtu", "queues", "interface", "bridge", "address", "rx_rate",
                    "tx_rate"):  # fmt: skip
            if table.has(key):
                table.problem(key, 'kind "none" is no network at all')
        return
    if found.forward and kind != network.USER:
        table.problem("forward", f'kind "{kind}" is on a wire: the guest is reached at its own address')
    if table.has("backend") and kind != network.USER:
        table.problem("backend", 'is of kind "user"')
    for key, kinds in (("interface", (network.TAP, network.MACVTAP)), ("bridge", (network.BRIDGE,))):
        if table.has(key) != (kind in kinds):
            table.problem(key, f'missing: kind "{kind}" needs it' if kind in kinds else f'kind "{kind}" has none')
    if found.guest is not None and not found.wire:
        table.problem("address", 'kind "user" gives the guest its address')
    _limits(table, found)
    _model(table, found)


def _limits(table: Table, found: Net) -> None:
    for key, rate in (("rx_rate", found.rx), ("tx_rate", found.tx)):
        if rate is not None and not found.wire:
            table.problem(
                key,
                f"cannot be enforced with {found.backend}: it has no interface of the host to queue on; "
                'want kind "tap", "bridge" or "macvtap"',
            )


def _model(table: Table, found: Net) -> None:
    if found.queues > 1 and not found.wire:
        table.problem("queues", f"{found.backend} has one queue")
    if found.model == network.VIRTIO:
        return
    if found.queues > 1:
        table.problem("queues", f'QEMU\'s {found.model} has one queue, want model = "virtio"')
    if found.mtu is not None:
        table.problem("mtu", f'{found.model} cannot tell its guest an MTU, want model = "virtio"')


def _forward(table: Table, text: str) -> Forward | None:
    match = fullmatch(_FORWARD, text)
    address = match[2] or "127.0.0.1" if match else ""
    if match is None or not _ipv4(address) or not all(0 < int(match[group]) < 65536 for group in (3, 4)):
        table.problem(
            "forward", f'got {text[:80]!r}, want protocol:address:port-:port such as "tcp:127.0.0.1:2222-:22"'
        )
        return None
    return Forward(match[1], address, int(match[3]), int(match[4]))


def _ipv4(text: str) -> bool:
    octets = text.split(".")
    return len(octets) == 4 and all(
        fullmatch("0|[1-9][0-9]{0,2}", part) is not None and int(part) <= 255 for part in octets
    )


def _mac(table: Table) -> str | None:
    if not table.has("mac"):
        return None
    text = table.value("mac", str, want='an address such as "02:00:00:00:00:01"') or ""
    if text and (not fullmatch(_MAC, text) or int(text[:2], 16) & 1 or text == "00:00:00:00:00:00"):
        table.problem("mac", f'got {text[:40]!r}, want one station\'s address such as "02:00:00:00:00:01", lower case')
    return text


def _interface(table: Table, key: str) -> str | None:
    if not table.has(key):
        return None
    text = table.value(key, str, want="an interface of the host") or ""
    if text and not fullmatch(_NAME, text):
        table.problem(key, f"got {text[:40]!r}, want an interface's name: at most 15 of A-Z a-z 0-9 _ . -")
    return text


def _guest(table: Table) -> Guest | None:
    given = [key for key in ("gateway", "dns") if table.has(key)]
    if not table.has("address"):
        for key in given:
            table.problem(key, "comes with address")
        return None
    address = table.value("address", str, want='an address with its prefix such as "192.0.2.10/24"') or ""
    quad, _, prefix = address.partition("/")
    if address and not (_ipv4(quad) and prefix.isascii() and prefix.isdigit() and 8 <= int(prefix[:3]) <= 30):
        table.problem("address", f'got {address[:40]!r}, want IPv4 with a prefix of 8 to 30 such as "192.0.2.10/24"')
    gateway = table.value("gateway", str, want="the gateway's IPv4 address") or ""
    dns = table.value("dns", str) if table.has("dns") else None
    for key, text in (("gateway", gateway), ("dns", dns)):
        if text and not _ipv4(text):
            table.problem(key, f"got {text[:40]!r}, want an IPv4 address")
    return Guest(address, gateway, dns)


def _rate(table: Table, which: str) -> Rate | None:
    if not table.has(f"{which}_rate"):
        if table.has(f"{which}_burst"):
            table.problem(f"{which}_burst", f"comes with {which}_rate")
        return None
    text = table.value(f"{which}_rate", str, want='a rate such as "100Mbit"') or ""
    bits = parse_rate(text)
    if text and bits is None:
        table.problem(f"{which}_rate", f'got {text[:40]!r}, want 64kbit to 400Gbit, such as "100Mbit"')
    bits = bits or MIN_RATE
    if not table.has(f"{which}_burst"):
        return Rate(bits, network.default_burst(bits))
    words = table.value(f"{which}_burst", str, want='a size such as "128KiB"') or ""
    match = fullmatch(_BURST, words)
    burst = int(match[1]) * _BINARY[match[2]] if match else 0
    if words and not 1 << 16 <= burst <= MAX_BURST:
        table.problem(f"{which}_burst", f"got {words[:40]!r}, want 64KiB (a segment of the guest) to 256MiB")
    return Rate(bits, burst)


def parse_rate(text: str) -> int | None:
    """Bits per second of ``100Mbit`` and the like, ``None`` if it is none or out of range."""
    match = fullmatch(_RATE, text)
    bits = int(match[1]) * _DECIMAL[match[2]] if match else 0
    return bits if MIN_RATE <= bits <= MAX_RATE else None


def vsock(table: Table) -> Vsock:
    """``[vsock]``"""
    cid = optional_number(table, "cid", network.FIRST_CID, network.LAST_CID)
    table.finish()
    return Vsock(cid)

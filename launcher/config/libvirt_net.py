"""A libvirt ``<interface>`` -> keys of ``[[net]]``, and what of it could not be carried over.

Source: libvirt "Domain XML format", network interfaces; its bandwidth is in KiB per second, inbound as the VM sees it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from launcher.config.xml import Element

_INTERFACE = re.compile("[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
_MAC = re.compile("[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_MODELS = ("virtio", "e1000", "e1000e")
_SILENT = (
    "source",
    "alias",
    "address",
    "backend",
    "mac",
    "model",
    "mtu",
    "driver",
    "bandwidth",
    "portForward",
    "target",
)
_REASONS = {
    "filterref": "no packet filter: let the host's firewall do it",
    "link": "the cable is always plugged in",
    "boot": "the kernel is booted directly",
    "virtualport": "no Open vSwitch or 802.1Qbh profile",
    "vlan": "tag at the bridge",
    "ip": "the guest is told by [[net]] address",
    "route": "the guest is told by [[net]] gateway",
}
Left = list[tuple[str, str]]


def interface(item: Element) -> tuple[dict[str, object], Left]:
    """The table and what is missing from it, each with its path below the interface."""
    left: Left = []
    found = _kind(item, left)
    wire = found["kind"] != "user"
    _hardware(item, found, left)
    _bandwidth(item, found, left, wire=wire)
    forwards = [text for part in item.children if part.name == "portForward" for text in _forwards(part, left)]
    if forwards:
        found["forward"] = forwards
    left += [
        (f"/{part.name}", _REASONS.get(part.name, "not carried over"))
        for part in item.children
        if part.name not in _SILENT
    ]
    return found, left


def _kind(item: Element, left: Left) -> dict[str, object]:
    kind = item.attributes.get("type", "?")[:20]
    source = item.child("source")
    attributes: Mapping[str, str] = {} if source is None else source.attributes
    target = item.child("target")
    tap = "" if target is None else target.attributes.get("dev", "")
    if kind == "bridge" and _INTERFACE.fullmatch(attributes.get("bridge", "")):
        return {"kind": "bridge", "bridge": attributes["bridge"]}
    if kind == "direct" and _INTERFACE.fullmatch(attributes.get("dev", "")):
        if attributes.get("mode", "vepa") != "bridge":
            left.append(("/source@mode", "a macvtap here is always of mode bridge"))
        return {"kind": "macvtap", "interface": attributes["dev"]}
    if kind == "ethernet" and _INTERFACE.fullmatch(tap):
        return {"kind": "tap", "interface": tap}
    if kind == "user":
        backend = item.child("backend")
        passt = backend is not None and backend.attributes.get("type") == "passt"
        return {"kind": "user", "backend": "passt"} if passt else {"kind": "user"}
    why = "a network of libvirt's: name its bridge" if kind == "network" else "not understood"
    left.append(("", f"type {kind!r} became a user network, outgoing only: {why}"))
    return {"kind": "user"}


def _hardware(item: Element, found: dict[str, object], left: Left) -> None:
    mac, model, mtu, driver = (item.child(name) for name in ("mac", "model", "mtu", "driver"))
    address = "" if mac is None else mac.attributes.get("address", "").lower()
    if _MAC.fullmatch(address) and not int(address[:2], 16) & 1:
        found["mac"] = address
    name = "virtio" if model is None else model.attributes.get("type", "virtio")
    if name not in _MODELS:
        left.append(("/model", f"{name[:20]!r} became virtio"))
    elif name != "virtio":
        found["model"] = name
    size = "" if mtu is None else mtu.attributes.get("size", "")
    if "model" not in found and _between(size, 576, 65521):
        found["mtu"] = int(size)
    elif mtu is not None:
        left.append(("/mtu", f"got {size[:20]!r}; want 576 to 65521, and a virtio interface"))
    queues = "1" if driver is None else driver.attributes.get("queues", "1")
    if found["kind"] != "user" and "model" not in found and _between(queues, 2, 16):
        found["queues"] = int(queues)
    elif queues != "1":
        left.append(("/driver@queues", "2 to 16, of a virtio interface on a wire"))


def _bandwidth(item: Element, found: dict[str, object], left: Left, *, wire: bool) -> None:
    limits = item.child("bandwidth")
    for part in () if limits is None else limits.children:
        key = {"inbound": "rx", "outbound": "tx"}.get(part.name)
        average = part.attributes.get("average", "")
        if key is None or not wire or not _between(average, 8, 1 << 25):
            why = "a user network has no limits" if not wire else "want an average of 8 KiB/s or more"
            left.append((f"/bandwidth/{part.name}", why))
            continue
        found[f"{key}_rate"] = f"{int(average) * 8192 // 1000}kbit"
        burst = part.attributes.get("burst", "")
        if _between(burst, 64, 256 << 10):
            found[f"{key}_burst"] = f"{burst}KiB"
        left += [(f"/bandwidth/{part.name}@{name}", "one rate and one burst") for name in ("peak", "floor")
                 if name in part.attributes]  # fmt: skip


def _forwards(part: Element, left: Left) -> list[str]:
    """``<portForward proto address><range start end to/></portForward>``, single ports only."""
    found = []
    host = part.attributes.get("address", "127.0.0.1")
    for item in part.children:
        start = item.attributes.get("start", "")
        target = item.attributes.get("to", start)
        single = item.attributes.get("end", start) == start and _between(start, 1, 65535) and _between(target, 1, 65535)
        if item.name == "range" and single and part.attributes.get("proto") in ("tcp", "udp"):
            found.append(f"{part.attributes['proto']}:{host}:{start}-:{target}")
        else:
            left.append(("/portForward", "single ports of tcp or udp only"))
    return found


def _between(text: str, low: int, high: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 12 and low <= int(text) <= high

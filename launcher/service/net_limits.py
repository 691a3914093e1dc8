"""The limits of a running VM's network: changed where its VM file has some, told from what the kernel enforces."""

from __future__ import annotations

import json

from launcher.config.net_parts import MAX_BURST, MAX_RATE, MIN_RATE
from launcher.core.network import MACVTAP, TAP, Net, Rate, default_burst
from launcher.errors import WrongState
from launcher.io import shaping
from launcher.io.iproute import run_tool
from launcher.io.netdev import HELPER, link_name
from launcher.io.statedir import VmDir, state_root
from policy.errors import MalformedInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from launcher.io.qmp import Qmp
    from launcher.service.planning import Prepared

DIRECTIONS = ("rx", "tx")
LEAST_BURST = 1 << 16


def net_limits(prepared: Prepared, _qmp: Qmp, about: dict[str, Any]) -> dict[str, object]:
    """``rx`` and ``tx``: ``[bits per second, burst in bytes or null]`` for those to change; what holds afterwards.

    Raises :class:`WrongState`, `MalformedInput`, :class:`launcher.io.iproute.NetworkRefused`.
    """
    net = prepared.config.net
    if net is None or not net.wire:
        raise WrongState(
            "its network has no interface on this host to limit", hint='kind = "tap", "bridge" or "macvtap"'
        )
    wanted = {name: _rate(name, about[name]) for name in DIRECTIONS if name in about}
    for name in wanted:
        if getattr(net, name) is None:
            raise WrongState(
                f"{name}: its VM file limits nothing in that direction, so there is no queue to change",
                hint=f"{name}_rate in [[net]] makes one at the next launch",
            )
    devices = _devices(net, VmDir(state_root(), prepared.config.name).path)
    for name, rate in wanted.items():
        shaping.change(devices[name], devices[name], out=rate, back=None)
    found = {name: _shown(devices[name]) for name in DIRECTIONS if getattr(net, name) is not None}
    said = ", ".join(f"{name} {rate.bits} bit/s (burst {rate.burst} bytes)" for name, rate in found.items())
    return {"said": f"net: {said or 'no limits'}", "net": {name: list(rate) for name, rate in found.items()}}


def _devices(net: Net, folder: str) -> dict[str, str]:
    """Which interface queues which direction: what a VM receives leaves a tap, but comes in at a macvtap."""
    name = net.interface if net.kind == TAP and net.interface else link_name(folder)
    helper = link_name(folder, HELPER)
    return {"rx": helper, "tx": name} if net.kind == MACVTAP else {"rx": name, "tx": helper}


def _rate(name: str, value: object) -> Rate:
    if not isinstance(value, list) or len(value) != 2:
        raise MalformedInput(f"net: {name}: want [bits, burst]", code="control.malformed")
    bits, burst = value
    if type(bits) is not int or not MIN_RATE <= bits <= MAX_RATE:
        raise MalformedInput(f"net: {name}: {str(bits)[:40]} bit/s, want 64kbit to 400Gbit", code="control.malformed")
    if burst is None:
        return Rate(bits, default_burst(bits))
    if type(burst) is not int or not LEAST_BURST <= burst <= MAX_BURST:
        raise MalformedInput(f"net: {name}: burst {str(burst)[:40]}, want 64KiB to 256MiB", code="control.malformed")
    return Rate(bits, burst)


def _shown(device: str) -> Rate:
    """The token bucket at an interface's root, as the kernel tells it (rates in bytes a second)."""
    for item in json.loads(run_tool("tc", ("-j", "qdisc", "show", "dev", device, "root")) or "[]"):
        if item.get("kind") == "tbf":
            return Rate(int(item["options"]["rate"]) * 8, int(item["options"]["burst"]))
    raise WrongState(f"its limit at {device} is gone: somebody else changed the interface")

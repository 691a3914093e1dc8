"""The command line of a VM without its TEE and without the world: the same machine and devices, nothing behind them.

A QEMU started so (and stopped) shows the tables it would show the firmware of a TD, on any host: they depend on the
machine type, the number of vCPUs, memory and the devices in their slots, not on what protects memory or on what stands
behind a device. No file is opened for writing, no port is bound, no socket of the real VM is touched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from launcher.core.argv.words import json_value

PROBE_CPU = "EPYC-v4,phys-bits=46"
"""46 bits or more, from which OVMF computes where it places devices."""
VSOCK_STAND_IN = "virtio-rng-pci,id=vsock0"
"""In the slot of a vsock device, whose own would open the host's: the tables know slots, not what is in them."""
_DROPPED = ("-tpmdev", "-mon", "-run-with", "-sandbox", "-name", "-fw_cfg")
_DROPPED_OBJECTS = ("tdx-guest", "sev-snp-guest", "monitor-qmp", "secret")
_DROPPED_FEATURES = ("accel=", "kernel-irqchip=", "confidential-guest-support=")


def without_tee(options: tuple[str, ...]) -> tuple[str, ...]:
    """``options`` of `launcher.core.argv.qemu_options`, rewritten. The TPM's backend ``tpm0`` is left to the caller."""
    return tuple(word for pair in _pairs(options) for word in _rewritten(*pair))


def _device(value: str) -> str:
    """A vsock device becomes another in its slot; several queues need the wire they belong to."""
    if value.startswith("vhost-vsock-pci,"):
        return VSOCK_STAND_IN
    return ",".join(item for item in value.split(",") if not item.startswith(("mq=", "vectors=")))


def _pairs(options: tuple[str, ...]) -> Iterator[tuple[str, str | None]]:
    """(option, value); ``None`` for an option that has none."""
    at = 0
    while at < len(options):
        has_value = options[at] not in ("-nodefaults", "-no-user-config")
        yield options[at], options[at + 1] if has_value else None
        at += 2 if has_value else 1


def _rewritten(option: str, value: str | None) -> tuple[str, ...]:
    if value is None:
        return (option,)
    if option in _DROPPED:
        return ()
    if option == "-machine":
        kept = [item for item in value.split(",") if not item.startswith(_DROPPED_FEATURES)]
        return (option, ",".join((kept[0], "accel=tcg", *kept[1:])))
    if option == "-cpu":
        model, comma, chosen = value.partition(",")
        return (option, f"{PROBE_CPU}{comma}{chosen}" if model == "host" else value)
    if option == "-object" and json.loads(value)["qom-type"] in _DROPPED_OBJECTS:
        return ()
    if option == "-blockdev":
        return (option, json_value(driver="null-co", node_name=json.loads(value)["node-name"]))
    if option == "-netdev":
        return (option, "user,id=net0,ipv6=off")
    if option == "-device":
        return (option, _device(value))
    if option == "-chardev":
        name = next(item for item in value.split(",") if item.startswith("id="))
        return () if name == "id=tpmchar0" else (option, f"null,{name}")
    return (option, value)

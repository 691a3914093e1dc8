"""A running VM's memory: down and up again with the balloon, beyond its first size with memory modules (pc-dimm) or a
virtio-mem device, and down again to the first size where the guest gives back what it got.

All of it needs the guest: drivers, and a kernel that brings memory online and empties it. QEMU tells what it did.
Sources: QAPI ``balloon``, ``query-memory-devices``, ``device_add``, ``device_del``; Linux
``Documentation/admin-guide/mm/memory-hotplug.rst``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress

from launcher.core.argv.memory import GROWING_DEVICE, ram_object
from launcher.core.hardware import DIMM
from launcher.errors import QemuFailed, WrongState
from launcher.io.qmp import Qmp, QmpClosed, QmpRefused
from launcher.service.planning import Prepared
from policy.errors import MalformedInput
from policy.named import NamedTuple
from policy.vocab import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LEAST = 128 << 20
GUEST_SECONDS = 5.0
"""How long a guest may take to empty a module while somebody waits; later it is still given back."""
_ANSWERS = ("DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR", "MEM_UNPLUG_ERROR")


class Room(NamedTuple):
    """What a VM's memory may become: first size, maximum (``None``: the first), slots for modules, a balloon;
    ``by_device``: it grows by virtio-mem, not by modules.
    """

    memory: int
    max: int | None
    slots: int
    balloon: bool
    by_device: bool = False


def memory(prepared: Prepared, qmp: Qmp, about: dict[str, Any]) -> dict[str, object]:
    """The command ``memory``: ``size`` in bytes, or nothing to be told only."""
    spec = prepared.plan.spec
    if spec.platform is not Platform.NONE:
        raise WrongState(
            "a confidential VM's memory is what it was launched with",
            hint="cvm plan names ram.balloon, ram.hot-plug and ram.virtio-mem",
        )
    room = Room(spec.memory, spec.ram.max, spec.ram.slots, spec.ram.balloon, spec.ram.by_device)
    size = about.get("size")
    if size is None:
        return _state(room, qmp, None)
    if not isinstance(size, int) or isinstance(size, bool):
        raise MalformedInput("memory: size: want bytes", code="control.malformed")
    return resize(room, qmp, size, lambda name, more: ram_object(spec, name, more))


def resize(room: Room, qmp: Qmp, size: int, module: Callable[[str, int], str]) -> dict[str, object]:
    """Make it ``size`` bytes; ``module`` writes the memory object of that name and size. Raises :class:`WrongState`."""
    if size < LEAST:
        raise WrongState(f"{size >> 20} MiB: a VM keeps at least {LEAST >> 20} MiB")
    if room.max is not None and size > room.max:
        raise WrongState(f"it can have at most {room.max >> 20} MiB (ram.max)")
    extra = max(0, size - room.memory)
    told = _ask_device(qmp, extra) if room.by_device else _change_modules(room, qmp, extra, module)
    if room.balloon:
        qmp.execute("balloon", value=size)
    elif size < room.memory:
        raise WrongState(
            "it has no balloon, so its memory cannot become less than it was launched with",
            hint="[ram] balloon = true, at the next launch",
        )
    return _state(room, qmp, size, told)


def _ask_device(qmp: Qmp, extra: int) -> str:
    """Ask virtio-mem's driver for ``extra`` bytes in all; nothing to add to what the state says."""
    device = _grown(qmp)
    block = int(device["block-size"])
    if extra % block:
        raise WrongState(f"{extra >> 20} MiB more: virtio-mem hands out blocks of {block >> 20} MiB")
    qmp.execute("qom-set", path=f"/machine/peripheral/{GROWING_DEVICE}", property="requested-size", value=extra)
    return ""


def _change_modules(room: Room, qmp: Qmp, extra: int, module: Callable[[str, int], str]) -> str:
    _forget_taken_out(qmp)
    plugged = plugged_memory(qmp)
    if extra > plugged:
        _plug(room, qmp, extra - plugged, module)
        return ""
    return _unplug(qmp, extra, balloon=room.balloon)


def _plug(room: Room, qmp: Qmp, more: int, module: Callable[[str, int], str]) -> None:
    if room.max is None:
        raise WrongState("it has no room to grow", hint='[ram] max = "…", at the next launch')
    if more % DIMM:
        raise WrongState(f"{more >> 20} MiB more: modules come in steps of {DIMM >> 20} MiB")
    there = {item["data"]["id"] for item in modules(qmp)}
    if len(there) >= room.slots:
        raise WrongState(f"all {room.slots} slots are taken (ram.slots)")
    name = next(f"dimm{number}" for number in range(room.slots) if f"dimm{number}" not in there)
    qmp.execute("object-add", **json.loads(module(f"{name}-ram", more)))
    try:
        qmp.execute("device_add", driver="pc-dimm", id=name, memdev=f"{name}-ram")
    except QmpRefused:
        qmp.execute("object-del", id=f"{name}-ram")
        raise


def _unplug(qmp: Qmp, extra: int, *, balloon: bool) -> str:
    """Ask for modules back until ``extra`` bytes are left, the newest first; what the guest said to the last."""
    for item in reversed(modules(qmp)):
        size, name = int(item["data"]["size"]), str(item["data"]["id"])
        if plugged_memory(qmp) - size < extra:
            if plugged_memory(qmp) > extra and not balloon:
                raise WrongState(f"{name} has {size >> 20} MiB, and modules are taken out whole")
            return ""
        with suppress(QmpRefused):  # asked for already: its answer may still come
            qmp.execute("device_del", id=name)
        answered = _answers(qmp, name)
        if any(other["data"]["id"] == name for other in modules(qmp)):
            return f"the guest {'keeps' if answered else 'has not yet given back'} {name}"
        qmp.execute("object-del", id=f"{name}-ram")
    return ""


def _answers(qmp: Qmp, name: str) -> bool:
    """Whether the guest says something about module ``name`` in time; what, the list of modules tells."""
    try:
        qmp.await_event(lambda event: event.name in _ANSWERS and event.data.get("device") == name, GUEST_SECONDS)
    except QmpClosed:
        raise
    except QemuFailed:
        return False
    return True


def _forget_taken_out(qmp: Qmp) -> None:
    """Free memory of modules that the guest gave back after nobody waited any more."""
    there = {f"{item['data']['id']}-ram" for item in modules(qmp)}
    for item in qmp.execute("query-memdev"):
        name = str(item.get("id"))
        if re.fullmatch(r"dimm\d+-ram", name) and name not in there:
            qmp.execute("object-del", id=name)


def _grown(qmp: Qmp) -> dict[str, Any]:
    found: list[dict[str, Any]] = [
        item["data"] for item in qmp.execute("query-memory-devices") if item.get("type") == "virtio-mem"
    ]
    return found[0]


def modules(qmp: Qmp) -> list[dict[str, Any]]:
    """Memory modules that are plugged in, oldest first."""
    return [item for item in qmp.execute("query-memory-devices") if item.get("type") == "dimm"]


def plugged_memory(qmp: Qmp) -> int:
    """Bytes beyond the first size, by modules and by virtio-mem."""
    return int(qmp.execute("query-memory-size-summary").get("plugged-memory", 0))


def _state(room: Room, qmp: Qmp, wanted: int | None, told: str = "") -> dict[str, object]:
    """What there is, and what the guest has of it according to its balloon driver."""
    plugged = plugged_memory(qmp)
    guest = int(qmp.execute("query-balloon")["actual"]) if room.balloon else None
    total = room.memory + plugged
    words = f"{total >> 20} MiB plugged in" + (f"; {told}" if told else "")
    if room.by_device and (asked := int(_grown(qmp)["requested-size"])) != plugged:
        words += f" ({(room.memory + asked) >> 20} MiB asked for: its virtio-mem driver has not answered yet)"
    if guest is not None:
        words += f", the guest has {guest >> 20} MiB"
    if wanted is not None and guest is not None and guest != wanted:
        words += f" ({wanted >> 20} MiB asked for: its driver has not answered yet)"
    return {
        "said": words, "wanted": wanted, "total": total, "plugged": plugged, "guest": guest,
        "slots_left": room.slots - len(modules(qmp)) if room.max is not None and not room.by_device else 0,
    }  # fmt: skip

"""A running VM's memory: down and up again with the balloon, beyond its first size with memory modules (pc-dimm).

Both need the guest: a balloon its driver, a module a kernel that brings memory online. QEMU tells what the guest did.
Sources: QAPI ``balloon``, ``query-balloon``, ``query-memory-size-summary``, ``device_add``.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from launcher.core.argv.memory import ram_object
from launcher.core.hardware import DIMM
from launcher.errors import WrongState
from launcher.io.qmp import Qmp, QmpRefused
from launcher.service.planning import Prepared
from policy.errors import MalformedInput
from policy.named import NamedTuple
from policy.vocab import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LEAST = 128 << 20


class Room(NamedTuple):
    """What a VM's memory may become: first size, maximum (``None``: the first), slots for modules, a balloon."""

    memory: int
    max: int | None
    slots: int
    balloon: bool


def memory(prepared: Prepared, qmp: Qmp, about: dict[str, Any]) -> dict[str, object]:
    """The command ``memory``: ``size`` in bytes, or nothing to be told only."""
    spec = prepared.plan.spec
    if spec.platform is not Platform.NONE:
        raise WrongState(
            "a confidential VM's memory is what it was launched with",
            hint="cvm plan names ram.balloon and ram.hot-plug",
        )
    room = Room(spec.memory, spec.ram.max, spec.ram.slots, spec.ram.balloon)
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
    plugged = _plugged(qmp)
    if size > room.memory + plugged:
        _plug(room, qmp, size - room.memory - plugged, plugged, module)
        plugged = _plugged(qmp)
    if room.balloon:
        qmp.execute("balloon", value=size)
    elif size < room.memory + plugged:
        raise WrongState(
            "it has no balloon, so its memory cannot shrink", hint="[ram] balloon = true, at the next launch"
        )
    return _state(room, qmp, size)


def _plug(room: Room, qmp: Qmp, more: int, plugged: int, module: Callable[[str, int], str]) -> None:
    if room.max is None:
        raise WrongState("it has no room to grow", hint='[ram] max = "…", at the next launch')
    if room.memory + plugged + more > room.max:
        raise WrongState(f"it can have at most {room.max >> 20} MiB (ram.max)")
    if more % DIMM:
        raise WrongState(f"{more >> 20} MiB more: modules come in steps of {DIMM >> 20} MiB")
    number = len(_modules(qmp))
    if number >= room.slots:
        raise WrongState(f"all {room.slots} slots are taken (ram.slots)")
    name = f"dimm{number}"
    qmp.execute("object-add", **json.loads(module(f"{name}-ram", more)))
    try:
        qmp.execute("device_add", driver="pc-dimm", id=name, memdev=f"{name}-ram")
    except QmpRefused:
        qmp.execute("object-del", id=f"{name}-ram")
        raise


def _modules(qmp: Qmp) -> list[dict[str, Any]]:
    return [item for item in qmp.execute("query-memory-devices") if item.get("type") == "dimm"]


def _plugged(qmp: Qmp) -> int:
    return int(qmp.execute("query-memory-size-summary").get("plugged-memory", 0))


def _state(room: Room, qmp: Qmp, wanted: int | None) -> dict[str, object]:
    """What there is, and what the guest has of it according to its balloon driver."""
    plugged = _plugged(qmp)
    guest = int(qmp.execute("query-balloon")["actual"]) if room.balloon else None
    total = room.memory + plugged
    words = f"{total >> 20} MiB plugged in"
    if guest is not None:
        words += f", the guest has {guest >> 20} MiB"
    if wanted is not None and guest is not None and guest != wanted:
        words += f" ({wanted >> 20} MiB asked for: its driver has not answered yet)"
    return {
        "said": words, "wanted": wanted, "total": total, "plugged": plugged, "guest": guest,
        "slots_left": room.slots - len(_modules(qmp)) if room.max is not None else 0,
    }  # fmt: skip

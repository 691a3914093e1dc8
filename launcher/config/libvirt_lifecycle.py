"""What a libvirt domain says of its ends -> ``[lifecycle]``.

Source: libvirt "Domain XML format", "Events configuration".
"""

from __future__ import annotations

from launcher.config.xml import Element
from launcher.core.lifecycle import ALWAYS, IN_PLACE, ON_FAILURE, RELAUNCH

HANDLED = ("on_poweroff", "on_reboot", "on_crash")
_DOWN = "destroy"


def lifecycle(root: Element, *, confidential: bool) -> tuple[dict[str, object], list[tuple[str, str]]]:
    """The table, and what was left with its reason. libvirt's defaults need not be written: a VM that powers off or
    crashes is down; one that reboots is up again, here with a new launch where it is measured.
    """
    again = RELAUNCH if confidential else IN_PLACE
    table: dict[str, object] = {"on_reboot": again}
    left: list[tuple[str, str]] = []
    for name in HANDLED:
        found = root.child(name)
        word = _default(name) if found is None else found.words
        if name == "on_reboot" and word == _DOWN:
            del table["on_reboot"]
        elif name != "on_reboot" and word == "restart":
            table["restart"] = ALWAYS if name == "on_poweroff" or table.get("restart") == ALWAYS else ON_FAILURE
        elif word not in (_DOWN, "restart"):
            left.append((name, f"got {word[:30]!r}: a VM here stays down or is started again"))
    return table, left


def _default(name: str) -> str:
    return "restart" if name == "on_reboot" else _DOWN

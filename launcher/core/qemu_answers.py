"""From a QEMU's own answers to its features: `launcher.core.qemu_features` names them. Pure.

Sources: QEMU ``qapi/introspect.json`` (SchemaInfo), ``qapi/qom.json``, ``qapi/qdev.json``, ``qapi/machine.json``,
``qapi/misc.json`` (CommandLineOptionInfo).
"""

from __future__ import annotations

import re

from launcher.core.qemu_features import FEATURES
from launcher.errors import QmpMalformed
from policy.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MACHINE = re.compile(r"pc-q35-(\d+)\.(\d+)")


class Answers(NamedTuple):
    """What QEMU returned: ``query-qmp-schema``, ``qom-list-types``, ``query-command-line-options``; properties of each
    device type asked about, and of the machine.
    """

    schema: Any
    types: Any
    options: Any
    devices: dict[str, Any]
    machine: Any


def newest_machine(machines: Any) -> str:
    """The newest versioned q35 in the answer to ``query-machines``: an alias moves, a distribution's own name is not
    QEMU's. Raises `launcher.errors.QmpMalformed`.
    """
    try:
        found = [match for item in machines if (match := _MACHINE.fullmatch(item["name"])) is not None]
    except (TypeError, KeyError):
        raise QmpMalformed("QMP: query-machines: want a list of machines with names") from None
    if not found:
        raise QmpMalformed("QMP: query-machines: no pc-q35-N.N among them: is this QEMU for x86_64?")
    return max(found, key=lambda match: (int(match[1]), int(match[2])))[0]


def devices_to_ask() -> tuple[str, ...]:
    """Device types of which a property matters."""
    names = (name.removeprefix("device:") for name in FEATURES if name.startswith("device:"))
    return tuple(sorted({name.partition(".")[0] for name in names if "." in name}))


def present(answers: Answers) -> frozenset[str]:
    """The features that QEMU has. Raises `launcher.errors.QmpMalformed` for answers of another shape."""
    try:
        there = _everything(answers)
    except (TypeError, KeyError, IndexError, AttributeError, StopIteration) as exc:
        raise QmpMalformed(f"QMP: schema: not as QEMU writes it ({type(exc).__name__}: {exc})") from None
    return frozenset(name for name in FEATURES if name in there)


def _everything(answers: Answers) -> set[str]:
    schema = {item["name"]: item for item in answers.schema}
    found: set[str] = set()
    for case, variant in _variants(schema, "object-add"):
        found.add(f"object:{case}")
        found |= {f"object:{case}.{member['name']}" for member in variant["members"]}
    for case, variant in _variants(schema, "blockdev-add"):
        found.add(f"blockdev:{case}")
        if case == "file":
            aio = next(member for member in variant["members"] if member["name"] == "aio")
            found |= {f"aio:{word}" for word in _words(schema[aio["type"]])}
    found |= {f"netdev:{case}" for case, _ in _variants(schema, "netdev_add")}
    types = {item["name"] for item in answers.types}
    found |= {f"{kind}:{name}" for name in types for kind in ("device", "type")}
    for device, properties in answers.devices.items():
        found |= {f"device:{device}.{item['name']}" for item in properties}
    found |= {f"machine:{item['name']}" for item in answers.machine}
    for option in answers.options:
        found |= {f"option:{option['option']}.{item['name']}" for item in option["parameters"]}
    return found


def _variants(schema: dict[str, Any], command: str) -> list[tuple[str, Any]]:
    argument = schema[schema[command]["arg-type"]]
    return [(item["case"], schema[item["type"]]) for item in argument["variants"]]


def _words(enum: Any) -> list[str]:
    """Of an enumeration; ``values`` is what QEMU before 6.0 had alone."""
    return [item["name"] for item in enum["members"]]

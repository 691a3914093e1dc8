"""Which commands of QEMU's monitor may pass through the launcher to a running VM. Pure.

Questions (``query-…``) pass for every VM: they tell the host what the host knows. Of a confidential VM nothing else
passes, each with its id and the reason; an ordinary VM's owner may say ``--change``. What a verb of `cvm` does properly
is refused for all: the launcher would not know of it. Source: QEMU 11.1 QAPI schema.
"""

from __future__ import annotations

import re

from policy.named import NamedTuple
from policy.vocab import Platform

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,79}")
_VERBS = {
    "quit": "cvm stop",
    "system_powerdown": "cvm stop",
    "system_reset": "cvm stop and cvm launch",
    "stop": "cvm pause",
    "cont": "cvm resume",
    "set-action": "[lifecycle] of the VM file",
    "qmp_capabilities": "cvm launch",
    "getfd": "cvm launch",
    "closefd": "cvm launch",
}
_MIGRATION = re.compile(r"(x-)?migrat|calc-dirty|set-vcpu-dirty|xen-|snapshot-(save|load|delete)$")
_REASONS = (
    (
        "qmp.launch-secret", re.compile(r"sev-inject-launch-secret"),
        "a secret from the host passes by the service, which releases keys and records that it did",
    ),
    (
        "qmp.migration", _MIGRATION,
        "QEMU cannot carry encrypted memory away, and a copy would be a second guest; cvm move takes the VM to a host",
    ),
    (
        "qmp.memory", re.compile(r"dump|memsave|human-monitor-command|x-query-"),
        "it reads or changes the guest's memory, registers or screen, which are not the host's",
    ),
    (
        "qmp.input", re.compile(r"send-key|input-send-event|inject-nmi|_password|ringbuf|add_client|display-"),
        "it speaks into the guest as if it were its owner",
    ),
    ("qmp.objects", re.compile(r"qom-(get|list-get)"), "among QEMU's objects are keys of disks"),
)  # fmt: skip
_CHANGES = "it changes the machine that was planned and measured; nothing measures what is changed later"


class QmpRefusal(NamedTuple):
    """``id`` never changes its meaning."""

    id: str
    why: str


def is_question(command: str) -> bool:
    """Whether a command only asks."""
    return command.startswith("query-")


def refusal(command: str, platform: Platform, *, change: bool) -> QmpRefusal | None:
    """Why ``command`` may not pass, or ``None``. ``change``: an ordinary VM's owner said so."""
    if _NAME.fullmatch(command) is None:
        return QmpRefusal("qmp.name", "want the name of a command, such as query-status")
    if is_question(command):
        return None
    if command in _VERBS:
        return QmpRefusal("qmp.verb", f"the launcher would not know of it; use {_VERBS[command]}")
    if platform is not Platform.NONE:
        for id_, pattern, why in _REASONS:
            if pattern.search(command):
                return QmpRefusal(id_, why)
        return QmpRefusal("qmp.change", _CHANGES)
    if _MIGRATION.search(command):
        return QmpRefusal("qmp.migration", "the launcher would not know of it; use cvm migrate or cvm snapshot")
    if not change:
        return QmpRefusal("qmp.asked", "it is no question (query-…); --change lets it pass to an ordinary VM")
    return None

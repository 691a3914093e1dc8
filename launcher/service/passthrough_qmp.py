"""Use case *qmp*: one command to a running VM's monitor, where `launcher.core.qmp_rules` lets it pass."""

from __future__ import annotations

import json

from launcher.core.qmp_rules import is_question, refusal
from launcher.errors import WrongState
from launcher.io.control import ask
from launcher.io.qmp import Qmp
from launcher.io.statedir import existing, state_root
from launcher.service.planning import Prepared
from policy.errors import MalformedInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_ANSWER = 4 << 20


class QmpNotAllowed(WrongState):
    """A command that may not pass."""

    code = "qmp.refused"


def pass_on(prepared: Prepared, qmp: Qmp, about: dict[str, Any]) -> dict[str, object]:
    """In the launcher: ``command``, ``arguments``, ``change``. Raises :class:`QmpNotAllowed`, `QmpRefused`."""
    command, arguments = about.get("command"), about.get("arguments", {})
    if not isinstance(command, str) or not isinstance(arguments, dict):
        raise MalformedInput("qmp: want a command and its arguments", code="control.malformed")
    found = refusal(command, prepared.config.platform, change=about.get("change") is True)
    if found is not None:
        raise QmpNotAllowed(f"{found.id}: {command[:80]!r}: {found.why}")
    value = qmp.execute_with(command, arguments)
    size = len(json.dumps(value))
    if size > MAX_ANSWER:
        raise WrongState(f"{command}: an answer of {size} bytes, want at most {MAX_ANSWER}")
    said = "asked" if is_question(command) else "passed on"
    return {"said": f"{command} {said}", "value": value}


def qmp_of(name: str, command: str, arguments: dict[str, Any], *, change: bool) -> object:
    """What the monitor of VM ``name`` returns. Raises :class:`WrongState` with the refusal, or QEMU's words."""
    vm = existing(state_root(), name)
    about = {"command": command, "arguments": arguments, "change": change}
    return ask(vm.path, name, "qmp", about).get("value")

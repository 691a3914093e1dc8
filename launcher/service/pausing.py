"""Use cases *pause* and *resume*: have the launcher stop a VM's vCPUs, or let them run again."""

from __future__ import annotations

from launcher.core.states import LIVE
from launcher.errors import WrongState
from launcher.io.control import ask
from launcher.io.statedir import existing, state_root
from launcher.service.listing import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def pause(name: str, *, on: bool) -> dict[str, Any]:
    """Pause (``on``) or resume; the VM's row afterwards. Raises `NotFound`, :class:`WrongState`."""
    vm = existing(state_root(), name)
    state = describe(vm)["state"]
    if state not in LIVE:
        raise WrongState(f"VM {name} is {state}, not up", hint=f"cvm logs {name} shows its last words")
    ask(vm.path, name, "pause" if on else "resume")
    return describe(vm)

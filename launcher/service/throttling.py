"""Use case *throttle*: see and change the limits of a running VM's disks and network."""

from __future__ import annotations

from launcher.core.states import LIVE
from launcher.errors import WrongState
from launcher.io.control import ask
from launcher.io.statedir import existing, state_root
from launcher.service.listing import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def throttle_vm(name: str, about: dict[str, object]) -> list[dict[str, Any]]:
    """The groups afterwards: ``object``, ``disks``, ``limits``. Raises `NotFound`, :class:`WrongState`."""
    groups = _asked(name, "throttle", about).get("groups")
    return groups if isinstance(groups, list) else []


def throttle_net(name: str, about: dict[str, object]) -> dict[str, Any]:
    """``said``, and ``net`` with the limits afterwards. Raises `NotFound`, :class:`WrongState`."""
    return _asked(name, "net", about)


def _asked(name: str, word: str, about: dict[str, object]) -> dict[str, Any]:
    vm = existing(state_root(), name)
    state = describe(vm)["state"]
    if state not in LIVE:
        raise WrongState(f"VM {name} is {state}, not up", hint="limits of the next launch are in its VM file")
    return ask(vm.path, name, word, about)

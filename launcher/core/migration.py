"""Where a running VM is moved to: ``unix:/path`` or ``tcp:host:port``, and which VMs can be moved so at all."""

from __future__ import annotations

import re

from launcher.errors import PlanRefused
from policy.named import NamedTuple
from policy.vocab import Platform

CHANNEL = "migration0"
"""The name under which QEMU is given the connection."""
_TCP = r"tcp:(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253}):([0-9]{1,5})"
_LOOPBACK = ("127.0.0.1", "[::1]", "localhost")
_WANT = 'want "unix:/path" or "tcp:host:port"'


class Target(NamedTuple):
    """``path`` of a unix socket, or ``host`` and ``port``."""

    text: str
    path: str | None
    host: str = ""
    port: int = 0


def parse_target(text: str, *, plain: bool = False) -> Target:
    """Raises :class:`PlanRefused`. The guest's whole memory passes through this connection in the clear, so beyond this
    host it has to be asked for with ``plain``.
    """
    if text.startswith("unix:/") and "\0" not in text:
        return Target(text, text.removeprefix("unix:"))
    match = re.fullmatch(_TCP, text)
    if match is None or not 0 < int(match[2]) < 65536:
        raise PlanRefused(f"migration: got {text[:80]!r}, {_WANT}", code="migration.target")
    if match[1] not in _LOOPBACK and not plain:
        raise PlanRefused(
            f"migration: {text}: the guest's memory would cross the network unencrypted",
            code="migration.plain",
            hint="use a tunnel that ends on this host (ssh -L, WireGuard), or say --plain",
        )
    return Target(text, None, match[1].strip("[]"), int(match[2]))


def refuse_tied(passthrough: int, grown: int, *, tpm: bool = False, shares: int = 0) -> None:
    """What ties a running VM to this host: ``passthrough`` functions of its hardware, ``grown`` bytes of memory that
    came since its start, a ``tpm`` whose state is here, ``shares`` of its folders. Raises :class:`PlanRefused`.
    """
    if tpm:
        raise PlanRefused(
            "migration: what its TPM remembers stays on this host",
            code="migration.tpm",
            hint="take devices.tpm out of the VM file",
        )
    if shares:
        raise PlanRefused(
            f"migration: {shares} folder(s) of this host are open inside the VM",
            code="migration.share",
            hint="stop it here and launch it there",
        )
    if passthrough:
        raise PlanRefused(
            f"migration: {passthrough} PCI function(s) of this host are inside the VM",
            code="migration.passthrough",
            hint="stop it here and launch it there",
        )
    if grown:
        raise PlanRefused(
            f"migration: {grown >> 20} MiB of memory came since its start; the other side has none of it",
            code="migration.grown-memory",
            hint="cvm memory makes it what it was; or raise memory in the VM file and launch it anew, then move it",
        )


def refuse_protected(platform: Platform) -> None:
    """Only ordinary VMs move while they run."""
    if platform is Platform.NONE:
        return
    if platform in (Platform.EMULATED_SNP, Platform.EMULATED_TDX):
        why = "its emulated chip stays on this host"
    else:
        why = "its memory is encrypted with a key of this chip, and QEMU blocks migration of such guests"
    raise PlanRefused(
        f"platform {platform.value} cannot move while it runs: {why}",
        code="migration.protected",
        hint="cvm move: it is stopped here and started there, and attests again before it gets its key",
    )

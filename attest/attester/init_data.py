"""Init-data: a text from the host, believed only where this guest's own launch is bound to it.

The host offers the text as one of QEMU's firmware configuration items, which nothing measures. What is measured is the
order ``cvm.initdata=required``. Nothing of the text is read before one of the digests that may bind it equals the
register of *this* guest: HOST_DATA as the chip's report shows it, MRCONFIGID as the TDX module does.
Source: Linux ``Documentation/ABI/testing/sysfs-firmware-qemu_fw_cfg``; QEMU ``docs/specs/fw_cfg.rst``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from attest.attester.errors import InitDataRefused
from attest.attester.machine import Machine
from attest.attester.raw_evidence import TDX
from policy.initdata import (
    ALGORITHMS,
    MAX_BYTES,
    InitDataMalformed,
    InitDataText,
    held_by,
    parse_init_data,
    runtime_event,
)

FW_CFG = Path("/sys/firmware/qemu_fw_cfg/by_name/opt/org.cvm/init-data/raw")


class BoundInitData(NamedTuple):
    """A text this launch is bound to. ``event``: what RTMR3 was extended by, for the event log; empty where not."""

    found: InitDataText
    event: bytes


def offered(path: Path = FW_CFG) -> bytes:
    """What the host offers, not looked at. Raises :class:`InitDataRefused` when that is nothing, or too much."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InitDataRefused(f"init-data: the command line demands it, the host offers none ({path})") from None
    except OSError as exc:
        raise InitDataRefused(f"init-data: {path}: {exc.strerror}") from None
    if len(data) > MAX_BYTES:
        raise InitDataRefused(f"init-data: the host offers more than {MAX_BYTES} bytes, want at most that many")
    return data


def establish(machine: Machine, tee: str, *, emulated: bool, tell: Callable[[str], None]) -> BoundInitData:
    """The host's text, checked, and on a TD extended into RTMR3. Raises :class:`InitDataRefused` and other errors."""
    binding = machine.binding(tee, emulated)
    found = believed(machine.init_data(), binding)
    event = runtime_event(binding) if tee == TDX else b""
    name = f"this VM is {found.identity.vm}" if found.identity.vm else "it names no VM"
    tell(f"init-data: {found.algorithm} {found.digest.hex()[:16]}…, {_field(binding)} is bound to it; {name}")
    if event and not machine.extend(event, emulated):
        tell("init-data: RTMR3 not extended: this kernel offers no way (Linux 6.16 and later do)")
        event = b""
    return BoundInitData(found, event)


def believed(data: bytes, binding: bytes) -> InitDataText:
    """``data`` as init-data, if ``binding`` (32 or 48 bytes) binds this launch to it; else :class:`InitDataRefused`."""
    field = _field(binding)
    if not any(binding):
        raise InitDataRefused(f"init-data: {field} is zero: this launch is bound to no text, so none is believed")
    by = [name for name, hash_of in ALGORITHMS.items() if held_by(len(binding), hash_of(data).digest()) == binding]
    if not by:
        raise InitDataRefused(
            f"init-data: not the text this launch is bound to: {field} is {binding.hex()}, the SHA-256 of the text "
            f"offered is {hashlib.sha256(data).hexdigest()} (SHA-384 and SHA-512 do not fit either)"
        )
    try:
        found = parse_init_data(data)
    except InitDataMalformed as exc:
        raise InitDataRefused(exc.message) from None
    if found.algorithm not in by:
        raise InitDataRefused(f"init-data: the text names {found.algorithm}, {field} is bound to it by {by[0]}")
    return found


def _field(binding: bytes) -> str:
    return "HOST_DATA" if len(binding) == 32 else "MRCONFIGID"

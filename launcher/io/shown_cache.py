"""What a QEMU shows for one command line, remembered: asking takes a second, and the answer never changes.

The key covers the bytes of the QEMU binary and every word of the command line except the contents-only paths of
firmware, kernel, initrd and command line. An entry that is damaged is asked for again. Whoever can write this cache can
also replace the fetched QEMU beside it, so entries are not signed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path

from launcher.io.cachedir import cache_folder
from launcher.io.hashing import FileUnreadable, hash_file, read_file
from launcher.io.machine_probe import ShownMachine, probe_machine
from launcher.io.toolchain import Toolchain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SCHEMA = "cvm.shown/2"
_MOST = 1 << 26
_CONTENTS_ONLY = ("-bios", "-kernel", "-initrd", "-append")
"""Their presence changes what QEMU shows, their value does not."""


def shown_machine(tools: Toolchain, options: tuple[str, ...], *, tpm: bool) -> ShownMachine:
    """As `launcher.io.machine_probe.probe_machine`, asked once per QEMU and command line."""
    entry = cache_folder() / "shown" / f"{_key(tools, options, tpm=tpm)}.json"
    known = _load(entry)
    if known is not None:
        return known
    shown = probe_machine((*tools.qemu_argv, *options), tools.env, tpm=tpm)
    _store(entry, shown)
    return shown


def _key(tools: Toolchain, options: tuple[str, ...], *, tpm: bool) -> str:
    words = ["" if before in _CONTENTS_ONLY else word for before, word in zip(("", *options), options, strict=False)]
    document = [_SCHEMA, hash_file(tools.binary, "QEMU").hex(), tools.version, words, tpm]
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()


def _load(entry: Path) -> ShownMachine | None:
    try:
        document = json.loads(read_file(str(entry), "cache", _MOST))
        body = document["shown"]
        if document["sha256"] != _digest(body):
            return None
        pci = tuple((int(slot), int(identity)) for slot, identity in body["pci"])
        return ShownMachine(_files(body["acpi"]), bytes.fromhex(body["smbios"]), _files(body["fw_cfg"]), pci)
    except (FileUnreadable, ValueError, KeyError, TypeError, AttributeError):
        return None


def _store(entry: Path, shown: ShownMachine) -> None:
    """Written whole or not at all; a cache that cannot be written costs time, nothing else."""
    files = {"acpi": _hex(shown.acpi), "fw_cfg": _hex(shown.fw_cfg)}
    body = {**files, "smbios": shown.smbios.hex(), "pci": [list(device) for device in shown.pci]}
    with contextlib.suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=entry.parent)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"schema": _SCHEMA, "sha256": _digest(body), "shown": body}, file)
        os.replace(name, entry)


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _hex(files: dict[str, bytes]) -> dict[str, str]:
    return {name: data.hex() for name, data in files.items()}


def _files(table: dict[str, str]) -> dict[str, bytes]:
    return {name: bytes.fromhex(text) for name, text in table.items()}

"""Secrets as files, in memory: a tmpfs of their own, each file with the owner and mode the command line gives it.

A file is replaced as a whole: a reader sees the old value or the new one. It never exists under its name with another
owner or mode than the ordered ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from attest.attester import kernel
from attest.attester.cmdline import SecretOrder
from attest.attester.errors import SecretFileFailed
from policy.secret import SecretBytes
from policy.vocab import ResourcePath

FOLDER = Path("/run/cvm/secrets")
SIZE = "4m"


def mount_folder(folder: Path = FOLDER) -> Path:
    """A tmpfs at ``folder``: no programs, no devices, no set-uid; others may look a name up but not list."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        flags = kernel.MS_NODEV | kernel.MS_NOSUID | kernel.MS_NOEXEC
        kernel.mount(Path("tmpfs"), folder, "tmpfs", flags, f"size={SIZE},mode=0711")
    except OSError as exc:
        raise SecretFileFailed(f"secrets: {folder}: {exc.strerror}") from None
    return folder


class SecretFiles:
    """The ordered files below ``folder``."""

    def __init__(self, folder: Path, orders: tuple[SecretOrder, ...]) -> None:
        self._folder = folder
        self._orders = orders

    def write(self, fetch: Callable[[ResourcePath], SecretBytes]) -> None:
        """Fetch every secret first, then write: files of one time belong together. Raises what ``fetch`` raises."""
        values = [(order, fetch(order.resource)) for order in self._orders]
        try:
            for order, value in values:
                self._write(order, value)
        finally:
            for _, value in values:
                value.wipe()

    def remove(self) -> None:
        """Take every file away."""
        for order in self._orders:
            with suppress(FileNotFoundError):
                (self._folder / order.name).unlink()

    def _write(self, order: SecretOrder, value: SecretBytes) -> None:
        target = self._folder / order.name
        beside = target.with_name(f".{target.name}.new")
        try:
            beside.unlink(missing_ok=True)
            handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0)
            with os.fdopen(handle, "wb") as file:
                os.fchown(file.fileno(), order.uid, order.gid)
                os.fchmod(file.fileno(), order.mode)
                file.write(value.reveal())
            beside.replace(target)
        except OSError as exc:
            raise SecretFileFailed(f"secret {order.name}: {exc.strerror}") from None

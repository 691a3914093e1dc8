"""The connection a migration goes through. The launcher hands it to QEMU, which needs no network of its own."""

from __future__ import annotations

import os
import socket
import stat

from launcher.core.migration import CHANNEL, Target
from launcher.errors import StateUnusable
from launcher.io.qmp import Qmp

_PATIENCE = 10.0


def listen(target: Target) -> socket.socket:
    """Wait there for the VM. A unix socket is for this user only. Raises `StateUnusable`."""
    server = _socket(target)
    try:
        if target.path is not None:
            _clear(target.path)
            server.bind(target.path)
            os.chmod(target.path, 0o600)
        else:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((target.host, target.port))
        server.listen(1)
        server.setblocking(False)
    except OSError as exc:
        server.close()
        raise StateUnusable(f"migration: {target.text}: {exc.strerror}") from None
    return server


def connect(target: Target) -> socket.socket:
    """To the launcher that waits there. Raises `StateUnusable`."""
    client = _socket(target)
    client.settimeout(_PATIENCE)
    try:
        client.connect(target.path if target.path is not None else (target.host, target.port))
    except OSError as exc:
        client.close()
        who = "`cvm launch VM.toml --incoming`, or for a cold move `cvm receive`,"
        why = f"{exc.strerror or exc}: {who} has to wait there first"
        raise StateUnusable(f"migration: {target.text}: {why}") from None
    client.setblocking(True)
    return client


def hand_over(qmp: Qmp, channel: socket.socket) -> str:
    """Give QEMU the connection; the URI it knows it by. Ours is the caller's to close. Events about the migration are
    switched on.
    """
    qmp.execute("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    qmp.give(CHANNEL, channel.fileno())
    return f"fd:{CHANNEL}"


def _clear(path: str) -> None:
    """Remove a socket that an earlier launcher left; anything else at that path stays, and binding fails."""
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        return


def _socket(target: Target) -> socket.socket:
    if target.path is not None:
        return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    family = socket.AF_INET6 if ":" in target.host else socket.AF_INET
    return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)

"""Ask a QEMU what it can do: a process without a machine, its monitor on a pair of sockets.

It opens nothing of the host. It takes a third of a second, so `launcher.io.qemu_known` remembers the answer.
"""

from __future__ import annotations

import socket
import tempfile

from launcher.core.qemu_answers import Answers, devices_to_ask, newest_machine, present
from launcher.core.qemu_features import Capabilities
from launcher.core.text import safe_text
from launcher.errors import QemuFailed, QmpMalformed
from launcher.io.process import end, spawn
from launcher.io.qmp import Qmp, QmpClosed, QmpRefused, open_qmp
from launcher.io.toolchain import Toolchain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

_OPTIONS = ("-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-S")


def probe_capabilities(tools: Toolchain) -> Capabilities:
    """Start it, ask, end it. Raises `launcher.errors.QemuFailed` with its words, `launcher.errors.QmpMalformed`."""
    ours, its = socket.socketpair()
    with ours, tempfile.TemporaryFile() as log:
        monitor = ("-chardev", f"socket,id=qmp0,fd={its.fileno()}", "-qmp", "chardev:qmp0")
        with its:
            try:
                child = spawn(
                    (*tools.qemu_argv, *_OPTIONS, *monitor), cwd="/", env=tools.env, stderr=log, keep=(its.fileno(),)
                )
            except OSError as exc:
                raise QemuFailed(f"QEMU: {tools.binary}: {exc.strerror}") from None
        try:
            return _asked(open_qmp(ours))
        except QmpClosed:
            end(child)
            raise QemuFailed(f"QEMU: {tools.binary}: ended when asked what it can do: {_words(log)}") from None
        finally:
            end(child)


def _asked(qmp: Qmp) -> Capabilities:
    machine = newest_machine(qmp.execute("query-machines"))
    answers = Answers(
        schema=qmp.execute("query-qmp-schema"),
        types=qmp.execute("qom-list-types"),
        options=qmp.execute("query-command-line-options"),
        devices={name: _properties(qmp, name) for name in devices_to_ask()},
        machine=qmp.execute("qom-list-properties", typename=f"{machine}-machine"),
    )
    package = qmp.execute("query-version")
    if not isinstance(package, dict):
        raise QmpMalformed(f"QMP: query-version: got {type(package).__name__}, want an object")
    source = safe_text(str(package.get("package", "")), 80) or "no name of a package"
    return Capabilities(qmp.version, machine, present(answers), source)


def _properties(qmp: Qmp, device: str) -> Any:
    """Of a device type; none of one that this QEMU does not have."""
    try:
        return qmp.execute("device-list-properties", typename=device)
    except QmpRefused:
        return ()


def _words(log: IO[bytes]) -> str:
    log.seek(0)
    return safe_text(log.read(4096).decode("utf-8", "replace").strip(), 400) or "it said nothing"

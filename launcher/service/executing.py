"""Use case *exec*: run one command in a guest that the service accepted, and in no other."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from launcher.core.exec_token import revoked_ids, trusted_point
from launcher.core.names import EXEC_SOCKET, VM_FILE
from launcher.core.states import LIVE
from launcher.core.vm import VmConfig
from launcher.errors import WrongState
from launcher.io.exec_client import Exit, Streams, handshake, run_command
from launcher.io.exec_keys import public_text, read_key
from launcher.io.service_words import JWKS, REVOKED, fetch
from launcher.io.sockets import connect
from launcher.io.statedir import VmDir
from launcher.service.listing import describe
from launcher.service.vm_file import load_vm, read_ca
from policy.named import NamedTuple

_LOCK = "exec.lock"


class Command(NamedTuple):
    """What to run: words, seconds at most, and the operator's key file."""

    argv: list[str]
    timeout: int
    key: str


def execute(vm: VmDir, command: Command, streams: Streams) -> Exit:
    """How it ended. Raises :class:`WrongState` for a guest that was not accepted, with the reason; and what the channel
    and the service raise.
    """
    row = describe(vm)
    _refuse(vm.name, row)
    config = load_vm(str(row["config"]))
    operator = read_key(command.key)
    _enabled(config, public_text(operator), vm.name)
    with _alone(vm), _connected(vm) as client:
        channel = handshake(client, operator, lambda token: _trusted(token, config, vm))
        return run_command(client, channel, command.argv, command.timeout, streams)


def _refuse(name: str, row: dict[str, object]) -> None:
    """What the launcher saw is only good for saying no early and clearly: what counts is the token."""
    state, reason = row["state"], row.get("reason")
    why = f": {reason}" if reason else ""
    if state not in LIVE:
        raise WrongState(f"VM {name} is {state}{why}; no command runs in it", hint=f"cvm logs {name}")
    if row.get("paused"):
        raise WrongState(f"VM {name} is paused", hint=f"cvm resume {name}")
    if not row.get("attested"):
        raise WrongState(
            f"VM {name} is {state} and not attested{why}; commands run only in a guest the service accepted",
            hint=f"cvm ps; cvm logs {name}",
        )


def _enabled(config: VmConfig, public: str, name: str) -> None:
    if not config.operators:
        raise WrongState(
            f"VM {name}: its VM file has no [exec]: nothing can be run in it",
            hint="cvm exec --new-key FILE prints the line; it is measured, so the reference value changes",
        )
    if public not in config.operators:
        raise WrongState(f"VM {name}: [exec] operators does not have this key ({public})")


def _trusted(token: str, config: VmConfig, vm: VmDir) -> bytes:
    """The guest's key, by a token checked with the service itself."""
    ca = read_ca(config)
    if config.attestation is None or ca is None:
        raise WrongState(f"VM {vm.name}: its VM file names no service")
    url = config.attestation.service
    digest = vm.read_json(VM_FILE).get("launch_digest")
    return trusted_point(
        token,
        fetch(url, ca, JWKS),
        revoked_ids(fetch(url, ca, REVOKED)),
        now=time.time(),
        launch_digest=digest if isinstance(digest, str) else None,
        emulated=config.platform.value.startswith("emulated-"),
    )


@contextmanager
def _alone(vm: VmDir) -> Iterator[None]:
    """The port serves one operator at a time; another is told so instead of waiting without a word."""
    descriptor = os.open(vm.file(_LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WrongState(f"VM {vm.name}: another cvm exec is at work in it") from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _connected(vm: VmDir) -> Iterator[socket.socket]:
    try:
        client = connect(vm.path, EXEC_SOCKET)
    except OSError:
        raise WrongState(
            f"VM {vm.name}: it has no port for commands", hint="it was launched before its VM file had [exec]"
        ) from None
    with contextlib.closing(client):
        yield client

"""During a launch: its signed statements go to the service that the VM file names.

Nothing here delays a launch by more than starting a process, or fails one, unless the VM file says ``launch_record =
"required"``: then the service has acknowledged the statement before QEMU starts.
"""

from __future__ import annotations

import os
import subprocess

from launcher.core.text import safe_text
from launcher.errors import PlanRefused
from launcher.io import clock
from launcher.io.launch_record import Ended, Signed, sign_end
from launcher.io.outbox import Outgoing, keep
from launcher.io.process import own_module
from launcher.service.record import Record
from launcher.service.vm_file import read_ca
from policy.errors import CvmError

REQUIRED, OFF = "required", "off"
REQUIRED_SECONDS = 20.0
_SENDERS: list[subprocess.Popen[bytes]] = []
"""Of this launcher; the ended ones are collected when the next one starts."""


def tell_start(record: Record, signed: Signed | None) -> None:
    """Send the statement, or leave it for the process in the background.

    Raises only where the VM file requires it: PlanRefused without a launch key, ServiceUnavailable, ServiceRefused.
    """
    if _wanted(record) == REQUIRED:
        _tell_now(record, signed)
    elif signed is not None and _wanted(record) != OFF:
        _queue(record, signed)


def tell_end(record: Record, started: Signed | None, outcome: str, reason: str) -> None:
    """The launch is over. Whatever goes wrong is said and changes nothing."""
    if started is None or _wanted(record) == OFF:
        return
    ended = Ended(
        vm=record.vm.name,
        time=clock.now_in_milliseconds(),
        launch_sha256=started.sha256,
        outcome=outcome,
        reason=safe_text(reason, 400)[:400],
        attested=record.progress.was_attested,
        up_seconds=max(0, int(record.now())),
    )
    try:
        signed = sign_end(ended)
    except CvmError as exc:
        record.say(f"WARNING: the end of this launch is not signed: {exc.message}")
        return
    if signed is not None:
        _queue(record, signed)


def _wanted(record: Record) -> str:
    attestation = record.prepared.config.attestation
    return "send" if attestation is None else attestation.launch_record


def _tell_now(record: Record, signed: Signed | None) -> None:
    from launcher.service.reporting import Destination, send_one

    if signed is None:
        raise PlanRefused(
            'attestation.launch_record: "required", but this host signs no launches of this VM',
            code="launch-record.no-key",
            hint="cvm ledger --host-key makes the key; an operator registers it: attest host add NAME KEY.pem",
        )
    item = _kept(record, signed)
    if item.service is None or item.ca is None:
        raise PlanRefused("attestation.launch_record: no service to tell", code="launch-record.no-service")
    found = send_one(item, Destination(item.service, item.ca), REQUIRED_SECONDS)
    record.say(f"launch record {found.record} of {found.service}")


def _queue(record: Record, signed: Signed) -> None:
    """Into the folder of what waits; where a service is known, its sender is started."""
    try:
        if _kept(record, signed).service is not None:
            _start_sender()
    except CvmError as exc:
        record.say(f"WARNING: this host's statement about the launch is not sent: {exc.message}")
    except OSError as exc:
        record.say(f"WARNING: the sender of launch records does not start: {os.strerror(exc.errno or 0)}")


def _start_sender() -> None:
    """It outlives this launcher, and nobody waits for it. Raises OSError."""
    argv, env = own_module("launcher.service.reporting")
    quiet = subprocess.DEVNULL
    _SENDERS[:] = [sender for sender in _SENDERS if sender.poll() is None]
    _SENDERS.append(subprocess.Popen(argv, env=env, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True))


def _kept(record: Record, signed: Signed) -> Outgoing:
    config = record.prepared.config
    service = None if config.attestation is None else config.attestation.service
    return keep(record.vm.name, signed, service, read_ca(config))

"""Before and after each launch: the ledger's lines, the console log of the launch before, the wait before a restart."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from launcher.core import names
from launcher.core.lifecycle import Ending, Restarts
from launcher.core.text import safe_text
from launcher.io import clock, ledger
from launcher.io.hashing import hash_file, read_file
from launcher.io.signals import SignalTrap
from launcher.io.statedir import VmDir
from launcher.io.which import which
from launcher.service.planning import Prepared
from launcher.service.record import Record
from policy.errors import CvmError
from policy.late import small_sha256
from policy.toml import MAX_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.io.launch_record import Signed

_KEPT = (
    names.STATE_FILE,
    names.LEDGER,
    names.EVENTS,
    f"{names.EVENTS}.1",
    names.VTPM_FOLDER,
    names.SERIAL_LOG + names.PREVIOUS,
    names.SERIAL_LOG + names.PREVIOUS + names.TIMES,
)


def renew(vm: VmDir, *keep: str) -> None:
    """Make room for a launch: everything of the last one goes, except the ledger and its console log, set aside; and
    its state, so that `cvm ps` always knows the VM.
    """
    for suffix in ("", names.TIMES):
        with contextlib.suppress(FileNotFoundError):
            os.rename(vm.file(names.SERIAL_LOG + suffix), vm.file(names.SERIAL_LOG + names.PREVIOUS + suffix))
    vm.clear(*_KEPT, *keep)


@contextmanager
def in_ledger(record: Record, restarts: int) -> Iterator[None]:
    """One line before anything is started, one however it ended. Without the first there is no launch."""
    _write_launch(record, {"restarts": restarts})
    try:
        _tell_start(record)
        yield
    except BaseException as exc:
        reason = exc.message if isinstance(exc, CvmError) else type(exc).__name__
        ledger.append(
            record.vm,
            {"event": "failed-to-start", "time": clock.now_in_milliseconds(), "reason": safe_text(reason, 400)},
        )
        record.events.put("launcher", "failed-to-start", {"reason": reason})
        _tell_end(record, "failed", reason)
        raise
    _write_end(record)


def again_in_place(record: Record, restarts: int) -> None:
    """The lines between two launches inside one QEMU; the service is told as of any other."""
    record.progress.qemu_ended(0, "", record.now())
    _write_end(record)
    record.renew()
    _write_launch(record, {"restarts": restarts, "in_place": True})
    _tell_start(record)


def _write_launch(record: Record, more: dict[str, object]) -> None:
    started, found = clock.now_in_milliseconds(), identities(record)
    ledger.append(record.vm, {"event": "launch", "time": started, **more, **found})
    record.events.put("launcher", "launch", {**more, "expected_measurement": found["expected_measurement"]})
    record.signed = _sign(record, started, found)


def _write_end(record: Record) -> None:
    """The line that tells how a launch ended."""
    progress = record.progress
    ledger.append(
        record.vm,
        {
            "event": "end",
            "time": clock.now_in_milliseconds(),
            "outcome": record.outcome,
            "state": progress.state,
            "code": progress.code,
            "reason": safe_text(progress.reason, 400),
            "attested": progress.was_attested,
            "seconds": progress.seconds,
        },
    )
    ending = {"outcome": record.outcome, "code": progress.code, "reason": progress.reason}
    record.events.put("launcher", "end", ending, record.now())
    _tell_end(record, record.outcome, progress.reason)


# What speaks to the service is loaded for VMs that have something to tell: this is on the way of every launch.


def _tell_start(record: Record) -> None:
    if record.signed is not None or record.prepared.config.attestation is not None:
        from launcher.service.telling import tell_start

        tell_start(record, record.signed)


def _tell_end(record: Record, outcome: str, reason: str) -> None:
    if record.signed is not None:
        from launcher.service.telling import tell_end

        tell_end(record, record.signed, outcome, reason)


def identities(record: Record) -> dict[str, object]:
    """What is launched, by digest: SHA-256 in hexadecimal of the VM file's bytes, of the NUL-joined command line, of
    the firmware file; QEMU's version, build id and its file's size and time (hashing it would cost more than starting
    it); the digest of init-data, by the algorithm it names, where there is some.
    """
    prepared = record.prepared
    plan = prepared.plan
    argv = b"".join(os.fsencode(word) + b"\0" for word in plan.argv)
    return {
        "platform": plan.spec.platform.value,
        "accelerator": plan.spec.accel,
        "config_sha256": small_sha256(read_file(record.config_path, "VM file", MAX_BYTES)).hexdigest(),
        "argv_sha256": small_sha256(argv).hexdigest(),
        "firmware_sha256": _firmware(prepared),
        "qemu": {
            "version": plan.qemu.version_text,
            "source": plan.qemu.source,
            "build_id": plan.qemu.can.build,
            **_binary(plan.qemu.binary),
        },
        "expected_measurement": prepared.launch_digest,
        **({} if plan.init_data is None else {"init_data_digest": plan.init_data.digest.hex()}),
    }


def _sign(record: Record, started: str, found: Mapping[str, object]) -> Signed | None:
    """The host's own word about the launch of a measured VM, where it has a key for that."""
    digest, firmware = record.prepared.launch_digest, found["firmware_sha256"]
    if digest is None or not isinstance(firmware, str):
        return None
    from launcher.io import launch_record

    qemu = record.prepared.plan.qemu
    launched = launch_record.Launched(
        vm=record.vm.name,
        time=started,
        config_sha256=str(found["config_sha256"]),
        firmware_sha256=firmware,
        measurement=digest,
        qemu=_path_of(qemu.binary),
        qemu_version=qemu.version_text,
        argv=record.prepared.plan.argv,
        epoch=ledger.epoch(record.vm),
    )
    signed = launch_record.write_record(record.vm, launched)
    if signed is not None:
        record.say(f"launch record signed: {record.vm.file(launch_record.RECORD_FILE)}")
    return signed


def wait_to_restart(record: Record, restarts: Restarts, trap: SignalTrap) -> bool:
    """Whether to start it again; returns when it is time. A signal meanwhile leaves it down."""
    progress = record.progress
    asked = record.asked_to_end or progress.interrupted
    ending = Ending(record.outcome, progress.state, asked, record.now(), progress.rebooted)
    wait = restarts.after(ending)
    if wait is None:
        return False
    settings = restarts.settings
    record.waiting = f"restart {restarts.tries} of {settings.retries} in {wait:g} s: {progress.reason}"
    record.say(f"it ended ({progress.state}): {record.waiting}")
    record.events.put("launcher", "restart", {"try": restarts.tries, "in_seconds": wait})
    record.save()
    told = bool(select.select([trap.wakeup], [], [], wait)[0] and trap.take())
    record.waiting = ""
    record.save()
    if told:
        record.say("told to stop: it is not started again")
        record.events.put("operator", "stop", {"reason": "not started again"})
    return not told


def prepare_again(record: Record, prepare: Callable[[], Prepared]) -> Prepared:
    """The plan for a restart, made from the files as they are now. When it cannot be made, that is the state."""
    try:
        return prepare()
    except CvmError as exc:
        record.progress.reason = f"not started again: {exc.message}"
        record.save()
        raise


def _firmware(prepared: Prepared) -> str | None:
    if prepared.measured is not None:
        return prepared.measured.firmware.sha256.hex()
    path = prepared.plan.spec.firmware
    return None if path is None else hash_file(path, "firmware").hex()


def _binary(word: str) -> dict[str, object]:
    path = _path_of(word)
    try:
        found = os.stat(path)
    except OSError:
        return {"path": path}
    return {"path": path, "size": found.st_size, "modified_ns": found.st_mtime_ns}


def _path_of(program: str) -> str:
    if os.path.isabs(program):
        return program
    return which(program) or program

"""Use case *launch*: start everything in order, watch it, end everything, tell what happened.

What only a running VM needs is imported when QEMU has greeted: by then it takes nothing from the guest's start.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from launcher.core import names
from launcher.core.argv import qemu_options
from launcher.core.lifecycle import Restarts
from launcher.core.progress import Kind, Progress
from launcher.core.timeouts import Budget
from launcher.errors import HostNotCapable, PlanRefused
from launcher.io.moved import refuse_moved
from launcher.io.process import end
from launcher.io.signals import SignalTrap
from launcher.io.statedir import VmDir, state_root
from launcher.service.confining import confined_qemu
from launcher.service.connecting import addressed
from launcher.service.listing import refuse_orphans
from launcher.service.planning import Prepared, prepare
from launcher.service.record import Record
from launcher.service.restarting import in_ledger, prepare_again, renew, wait_to_restart
from policy.named import NamedTuple
from policy.vocab import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.core.migration import Target
    from launcher.io.emulator import Emulator
    from launcher.io.isolation import Fds
    from launcher.io.process import Child
    from launcher.io.qemu import Qemu
    from launcher.service.rebooting import InPlace


class LaunchOptions(NamedTuple):
    """What the command line adds to the VM file. ``say`` gets progress lines for a person; ``started`` is called once
    the state folder is this launcher's. ``hash_table``: inject this file's bytes instead of this VM's own table.
    ``incoming``: where the VM arrives from another host instead of being booted.
    """

    say: Callable[[str], None]
    started: Callable[[VmDir], None]
    hash_table: str | None = None
    timeout: float | None = None
    incoming: Target | None = None


def launch(path: str, options: LaunchOptions) -> Record:
    """Run the VM until it has ended; the record of its life. Raises what keeps it from starting at all."""
    prepared = prepare_to_launch(path)
    if options.hash_table is not None and prepared.plan.emulator is None:
        raise PlanRefused(
            '--hash-table: only platform "emulated-snp" has its boot hash table injected', code="launch.hash-table"
        )
    if options.incoming is not None:
        from launcher.core.storage_rules import refuse_moving

        refuse_moving(prepared.config.disks)
        prepared = _expecting(prepared)
    for warning in prepared.plan.warnings:
        options.say(f"WARNING: {warning.shown}")
    vm = VmDir(state_root(), prepared.config.name)
    vm.create()
    vm.lock()
    try:
        refuse_orphans(vm)
        refuse_moved(vm)
        renew(vm)
        options.started(vm)
        restarts = Restarts(prepared.config.lifecycle)
        while True:
            with SignalTrap() as trap:
                with addressed(prepared, options.say) as (prepared, fds):
                    record = _record(prepared, vm, path, options)
                    with _written(record), in_ledger(record, restarts.since):
                        _run(record, trap, options, restarts, fds)
                with _written(record):
                    again = wait_to_restart(record, restarts, trap)
            if not again:
                return record
            prepared = prepare_again(record, lambda: prepare_to_launch(path))
            renew(vm, names.LAUNCHER_LOG)
    finally:
        vm.remove(*names.OF_A_RUN)
        vm.unlock()


def _expecting(prepared: Prepared) -> Prepared:
    """The same VM, started empty."""
    from launcher.core.migration import refuse_protected

    plan = prepared.plan
    refuse_protected(plan.spec.platform)
    spec = plan.spec._replace(incoming=True)
    return prepared._replace(plan=plan._replace(spec=spec, options=qemu_options(spec)))


def prepare_to_launch(path: str) -> Prepared:
    """The plan, if it can run here now; raises :class:`HostNotCapable` with everything that is missing, and
    :class:`PlanRefused` for a file that is not there.
    """
    prepared = prepare(path)
    _refuse_missing("kernel", prepared.plan.spec.kernel)
    _refuse_missing("initrd", prepared.plan.spec.initrd)
    if prepared.plan.spec.disks:
        from launcher.service.storage import check_local_disks

        check_local_disks(prepared)
    if prepared.plan.spec.shares:
        from launcher.io.virtiofs import check_share

        for share in prepared.plan.spec.shares:
            check_share(share)
    refuse_blocked(prepared)
    return prepared


def _refuse_missing(what: str, path: str | None) -> None:
    if path is not None and not os.path.isfile(path):
        raise PlanRefused(f"{what}: {path}: no such file", code="boot.missing")


def refuse_blocked(prepared: Prepared) -> None:
    """Raise :class:`HostNotCapable` with everything this host lacks for the plan."""
    found = prepared.plan.blockers
    if found:
        text = "\n".join(f"  {item.id}: {item.seen}; {item.why}\n    fix: {item.fix}" for item in found)
        wanted = prepared.config.platform
        hint = "cvm doctor shows all of it"
        if wanted is not Platform.NONE:
            instead = Platform.EMULATED_TDX if wanted is Platform.TDX else Platform.EMULATED_SNP
            hint += f'; platform = "{instead.value}" runs without the hardware'
        raise HostNotCapable(f"this host cannot run {prepared.config.name} ({wanted.value}):\n{text}", hint=hint)


def _record(prepared: Prepared, vm: VmDir, path: str, options: LaunchOptions) -> Record:
    plan = prepared.plan
    budget = plan.budget if options.timeout is None else Budget(options.timeout, options.timeout)
    record = Record(vm, os.path.abspath(path), prepared, Progress(Kind(plan.attests, budget)), options.say)
    record.announce()
    return record


@contextmanager
def _written(record: Record) -> Iterator[None]:
    """Whatever happens, the state on disk tells how it ended."""
    try:
        yield
    except KeyboardInterrupt:
        record.progress.stopped_by_us("interrupted", 0.0)
        record.save()
        raise
    except BaseException as exc:
        record.fail(exc)
        raise
    record.save()


def _run(record: Record, trap: SignalTrap, options: LaunchOptions, restarts: Restarts, fds: Fds) -> None:
    vm, prepared, plan = record.vm, record.prepared, record.prepared.plan
    with (
        contextlib.ExitStack() as confined,
        vm.log(names.QEMU_LOG) as qemu_log,
        vm.log(names.SERIAL_LOG),
    ):
        emulator: Emulator | None = None
        qemu: Qemu | None = None
        try:
            if plan.emulator is not None or plan.td_emulator is not None:
                from launcher.service.emulating import start_chip, start_td

                start = start_chip if plan.emulator is not None else start_td
                emulator = start(prepared, record, options)
            arrival = None
            if plan.spec.incoming and options.incoming is not None:
                from launcher.service.migrating import Arrival

                arrival = confined.enter_context(contextlib.closing(Arrival(options.incoming)))
                options.say(f"waiting for the VM at {options.incoming.text}")
            if plan.init_data is not None:
                vm.write(names.INIT_DATA, plan.init_data.text.encode())
            storage = confined.enter_context(_network_disks(prepared, vm, options.say))
            _own_tpm(prepared, vm, options.say, confined)
            record.begin()
            qemu = confined.enter_context(confined_qemu(prepared, vm, qemu_log, options.say, fds))
            record.started(qemu.child.pid, None if emulator is None else emulator.child.pid)
            from launcher.io.ioprio import prioritise
            from launcher.service.supervisor import Helpers, Supervisor

            for line in prioritise(qemu.qmp, qemu.child.pid, plan.spec.disks):
                options.say(line)
            in_place = _in_place(record, restarts) if plan.spec.in_place else None
            Supervisor(record, qemu, Helpers(emulator, storage, arrival, in_place), trap).watch()
        finally:
            if qemu is not None:
                qemu.close()
            if emulator is not None:
                end(emulator.child)


def _network_disks(
    prepared: Prepared, vm: VmDir, say: Callable[[str], None]
) -> contextlib.AbstractContextManager[Child | None]:
    if not prepared.plan.spec.disks:
        return contextlib.nullcontext()
    from launcher.service.storage import network_disks

    return network_disks(prepared, vm, say)


def _own_tpm(prepared: Prepared, vm: VmDir, say: Callable[[str], None], stack: contextlib.ExitStack) -> None:
    """Of an ordinary VM; an emulated TD's is its emulator's."""
    if not prepared.config.devices.tpm:
        return
    from launcher.io.isolation import statement
    from launcher.io.vtpm import vtpm

    running = stack.enter_context(vtpm(prepared.config.isolation, vm))
    for line in statement(running.steps, "the TPM"):
        say(line)


def _in_place(record: Record, restarts: Restarts) -> InPlace:
    from launcher.service.rebooting import InPlace

    return InPlace(record, restarts)

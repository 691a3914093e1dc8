"""The emulated chip of a launch: it is started before QEMU, and must agree with the plan about what is measured."""

from __future__ import annotations

from launcher.core import names
from launcher.errors import EmulatorFailed, PlanRefused
from launcher.io.emulator import start_emulator
from launcher.io.hashing import read_file
from launcher.io.process import end
from ovmf.kernel_hashes import TABLE_SIZE, hash_table_bytes, parse_hash_table
from ovmf.snp_launch import snp_launch_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.io.emulator import Emulator
    from launcher.service.launching import LaunchOptions
    from launcher.service.planning import Prepared
    from launcher.service.record import Record


def start_chip(prepared: Prepared, record: Record, options: LaunchOptions) -> Emulator:
    """Write the boot hash table and start the chip over it; both must agree with the plan about the digest."""
    table, expected = _hash_table(prepared, options)
    record.vm.write(names.HASH_TABLE, table)
    if options.hash_table is not None:
        options.say(f"TESTING: the boot hash table is {options.hash_table}, not this VM's own")
        if expected != prepared.launch_digest:
            own = str(prepared.launch_digest)
            options.say(f"TESTING: so the launch digest will be {expected[:16]}…, not {own[:16]}…")
    emulator = _agreeing(prepared, record, "launch digest", expected)
    root = f"root {emulator.root[:16]}… (not AMD's)"
    options.say(f"emulated chip: launch digest {expected[:16]}… as planned; {root}")
    return emulator


def start_td(prepared: Prepared, record: Record, options: LaunchOptions) -> Emulator:
    """Start the TD's quoting side and its TPM; the registers are the firmware's business from now on."""
    expected = str(prepared.launch_digest)
    emulator = _agreeing(prepared, record, "MRTD", expected)
    root = f"root {emulator.root[:16]}… (not Intel's)"
    options.say(f"emulated TDX platform: MRTD {expected[:16]}… as planned; {root}; a software TPM measures the boot")
    return emulator


def _agreeing(prepared: Prepared, record: Record, what: str, expected: str) -> Emulator:
    """The started emulator, which has computed ``expected`` (hex) for itself."""
    with record.vm.log(names.EMULATOR_LOG) as log:
        emulator = start_emulator(prepared.plan, record.vm, log)
    if emulator.launch_digest != expected:
        end(emulator.child)
        raise EmulatorFailed(
            f"{what}: planned {expected}, the emulated chip computed {emulator.launch_digest}",
            code="emulator.disagrees",
        )
    record.launch_digest = emulator.launch_digest
    record.emulated_root = emulator.root
    return emulator


def _hash_table(prepared: Prepared, options: LaunchOptions) -> tuple[bytes, str]:
    """The table to inject and the launch digest (hex) it leads to."""
    measured = prepared.measured
    if measured is None or measured.hashes is None or prepared.launch_digest is None:
        raise PlanRefused("the emulated platform boots a measured kernel", code="launch.unmeasured")
    if options.hash_table is None:
        return hash_table_bytes(measured.hashes), prepared.launch_digest
    table = read_file(options.hash_table, "hash table", TABLE_SIZE)
    digest = snp_launch_digest(
        measured.firmware,
        vcpus=measured.inputs.vcpus,
        vcpu_sig=measured.vcpu_sig,
        guest_features=measured.inputs.guest_features,
        hashes=parse_hash_table(table),
    )
    return table, digest.hex()

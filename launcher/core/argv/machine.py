"""Machine, memory, memory protection, boot, monitor and the options that keep QEMU itself in bounds."""

from __future__ import annotations

from base64 import b64encode

from launcher.core.argv.words import json_value, word
from launcher.core.names import HASH_TABLE, QMP_SOCKET
from launcher.core.spec import VmSpec


def identity(spec: VmSpec) -> tuple[str, ...]:
    """Name, and nothing that was not asked for."""
    return ("-name", f"guest={word(spec.name)},debug-threads=on", "-nodefaults", "-no-user-config", "-display", "none")


def machine(spec: VmSpec) -> tuple[str, ...]:
    """Machine type, processor and memory. The memory object is the shared half; QEMU adds the private one itself."""
    protected = spec.snp is not None
    features = [
        spec.machine_type,
        f"accel={spec.accel}",
        *(("kernel-irqchip=split",) if protected else ()),
        "smm=off", "vmport=off", "hpet=off", "usb=off", "sata=off", "smbus=off", "graphics=off",
        "dump-guest-core=off", "mem-merge=off",
        *(("confidential-guest-support=cgs0",) if protected else ()),
        "memory-backend=ram0",
    ]  # fmt: skip
    ram = json_value(
        qom_type="memory-backend-memfd", id="ram0", size=spec.memory, share=True, prealloc=False, reserve=False
    )
    return (
        "-machine", ",".join(features),
        "-cpu", spec.cpu_model,
        "-smp", f"{spec.vcpus},sockets=1,cores={spec.vcpus},threads=1",
        "-m", f"{spec.memory >> 20}M",
        "-object", ram,
    )  # fmt: skip


def protection(spec: VmSpec) -> tuple[str, ...]:
    """The sev-snp-guest object. ``reduced-phys-bits`` is the guest's one bit, never the host's CPUID value."""
    if spec.snp is None:
        return ()
    identity: dict[str, object] = {}
    files = spec.snp.id_block
    if files is not None:
        identity = {
            "id_block": b64encode(files.block).decode("ascii"),
            "id_auth": b64encode(files.auth).decode("ascii"),
        }
        if files.author:
            identity["author_key_enabled"] = True
    guest = json_value(
        qom_type="sev-snp-guest", id="cgs0", cbitpos=spec.snp.c_bit, reduced_phys_bits=1, policy=spec.snp.policy,
        kernel_hashes=spec.kernel is not None, host_data=b64encode(spec.snp.host_data).decode("ascii"), **identity,
    )  # fmt: skip
    return ("-object", guest)


def boot(spec: VmSpec) -> tuple[str, ...]:
    """Firmware, kernel, initrd, command line; for the emulated platform also the boot hash table."""
    options: list[str] = []
    if spec.firmware is not None:
        options += ["-bios", spec.firmware]
    if spec.kernel is not None:
        options += ["-kernel", spec.kernel]
        if spec.initrd is not None:
            options += ["-initrd", spec.initrd]
        options += ["-append", spec.cmdline or ""]
    if spec.hash_table_gpa is not None:
        options += ["-device", f"loader,file={HASH_TABLE},addr={spec.hash_table_gpa:#x},force-raw=on"]
    return tuple(options)


def monitor(spec: VmSpec) -> tuple[str, ...]:
    """QMP on a socket in the state folder. QEMU 11.1 has an object for it and deprecates ``-mon``."""
    chardev = ("-chardev", f"socket,id=qmp0,path={QMP_SOCKET},server=on,wait=off")
    if spec.qemu >= (11, 1):
        return (*chardev, "-object", json_value(qom_type="monitor-qmp", id="mon0", chardev="qmp0"))
    return (*chardev, "-mon", "chardev=qmp0,mode=control")


def safety(spec: VmSpec) -> tuple[str, ...]:
    """A reboot ends the process, because every launch must be seen by whoever counts key releases; seccomp; and QEMU
    ends with the launcher that started it (10.2 and later do it themselves, the launcher does it for all).
    """
    options = [
        "-action", "reboot=shutdown,shutdown=poweroff,panic=exit-failure",
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    ]  # fmt: skip
    if spec.qemu >= (10, 2):
        options += ["-run-with", "exit-with-parent=on"]
    return tuple(options)

"""Machine, memory, memory protection, boot, monitor and the options that keep QEMU itself in bounds."""

from __future__ import annotations

from launcher.core.argv.memory import memory, memory_features
from launcher.core.argv.words import base64_text, json_value, word
from launcher.core.names import HASH_TABLE, INIT_DATA, INIT_DATA_ITEM, QMP_SOCKET
from launcher.core.qemu_features import MONITOR_OBJECT
from launcher.core.spec import SnpLaunch, VmSpec
from launcher.core.vm import TdxSettings, td_attributes
from policy.vocab import Platform


def identity(spec: VmSpec) -> tuple[str, ...]:
    """Name, and nothing that was not asked for."""
    return ("-name", f"guest={word(spec.name)},debug-threads=on", "-nodefaults", "-no-user-config", "-display", "none")


def machine(spec: VmSpec) -> tuple[str, ...]:
    """Machine type, processor and memory. The memory object is the shared half; QEMU adds the private one itself."""
    protected = spec.snp is not None or spec.tdx is not None
    features = [
        spec.machine_type,
        f"accel={spec.accel}",
        *(("kernel-irqchip=split",) if protected else ()),
        *(("pic=off",) if spec.tdx is not None else ()),
        "smm=off", "vmport=off", "hpet=off", "usb=off", "sata=off", "smbus=off", "graphics=off",
        "dump-guest-core=off", *memory_features(spec),
        *(() if spec.bus_locks is None else (f"bus-lock-ratelimit={spec.bus_locks}",)),
    ]  # fmt: skip
    cores = spec.vcpus // (spec.sockets * spec.threads)
    return (
        "-machine", ",".join(features),
        "-cpu", cpu(spec),
        "-smp", f"{spec.vcpus},sockets={spec.sockets},cores={cores},threads={spec.threads}",
        *memory(spec),
    )  # fmt: skip


def cpu(spec: VmSpec) -> str:
    """The model; an emulated TD gets the address space from which OVMF places devices as in a TD."""
    wide = ("phys-bits=46",) if spec.platform is Platform.EMULATED_TDX else ()
    chosen = (f"{item[1:]}={'on' if item[0] == '+' else 'off'}" for item in spec.features)
    return ",".join((spec.cpu_model, *wide, *chosen))


def protection(spec: VmSpec) -> tuple[str, ...]:
    """The object that protects memory: sev-snp-guest or tdx-guest."""
    if spec.snp is not None:
        return ("-object", _snp_guest(spec.snp, kernel_hashes=spec.kernel is not None))
    if spec.tdx is not None:
        return ("-object", _tdx_guest(spec.tdx))
    return ()


def _snp_guest(snp: SnpLaunch, *, kernel_hashes: bool) -> str:
    """``reduced-phys-bits`` is the guest's one bit, never the host's CPUID value."""
    identity: dict[str, object] = {}
    files = snp.id_block
    if files is not None:
        identity = {"id_block": base64_text(files.block), "id_auth": base64_text(files.auth)}
        if files.author:
            identity["author_key_enabled"] = True
    if snp.vcek_disabled:
        identity["vcek_disabled"] = True
    return json_value(
        qom_type="sev-snp-guest", id="cgs0", cbitpos=snp.c_bit, reduced_phys_bits=1, policy=snp.policy,
        kernel_hashes=kernel_hashes, host_data=base64_text(snp.host_data), **identity,
    )  # fmt: skip


def _tdx_guest(tdx: TdxSettings) -> str:
    """All attributes in one number. QEMU itself, on the host, opens the quote service's socket; numbers in a vsock
    address are strings (QAPI ``VsockSocketAddress``).
    """
    quotes = {} if tdx.quote_socket is None else {"quote_generation_socket": _address(tdx.quote_socket)}
    return json_value(
        qom_type="tdx-guest", id="cgs0", attributes=td_attributes(tdx), mrconfigid=base64_text(tdx.mrconfigid),
        mrowner=base64_text(tdx.mrowner), mrownerconfig=base64_text(tdx.mrownerconfig), **quotes,
    )  # fmt: skip


def _address(text: str) -> dict[str, str]:
    kind, _, rest = text.partition(":")
    if kind == "unix":
        return {"type": "unix", "path": rest}
    cid, _, port = rest.partition(":")
    return {"type": "vsock", "cid": cid, "port": port}


def boot(spec: VmSpec) -> tuple[str, ...]:
    """Firmware, kernel, initrd, command line; for the emulated platform also the boot hash table. Init-data is an item
    of the firmware's configuration: nothing measures it, and it is the same after a reset.
    """
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
    if spec.has_init_data:
        options += ["-fw_cfg", f"name={INIT_DATA_ITEM},file={INIT_DATA}"]
    return tuple(options)


def monitor(spec: VmSpec) -> tuple[str, ...]:
    """QMP on a socket in the state folder. A QEMU that has an object for it deprecates ``-mon``."""
    chardev = ("-chardev", f"socket,id=qmp0,path={QMP_SOCKET},server=on,wait=off")
    if spec.qemu.has(MONITOR_OBJECT):
        return (*chardev, "-object", json_value(qom_type="monitor-qmp", id="mon0", chardev="qmp0"))
    return (*chardev, "-mon", "chardev=qmp0,mode=control")


def safety(spec: VmSpec) -> tuple[str, ...]:
    """A reboot ends the process, or with ``in_place`` halts it until the launcher has it reset, because every launch
    must be seen by whoever counts key releases; and seccomp. Not QEMU's ``exit-with-parent``: it replaces the SIGKILL
    that the launcher asks the kernel for by SIGTERM, which a QEMU that hangs, or has no handler yet, survives.
    """
    end = "pause" if spec.in_place else "poweroff"
    options = [
        "-action", f"reboot=shutdown,shutdown={end},panic=exit-failure",
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    ]  # fmt: skip
    if spec.incoming:
        options += ["-incoming", "defer"]
    return tuple(options)

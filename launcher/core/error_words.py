"""What QEMU, KVM and firmware say when something does not work, and what it means.

Each entry has a stable id, the cause in one sentence and the next thing to try. Texts are those of QEMU 9.1 to 11.1 and
Linux 6.11 to 7.1; where they differ by version, both are listed. Nothing is guessed: an unknown text stays unexplained.
"""

from __future__ import annotations

import re

from launcher.core.firmware_codes import FIRMWARE_CODES
from policy.named import NamedTuple

MAX_TEXT = 64 * 1024
_FIRMWARE = re.compile(r"fw_error=(0x[0-9a-fA-F]{1,8}|\d{1,10})")
_KERNEL = re.compile(r"ret=(-\d{1,5})\s+fw_error=0\b")


class Explanation(NamedTuple):
    """``id`` is stable; ``text`` is the part of the message it belongs to."""

    id: str
    text: str
    cause: str
    remedy: str


class _Known(NamedTuple):
    id: str
    pattern: str
    cause: str
    remedy: str


_SNP_OFF = "switch on SEV-SNP in the BIOS, boot Linux 6.11 or newer without iommu=pt: cvm doctor says what is missing"
_TDX_OFF = "switch on TDX in the BIOS, boot Linux 6.16 or newer with kvm_intel.tdx=1 nohibernate: cvm doctor"
_BINARY = "cvm image toolchain brings one, or install qemu-system-x86"
_KNOWN = (
    _Known("kvm.no-snp", r"vm-type SEV-SNP not supported by KVM", "KVM here cannot run SEV-SNP guests", _SNP_OFF),
    _Known("kvm.no-tdx", r"vm-type TDX not supported by KVM", "this host's KVM cannot run TDX guests", _TDX_OFF),
    _Known("kvm.no-type", r"vm-type SEV(-ES)? not supported by KVM|does not support requested KVM_X86_SEV\w* VM type",
           "KVM here cannot run such guests", "switch on SEV in the BIOS; Linux 6.10 or newer"),
    _Known("kvm.required", r"cannot set up private guest memory for [\w-]+: KVM required|accelerator does not support "
           r"confidential guest", "a TEE needs KVM, and QEMU was started without it",
           'leave accel at "auto", or use an emulated platform'),
    _Known("kvm.absent", r"Could not access KVM kernel module|failed to initialize kvm: No such file",
           "there is no usable /dev/kvm", "load kvm_amd or kvm_intel; add yourself to the group kvm"),
    _Known("kvm.permission", r"Could not access KVM kernel module: Permission denied", "/dev/kvm is not yours to open",
           "add yourself to the group kvm"),
    _Known("kvm.c-bit", r"cbitpos check failed, host '\d+' requested '\d+'",
           "the C-bit position is not that of this processor", "leave it to cvm, which reads it from the host"),
    _Known("kvm.reduced-bits", r"reduced_phys_bits check failed|'reduced-phys-bits' is missing",
           "reduced-phys-bits must be 1", "use the command line of cvm plan"),
    _Known("kvm.policy", r"KVM_SEV_INIT2.*(EBUSY|Device or resource busy)", "all key slots of this host are in use",
           "stop a protected VM, or give more ASIDs in the BIOS"),
    _Known("kvm.tdx-abi", r"KVM_TDX_CAPABILITIES failed", "QEMU and the kernel speak different TDX interfaces",
           "use upstream Linux 6.16 or newer with upstream QEMU 10.1 or newer"),
    _Known("kvm.tdx-exit", r"unknown exit, hardware reason e0000091", "the TDX module is too old for this kernel",
           "update the BIOS or the TDX module"),
    _Known("kvm.phys-bits", r"TDX requires guest CPU physical bits", "host-phys-bits-limit does not fit a TD",
           "remove it: a TD has the host's physical bits"),
    _Known("kvm.tdx-cpu", r"Named cpu model is not supported for TDX", "a TD runs on the host's processor model only",
           'set cpu.model = "host"'),
    _Known("kvm.tdx-irqchip", r"TDX VM requires kernel_irqchip to be split", "a TD needs a split interrupt controller",
           "as cvm plan does"),
    _Known("kvm.tdx-pic", r"TDX VM doesn't support PIC", "a TD has no legacy interrupt controller",
           "use the command line of cvm plan"),
    _Known("kvm.tdx-attributes", r"Some QEMU unsupported TD attribute bits", "QEMU refuses a TD attribute (DEBUG, say)",
           "remove it from [tdx]"),
    _Known("kvm.memlock", r"total pages would exceed the lock limit", "SEV and SEV-ES pin all guest memory",
           "raise RLIMIT_MEMLOCK above the guest's memory"),
    _Known("sev.device", r"(Could not|Failed to) open '?/dev/sev", "QEMU cannot talk to the AMD firmware",
           "modprobe ccp; setfacl -m u:$USER:rw /dev/sev"),
    _Known("sev.no-smm", r"SEV-SNP does not support SMM", "system management mode and SNP exclude each other",
           "use the command line of cvm plan (smm=off)"),
    _Known("sev.no-hash-area", r"guest firmware hashes table area is invalid|sev_snp->kernel_hashes_data",
           "this firmware has no place for the kernel's hashes", 'use OVMF.amdsev.fd: firmware = "auto" finds it'),
    _Known("sev.pflash", r"SEV information block/Firmware GUID Table block not found|failed to encrypt pflash rom",
           "the firmware has no SEV metadata, or was given as a flash device",
           'use OVMF.amdsev.fd through -bios: firmware = "auto"'),
    _Known("sev.launch-measure", r"SEV launch measurement is not available",
           "QEMU gives no measurement for SNP; the guest's report does", "cvm measure computes it before the launch"),
    _Known("qemu.host-data", r"parameter length of \d+ not equal to 32", "host-data must have 32 bytes",
           "[snp] host_data: 64 hexadecimal digits"),
    _Known("qemu.id-block", r"parameter length of \d+ not equal to 96", "an ID block has 96 bytes",
           "cvm idblock create makes one"),
    _Known("qemu.base64", r"Base64 data contains invalid characters", "a value is not base64",
           "TDX and SNP values of QEMU are base64, not hexadecimal; cvm encodes them itself"),
    _Known("qemu.no-object", r"'qom-type' does not accept value '(tdx-guest|sev-snp-guest)'",
           "this QEMU does not know the TEE", f"SNP needs QEMU 9.1, TDX 10.1: {_BINARY}"),
    _Known("qemu.no-igvm", r"'qom-type' does not accept value 'igvm-cfg'", "this QEMU was built without IGVM",
           "boot with firmware instead; Debian's QEMU has no libigvm"),
    _Known("qemu.tdx-unattached", r"is not an instance of type kvm-accel",
           "a tdx-guest object was made without KVM; QEMU aborts on that", "attach it to the machine, under KVM"),
    _Known("qemu.certs-path", r"Invalid parameter 'certs-path'", "upstream QEMU cannot hand certificates to a guest",
           "the verifier fetches the VCEK instead: attest collateral fetch"),
    _Known("qemu.flat-socket", r"Invalid parameter 'quote-generation-socket\.", "nested values need JSON",
           "give -object as JSON, as cvm plan does"),
    _Known("qemu.no-debug", r"Parameter 'debug' is unexpected", "tdx-guest has no debug property",
           "a debuggable TD is not launched"),
    _Known("qemu.no-link", r"Device '[\w-]+' not found", "the machine names an object that is not there",
           "use the command line of cvm plan"),
    _Known("memory.hugepages", r"unable to map backing store for guest RAM: Cannot allocate memory",
           "not enough huge pages are reserved", "sysctl vm.nr_hugepages, or no huge pages"),
    _Known("memory.short", r"cannot set up guest memory '[^']*': Cannot allocate memory", "the host lacks memory",
           "stop something, or choose a smaller VM"),
    _Known("vfio.legacy", r"cannot set up private guest memory: discard currently blocked",
           "a device was assigned the old way before the private memory existed", "assign devices through iommufd"),
    _Known("vfio.no-iommufd", r"/dev/iommu does not exist", "this kernel has no iommufd",
           "a kernel with CONFIG_IOMMUFD; Debian's has none"),
    _Known("vfio.no-device", r"no such host device", "there is no such PCI device", "lspci -D lists the addresses"),
    _Known("vfio.no-space", r"VFIO_MAP_DMA failed: No space left on device",
           "page by page conversion uses up the mapping entries", "use iommufd, or raise dma_entry_limit"),
    _Known("vfio.busy", r"Cannot set discarding of RAM broken: Device or resource busy",
           "QEMU 9.1 cannot assign devices to SNP guests", "use QEMU 9.2 or newer"),
    _Known("vsock.absent", r"Could not open '/dev/vhost-vsock'", "this host offers no vsock to guests",
           "modprobe vhost_vsock"),
    _Known("vsock.cid-taken", r"unable to set guest cid: Address already in use", "another VM has this CID",
           'leave cid at "auto"'),
    _Known("disk.locked", r"Failed to get (shared )?\"?(write|consistent read)\"? lock",
           "another process has the disk image open", "cvm ps; two VMs must not share a writable disk"),
    _Known("disk.absent", r"Could not open '[^']*': No such file or directory", "a file of the VM is missing",
           "check the paths in the VM's file"),
    _Known("boot.absent", r"could not (open|load) (kernel|initrd)", "the kernel or initrd cannot be read",
           "check the paths in [boot]"),
    _Known("boot.no-kernel", r"linux kernel too old to load a ram disk|invalid kernel header|"
           r"Error loading uncompressed kernel without PVH",
           "the file in [boot] kernel is no kernel that QEMU can boot", "a bzImage, or a vmlinux with a PVH entry"),
    _Known("boot.no-root", r"VFS: Unable to mount root fs|No working init found",
           "the kernel found neither a usable initrd nor the root file system its command line names",
           "check [boot] initrd, and root= in cmdline"),
    _Known("qemu.cpu-model", r"unable to find CPU model", "this QEMU knows no such CPU model",
           '[cpu] model: qemu-system-x86_64 -cpu help lists them; an ordinary VM may have "max" or "host"'),
    _Known("net.port-taken", r"Could not set up host forwarding rule", "the host's port is in use",
           "choose another one in forward"),
    _Known("firmware.unsigned", r"Secure boot image verification failed",
           "this firmware enforces Secure Boot and the kernel is not signed",
           "use a firmware without enrolled keys, a signed kernel, or a UKI"),
    _Known("firmware.nothing-to-boot", r"No bootable option was found",
           "OVMF.amdsev boots only what its hash table covers", "boot a kernel directly, with kernel hashes"),
    _Known("guest.virtio", r"device uses modern interface but does not have VIRTIO_F_VERSION_1",
           "a virtio device lacks what a protected guest demands", "use the command line of cvm plan"),
    _Known("guest.swiotlb", r"swiotlb buffer is full", "the guest's bounce buffers are too small",
           "a larger [guest] swiotlb; it is measured"),
    _Known("kvm.bus-locks", r"bus lock detection unsupported", "this host's processor or KVM cannot count bus locks",
           "leave bus_locks out of [limits]"),
    _Known("quote.failed", r"0xb033|no platform quote config|[Ff]ailed to get the quote",
           "no quote: the quoting service is not running, or the platform is not registered",
           "start qgsd; register the platform with its PCCS; check quote_socket in [tdx]"),
    _Known("tdx.fatal", r"TDX guest reports fatal error", "the guest's firmware or kernel gave up",
           "its message follows; cvm logs shows the rest"),
)  # fmt: skip


def explain(text: str) -> tuple[Explanation, ...]:
    """Every known error in ``text`` (its first 64 KiB), in the order in which they stand there."""
    text = text[:MAX_TEXT]
    found = [(match.start(), _firmware(match)) for match in _FIRMWARE.finditer(text)]
    found += [(match.start(), _kernel(match)) for match in _KERNEL.finditer(text)]
    for known in _KNOWN:
        match = re.search(known.pattern, text)
        if match is not None:
            found.append((match.start(), Explanation(known.id, match[0], known.cause, known.remedy)))
    found.sort(key=lambda item: item[0])
    return tuple(dict.fromkeys(item for _, item in found if item is not None))


def explain_code(code: int) -> Explanation:
    """What the AMD firmware means by a status code."""
    known = FIRMWARE_CODES.get(code)
    if known is None:
        return Explanation(
            "firmware.unknown", f"fw_error={code:#x}", "a status code this release does not know",
            "AMD's firmware specification (56860) lists them",
        )  # fmt: skip
    return Explanation(
        f"firmware.{known.name.lower().replace('_', '-')}", f"fw_error={code:#x}", known.cause, known.remedy
    )


def _firmware(match: re.Match[str]) -> Explanation | None:
    code = int(match[1], 0)
    return explain_code(code) if code else None


def _kernel(match: re.Match[str]) -> Explanation:
    """``fw_error=0`` with a negative return: the kernel refused before the firmware was asked."""
    causes = {
        -22: ("the kernel refused an argument", "firmware through -bios, not flash; QEMU and kernel that match"),
        -25: ("the kernel does not know the request", "QEMU 9.1 or newer with Linux 6.11 or newer"),
        -16: ("the platform is busy, or all key slots are in use", "stop a protected VM"),
        -5: ("the firmware could not be reached", "dmesg | grep -i -e ccp -e sev"),
    }  # fmt: skip
    cause, remedy = causes.get(int(match[1]), ("the kernel refused", "dmesg | grep -i -e kvm -e sev says more"))
    return Explanation("kernel.refused", match[0], cause, remedy)

"""Status codes of the AMD secure processor, as QEMU prints them (``fw_error=7``).

QEMU names those up to 0x18 and prints nothing for the rest. Sources: Linux ``include/uapi/linux/psp-sev.h``; AMD, *SEV
Secure Nested Paging Firmware ABI Specification* (56860), table "Status Codes".
"""

from __future__ import annotations

from policy.named import NamedTuple


class FirmwareCode(NamedTuple):
    """One status: the header's name, what it means, what to do about it."""

    name: str
    cause: str
    remedy: str


_RESET = "reload kvm_amd and ccp, or reboot the host"
_BUG = "a defect of QEMU, KVM or the firmware: update them, then report it with this code"
_UPDATE = "update the BIOS or the SEV firmware (amd_sev_*.sbin), then cvm doctor"

FIRMWARE_CODES: dict[int, FirmwareCode] = {
    0x00: FirmwareCode("SUCCESS", "the firmware did not refuse; the kernel did", "see the ret= value before it"),
    0x01: FirmwareCode("INVALID_PLATFORM_STATE", "the platform is not initialised, or is in another mode", _RESET),
    0x02: FirmwareCode("INVALID_GUEST_STATE", "the guest context is not in the state this command needs", _BUG),
    0x03: FirmwareCode("INVALID_CONFIG", "the platform's configuration does not allow it", "check the BIOS settings"),
    0x04: FirmwareCode("INVALID_LENGTH", "a buffer is too small", _BUG),
    0x05: FirmwareCode("ALREADY_OWNED", "the platform is owned by somebody else", "reset it with sevctl reset"),
    0x06: FirmwareCode("INVALID_CERTIFICATE", "a certificate is malformed", "provision the platform's keys again"),
    0x07: FirmwareCode(
        "POLICY_FAILURE", "the guest policy is not allowed on this machine",
        "bit 17 must be set; SMT must be allowed where the host has it on; the minimum ABI must not exceed the "
        "firmware's; see [snp] and cvm doctor",
    ),
    0x08: FirmwareCode("INACTIVE", "the guest is not active", _BUG),
    0x09: FirmwareCode("INVALID_ADDRESS", "an address is not allowed", "check the firmware image and the memory size"),
    0x0A: FirmwareCode(
        "BAD_SIGNATURE", "a signature does not verify: ID block, author key or a firmware image",
        "cvm idblock verify; the key in the ID authentication must have signed this very ID block",
    ),
    0x0B: FirmwareCode(
        "BAD_MEASUREMENT", "what was launched does not have the digest the ID block names",
        "cvm idblock digest and cvm measure must agree: same firmware, vCPUs, kernel, initrd, command line",
    ),
    0x0C: FirmwareCode("ASID_OWNED", "the key slot is in use", "stop a protected VM"),
    0x0D: FirmwareCode("INVALID_ASID", "no such key slot for this kind of guest", "give SNP ASIDs in the BIOS"),
    0x0E: FirmwareCode("WBINVD_REQUIRED", "caches have to be flushed first", _BUG),
    0x0F: FirmwareCode("DF_FLUSH_REQUIRED", "the data fabric has to be flushed before a key slot is used again", _BUG),
    0x10: FirmwareCode("INVALID_GUEST", "no such guest context", _BUG),
    0x11: FirmwareCode("INVALID_COMMAND", "the firmware does not know this command", _UPDATE),
    0x12: FirmwareCode("ACTIVE", "the guest is active already", _BUG),
    0x13: FirmwareCode("HWERROR_PLATFORM", "a hardware failure; the platform stopped", "power-cycle the host"),
    0x14: FirmwareCode("HWERROR_UNSAFE", "a hardware failure; running guests are not safe", "power-cycle the host"),
    0x15: FirmwareCode("UNSUPPORTED", "this machine does not support the feature", _UPDATE),
    0x16: FirmwareCode("INVALID_PARAM", "a parameter is wrong", "compare the VM's [snp] settings with cvm plan"),
    0x17: FirmwareCode("RESOURCE_LIMIT", "the firmware is out of resources", "stop a protected VM"),
    0x18: FirmwareCode("SECURE_DATA_INVALID", "the firmware's persistent data failed its check", _UPDATE),
    0x19: FirmwareCode("INVALID_PAGE_SIZE", "a page has the wrong size in the RMP", _BUG),
    0x1A: FirmwareCode("INVALID_PAGE_STATE", "a page is in the wrong state in the RMP", _RESET),
    0x1B: FirmwareCode("INVALID_MDATA_ENTRY", "a metadata entry of a swapped page is wrong", _BUG),
    0x1C: FirmwareCode("INVALID_PAGE_OWNER", "a page belongs to another guest", _BUG),
    0x1D: FirmwareCode("AEAD_OVERFLOW", "a message counter is exhausted", "restart the guest"),
    0x1F: FirmwareCode("RING_BUFFER_EXITED", "the ring-buffer mode was left", _RESET),
    0x20: FirmwareCode(
        "RMP_INIT_REQUIRED", "the RMP was not set up when the firmware started",
        "load ccp after the RMP exists: switch on SNP memory coverage in the BIOS, boot without iommu=pt",
    ),
    0x21: FirmwareCode("BAD_SVN", "the image's security version is older than what is committed", "use a newer image"),
    0x22: FirmwareCode("BAD_VERSION", "the image's version is older than what is committed", "use a newer image"),
    0x23: FirmwareCode("SHUTDOWN_REQUIRED", "the platform must be shut down first", _RESET),
    0x24: FirmwareCode("UPDATE_FAILED", "the firmware update failed", "keep the old image; see dmesg | grep ccp"),
    0x25: FirmwareCode("RESTORE_REQUIRED", "the update must be rolled back before anything else", _RESET),
    0x26: FirmwareCode(
        "RMP_INITIALIZATION_FAILED", "the RMP could not be initialised",
        "check that the BIOS reserved memory for it: dmesg | grep RMP",
    ),
    0x27: FirmwareCode("INVALID_KEY", "the key that was chosen is not available", "check vcek_disabled and the VLEK"),
    0x28: FirmwareCode("SHUTDOWN_INCOMPLETE", "an earlier shutdown did not finish", "power-cycle the host"),
}  # fmt: skip

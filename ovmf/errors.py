"""What this package refuses, and why. Imported on the start-up path: nothing but the root errors."""

from __future__ import annotations

from policy.errors import CvmError, MalformedInput, UnsupportedInput


class OvmfError(CvmError):
    """A launch digest cannot be computed."""

    code = "firmware.error"


class FirmwareMalformed(OvmfError, MalformedInput):
    """The firmware image (or its part in a recipe) has no valid footer table, metadata or size."""

    code = "firmware.malformed"


class HashTableMalformed(OvmfError, MalformedInput):
    """Bytes that are not the boot hash table QEMU writes."""

    code = "hash-table.malformed"


class LaunchInvalid(OvmfError, MalformedInput):
    """A launch parameter is out of range: vCPU count, signature, features, kind of VMM, hash length."""

    code = "launch.invalid"


class KernelNotMeasurable(OvmfError):
    """A kernel was given but this firmware has no place for its hash: such a VM can never start."""

    code = "firmware.no-kernel-hashes"


class UnknownCpuModel(OvmfError):
    """A CPU model name without a known CPUID signature."""

    code = "cpu.unknown"


class IdBlockMalformed(OvmfError, MalformedInput):
    """Bytes that are no ID block, ID authentication or public key of the SEV firmware."""

    code = "id-block.malformed"


class IdBlockInvalid(OvmfError):
    """An ID block whose signature, or launch digest, is not the expected one: the chip would refuse the launch."""

    code = "id-block.invalid"


class KeyUnusable(OvmfError):
    """A key file that holds no P-384 key this project can use."""

    code = "id-block.key"


class IgvmMalformed(OvmfError, MalformedInput):
    """Bytes that are no IGVM file, or one that contradicts itself."""

    code = "igvm.malformed"


class IgvmUnsupported(IgvmMalformed, UnsupportedInput):
    """An IGVM file of a version, page size or platform that is not measured here."""

    code = "igvm.unsupported"


class PeMalformed(OvmfError, MalformedInput):
    """Bytes that are no PE image, or one whose Authenticode digest is ambiguous."""

    code = "pe.malformed"


class VariablesMalformed(OvmfError, MalformedInput):
    """A firmware variable store that contradicts itself."""

    code = "variables.malformed"


class SmbiosMalformed(OvmfError, MalformedInput):
    """Bytes that are no SMBIOS structure table."""

    code = "smbios.malformed"


class AcpiMalformed(OvmfError, MalformedInput):
    """QEMU's ACPI table loader is not one, or names blobs that were not given."""

    code = "acpi.malformed"


class DiskMalformed(OvmfError, MalformedInput):
    """A disk image without a readable partition table, or a FAT file system that contradicts itself."""

    code = "disk.malformed"

"""What this package refuses, and why. Imported on the start-up path: nothing but the root errors."""

from __future__ import annotations

from policy.errors import CvmError, MalformedInput


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

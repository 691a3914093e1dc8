"""From named inputs to a launch digest: read and hash the files, then let `ovmf` do the arithmetic.

The threads that hash kernel and initrd start before anything else is imported; the firmware's pages are hashed
meanwhile. On the start-up path of ``cvm measure``.
"""

from __future__ import annotations

from launcher.core.measurement import MeasureInputs
from launcher.io.hashing import HashJob, read_file
from policy.errors import CvmError, UnsupportedInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ovmf.firmware import Firmware
    from ovmf.kernel_hashes import KernelHashes
    from policy.fixed import LaunchDigest
    from policy.reference import LaunchRecipe


class MeasurementImpossible(CvmError):
    """The platform has no launch digest, or the inputs contradict each other."""

    code = "measure.impossible"


class Measured:
    """A launch digest with the inputs it follows from. Digests are raw bytes."""

    __slots__ = ("firmware", "hashes", "inputs", "launch_digest", "vcpu_sig")

    def __init__(self, inputs: MeasureInputs, firmware: Firmware, hashes: KernelHashes | None, vcpu_sig: int) -> None:
        from ovmf.snp_launch import snp_launch_digest

        self.inputs = inputs
        self.firmware = firmware
        self.hashes = hashes
        self.vcpu_sig = vcpu_sig
        self.launch_digest: LaunchDigest = snp_launch_digest(
            firmware,
            vcpus=inputs.vcpus,
            vcpu_sig=vcpu_sig,
            guest_features=inputs.guest_features,
            hashes=hashes,
            vmm=inputs.vmm,
        )

    def files(self) -> list[tuple[str, str, str]]:
        """(name, path or text as the operator wrote it, SHA-256 in hex) of everything measured."""
        return [("firmware", printable(self.inputs.firmware), self.firmware.sha256.hex()), *self.boot_files()]

    def boot_files(self) -> list[tuple[str, str, str]]:
        """The same without the firmware; empty when no kernel is measured."""
        if self.hashes is None:
            return []
        return [
            ("kernel", printable(self.inputs.kernel or ""), self.hashes.kernel_sha256.hex()),
            ("initrd", printable(self.inputs.initrd or ""), self.hashes.initrd_sha256.hex()),
            ("cmdline", printable(self.inputs.cmdline or ""), self.hashes.cmdline_sha256.hex()),
        ]

    def recipe(self) -> LaunchRecipe:
        """The recipe for a reference-value file."""
        from ovmf.snp_launch import recipe
        from policy.reference import MeasuredInput

        return recipe(
            self.firmware,
            vcpus=self.inputs.vcpus,
            vcpu_sig=self.vcpu_sig,
            guest_features=self.inputs.guest_features,
            hashes=self.hashes,
            vmm=self.inputs.vmm,
            inputs=[MeasuredInput(*item) for item in self.files()],
        )


def measure(inputs: MeasureInputs) -> Measured:
    """Read the files and compute. Raises :class:`MeasurementImpossible`, `launcher.io.hashing.FileUnreadable` and
    `ovmf.errors.OvmfError`."""
    _check(inputs)
    initrd = HashJob(inputs.initrd, "initrd") if inputs.initrd is not None else None  # the longest job first
    kernel = HashJob(inputs.kernel, "kernel") if inputs.kernel is not None else None

    from ovmf.firmware import MAX_FIRMWARE, Firmware
    from ovmf.vcpu import vcpu_signature

    vcpu_sig = inputs.vcpu_sig if inputs.vcpu_sig is not None else vcpu_signature(inputs.cpu_model or "")
    firmware = Firmware.from_bytes(read_file(inputs.firmware, "firmware", MAX_FIRMWARE))
    return Measured(inputs, firmware, boot_hashes(kernel, initrd, inputs.cmdline), vcpu_sig)


def boot_hashes(kernel: HashJob | None, initrd: HashJob | None, cmdline: str | None) -> KernelHashes | None:
    """The three boot hashes, once their files are read; ``None`` without a kernel."""
    if kernel is None:
        return None
    from ovmf.kernel_hashes import NO_INITRD, KernelHashes

    command_line = cmdline_digest(cmdline or "")
    return KernelHashes(kernel.digest(), NO_INITRD if initrd is None else initrd.digest(), command_line)


def cmdline_digest(cmdline: str) -> bytes:
    """The measured hash of a command line, its bytes being those the operator typed."""
    from os import fsencode

    from ovmf.kernel_hashes import cmdline_hash

    return cmdline_hash(fsencode(cmdline))


def firmware_recipe(recipe: LaunchRecipe, path: str) -> LaunchRecipe:
    """``recipe`` as it would be with another firmware image."""
    from ovmf.firmware import MAX_FIRMWARE, Firmware
    from policy.reference import MeasuredInput, Section

    firmware = Firmware.from_bytes(read_file(path, "firmware", MAX_FIRMWARE))
    return recipe._replace(
        firmware_sha256=firmware.sha256,
        firmware_ld=firmware.ld,
        sections=tuple(Section(*section) for section in firmware.layout.sections),
        hash_table_gpa=firmware.layout.hash_table_gpa,
        ap_eip=firmware.layout.ap_eip,
        inputs=(MeasuredInput("firmware", printable(path), firmware.sha256.hex()),),
    )


def _check(inputs: MeasureInputs) -> None:
    if inputs.platform in ("tdx", "emulated-tdx"):
        raise UnsupportedInput(
            f"platform {inputs.platform}: a TD has MRTD and RTMRs, no such launch digest", code="measure.unsupported"
        )
    if inputs.platform not in ("sev-snp", "emulated-snp"):
        raise MeasurementImpossible(
            f"platform {inputs.platform}: nothing measures this VM, so it has no launch digest",
            hint="measure it as sev-snp or emulated-snp",
        )
    if inputs.kernel is None and (inputs.initrd is not None or inputs.cmdline is not None):
        raise MeasurementImpossible("an initrd or command line is measured only together with a kernel")
    if inputs.vcpu_sig is None and inputs.cpu_model is None:
        raise MeasurementImpossible("neither a CPU model nor a CPUID signature is given")


def printable(text: str) -> str:
    """``text`` as it can stand in a report: characters that do not print are written as escapes."""
    return text if text.isprintable() else text.encode("unicode_escape", "surrogatepass").decode("ascii")

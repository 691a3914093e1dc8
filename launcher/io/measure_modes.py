"""Launches other than plain SEV-SNP with OVMF: read the files, let `ovmf` do the arithmetic."""

from __future__ import annotations

import os
from hashlib import sha256

from launcher.core.measurement import MeasureInputs
from launcher.io.hashing import FileUnreadable, HashJob, read_file
from launcher.io.measurement import MeasurementImpossible, boot_hashes, printable
from ovmf.firmware import MAX_FIRMWARE
from ovmf.igvm import MAX_IGVM, Context, IgvmFile, parse_igvm
from ovmf.igvm_launch import check_id_block, igvm_launch_digest, kvm_problems
from ovmf.kernel_hashes import KernelHashes
from ovmf.sev_key import key_digest
from ovmf.sev_launch import sev_es_launch_digest, sev_launch_digest
from ovmf.svsm import place, svsm_launch_digest, svsm_vmsa_page
from ovmf.vcpu import vcpu_signature
from policy.named import NamedTuple


class Special(NamedTuple):
    """One measured launch: ``digest`` is 48 bytes for SEV-SNP, 32 for SEV and SEV-ES; ``inputs`` are (name, path,
    SHA-256 hex); ``facts`` are (name, text) for people; ``vmsa_pages`` the distinct VMSA pages, boot processor
    first."""

    mode: str
    platform: str
    digest: bytes
    inputs: tuple[tuple[str, str, str], ...]
    facts: tuple[tuple[str, str], ...] = ()
    vmsa_pages: tuple[bytes, ...] = ()


def measure_sev(inputs: MeasureInputs) -> Special:
    """SEV: firmware and boot hashes. Raises `launcher.io.hashing.FileUnreadable` and `ovmf.errors.OvmfError`."""
    firmware, hashes = _read(inputs)
    return Special("sev", "sev", sev_launch_digest(firmware, hashes), _files(inputs, firmware, hashes))


def measure_sev_es(inputs: MeasureInputs) -> Special:
    """SEV-ES: the same and one VMSA per vCPU."""
    firmware, hashes = _read(inputs)
    digest = sev_es_launch_digest(
        firmware,
        vcpus=inputs.vcpus,
        vcpu_sig=_signature(inputs),
        hashes=hashes,
        vmm=inputs.vmm,
        guest_features=inputs.guest_features,
    )
    return Special("sev-es", "sev-es", digest, _files(inputs, firmware, hashes))


def measure_svsm(inputs: MeasureInputs, svsm_path: str, variable_store_size: int) -> Special:
    """SEV-SNP that starts in an SVSM. A kernel would not be measured, so it is refused."""
    if inputs.kernel is not None or inputs.vmm != "qemu" or inputs.guest_features not in (0, 1):
        raise MeasurementImpossible("SVSM: no kernel is measured, the monitor is QEMU and guest features are 0x1")
    firmware = read_file(inputs.firmware, "firmware", MAX_FIRMWARE)
    svsm = read_file(svsm_path, "svsm", MAX_FIRMWARE)
    signature = _signature(inputs)
    digest = svsm_launch_digest(
        firmware, svsm, variable_store_size=variable_store_size, vcpus=inputs.vcpus, vcpu_sig=signature
    )
    placed = place(firmware, svsm, variable_store_size)
    files = (*_files(inputs, firmware, None), ("svsm", printable(svsm_path), sha256(svsm).hexdigest()))
    facts = (("svsm at", f"0x{placed.gpa:x}, starts at 0x{placed.rip:x}"),)
    return Special("svsm", "sev-snp", digest, files, facts, (svsm_vmsa_page(placed.rip, signature),))


def measure_igvm(path: str, *, native_zero: bool) -> Special:
    """SEV-SNP from an IGVM file; an ID block in it is checked as the chip will."""
    data = read_file(path, "igvm", MAX_IGVM)
    file = parse_igvm(data)
    digest = igvm_launch_digest(file, native_zero=native_zero)
    check_id_block(file, digest)
    pages = tuple(bytes(item.vmsa) for item in file.directives if isinstance(item, Context))
    files = (("igvm", printable(path), sha256(data).hexdigest()),)
    return Special("igvm", "sev-snp", digest, files, tuple(_igvm_facts(file)), pages)


def _igvm_facts(file: IgvmFile) -> list[tuple[str, str]]:
    facts = [("policy", "none in the file" if file.policy is None else f"0x{file.policy:x}")]
    if file.id_block is not None:
        facts.append(("ID block", f"states this digest, SVN {file.id_block.guest_svn}, signatures valid"))
        facts.append(("ID key", key_digest(file.id_block.id_key).hex()))
        if file.id_block.author_key is not None:
            facts.append(("author", key_digest(file.id_block.author_key).hex()))
    return facts + [("not KVM", problem) for problem in kvm_problems(file)]


def file_size(path: str) -> int:
    """Bytes of a file."""
    try:
        return os.stat(path).st_size
    except (OSError, ValueError) as error:
        raise FileUnreadable(f"variable store: {printable(path)}: {error}") from None


def _read(inputs: MeasureInputs) -> tuple[bytes, KernelHashes | None]:
    if inputs.kernel is None and (inputs.initrd is not None or inputs.cmdline is not None):
        raise MeasurementImpossible("an initrd or command line is measured only together with a kernel")
    initrd = HashJob(inputs.initrd, "initrd") if inputs.initrd is not None else None
    kernel = HashJob(inputs.kernel, "kernel") if inputs.kernel is not None else None
    firmware = read_file(inputs.firmware, "firmware", MAX_FIRMWARE)
    return firmware, boot_hashes(kernel, initrd, inputs.cmdline)


def _signature(inputs: MeasureInputs) -> int:
    return inputs.vcpu_sig if inputs.vcpu_sig is not None else vcpu_signature(inputs.cpu_model or "")


def _files(inputs: MeasureInputs, firmware: bytes, hashes: KernelHashes | None) -> tuple[tuple[str, str, str], ...]:
    files = [("firmware", printable(inputs.firmware), sha256(firmware).hexdigest())]
    if hashes is not None:
        files.append(("kernel", printable(inputs.kernel or ""), hashes.kernel_sha256.hex()))
        files.append(("initrd", printable(inputs.initrd or ""), hashes.initrd_sha256.hex()))
        files.append(("cmdline", printable(inputs.cmdline or ""), hashes.cmdline_sha256.hex()))
    return tuple(files)

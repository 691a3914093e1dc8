"""Fuzz target: an image parses and can be measured, or is refused; likewise the boot hash table."""

from __future__ import annotations

from ovmf.firmware import Firmware
from ovmf.kernel_hashes import KernelHashes, hash_table_bytes, parse_hash_table
from ovmf.sev_launch import sev_es_launch_digest, sev_launch_digest
from ovmf.snp_launch import snp_launch_digest
from ovmf.svsm import place, svsm_launch_digest
from policy.errors import CvmError

_HASHES = KernelHashes(bytes(32), bytes(32), bytes(32))
_PAGE = 4096


def one(data: bytes) -> None:
    """Feed one input, at the end of the smallest image that holds it: the footer is where it counts."""
    _table(data)
    image = bytes(-len(data) % _PAGE) + data
    try:
        firmware = Firmware.from_bytes(image)
        if sum(size for _, size, _ in firmware.layout.sections) <= 1 << 20:
            snp_launch_digest(firmware, vcpus=2, vcpu_sig=0x800F12, hashes=None)
            snp_launch_digest(firmware, vcpus=1, vcpu_sig=0x800F12, hashes=_HASHES, vmm="ec2")
    except CvmError:
        return
    finally:
        _other_modes(image)


def _other_modes(image: bytes) -> None:
    try:
        sev_launch_digest(image, _HASHES)
        sev_es_launch_digest(image, vcpus=2, vcpu_sig=0x800F12, hashes=_HASHES)
    except CvmError:
        pass
    try:
        placed = place(bytes(_PAGE), image, _PAGE)
        if sum(size for _, size, _ in placed.layout.sections) <= 1 << 20:
            svsm_launch_digest(bytes(_PAGE), image, variable_store_size=_PAGE, vcpus=2, vcpu_sig=0x800F12)
    except CvmError:
        pass


def _table(data: bytes) -> None:
    try:
        hashes = parse_hash_table(data)
    except CvmError:
        return
    if hash_table_bytes(hashes) != data:
        raise AssertionError("a hash table that was accepted is written differently")

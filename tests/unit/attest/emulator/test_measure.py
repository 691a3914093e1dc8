"""The chip measures by itself: what QEMU is given decides, nothing that anybody says."""

from __future__ import annotations

import pytest

from attest.emulator.measure import launch_digest
from ovmf.kernel_hashes import KernelHashes, hash_table_bytes
from ovmf.vcpu import vcpu_signature
from policy.errors import CvmError
from tests.fakes.firmware import image

HASHES = hash_table_bytes(KernelHashes(b"k" * 32, b"i" * 32, b"c" * 32))
SIGNATURE = vcpu_signature("EPYC-v4")
FIRMWARE = image()


def measured(firmware: bytes = FIRMWARE, table: bytes | None = HASHES, vcpus: int = 2, sig: int = SIGNATURE) -> str:
    return launch_digest(firmware, table, vcpus=vcpus, vcpu_sig=sig).hex()


def test_the_same_inputs_give_the_same_digest() -> None:
    assert measured() == measured()


def test_each_input_changes_the_digest() -> None:
    other_table = HASHES[:40] + bytes([HASHES[40] ^ 1]) + HASHES[41:]
    other_firmware = bytes([FIRMWARE[0] ^ 1]) + FIRMWARE[1:]
    found = {
        measured(),
        measured(table=other_table),
        measured(table=None),
        measured(firmware=other_firmware),
        measured(vcpus=3),
        measured(sig=vcpu_signature("EPYC-Genoa")),
    }
    assert len(found) == 6


@pytest.mark.parametrize("table", [b"", HASHES[:-1], HASHES + b"x", bytes(176)])
def test_a_table_that_is_none_stops_the_chip(table: bytes) -> None:
    with pytest.raises(CvmError):
        measured(table=table)


def test_a_firmware_that_is_none_stops_the_chip() -> None:
    with pytest.raises(CvmError):
        measured(firmware=bytes(4096))

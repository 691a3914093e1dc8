"""Fixtures of the measurement tests."""

from __future__ import annotations

import pytest

from ovmf.snp_launch import Firmware
from tests.fakes import firmware as fake
from tests.fakes.ovmf_images import real_amdsev


@pytest.fixture(scope="session")
def amdsev() -> Firmware:
    """A real OVMF image for measured boot."""
    path = real_amdsev()
    if path is None:
        pytest.skip("no OVMF.amdsev.fd: set CVM_OVMF, or let the project fetch its toolchain")
    return Firmware.from_bytes(path.read_bytes())


@pytest.fixture(scope="session")
def small() -> Firmware:
    """A made-up image with the sections of a real one."""
    return Firmware.from_bytes(fake.image())

"""Fuzz target: an image parses as TDVF and can be measured, and its modules can be listed, or it is refused."""

from __future__ import annotations

from ovmf.td_firmware import TdFirmware
from ovmf.td_hob import td_hob
from policy.errors import CvmError


def one(data: bytes) -> None:
    """Feed one input, at the end of an image of whole pages."""
    image = bytes(-len(data) % 4096) + data
    try:
        firmware = TdFirmware.from_bytes(image)
        if sum(section.size for section in firmware.sections if section.added) <= 1 << 20:
            firmware.mrtd()
            firmware.mrtd(two_pass=True)
        td_hob(firmware.sections, 1 << 30)
    except CvmError:
        pass
    try:
        TdFirmware(image, ()).layout.words()
    except CvmError:
        return

"""Where a real OVMF image for tests comes from."""

from __future__ import annotations

import os
from pathlib import Path


def real_amdsev() -> Path | None:
    """``OVMF.amdsev.fd`` from CVM_OVMF, the project's toolchain, or the system; ``None`` when there is none."""
    named = os.environ.get("CVM_OVMF")
    if named:
        return Path(named)
    places = [Path("/usr/share/ovmf/OVMF.amdsev.fd"), Path("/usr/share/OVMF/OVMF.amdsev.fd")]
    try:
        from launcher.io.toolchain import find_toolchain
        from policy.errors import CvmError

        try:
            places.insert(0, Path(find_toolchain().firmware_dir) / "OVMF.amdsev.fd")
        except CvmError:
            pass
    except ImportError:
        pass
    return next((place for place in places if place.is_file()), None)

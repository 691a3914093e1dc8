"""RTMR3, the guest's own register: extended by init-data at boot, and to close the door of a TD: once the disk keys are
here, before anything of the owner's runs.

Nothing measures the payload, and a payload can ask for quotes as the agent can. With RTMR3 extended, such a quote says
that it was made *after* the keys were released; a policy that wants RTMR3 zero for disk keys releases nothing to it.
Source: Linux ``Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest`` (6.16 and later).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from attest.attester.emulated import emulated_extend
from attest.attester.errors import EvidenceUnavailable

RTMR3 = Path("/sys/devices/virtual/misc/tdx_guest/measurements/rtmr3:sha384")
RELEASED = hashlib.sha384(b"cvm: the disk keys were released to this TD").digest()


def close_door(*, emulated_chip: bool, node: Path = RTMR3) -> bool:
    """Extend RTMR3 by :data:`RELEASED`; otherwise as :func:`extend_rtmr3`."""
    return extend_rtmr3(RELEASED, emulated_chip=emulated_chip, node=node)


def extend_rtmr3(digest: bytes, *, emulated_chip: bool, node: Path = RTMR3) -> bool:
    """Extend RTMR3 by ``digest`` (48 bytes); false where this kernel offers no way to do it.

    Raises :class:`EvidenceUnavailable` where it offers one that fails.
    """
    if emulated_chip:
        emulated_extend(digest)
        return True
    try:
        handle = os.open(node, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise EvidenceUnavailable(f"RTMR3: {node}: {exc.strerror}") from None
    try:
        written = os.write(handle, digest)
    except OSError as exc:
        raise EvidenceUnavailable(f"RTMR3: {node}: {exc.strerror}") from None
    finally:
        os.close(handle)
    if written != len(digest):
        raise EvidenceUnavailable(f"RTMR3: {node}: took {written} of {len(digest)} bytes")
    return True

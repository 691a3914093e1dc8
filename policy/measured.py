"""What firmware and kernel measure into a TD's run-time registers, event by event.

The word both sides share: ``ovmf`` predicts such events before a TD exists, ``attest`` decodes them from the log of one
that ran, and a mismatch is explained by laying one list beside the other. Register N is RTMR N (0 to 3); a log's own
index is N + 1, because index 0 is MRTD. Source: Intel, *TDX Virtual Firmware Design Guide* (344991), section 8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

REGISTERS = 4
DIGEST_BYTES = 48


class MeasuredEvent(NamedTuple):
    """One extend of one register.

    ``type`` is the TCG event type; ``digest`` has 48 bytes (SHA-384). ``name`` says what was measured, the same word on
    both sides: ``td-hob``, ``cfv``, ``fw-cfg:BootMenu``, ``fw-cfg:bootorder``, ``variable:SecureBoot`` (PK, KEK, db,
    dbx …), ``authority:db``, ``separator``, ``acpi:etc/table-loader`` and its blobs,
    ``smbios``, ``boot-order``, ``boot-option:Boot0000``, ``gpt``, ``application`` (``detail`` is its device path),
    ``action:<text>``, ``load-options``, ``initrd``, ``ipl:<prefix>``, ``event:0x…`` for a type nobody knows. ``detail``
    is printable text for people and rules: a command line, a device path, sizes. ``proven``: the digest was recomputed
    from the data ``detail`` was read from; only then may a rule rely on ``detail``.
    """

    register: int
    type: int
    digest: bytes
    name: str
    detail: str = ""
    proven: bool = False


def replay(events: Iterable[MeasuredEvent]) -> tuple[bytes, bytes, bytes, bytes]:
    """The four registers after ``events``: each starts as 48 zero bytes, RTMR := SHA-384(RTMR || digest)."""
    registers = [bytes(DIGEST_BYTES)] * REGISTERS
    for event in events:
        registers[event.register] = hashlib.sha384(registers[event.register] + event.digest).digest()
    return registers[0], registers[1], registers[2], registers[3]

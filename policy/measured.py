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

    ``type`` is the TCG event type; ``digest`` has 48 bytes (SHA-384). ``name`` says what was measured and ``detail`` is
    printable text for people and rules; the same words on both sides, listed below. ``proven``: the digest was
    recomputed from the data ``detail`` was read from; only then may a rule rely on ``detail``. Where the digest is of
    something a log does not hold (marked *), the event is never proven and a rule compares ``digest``.

        td-hob*, cfv*, smbios*                the tables' addresses; ``Fv(GUID) 0xffc00000, 540672 bytes``
        fw-cfg:BootMenu*, fw-cfg:bootorder*   empty
        acpi:etc/table-loader*, acpi:etc/acpi/rsdp*, acpi:etc/acpi/tables* (acpi:etc/tpm/log* with a TPM)   empty
        variable:SecureBoot                   ``on``, ``off`` or ``absent``
        variable:PK, KEK, db, dbx, dbt, dbr   ``x509 <SHA-256 of the DER> <subject>; …; 77 SHA-256``, or ``empty``
        authority:db, authority:MokListRT     ``x509 <SHA-256> <subject>``, or ``SHA-256 <hash of an image>``
        authority:SbatLevel                   its text; authority:… and variable:… of another kind: hexadecimal
                                              (``name@GUID`` under a vendor that does not own the name)
        boot-order                            ``0001,0000``
        boot-option:Boot0001                  ``"description" device path, attributes 0x1, data …``
        separator, separator:error            empty
        action:<text>                         empty
        gpt                                   ``disk GUID, 2 partitions: name (GUID, first-last), …``
        application*, driver*                 device path
        load-options*, initrd*                what the Linux stub wrote; `policy.measured_facts` computes such digests
        ipl:grub_cmd, ipl:kernel_cmdline, ipl:module_cmdline, ipl:load-options (systemd-stub)   the line
        ipl:file*                             the path GRUB read
        ipl:MokList*, ipl:MokListX*, ipl:MokListTrusted*   empty
        uki-section                           ``.linux``: proven is the name's own event, unproven* the section's
        event-tag:0x…, ipl:text, crtm-version, post-code, config-flags, firmware-blob*   text or hexadecimal
        td-shim:td_hob, td-shim:td_payload_info, …   what td-shim hashed, hexadecimal
        runtime:<name>                        the payload, as text or hexadecimal (dstack's events of RTMR3)
        event:0x…                             a type nobody assigned: text or hexadecimal

    In details an unprintable character is ``\\xNN`` or ``\\uNNNN``, and in lines and texts a backslash is doubled.

    No register covers ``type`` or ``name``, nor the prefix of an IPL line or the name of a boot variable: who controls
    the guest can relabel one event as another whose rule gives the same digest (a ``grub_cmd`` as a
    ``kernel_cmdline``). A variable's name is inside what is hashed. `policy.measured_facts` reads logs that way.
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

"""EFI device paths as text: ``PciRoot(0x0)/Pci(0x3,0x0)/HD(1,GPT,…)/\\EFI\\BOOT\\BOOTX64.EFI``.

A path is a row of nodes (u8 type, u8 subtype, u16 length with these four bytes) that ends with type 0x7F; type 0x7F,
subtype 1 only ends one instance. Every node that firmware of today writes has its text form; any other node, and one
whose length is not its type's, becomes ``Path(type,subtype,hex)``. Sources: UEFI 2.10, sections 10.3 "Device Path
Nodes" and 10.6 "Device Path to Text".
"""

from __future__ import annotations

from attest.evidence.device_nodes import NODES
from attest.evidence.errors import EvidenceMalformed
from policy.errors import MalformedInput
from policy.wire import ByteReader

_END, _END_INSTANCE, _END_ENTIRE = 0x7F, 0x01, 0xFF
_MAX_NODES = 256


def device_path_text(data: bytes) -> str:
    """The text of a whole path, instances separated by commas; empty bytes are an empty path.

    Raises :class:`EvidenceMalformed` for a node that leaves the path, a missing or second end, or more than 256
    nodes.
    """
    reader = ByteReader(data, "device path", error=EvidenceMalformed)
    text, separator = "", ""
    for _ in range(_MAX_NODES):
        if not data:
            return ""
        kind, subtype, length = reader.u8("type"), reader.u8("subtype"), reader.u16("length")
        if length < 4:
            raise reader.fail(f"node of {length} bytes, want at least 4")
        body = reader.take(length - 4, "node")
        if kind == _END:
            if body or subtype not in (_END_INSTANCE, _END_ENTIRE):
                raise reader.fail(f"end node of subtype 0x{subtype:x} and {length} bytes, want 0x1 or 0xff and 4")
            if subtype == _END_ENTIRE:
                reader.end()
                return text
            text, separator = f"{text},", ""
            continue
        text += separator + _node(kind, subtype, body)
        separator = "/"
    raise reader.fail(f"more than {_MAX_NODES} nodes")


def _node(kind: int, subtype: int, body: bytes) -> str:
    """One node; what has no text form, or not the bytes its form needs, is shown whole in hexadecimal."""
    form = NODES.get((kind, subtype))
    if form is not None:
        reader = ByteReader(body, "device path node", error=EvidenceMalformed)
        try:
            text = form(reader)
            reader.end()
            return text
        except (MalformedInput, UnicodeDecodeError):
            pass
    digits = f",{body.hex().upper()}" if body else ""
    return f"Path({kind},{subtype}{digits})"

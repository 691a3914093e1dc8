"""What a disk that is said to be encrypted must begin with. Source: LUKS2 On-Disk Format Specification, 3.1."""

from __future__ import annotations

MAGIC = b"LUKS\xba\xbe"


def luks_problem(head: bytes) -> str:
    """Empty for a LUKS2 header, else what is there instead. The guest checks the header itself; this is to tell the
    operator before a VM starts in vain, or writes plain data where its owner expects ciphertext.
    """
    if head[:6] != MAGIC:
        return f"begins with {head[:6].hex() or 'nothing'}, not with a LUKS header"
    version = int.from_bytes(head[6:8], "big")
    return "" if version == 2 else f"has a LUKS{version} header, want LUKS2"

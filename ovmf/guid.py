"""GUIDs in EFI byte order, without the ``uuid`` module (its import costs more than this whole package)."""

from __future__ import annotations


def efi_guid(text: str) -> bytes:
    """The 16 bytes of ``xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx``: first three groups little-endian, the rest in order.

    Source: UEFI specification, appendix A.
    """
    low, mid, high, clock, node = text.split("-")
    swapped = b"".join(bytes.fromhex(group)[::-1] for group in (low, mid, high))
    return swapped + bytes.fromhex(clock + node)


def guid_text(raw: bytes) -> str:
    """The text form of 16 bytes in EFI order."""
    digits = (raw[3::-1] + raw[5:3:-1] + raw[7:5:-1] + raw[8:]).hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

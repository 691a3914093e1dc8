"""Small ELF files with the sections that launcher.image.elf reads."""

from __future__ import annotations

from struct import pack


def elf(*, needed: tuple[str, ...] = (), modinfo: tuple[str, ...] = ()) -> bytes:
    """A 64-bit little-endian file with ``.dynamic``, ``.dynstr`` and ``.modinfo``."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    offsets = [strings.index(b"\0" + name.encode() + b"\0") + 1 for name in needed]
    dynamic = b"".join(pack("<qQ", 1, offset) for offset in offsets) + pack("<qQ", 0, 0)
    contents = {
        "": b"",
        ".dynamic": dynamic,
        ".dynstr": strings,
        ".modinfo": b"".join(item.encode() + b"\0" for item in modinfo),
    }
    names = b"\0" + b"".join(name.encode() + b"\0" for name in (*contents, ".shstrtab") if name)
    contents[".shstrtab"] = names
    body, headers, position = b"", b"", 64
    for name, data in contents.items():
        at = names.index(b"\0" + name.encode() + b"\0") + 1 if name else 0
        headers += pack("<IIQQQQIIQQ", at, 1 if name else 0, 0, 0, position, len(data), 0, 0, 1, 0)
        body += data
        position += len(data)
    head = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, position, 0, 64, 0, 0, 64, len(contents), len(contents) - 1)
    )
    return head + body + headers

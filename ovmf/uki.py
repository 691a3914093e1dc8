"""A unified kernel image: what systemd's stub in it measures and starts, as far as its release is known.

For each section it knows, in a fixed order, the stub measures the name (ASCII with NUL), then the contents without the
file's padding, into PCR 11. It then starts the kernel with the section ``.cmdline`` as load options. What differs:

* 252 starts the kernel as an image of its own, with ``.initrd`` as initrd.
* 257 does too; behind the initrd (filled to a multiple of 4 bytes) it puts an archive with the file
  ``.extra/os-release``, the section ``.osrel``.
* 262 measures SMBIOS structures of types 1, 2 and 11 into PCR 1 and starts the kernel in a way that is not measured.
  Its initrd has one more archive, with a secret made of random numbers: that event nobody can predict.

All of it is confirmed by logs of boots with Debian's builds of these releases and a TPM. Sources: UAPI group, *UKI
specification*, section "TPM PCR measurements"; systemd, *TPM2 PCR Measurements*; cpio's "new ASCII" format.
"""

from __future__ import annotations

import re
from hashlib import sha384
from typing import NamedTuple

from ovmf import td_events as make
from ovmf.pe import PeImage, PeSection, parse_pe
from ovmf.smbios import Structure
from ovmf.td_boot import stub_events
from policy.measured import MeasuredEvent
from policy.reference_tdx import FLAVOUR_EMULATED

_ORDER = (".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat")
_ORDER_252 = _ORDER[:4]
_SIMPLE, _WITH_OS_RELEASE, _WITH_SECRET = 252, 257, 262
_KNOWN = (_SIMPLE, _WITH_OS_RELEASE, _WITH_SECRET)
_UNKNOWN = (".splash", ".dtb", ".dtbauto", ".ucode", ".pcrsig", ".pcrpkey", ".profile", ".hwids", ".efifw")
_SEEN = (".linux", ".osrel", ".cmdline", ".initrd")
"""Without one of them a stub was not watched."""
_PLAIN = re.compile(rb"[!-~]+( [!-~]+)*")
_TRAILER = b"070701" + b"0" * 32 + b"00000001" + b"0" * 48 + b"0000000B00000000TRAILER!!!".ljust(30, b"\0")
"""The end of an archive, as the stub has it: in capitals."""
_SMBIOS_TYPES, _WAKE_UP = (1, 2, 11), 0x18
_RELEASE = re.compile(rb"#### LoaderInfo: systemd-stub ([0-9]{3})\b")


class UkiEvents(NamedTuple):
    """``inside``: what happens after the image was started; ``unpredicted``: what cannot be known of it; ``smbios``:
    it measures :func:`smbios_events` besides."""

    inside: tuple[MeasuredEvent, ...]
    unpredicted: tuple[str, ...]
    smbios: bool = False


def uki_events(image: bytes, flavour: str) -> UkiEvents | None:
    """The events of a unified kernel image, ``None`` if it is none. Raises `ovmf.errors.PeMalformed`."""
    parts = parse_pe(image)
    if parts.named(".linux") is None:
        return None
    release = _release(image, parts)
    contents = {name: _contents(image, parts.named(name)) for name in _ORDER}
    why = _unknown(release, parts, contents, flavour)
    if why is not None or release is None:
        return UkiEvents(
            (), (*_platform(release), f"RTMR1: the images it starts ({why})", f"RTMR2: its events ({why})")
        )
    events = _sections(contents, _ORDER_252 if release == _SIMPLE else _ORDER)
    if release != _WITH_SECRET:
        events.append(make.application(contents[".linux"] or b"", "kernel in the unified kernel image"))
    options = (contents[".cmdline"] or b"").decode("ascii").encode("utf-16-le") + b"\0\0"
    events += stub_events(options, _initrd(release, contents))
    if release != _WITH_SECRET:
        return UkiEvents(tuple(events), ())
    unknown = "RTMR2: the initrd: the stub puts a secret of random numbers into it"
    return UkiEvents(tuple(events), (unknown,), smbios=True)


def smbios_events(structures: tuple[Structure, ...]) -> tuple[MeasuredEvent, ...]:
    """What a stub of release 262 measures of the machine: structures with their strings, the wake-up type as zero."""
    found = []
    for item in structures:
        fields = bytearray(item.formatted)
        if item.type == 1 and len(fields) > _WAKE_UP:
            fields[_WAKE_UP] = 0
        if item.type in _SMBIOS_TYPES:
            name = f"smbios:type{item.type}"
            found.append(make.event(0, make.TAGGED, bytes(fields) + item.strings, name, "measured by systemd's stub"))
    return tuple(found)


def _unknown(release: int | None, parts: PeImage, contents: dict[str, bytes | None], flavour: str) -> str | None:
    """Why the boot of an image is not known."""
    odd = [section.name for section in parts.sections if section.name in _UNKNOWN]
    if odd:
        return f"sections {' '.join(odd)}"
    if release not in _KNOWN or flavour != FLAVOUR_EMULATED:
        return f"stub release {release or 'unknown'}"
    missing = [name for name in _SEEN if not contents[name]]
    if missing:
        return f"no section {missing[0]}"
    if not _PLAIN.fullmatch(contents[".cmdline"] or b""):
        return "a command line that is not plain words"
    return None


def _initrd(release: int, contents: dict[str, bytes | None]) -> bytes | None:
    """SHA-384 of the initrd the kernel is given, ``None`` where there is none that can be known."""
    if release == _WITH_SECRET:
        return None
    digest = sha384(contents[".initrd"] or b"")
    if release == _WITH_OS_RELEASE:
        digest.update(bytes(-len(contents[".initrd"] or b"") % 4) + _extra("os-release", contents[".osrel"] or b""))
    return digest.digest()


def _extra(name: str, data: bytes) -> bytes:
    """An archive with the folder ``.extra`` and a file in it, readable to everybody."""
    folder, file = _entry(1, 0o40555, b".extra", b""), _entry(2, 0o100444, f".extra/{name}".encode(), data)
    return folder + file + _TRAILER


def _entry(inode: int, mode: int, name: bytes, data: bytes) -> bytes:
    """Magic, 13 numbers of 8 hexadecimal digits, name with NUL, contents; both filled to 4 bytes."""
    numbers = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % number for number in numbers) + name + b"\0"
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def _platform(release: int | None) -> tuple[str, ...]:
    """Newer stubs measure something of the platform too."""
    if release is not None and release <= _WITH_OS_RELEASE:
        return ()
    return (f"RTMR0: what a stub of release {release or 'unknown'} measures of the platform",)


def _release(image: bytes, parts: PeImage) -> int | None:
    match = _RELEASE.search(_contents(image, parts.named(".sdmagic")) or b"")
    return None if match is None else int(match[1])


def _sections(contents: dict[str, bytes | None], order: tuple[str, ...]) -> list[MeasuredEvent]:
    found = []
    for name in order:
        data = contents[name]
        if data is not None:
            found.append(make.event(2, make.IPL, name.encode() + b"\0", f"ipl:{name}", "name"))
            found.append(make.event(2, make.IPL, data, f"ipl:{name}", f"{len(data)} bytes"))
    return found


def _contents(image: bytes, section: PeSection | None) -> bytes | None:
    if section is None:
        return None
    return image[section.offset : section.offset + min(section.size, section.virtual_size)]

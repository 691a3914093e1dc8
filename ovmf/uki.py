"""A unified kernel image: what systemd's stub in it measures and starts, as far as its release is known.

For each section it knows, in a fixed order, the stub measures the name (ASCII with NUL), then the contents without the
file's padding, into PCR 11. Release 252 then starts the kernel as an image of its own, with the section ``.cmdline`` as
load options and ``.initrd`` as initrd. Later releases put an initrd together from more than the image holds, and newest
ones no longer start the kernel as an image; of those only the sections are predicted. The order is confirmed by logs of
boots with releases 252, 257 and 262. Source: UAPI group, *UKI specification*, section "TPM PCR measurements".
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ovmf import td_events as make
from ovmf.pe import PeImage, PeSection, parse_pe
from ovmf.td_boot import stub_events
from policy.measured import MeasuredEvent
from policy.reference_tdx import FLAVOUR_EMULATED

_ORDER = (".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat")
_ORDER_252 = _ORDER[:4]
_SIMPLE = 252
_ONLY_ITS_OWN = 257
_KNOWN = (252, 257, 262)
_UNKNOWN = (".splash", ".dtb", ".dtbauto", ".ucode", ".pcrpkey", ".profile", ".hwids", ".efifw")
_RELEASE = re.compile(rb"#### LoaderInfo: systemd-stub ([0-9]{3})\b")


class UkiEvents(NamedTuple):
    """``inside``: what happens after the image was started; ``unpredicted``: what cannot be known of it."""

    inside: tuple[MeasuredEvent, ...]
    unpredicted: tuple[str, ...]


def uki_events(image: bytes, flavour: str) -> UkiEvents | None:
    """The events of a unified kernel image, ``None`` if it is none. Raises `ovmf.errors.PeMalformed`."""
    parts = parse_pe(image)
    if parts.named(".linux") is None:
        return None
    release = _release(image, parts)
    odd = [section.name for section in parts.sections if section.name in _UNKNOWN]
    if release not in _KNOWN or odd or flavour != FLAVOUR_EMULATED:
        why = f"sections {' '.join(odd)}" if odd else f"stub release {release or 'unknown'}"
        return UkiEvents(
            (), (*_platform(release), f"RTMR1: the images it starts ({why})", f"RTMR2: its events ({why})")
        )
    events = _sections(image, parts, _ORDER_252 if release == _SIMPLE else _ORDER)
    if release != _SIMPLE:
        return UkiEvents(
            tuple(events),
            (
                *_platform(release),
                f"RTMR1: how stub release {release} starts its kernel",
                f"RTMR2: the initrd stub release {release} makes",
            ),
        )
    linux, cmdline, initrd = (_contents(image, parts.named(name)) for name in (".linux", ".cmdline", ".initrd"))
    options = b"" if cmdline is None else cmdline.rstrip(b"\0").decode("utf-8", "replace").encode("utf-16-le") + b"\0\0"
    events.append(make.application(linux or b"", "kernel in the unified kernel image"))
    digest = None if initrd is None else make.event(2, make.TAGGED, initrd, "initrd").digest
    return UkiEvents((*events, *stub_events(options, digest)), ())


def _platform(release: int | None) -> tuple[str, ...]:
    """Newer stubs measure something of the platform too."""
    if release is not None and release <= _ONLY_ITS_OWN:
        return ()
    return (f"RTMR0: what a stub of release {release or 'unknown'} measures of the platform",)


def _release(image: bytes, parts: PeImage) -> int | None:
    match = _RELEASE.search(_contents(image, parts.named(".sdmagic")) or b"")
    return None if match is None else int(match[1])


def _sections(image: bytes, parts: PeImage, order: tuple[str, ...]) -> list[MeasuredEvent]:
    found = []
    for name in order:
        contents = _contents(image, parts.named(name))
        if contents is not None:
            found.append(make.event(2, make.IPL, name.encode() + b"\0", f"ipl:{name}", "name"))
            found.append(make.event(2, make.IPL, contents, f"ipl:{name}", f"{len(contents)} bytes"))
    return found


def _contents(image: bytes, section: PeSection | None) -> bytes | None:
    if section is None:
        return None
    return image[section.offset : section.offset + min(section.size, section.virtual_size)]

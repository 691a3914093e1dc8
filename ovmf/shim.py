"""Shim, then GRUB, from an EFI system partition: what they measure.

Shim measures the lists it works with (its vendor's certificate and revocations, as no machine owner's keys can be
enrolled on a variable store that starts afresh), the revocation level it applies, and with Secure Boot on the
certificate that vouches for what it starts: its vendor's, once, as GRUB asks shim about the kernel. With Secure Boot
off the level is the oldest one, and nothing has to be signed. What GRUB measures is in `ovmf.grub`. All of
this is known for releases whose boots were recorded. Anything else is named. Sources: shim 16.1 (``mok.c``, ``tpm.c``,
``sbat.c``); logs of boots of Debian's signed builds.
"""

from __future__ import annotations

import re
from functools import partial
from typing import NamedTuple

from ovmf import td_events as make
from ovmf.authority import X509, in_chain
from ovmf.errors import LaunchInvalid, PeMalformed
from ovmf.fat import FatVolume
from ovmf.grub import LoaderUnknown, grub_events
from ovmf.grub_disk import GrubDisk
from ovmf.guid import efi_guid
from ovmf.pe import parse_pe
from ovmf.signature import Unsupported, certificate, signing_chains
from ovmf.variables import variable_data
from policy.measured import MeasuredEvent
from policy.wire import ByteReader

SHIM_LOCK = efi_guid("605dab50-e046-4300-abb6-3dd810dd8b23")
_OLDEST_LEVEL = b"sbat,1,2021030218\n"
_GRUB_PATH, _CONFIG = "EFI/BOOT/GRUBX64.EFI", "EFI/debian/grub.cfg"
_SHIM_TEXT, _GRUB_TEXT = b"$Version: 16.1 $", re.compile(rb"\ngrub\.debian,\d+,Debian,grub2,2\.14-")
_BESIDE = ("FBX64.EFI", "REVOCATIONS.EFI", "REVOCATIONS_SBAT.EFI", "REVOCATIONS_SKU.EFI", "SHIM_CERTIFICATE.EFI")


class _Vendor(NamedTuple):
    certificate: bytes
    lists: bytes
    revocations: bytes
    level: bytes


def shim_events(shim: bytes, volume: FatVolume, disk: GrubDisk, *, secure: bool) -> list[MeasuredEvent]:
    """Everything between the start of shim and the end of boot services, or `ovmf.grub.LoaderUnknown`.

    ``volume``: the EFI system partition of ``disk``; ``secure``: Secure Boot is on.

    Raises `ovmf.errors.LaunchInvalid` for an image shim would refuse, `ovmf.errors.PeMalformed` and
    `ovmf.errors.DiskMalformed`.
    """
    vendor = _vendor(shim)
    beside = [name for name in _BESIDE if volume.holds(f"EFI/BOOT/{name}")]
    if beside:
        raise LoaderUnknown(f"{beside[0]} beside shim")
    grub, config = volume.read(_GRUB_PATH), volume.read(_CONFIG)
    if grub is None or config is None:
        raise LoaderUnknown(f"no {_GRUB_PATH if grub is None else _CONFIG}")
    if not _GRUB_TEXT.search(_sections(grub).get(".sbat", b"")):
        raise LoaderUnknown(f"{_GRUB_PATH} is not Debian's GRUB 2.14")
    check = partial(_check_signed, vendor) if secure else None
    if check is not None:
        check(grub, _GRUB_PATH)
    return [
        *_shim_variables(vendor, secure=secure),
        make.application(grub, _GRUB_PATH),
        *grub_events(config, _CONFIG, disk, check),
    ]


def _vendor(shim: bytes) -> _Vendor:
    parts = _sections(shim)
    if _SHIM_TEXT not in parts.get(".data.ident", b""):
        raise LoaderUnknown("the boot loader is not shim 16.1")
    table = parts.get(".vendor_cert", b"")
    reader = ByteReader(table, "shim's vendor certificate", error=PeMalformed)
    sizes = reader.u32("certificate size"), reader.u32("revocations size")
    places = reader.u32("certificate offset"), reader.u32("revocations offset")
    allowed, refused = (table[at : at + size] for at, size in zip(places, sizes, strict=True))
    if (len(allowed), len(refused)) != sizes or allowed[:1] != b"\x30":
        raise LoaderUnknown("shim's vendor is not one certificate")
    size = 16 + len(allowed)
    lists = X509 + b"".join(n.to_bytes(4, "little") for n in (28 + size, 0, size)) + SHIM_LOCK + allowed
    return _Vendor(allowed, lists, refused, _level(parts.get(".sbatlevel", b"")))


def _level(table: bytes) -> bytes:
    """The revocation level that is applied without a policy: the older of the two shim carries."""
    reader = ByteReader(table, "shim's revocation levels", error=PeMalformed)
    version, place = reader.u32("version"), reader.u32("offset")
    text, nul, _ = table[4 + place :].partition(b"\0")
    if version or not nul or not text.startswith(b"sbat,"):
        raise LoaderUnknown("shim's revocation level is of another form")
    return text


def _sections(image: bytes) -> dict[str, bytes]:
    """Contents by name; a name beyond 8 characters stands in the table of strings behind the symbols."""
    parts = parse_pe(image)
    strings = _strings(image)
    return {
        _name(section.name, strings): image[section.offset : section.offset + min(section.size, section.virtual_size)]
        for section in parts.sections
    }


def _strings(image: bytes) -> bytes:
    start = int.from_bytes(image[0x3C:0x40], "little")
    symbols, count = (int.from_bytes(image[start + at : start + at + 4], "little") for at in (12, 16))
    return image[symbols + 18 * count :] if symbols else b""


def _name(name: str, strings: bytes) -> str:
    if re.fullmatch(r"/\d{1,7}", name) is None:
        return name
    return strings[int(name[1:]) :][:64].partition(b"\0")[0].decode("latin-1")


def _shim_variables(vendor: _Vendor, *, secure: bool) -> list[MeasuredEvent]:
    text = vendor.level if secure else _OLDEST_LEVEL
    level = variable_data(SHIM_LOCK, "SbatLevel", text)
    authority = variable_data(SHIM_LOCK, "MokListRT", SHIM_LOCK + vendor.certificate)
    found = [
        make.event(2, make.IPL, vendor.lists, "ipl:MokList", "shim's vendor certificate"),
        make.event(2, make.IPL, vendor.revocations, "ipl:MokListX", "shim's vendor revocations"),
        make.event(0, make.AUTHORITY, level, "authority:SbatLevel", text.decode("ascii", "replace")),
        make.event(2, make.IPL, b"\1", "ipl:MokListTrusted"),
    ]
    if secure:
        found.append(make.event(0, make.AUTHORITY, authority, "authority:MokListRT", "shim's vendor certificate"))
    return found


def _check_signed(vendor: _Vendor, image: bytes, path: str) -> None:
    try:
        chains = signing_chains(image)
    except Unsupported as reason:
        raise LoaderUnknown(f"{path} has {reason}") from None
    owner = certificate(vendor.certificate)
    if not any(in_chain(owner, chain) for chain in chains):
        raise LaunchInvalid(f"Secure Boot: shim's vendor certificate does not vouch for {path}")

"""What rules ask of a replayed event log, from what the registers vouch for and nothing else.

The registers cover digests and their order, not the labels of the log: type, name, the data of an unproven event. Two
things are therefore assumed of whoever sends the log, because a guest that is not ours can do both: it labels events as
it likes, and it extends registers after boot so that the digests we want are in there as well. A fact holds against
that when it is read from what *every* event of a register can be, or from a place that later extends cannot reach:

    secure_boot   the digests of SecureBoot on, off and absent are known: exactly one of them may occur in RTMR0
    db            firmware measures SecureBoot, PK, KEK, db in a row, so db is the third event after SecureBoot
    applications  every event of RTMR1 that is not proven to be a separator, a partition table or a known action:
                  compare the whole list, in order
    loaded        every event of RTMR2 that is not proven to be a line of text: compare them all
    unexplained   what has no business in its register

``command_lines``, ``load_options`` and ``initrds`` go by labels: they are for rules that also compare ``loaded``, or
RTMR2 itself, and for explanations. ``authorities`` can miss one event that calls itself the SMBIOS table, in a log
without one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from policy.measured import MeasuredEvent

_FIRMWARE, _BOOT, _SYSTEM, _RUNTIME = range(4)
_LINES = ("ipl:kernel_cmdline", "ipl:load-options")
_ACTIONS = (
    "action:Calling EFI Application from Boot Option",
    "action:Returning from EFI Application from Boot Option",
    "action:Exit Boot Services Invocation",
    "action:Exit Boot Services Returned with Success",
    "action:Exit Boot Services Returned with Failure",
)
_PROVEN: dict[int, tuple[str, ...]] = {
    _FIRMWARE: (
        "variable:SecureBoot", "variable:PK", "variable:KEK", "variable:db", "authority:", "separator", "boot-order",
        "boot-option:",
    ),
    _BOOT: ("separator", "gpt", *_ACTIONS),
    _SYSTEM: ("ipl:grub_cmd", "ipl:module_cmdline", "uki-section", *_LINES),
    _RUNTIME: ("runtime:",),
}  # fmt: skip
_BY_DIGEST: dict[int, tuple[str, ...]] = {
    _FIRMWARE: ("fw-cfg:", "acpi:etc/"),
    _BOOT: ("application", "driver"),
    _SYSTEM: ("load-options", "initrd", "ipl:file", "ipl:Mok", "uki-section"),
}
_CERTIFICATE = re.compile(r"x509 ([0-9a-f]{64}) (.*)")
_SECURE_BOOT_STATES = {"absent": b"", "off": b"\0", "on": b"\1"}


class CertificateFact(NamedTuple):
    """A certificate in a proven event: SHA-256 of its DER in lower-case hexadecimal, and its subject."""

    sha256: str
    subject: str


class EventFacts(NamedTuple):
    """Facts of one log; the module says from what.

    ``secure_boot``: ``on``, ``off``, ``absent``, or ``None`` where RTMR0 does not say one of them. ``db``: its
    certificates, ``None`` where it is not where it belongs. ``authorities``: certificates that admitted an image or
    that shim added; ``hash_authorities``: images admitted by their hash (hexadecimal). Events are in the log's order.
    """

    secure_boot: str | None
    db: tuple[CertificateFact, ...] | None
    authorities: tuple[CertificateFact, ...]
    hash_authorities: tuple[str, ...]
    applications: tuple[MeasuredEvent, ...]
    loaded: tuple[MeasuredEvent, ...]
    load_options: tuple[MeasuredEvent, ...]
    initrds: tuple[MeasuredEvent, ...]
    command_lines: tuple[str, ...]
    unexplained: tuple[MeasuredEvent, ...]


def event_facts(events: Sequence[MeasuredEvent]) -> EventFacts:
    """Facts of events that replay to a quote's registers, in the order of the log."""
    firmware, boot, system = (_of(events, register) for register in (_FIRMWARE, _BOOT, _SYSTEM))
    state, place = _secure_boot(firmware)
    details = [event.detail for event in firmware if event.proven and event.name.startswith("authority:")]
    return EventFacts(
        secure_boot=state,
        db=None if place is None else _db(firmware[place + 1 : place + 4]),
        authorities=tuple(fact for detail in details for fact in certificates_in(detail)),
        hash_authorities=tuple(detail[8:] for detail in details if detail.startswith("SHA-256 ")),
        applications=tuple(event for event in boot if not _is_proven_kind(event)),
        loaded=tuple(event for event in system if not _is_proven_kind(event)),
        load_options=tuple(event for event in system if event.name == "load-options"),
        initrds=tuple(event for event in system if event.name == "initrd"),
        command_lines=tuple(event.detail for event in system if event.name in _LINES and event.proven),
        unexplained=unexplained_events(events),
    )


def unexplained_events(events: Sequence[MeasuredEvent]) -> tuple[MeasuredEvent, ...]:
    """Events that neither prove what belongs in their register nor are of a kind that stands by its digest there.

    RTMR0 begins with the TD HOB and the configuration volume, and has one SMBIOS table at most: at another place these
    words explain nothing.
    """
    firmware = _of(events, _FIRMWARE)
    fixed = [event for event, name in zip(firmware, ("td-hob", "cfv"), strict=False) if event.name == name]
    fixed += [event for event in firmware if event.name == "smbios"][:1]
    known = {id(event) for event in fixed}
    return tuple(event for event in events if id(event) not in known and not _is_explained(event))


def secure_boot_place(events: Iterable[MeasuredEvent]) -> int | None:
    """Where among the events of RTMR0 firmware measured SecureBoot; ``None`` where it did not, or more than one state.

    PK, KEK, db and dbx follow in this order, whatever the log calls them.
    """
    return _secure_boot(_of(events, _FIRMWARE))[1]


def certificates_in(detail: str) -> tuple[CertificateFact, ...]:
    """The certificates of a proven variable's or authority's detail; subjects hold no semicolon."""
    found = (_CERTIFICATE.fullmatch(entry) for entry in detail.split("; "))
    return tuple(CertificateFact(match[1], match[2]) for match in found if match)


def load_options_digest(text: str) -> bytes:
    """What the EFI stub's ``load-options`` event holds for this text: SHA-384 of UTF-16LE with a final NUL.

    Firmware widens each *byte* of QEMU's command line to 16 bits, so non-ASCII text is given as its UTF-8 bytes read as
    Latin-1 characters. The text is all of it: with an initrd edk2 puts ``initrd=initrd`` and a space before the command
    line (stable202508 and later), or a space and ``initrd=initrd`` behind it.
    """
    return hashlib.sha384(text.encode("utf-16-le", "surrogatepass") + b"\0\0").digest()


def _of(events: Iterable[MeasuredEvent], register: int) -> list[MeasuredEvent]:
    return [event for event in events if event.register == register]


def _is_proven_kind(event: MeasuredEvent) -> bool:
    return event.proven and event.name.startswith(_PROVEN.get(event.register, ("\0",)))


def _is_explained(event: MeasuredEvent) -> bool:
    if event.proven:
        return _is_proven_kind(event)
    return event.name.startswith(_BY_DIGEST.get(event.register, ("\0",)))


def _secure_boot(firmware: Sequence[MeasuredEvent]) -> tuple[str | None, int | None]:
    """The one state whose digest occurs, and where; labels are not looked at."""
    found = [(state, place) for place, event in enumerate(firmware) for state in _state_of(event.digest)]
    return found[0] if len(found) == 1 else (None, None)


def _state_of(digest: bytes) -> tuple[str, ...]:
    return tuple(state for state, value in _SECURE_BOOT_DIGESTS.items() if value == digest)


def _db(following: Sequence[MeasuredEvent]) -> tuple[CertificateFact, ...] | None:
    names = tuple(event.name for event in following if event.proven)
    if names != ("variable:PK", "variable:KEK", "variable:db"):
        return None
    return certificates_in(following[2].detail)


def _secure_boot_variable(contents: bytes) -> bytes:
    """UEFI_VARIABLE_DATA: vendor 8BE4DF61-93CA-11D2-AA0D-00E098032B8C in EFI order, lengths, name, contents."""
    vendor, name = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c"), "SecureBoot"
    lengths = len(name).to_bytes(8, "little") + len(contents).to_bytes(8, "little")
    return vendor + lengths + name.encode("utf-16-le") + contents


_SECURE_BOOT_DIGESTS = {
    state: hashlib.sha384(_secure_boot_variable(contents)).digest() for state, contents in _SECURE_BOOT_STATES.items()
}

"""Every event of a log decoded, and whether its own digest proves what was decoded.

A log is written by software that the registers do not vouch for; only the digests are. Many events carry what was
hashed, so that their digest can be recomputed: then the event is ``proven``. Others (an image, a table, load options)
describe something that is not in the log: their digest stands for itself, and the description proves nothing. What the
registers never cover is an event's *type*: see :mod:`policy.measured` for what that means to a rule.

An event whose data do not fit its type is kept with the name of its type and ``unreadable`` as detail, never proven.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from attest.evidence import event_boot, event_platform, event_types, event_variables
from attest.evidence.errors import EvidenceUnsupported
from attest.evidence.event_reading import Reading
from attest.evidence.event_text import short_hex, text_of
from attest.evidence.event_types import EV_NO_ACTION, HASHES, SHA256, SHA384, algorithm_name, type_name
from attest.evidence.eventlog import CCEL, EventLog, LogEvent
from policy.errors import MalformedInput

_Reader = Callable[[bytes], Reading]
_Hash = Callable[[bytes], "hashlib._Hash"]
_HASHES: dict[int, _Hash] = {number: getattr(hashlib, name) for number, name in HASHES.items()}


class DecodedEvent(NamedTuple):
    """One event of a log with its meaning; ``digest`` is of the bank that was asked for.

    ``register`` is the RTMR (0 to 3) of a CCEL, -1 for MRTD, and the PCR of a TPM log. ``extended``: the register's
    value covers the event.
    """

    event: LogEvent
    register: int
    digest: bytes
    name: str
    detail: str
    proven: bool
    extended: bool


def decode_log(log: EventLog, algorithm: int | None = None) -> tuple[DecodedEvent, ...]:
    """Every event, in order, judged by the digests of one bank (default: SHA-384, else SHA-256, else the first).

    Raises :class:`EvidenceUnsupported` for a bank that the log does not have.
    """
    algorithm = best_algorithm(log) if algorithm is None else algorithm
    if algorithm not in log.algorithms:
        raise EvidenceUnsupported(f"event log: no {algorithm_name(algorithm)} digests")
    place = log.algorithms.index(algorithm) if len(log.algorithms) == 1 else None
    hash_of, offset = _HASHES.get(algorithm), 1 if log.kind == CCEL else 0
    acpi_names = _acpi_names(log)
    decoded = []
    for event in log.events:
        digest = event.digests[place][1] if place is not None else event.digest(algorithm)
        name, detail, covered = read_event(event.type, event.data)
        extended = event.type != EV_NO_ACTION and event.mr - offset >= 0
        proven = extended and hash_of is not None and _proven(covered, digest, hash_of)
        if name == "acpi":
            name = next(acpi_names)
        decoded.append(DecodedEvent(event, event.mr - offset, digest, name, detail, proven, extended))
    return tuple(decoded)


def best_algorithm(log: EventLog) -> int:
    """The bank to show: SHA-384, else SHA-256, else the log's first."""
    return next((wanted for wanted in (SHA384, SHA256) if wanted in log.algorithms), log.algorithms[0])


def read_event(kind: int, data: bytes) -> Reading:
    """One event's data; never raises, because a log that replays may still hold anything."""
    known = _READERS.get(kind)
    if known is None:
        name = _OTHER.get(kind) or f"event:{type_name(kind)}"
        printable = data.rstrip(b"\0")
        return Reading(name, text_of(printable) if printable.isascii() else short_hex(data), (data,))
    name, read = known
    try:
        return read(data)
    except (MalformedInput, UnicodeError) as exc:
        return Reading(name, f"unreadable: {text_of(str(exc).encode())}")


def _proven(covered: tuple[bytes, ...], digest: bytes, hash_of: _Hash) -> bool:
    return any(hash_of(data).digest() == digest for data in covered)


def _acpi_names(log: EventLog) -> Iterator[str]:
    """edk2 logs QEMU's ACPI files alike; their order is that of QEMU's loader script, known for the usual numbers.

    QEMU puts each allocation before the earlier ones, which is why the tables come last. Any other number of such
    events gets numbers instead of names.
    """
    kind = event_types.EV_PLATFORM_CONFIG_FLAGS
    count = sum(event.type == kind and event.data.rstrip(b"\0") == b"ACPI DATA" for event in log.events)
    names = _ACPI_FILES.get(count) or tuple(f"#{number}" for number in range(1, count + 1))
    return (f"acpi:{name}" for name in names)


_ACPI_FILES = {
    3: ("etc/table-loader", "etc/acpi/rsdp", "etc/acpi/tables"),
    4: ("etc/table-loader", "etc/acpi/rsdp", "etc/tpm/log", "etc/acpi/tables"),
}

_READERS: dict[int, tuple[str, _Reader]] = {
    event_types.EV_NO_ACTION: ("no-action", event_platform.read_no_action),
    event_types.EV_SEPARATOR: ("separator", event_platform.read_separator),
    event_types.EV_ACTION: ("action", event_platform.read_action),
    event_types.EV_EVENT_TAG: ("event-tag", event_boot.read_tag),
    event_types.EV_S_CRTM_VERSION: ("crtm-version", event_platform.read_version),
    event_types.EV_PLATFORM_CONFIG_FLAGS: ("config-flags", event_platform.read_config_flags),
    event_types.EV_IPL: ("ipl", event_boot.read_ipl),
    event_types.EV_POST_CODE: ("post-code", event_platform.read_post_code),
    event_types.EV_POST_CODE2: ("post-code", event_platform.read_post_code2),
    event_types.EV_OMIT_BOOT_DEVICE_EVENTS: ("action", event_platform.read_action),
    event_types.EV_RUNTIME: ("runtime", event_boot.read_runtime),
    event_types.EV_EFI_VARIABLE_DRIVER_CONFIG: ("variable", event_variables.read_driver_config),
    event_types.EV_EFI_VARIABLE_BOOT: ("boot-variable", event_variables.read_boot_variable),
    event_types.EV_EFI_VARIABLE_BOOT2: ("boot-variable", event_variables.read_boot_variable),
    event_types.EV_EFI_VARIABLE_AUTHORITY: ("authority", event_variables.read_authority),
    event_types.EV_EFI_BOOT_SERVICES_APPLICATION: ("application", event_boot.read_image),
    event_types.EV_EFI_BOOT_SERVICES_DRIVER: ("driver", event_boot.read_driver),
    event_types.EV_EFI_RUNTIME_SERVICES_DRIVER: ("driver", event_boot.read_driver),
    event_types.EV_EFI_GPT_EVENT: ("gpt", event_boot.read_gpt),
    event_types.EV_EFI_GPT_EVENT2: ("gpt", event_boot.read_gpt),
    event_types.EV_EFI_ACTION: ("action", event_platform.read_action),
    event_types.EV_EFI_PLATFORM_FIRMWARE_BLOB: ("firmware-blob", event_platform.read_blob),
    event_types.EV_EFI_PLATFORM_FIRMWARE_BLOB2: ("firmware-blob", event_platform.read_blob2),
    event_types.EV_EFI_HANDOFF_TABLES: ("handoff-tables", event_platform.read_handoff),
    event_types.EV_EFI_HANDOFF_TABLES2: ("handoff-tables", event_platform.read_handoff2),
}
"""By type: the name of an unreadable event, and the reader."""

_OTHER = {
    number: name.removeprefix("EV_").removeprefix("EFI_").lower().replace("_", "-")
    for number, name in event_types.TYPE_NAMES.items()
    if number not in _READERS
}
"""Types without a structure of their own, named ``microcode`` and the like, after TCG: data as text or hexadecimal."""

"""Measured events, made from what is measured: type, digest, and the word for it.

Source of types and of what is hashed: TCG *PC Client Platform Firmware Profile* 1.06, section 10; where firmware hashes
something other than the logged data, it is said here.
"""

from __future__ import annotations

from hashlib import sha384

from ovmf.boot_options import BootOption
from ovmf.pe import authenticode
from ovmf.variables import EFI_GLOBAL, IMAGE_SECURITY, Key, variable_data
from policy.measured import MeasuredEvent

SEPARATOR, TAGGED, CONFIG_FLAGS, IPL = 0x4, 0x6, 0xA, 0xD
VARIABLE_CONFIG, VARIABLE_BOOT, APPLICATION, GPT, ACTION = 0x80000001, 0x80000002, 0x80000003, 0x80000006, 0x80000007
HANDOFF_TABLES, FIRMWARE_BLOB2, HANDOFF_TABLES2, AUTHORITY = 0x80000009, 0x8000000A, 0x8000000B, 0x800000E0

CALLING = "Calling EFI Application from Boot Option"
EXIT_CALLED = "Exit Boot Services Invocation"
EXIT_DONE = "Exit Boot Services Returned with Success"
EXIT_FAILED = "Exit Boot Services Returned with Failure"

_POLICY_VARIABLES = ((EFI_GLOBAL, "PK"), (EFI_GLOBAL, "KEK"), (IMAGE_SECURITY, "db"), (IMAGE_SECURITY, "dbx"))
_OPTIONAL_VARIABLES = ((IMAGE_SECURITY, "dbt"), (IMAGE_SECURITY, "dbr"))


def event(register: int, kind: int, data: bytes, name: str, detail: str = "") -> MeasuredEvent:
    """An event whose digest is the SHA-384 of ``data``."""
    return MeasuredEvent(register, kind, sha384(data).digest(), name, printable(detail))


def printable(text: str) -> str:
    """``text`` without anything that does not print, at most 1000 characters of it."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text[:1000])


def separator(register: int) -> MeasuredEvent:
    """Four zero bytes: from here on, something else is in control."""
    return event(register, SEPARATOR, bytes(4), "separator")


def action(text: str) -> MeasuredEvent:
    """A step of the boot, in RTMR1."""
    return event(1, ACTION, text.encode("ascii"), f"action:{text}")


def secure_boot_variables(variables: dict[Key, bytes], secure_boot: bytes) -> list[MeasuredEvent]:
    """SecureBoot, PK, KEK, db and dbx, absent ones as empty; dbt and dbr when they exist. All of it is hashed."""
    found = [_variable((EFI_GLOBAL, "SecureBoot"), secure_boot)]
    found += [_variable(key, variables.get(key, b"")) for key in _POLICY_VARIABLES]
    return found + [_variable(key, variables[key]) for key in _OPTIONAL_VARIABLES if variables.get(key)]


def _variable(key: Key, data: bytes) -> MeasuredEvent:
    return event(0, VARIABLE_CONFIG, variable_data(*key, data), f"variable:{key[1]}", f"{len(data)} bytes")


def boot_variables(options: tuple[BootOption, ...]) -> list[MeasuredEvent]:
    """BootOrder, then the options in that order. Only their contents are hashed."""
    order = b"".join(option.number.to_bytes(2, "little") for option in options)
    detail = " ".join(f"{option.number:04X}" for option in options)
    found = [event(0, VARIABLE_BOOT, order, "boot-order", detail)]
    for option in options:
        text = option.data[6:].split(b"\0\0\0", 1)[0].decode("utf-16-le", "ignore").split("\0", 1)[0]
        found.append(event(0, VARIABLE_BOOT, option.data, f"boot-option:Boot{option.number:04X}", text))
    return found


def application(image: bytes, detail: str) -> MeasuredEvent:
    """A PE image the firmware starts: its Authenticode digest. Raises `ovmf.errors.PeMalformed`."""
    return MeasuredEvent(1, APPLICATION, authenticode(image), "application", printable(detail))


def acpi_blob(name: str, data: bytes) -> MeasuredEvent:
    """A file of QEMU's ACPI linker: the file is hashed, as it is before it is linked."""
    return event(0, CONFIG_FLAGS, data, f"acpi:{name}", f"{len(data)} bytes")


def fw_cfg_item(name: str, data: bytes) -> MeasuredEvent:
    """A QEMU setting: its bytes are hashed."""
    return event(0, CONFIG_FLAGS, data, f"fw-cfg:{name}", data.rstrip(b"\0").decode("latin-1"))

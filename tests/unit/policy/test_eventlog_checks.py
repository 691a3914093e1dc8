"""Rules about a TD's event log, and the tricks its sender can try against them."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from policy.decide import decide
from policy.document import PolicyDocument, PolicyInvalid
from policy.measured import MeasuredEvent, replay
from policy.measured_facts import load_options_digest
from tests.fakes.intel_claims import NOW, td
from tests.unit.policy.test_tdx_checks import policy as strict

GLOBAL = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
SHIM, KERNEL, INITRD, EVIL = b"\x01" * 48, b"\x02" * 48, b"\x03" * 48, b"\x66" * 48
LINE = "initrd=initrd console=ttyS0 ro"


def sha(data: bytes) -> bytes:
    return hashlib.sha384(data).digest()


def variable(name: str, contents: bytes, detail: str = "") -> MeasuredEvent:
    lengths = len(name).to_bytes(8, "little") + len(contents).to_bytes(8, "little")
    digest = sha(GLOBAL + lengths + name.encode("utf-16-le") + contents)
    return MeasuredEvent(0, 0x80000001, digest, f"variable:{name}", detail, proven=True)


def action(text: str) -> MeasuredEvent:
    return MeasuredEvent(1, 0x80000007, sha(text.encode()), f"action:{text}", "", proven=True)


def separator(register: int) -> MeasuredEvent:
    return MeasuredEvent(register, 4, sha(bytes(4)), "separator", "", proven=True)


def application(digest: bytes) -> MeasuredEvent:
    return MeasuredEvent(1, 0x80000003, digest, "application", "File(kernel)")


VARIABLES = [variable("SecureBoot", b"\1", "on"), *(variable(name, b"k") for name in ("PK", "KEK", "db", "dbx"))]
AUTHORITY = MeasuredEvent(0, 0x800000E0, b"\x09" * 48, "authority:db", f"x509 {'ab' * 32} CN=ours", proven=True)
BOOT = [application(SHIM), action("Calling EFI Application from Boot Option"), separator(1), application(KERNEL)]
OPTIONS, DISK = (
    MeasuredEvent(2, 6, load_options_digest(LINE), "load-options", "LOADED_IMAGE::LoadOptions"),
    MeasuredEvent(2, 6, INITRD, "initrd", "Linux initrd"),
)
LOG = [*VARIABLES, AUTHORITY, separator(0), *BOOT, action("Exit Boot Services Invocation"), OPTIONS, DISK]
KEYS = {
    "log": '"require"', "unexplained_events": '"forbid"', "unlisted_events": '"forbid"', "known_digests": "[]",
    "boot_applications": f'["{SHIM.hex()}"]', "kernel_digests": f'["{KERNEL.hex()}"]', "cmdlines": f'["{LINE}"]',
    "cmdline_required": '["ro"]', "cmdline_forbidden": '["rw", "init="]', "initrd_digests": f'["{INITRD.hex()}"]',
    "secure_boot": '"require"', "authorities": f'["{"ab" * 32}"]', "pk_digests": '"any"', "kek_digests": '"any"',
    "db_digests": f'["{VARIABLES[3].digest.hex()}"]', "dbx_digests": '"any"',
}  # fmt: skip


def policy(**changes: str) -> PolicyDocument:
    """Any registers, and a full [tdx.eventlog] with keys replaced."""
    table = "\n".join(f"{key} = {value}" for key, value in (KEYS | changes).items())
    registers = [(f'rtmr{index} = "registered"', f'rtmr{index} = "any"') for index in range(3)]
    reason = ('rtmr3 = "zero"', 'rtmr3 = "zero"\nrtmr_reason = "the event log is judged"')
    lines = (('eventlog = "ignore"', ""), ("\n[tdx.platform]", f"\n[tdx.eventlog]\n{table}\n\n[tdx.platform]"))
    return strict(*registers, reason, *lines)


def failed(events: list[MeasuredEvent] | None, **changes: str) -> list[str]:
    """What is wrong with the log; the measurement itself is another matter here."""
    log = None if events is None else tuple(events)
    claims = td(events=log, rtmrs=(*replay(log or ())[:3], bytes(48)))
    found = [check.id for check in decide(claims, policy(**changes), (), now=NOW).failed]
    assert found.pop() == "measurement"
    return [name.removeprefix("tdx.eventlog.") for name in found]


def swapped(old: MeasuredEvent, *new: MeasuredEvent) -> list[MeasuredEvent]:
    index = LOG.index(old)
    return [*LOG[:index], *new, *LOG[index + 1 :]]


def test_a_log_of_what_is_listed_passes() -> None:
    assert failed(LOG) == []


def test_a_td_without_a_log_fails_every_rule_that_needs_one() -> None:
    assert failed(None) == [
        "log", "unexplained-events", "unlisted-events", "kernel", "cmdline", "initrd", "secure-boot", "authorities",
        "pk", "kek", "db", "dbx",
    ]  # fmt: skip


def test_a_log_that_nobody_asked_for_is_not_missed() -> None:
    free: dict[str, str] = {key: '"any"' for key in KEYS if key.endswith("digests") and key != "known_digests"}
    free |= {"boot_applications": '"any"', "cmdlines": '"any"', "authorities": '"any"', "secure_boot": '"ignore"'}
    free |= {"cmdline_required": "[]", "cmdline_forbidden": "[]", "log": '"ignore"'}
    assert failed(None, **free) == []
    assert failed(LOG, **free) == []


TRICKS: list[tuple[str, list[MeasuredEvent], list[str]]] = [
    ("another kernel", swapped(BOOT[3], application(EVIL)), ["unlisted-events", "kernel"]),
    ("an evil application that then measures the good kernel", swapped(BOOT[3], application(EVIL), BOOT[3]),
     ["unlisted-events", "kernel"]),
    ("the evil kernel called a separator, the good one appended",
     [*swapped(BOOT[3], separator(1)._replace(digest=EVIL, proven=False)), BOOT[3]],
     ["unexplained-events", "unlisted-events", "kernel"]),
    ("the evil kernel called a driver", [*swapped(BOOT[3], BOOT[3]._replace(digest=EVIL, name="driver")), BOOT[3]],
     ["unlisted-events", "kernel"]),
    ("boot applications in another order", [*VARIABLES, AUTHORITY, *reversed(BOOT), OPTIONS, DISK], ["kernel"]),
    ("no kernel at all", [event for event in LOG if event.name != "application"], ["kernel"]),
    ("other load options", swapped(OPTIONS, OPTIONS._replace(digest=EVIL)), ["unlisted-events", "cmdline"]),
    ("other load options called an initrd, good ones appended",
     [*swapped(OPTIONS, OPTIONS._replace(digest=EVIL, name="initrd")), OPTIONS], ["unlisted-events", "initrd"]),
    ("another initrd", swapped(DISK, DISK._replace(digest=EVIL)), ["unlisted-events", "initrd"]),
    ("no initrd", LOG[:-1], ["initrd"]),
    ("no command line", swapped(OPTIONS), ["cmdline"]),
    ("Secure Boot off", swapped(VARIABLES[0], variable("SecureBoot", b"\0", "off")), ["secure-boot"]),
    ("Secure Boot absent", swapped(VARIABLES[0], variable("SecureBoot", b"", "absent")), ["secure-boot"]),
    ("Secure Boot off, called db, and on appended",
     [*swapped(VARIABLES[0], variable("SecureBoot", b"\0")._replace(name="authority:db")), VARIABLES[0]],
     ["secure-boot", "db"]),
    ("another db", swapped(VARIABLES[3], variable("db", b"evil")), ["db"]),
    ("another db, the good one appended", [*swapped(VARIABLES[3], variable("db", b"evil")), VARIABLES[3]], ["db"]),
    ("an image admitted by another certificate", swapped(AUTHORITY, AUTHORITY._replace(detail=f"x509 {'cd' * 32} CN=x")),
     ["authorities"]),
    ("an image admitted by its hash", swapped(AUTHORITY, AUTHORITY._replace(detail=f"SHA-256 {'ab' * 32}")), ["authorities"]),
    ("an event nobody knows", [*LOG, MeasuredEvent(0, 0x99, EVIL, "event:0x99")], ["unexplained-events"]),
]  # fmt: skip


@pytest.mark.parametrize(("trick", "events", "expected"), TRICKS)
def test_a_log_that_differs_or_lies_is_refused(trick: str, events: list[MeasuredEvent], expected: list[str]) -> None:
    assert failed(events) == expected


GRUB: dict[str, Any] = {"cmdlines": '["linux /vmlinuz ro", "/vmlinuz ro"]', "initrd_digests": '"any"'}


def line(kind: str, text: str) -> MeasuredEvent:
    return MeasuredEvent(2, 0xD, sha(text.encode()), f"ipl:{kind}", text, proven=True)


def test_every_line_grub_measures_is_listed_whatever_the_log_calls_it() -> None:
    boot = [*LOG[:-2], line("grub_cmd", "linux /vmlinuz ro"), line("kernel_cmdline", "/vmlinuz ro")]
    assert failed(boot, **GRUB) == []
    assert failed([*boot, line("grub_cmd", "/vmlinuz rw init=/bin/sh")], **GRUB) == ["cmdline"]
    assert failed(boot[:-1], **GRUB) == ["cmdline"]


def test_a_forbidden_word_that_ends_in_an_equals_sign_forbids_every_value() -> None:
    free = {"cmdlines": '"any"', "initrd_digests": '"any"'}
    for text, expected in (
        ("/vmlinuz ro", []),
        ("/vmlinuz ro init=/bin/sh", ["cmdline"]),
        ("/vmlinuz rw ro", ["cmdline"]),
    ):
        assert failed([*LOG[:-2], line("kernel_cmdline", text)], **free) == expected


def test_load_options_cannot_be_read_so_words_alone_refuse_them() -> None:
    assert "cmdline" in failed(LOG, cmdlines='"any"')


def test_what_cannot_hold_is_refused_when_the_policy_is_read() -> None:
    with pytest.raises(PolicyInvalid, match="could run before it and stay"):
        policy(boot_applications='"any"')
    with pytest.raises(PolicyInvalid, match="rely on the log"):
        policy(log='"ignore"')
    with pytest.raises(PolicyInvalid, match="one word"):
        policy(cmdline_forbidden='["a b"]')

"""Everything a guest can say is bounded and cannot touch a terminal."""

from __future__ import annotations

import pytest

from launcher.core.console import Sign, sign_of
from launcher.core.progress import Seen
from launcher.core.status import StatusEvent, parse_status_line, status_line
from launcher.core.text import ConsoleFilter, LineSplitter, clean_line, safe_text, strip_escapes
from launcher.core.words import sentence
from launcher.errors import StatusMalformed


def test_control_characters_and_direction_marks_become_escapes() -> None:
    assert safe_text("a\x1b[31mb\r\n\x00\u202ec") == "a\\x1b[31mb\\x0d\\x0a\\x00\\u202ec"
    assert safe_text("plain ünicode") == "plain ünicode"
    assert safe_text("\U000e0001") == "\\U000e0001"


def test_long_text_is_cut_visibly() -> None:
    assert safe_text("x" * 20, 10) == "x" * 10 + "…"


def test_lines_are_cut_at_newlines_however_they_arrive() -> None:
    lines = LineSplitter()
    assert lines.feed(b"ab") == []
    assert lines.feed(b"c\r\nde\n") == ["abc", "de"]
    assert lines.feed(b"tail") == []
    assert lines.pending == "tail"


def test_a_line_without_end_does_not_grow() -> None:
    lines = LineSplitter(limit=8)
    for _ in range(1000):
        assert lines.feed(b"0123456789") == []
    assert lines.feed(b"\nnext\n") == ["01234567", "next"]


def test_escape_sequences_of_the_firmware_are_removed() -> None:
    raw = b"\x1b[2J\x1b[001;001H\x1b[=3h\x1b]0;title\x07\x1bcBdsDxe: No bootable option was found.\r"
    assert clean_line(raw) == "BdsDxe: No bootable option was found."
    assert strip_escapes("\x1b[") == ""
    assert strip_escapes("\x1b]never ends") == ""


def test_the_console_filter_keeps_text_and_drops_sequences_cut_in_two() -> None:
    shown = ConsoleFilter()
    assert shown.feed(b"login: \x1b[3") == b"login: "
    assert shown.feed(b"1mred\r\n\x9b\x00") == "red\r\n\ufffd?".encode()
    umlaut = "ü".encode()
    assert ConsoleFilter().feed(umlaut) == umlaut
    halves = ConsoleFilter()
    assert halves.feed(umlaut[:1]) + halves.feed(umlaut[1:]) == umlaut


def test_a_sequence_that_never_ends_does_not_swallow_the_console() -> None:
    shown = ConsoleFilter()
    shown.feed(b"\x1b]" + b"x" * 400)
    assert shown.feed(b"text\n") == b"text\n"


def test_a_status_line_is_understood_and_cleaned() -> None:
    event = parse_status_line(
        b'{"v":1,"event":"payload-output","time":2.5,"detail":{"text":"a\\u001b[1m\\nb","n":[1,{"k\\u0007":"\\u202e"}]}}'
    )
    assert event == StatusEvent("payload-output", 2.5, {"text": "a\\x1b[1m\nb", "n": [1, {"k\\x07": "\\u202e"}]})
    assert parse_status_line(status_line(event).encode()) == event


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"null",
        b'{"v":1}',
        b'{"v":2,"event":"booted","time":1,"detail":{}}',
        b'{"v":true,"event":"booted","time":1,"detail":{}}',
        b'{"v":1,"event":"rooted","time":1,"detail":{}}',
        b'{"v":1,"event":["booted"],"time":1,"detail":{}}',
        b'{"v":1,"event":"booted","time":-1,"detail":{}}',
        b'{"v":1,"event":"booted","time":1e999,"detail":{}}',
        b'{"v":1,"event":"booted","time":true,"detail":{}}',
        b'{"v":1,"event":"booted","time":1,"detail":[]}',
        b'{"v":1,"event":"booted","event":"attested","time":1,"detail":{}}',
        b'{"v":1,"event":"booted","time":1,"detail":{"a":NaN}}',
        b'{"v":1,"event":"booted","time":1,"detail":{"x":"' + b"y" * 9000 + b'"}}',
        b'{"v":1,"event":"booted","time":1,"detail":' + b"[" * 100 + b"]" * 100 + b"}",
        b"\xff\xfe",
    ],
)
def test_a_status_line_outside_the_protocol_is_our_error(line: bytes) -> None:
    with pytest.raises(StatusMalformed):
        parse_status_line(line)


@pytest.mark.parametrize(
    ("line", "sign"),
    [
        ("[    0.000000] Linux version 6.12.0", Sign.KERNEL),
        ("EFI stub: Loaded initrd from LINUX_EFI_INITRD_MEDIA_GUID device path", Sign.KERNEL),
        ("[    3.1] Kernel panic - not syncing: Attempted to kill init!", Sign.PANIC),
        ("BdsDxe: No bootable option was found.", Sign.NOTHING_TO_BOOT),
        ('BdsDxe: failed to load Boot0002 "Grub Bootloader"', Sign.NOTHING_TO_BOOT),
        ("OVMF: x", None),
        ("cvm: agent started", Sign.AGENT_BOOTED),
        ("cvm: REFUSED by the service: no", Sign.AGENT_REFUSED),
        ("echo cvm: attested: yes", None),
        ("cvm: attested: the service says affirming", Sign.AGENT_ATTESTED),
        ("cvm: FAILED: no disk", Sign.AGENT_FAILED),
    ],
)
def test_console_lines_with_a_meaning_are_recognised(line: str, sign: Sign | None) -> None:
    found = sign_of(line)
    assert (found[0] if found else None) is sign


def test_sentences_never_carry_control_characters() -> None:
    nasty = "\x1b[2J\u202e"
    for source, event in (
        ("guest", "refused"),
        ("guest", "booted"),
        ("guest", "payload-output"),
        ("qemu", nasty),
        ("launcher", nasty),
    ):
        text = sentence(Seen(1.0, source, event, {"text": nasty, "message": nasty, "kernel": nasty}))
        assert all(line.isprintable() for line in text.split("\n")), text


def test_monitor_events_are_told_by_name() -> None:
    assert sentence(Seen(1.0, "qemu", "BLOCK_IO_ERROR", {})) == "QEMU: BLOCK_IO_ERROR"

"""The event log parser: real logs, damaged ones, and every length and count that a sender can lie about."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attest.evidence import event_types as ev
from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from attest.evidence.eventlog import CCEL, TCG2, decode_cc_eventlog, parse_event_log
from attest.evidence.eventlog_build import NewEvent, build_event_log, ccel_index
from attest.evidence.eventlog_json import parse_any_log, parse_json_log
from tests.fakes.eventlogs import direct_boot, direct_boot_log, event

PLAIN = direct_boot_log()
FIRST = 65  # where the entry after the header begins
KINDS = ("ccel_eventlog", "ccel_eventlog_bad", "dstack_eventlog")


def manifest(vectors: Path) -> list[dict[str, Any]]:
    entries = json.loads((vectors / "tdx" / "manifest.json").read_text())["entries"]
    return [entry for entry in entries if entry["kind"] in KINDS]


def test_every_real_log_has_the_size_events_and_banks_the_manifest_names(vectors: Path) -> None:
    seen = 0
    for entry in manifest(vectors):
        if entry["kind"] != "ccel_eventlog":
            continue
        log, facts = parse_event_log((vectors / "tdx" / entry["file"]).read_bytes()), entry["facts"]
        assert (log.kind, len(log.raw), len(log.events) + 1) == (CCEL, facts["log_bytes"], facts["events"])
        assert [hex(number) for number in log.algorithms] == facts["digest_algorithms"]
        counts = {f"mr{n}": sum(item.mr == n for item in log.events) for n in range(5)}
        assert {name: counts[name] for name in facts["events_per_mr"]} == facts["events_per_mr"]
        assert b"".join([log.raw[: log.events[0].offset], *map(log.raw_of, log.events)]) == log.raw
        seen += 1
    assert seen == 6


def test_every_damaged_log_is_refused_unless_only_its_data_lie(vectors: Path) -> None:
    refused = []
    for entry in manifest(vectors):
        data = (vectors / "tdx" / entry["file"]).read_bytes()
        if entry["kind"] == "ccel_eventlog_bad" and entry["expected"]["result"] == "reject":
            with pytest.raises(EvidenceMalformed):
                parse_event_log(data)
            refused.append(entry["file"])
    assert len(refused) == 4


def test_a_log_in_json_has_the_events_the_manifest_counts(vectors: Path) -> None:
    for entry in manifest(vectors):
        if entry["kind"] == "dstack_eventlog":
            log = parse_any_log((vectors / "tdx" / entry["file"]).read_bytes())
            assert len(log.events) == entry["facts"]["events"]


@pytest.mark.parametrize("filling", [b"\xff", b"\0"])
@pytest.mark.parametrize("length", [1, 3, 4, 11, 12, 13, 60_000])
def test_filling_up_to_the_end_ends_a_log(filling: bytes, length: int) -> None:
    log = parse_event_log(PLAIN + filling * length)
    assert log.raw == PLAIN
    assert log.events == parse_event_log(PLAIN).events


@pytest.mark.parametrize("tail", [b"\xff" * 40 + b"\0", b"\0" * 40 + b"\x01", b"\xff" * 20 + b"\0" * 20, b"x"])
def test_anything_else_after_the_last_event_is_refused(tail: bytes) -> None:
    with pytest.raises(EvidenceMalformed):
        parse_event_log(PLAIN + tail)


def test_an_event_behind_filling_is_refused() -> None:
    hidden = PLAIN[parse_event_log(PLAIN).events[-1].offset :]
    with pytest.raises(EvidenceMalformed):
        parse_event_log(PLAIN + b"\xff" * 64 + hidden)


def test_a_log_cut_anywhere_but_between_events_is_refused() -> None:
    borders = {FIRST, *(item.offset + item.size for item in parse_event_log(PLAIN).events)}
    for end in range(len(PLAIN)):
        if end in borders:
            parse_event_log(PLAIN[:end])
        else:
            with pytest.raises(EvidenceMalformed):
                parse_event_log(PLAIN[:end])


def _patched(offset: int, value: int, size: int = 4) -> bytes:
    changed = bytearray(PLAIN)
    changed[offset : offset + size] = value.to_bytes(size, "little")
    return bytes(changed)


@pytest.mark.parametrize(
    ("offset", "value", "size", "words"),
    [
        (0, 2, 4, "register 2"),
        (4, 4, 4, "type 0x4"),
        (8, 1, 1, "digest of the first entry is 01"),
        (28, 0x7FFFFFFF, 4, "first event"),
        (28, 32, 4, "vendor information length"),
        (52, 1, 1, "version 1.2|version 2.1"),
        (55, 3, 1, "UINTN size 3"),
        (56, 0, 4, "0 digest algorithms"),
        (56, 9, 4, "9 digest algorithms"),
        (60, 0x99, 2, "0x99 is not known"),
        (62, 32, 2, "SHA-384 of 32 bytes"),
        (64, 1, 1, "vendor information"),
        (FIRST, 5, 4, "register 5, want 0 to 4"),
        (FIRST + 8, 0, 4, "0 digests"),
        (FIRST + 8, 0xFFFFFFFF, 4, "4294967295 digests"),
        (FIRST + 12, 0xB, 2, "algorithm 0xb"),
        (FIRST + 62, 0x7FFFFFFF, 4, "2147483647 bytes of data"),
        (FIRST + 62, 0xFFFFF, 4, "event data"),
    ],
)
def test_a_header_or_length_that_lies_is_refused_by_name(offset: int, value: int, size: int, words: str) -> None:
    with pytest.raises(EvidenceMalformed, match=words):
        parse_event_log(_patched(offset, value, size))


def test_an_old_log_with_sha1_digests_only_is_refused_by_name() -> None:
    entry = struct.pack("<II20sI", 0, 8, hashlib.sha1(b"v").digest(), 1) + b"v"
    legacy = struct.pack("<II20xI", 0, 3, 28) + b"Spec ID Event02\0" + bytes(12)
    with pytest.raises(EvidenceUnsupported, match=r"TCG 1\.2"):
        parse_event_log(legacy + entry)


def test_a_bank_listed_twice_and_a_digest_given_twice_are_refused() -> None:
    item = NewEvent(1, ev.EV_SEPARATOR, ((ev.SHA1, bytes(20)), (ev.SHA256, bytes(32))), bytes(4))
    banks = (ev.SHA1, ev.SHA256)
    good = build_event_log([item], kind=TCG2, algorithms=banks)
    assert len(parse_event_log(good).events) == 1
    twice = item._replace(digests=((ev.SHA1, bytes(20)), (ev.SHA1, bytes(20))))
    with pytest.raises(EvidenceMalformed, match="two digests"):
        parse_event_log(build_event_log([twice], kind=TCG2, algorithms=banks))
    with pytest.raises(EvidenceMalformed, match="and once"):
        parse_event_log(build_event_log([], algorithms=(ev.SHA1, ev.SHA1)))


def test_what_the_registers_mean_is_told_from_the_log_or_by_the_caller() -> None:
    pcr = build_event_log([event(7, ev.EV_SEPARATOR, bytes(4))], kind=TCG2)
    assert parse_event_log(pcr).kind == TCG2
    with pytest.raises(EvidenceMalformed, match="register 7, want 0 to 4"):
        parse_event_log(pcr, CCEL)
    low = build_event_log([event(4, ev.EV_SEPARATOR, bytes(4))], kind=TCG2)
    assert parse_event_log(low).kind == CCEL
    assert parse_event_log(low, TCG2).kind == TCG2
    with pytest.raises(EvidenceMalformed, match="register 24, want 0 to 23"):
        parse_event_log(build_event_log([event(24, ev.EV_SEPARATOR, bytes(4))], kind=TCG2))
    with pytest.raises(EvidenceMalformed, match="want 0 in a TPM log"):
        parse_event_log(PLAIN, TCG2)


def test_the_pcrs_of_a_pc_have_their_place_in_a_td() -> None:
    assert [ccel_index(pcr) for pcr in range(16)] == [0, 1, 2, 2, 2, 2, 2, 1, *[3] * 8]
    with pytest.raises(KeyError):
        ccel_index(16)


def test_the_log_of_kbs_evidence_is_base64_of_a_ccel() -> None:
    text = base64.b64encode(PLAIN + b"\xff" * 100).decode()
    assert decode_cc_eventlog(text).raw == PLAIN
    for wrong in ("", text[:-1], text + "!", None, 5, "A" * (6 << 20)):
        with pytest.raises(EvidenceMalformed):
            decode_cc_eventlog(wrong)


def test_a_log_that_is_too_long_is_refused_unread() -> None:
    with pytest.raises(EvidenceMalformed, match="want at most"):
        parse_event_log(PLAIN + b"\xff" * (4 << 20))


def _json_event(**changes: Any) -> bytes:
    item = {"imr": 0, "event_type": 4, "digest": "00" * 48, "event": "", "event_payload": "00000000"}
    return json.dumps([item | changes]).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"imr": 4}, {"imr": -1}, {"imr": True}, {"imr": "0"}, {"event_type": 1 << 32}, {"event_type": None},
        {"digest": ""}, {"digest": "00" * 32}, {"digest": "zz" * 48}, {"event": "name"}, {"event_payload": 5},
        {"more": 1}, {"event_type": 0x08000001, "event": "a:b"}, {"event_type": 0x08000001, "event": None},
    ],
)  # fmt: skip
def test_a_json_event_with_any_member_wrong_is_refused(changes: dict[str, Any]) -> None:
    assert len(parse_json_log(_json_event()).events) == 1
    with pytest.raises(EvidenceMalformed):
        parse_json_log(_json_event(**changes))


@pytest.mark.parametrize("text", [b"[", b"[1]", b'{"a": 1}', b"[[]]", b'[{"imr": 0, "imr": 1}]'])
def test_other_json_is_refused(text: bytes) -> None:
    with pytest.raises(EvidenceMalformed):
        parse_json_log(text)


def test_a_run_time_event_without_digest_gets_the_one_its_name_and_payload_have() -> None:
    log = parse_json_log(_json_event(imr=3, event_type=0x08000001, event="app-id", event_payload="aabb", digest=""))
    assert log.events[0].digest(ev.SHA384) == hashlib.sha384(b"\1\0\0\x08:app-id:\xaa\xbb").digest()


def test_a_log_of_many_banks_keeps_every_digest(make: Callable[[int], bytes] = bytes) -> None:
    banks = tuple(ev.ALGORITHMS)
    digests = tuple((number, make(ev.ALGORITHMS[number][1])) for number in reversed(banks))
    log = parse_event_log(build_event_log([NewEvent(0, 4, digests, b"")], kind=TCG2, algorithms=banks))
    assert log.events[0].digests == digests
    with pytest.raises(KeyError):
        log.events[0].digest(0x99)


def test_what_the_writer_writes_is_read_back() -> None:
    events = direct_boot()
    log = parse_event_log(build_event_log(events, size=65536))
    assert [NewEvent(item.mr, item.type, item.digests, item.data) for item in log.events] == events

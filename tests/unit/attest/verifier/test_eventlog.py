"""Replay: a log explains a quote's registers, or is refused with the register, the computed and the signed value."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from attest.endorsement.errors import VerificationFailed
from attest.evidence import event_types as ev
from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from attest.evidence.event_data import read_event
from attest.evidence.eventlog import CCEL, TCG2, EventLog, parse_event_log
from attest.evidence.eventlog_build import NewEvent, build_event_log
from attest.evidence.eventlog_json import parse_any_log
from attest.evidence.quote import parse_quote
from attest.evidence.td_report import TdReportBody
from attest.verifier.eventlog import (
    EventLogMismatch,
    measured_events,
    replay_pcrs,
    replay_rtmrs,
    verify_event_log,
    verify_pcr_log,
)  # fmt: skip
from policy.measured import MeasuredEvent, replay
from policy.measured_facts import event_facts
from tests.fakes.eventlogs import direct_boot, direct_boot_log, event

LOG = parse_event_log(direct_boot_log())
RTMRS = replay_rtmrs(LOG)


def logs_with_values(vectors: Path) -> list[tuple[dict[str, Any], EventLog]]:
    entries = json.loads((vectors / "tdx" / "manifest.json").read_text())["entries"]
    wanted = [
        entry for entry in entries if entry["kind"] in ("ccel_eventlog", "dstack_eventlog") and "expected" in entry
    ]
    return [(entry, parse_any_log((vectors / "tdx" / entry["file"]).read_bytes(), CCEL)) for entry in wanted]


def rtmrs_of(path: Path) -> tuple[bytes, ...]:
    body = parse_quote(path.read_bytes()).body
    assert isinstance(body, TdReportBody)
    return body.rtmrs


def test_every_real_log_replays_to_the_registers_of_the_manifest(vectors: Path) -> None:
    cases = logs_with_values(vectors)
    assert len(cases) == 7
    for entry, log in cases:
        computed = {f"rtmr{number}": value.hex() for number, value in enumerate(replay_rtmrs(log))}
        assert computed == entry["expected"], entry["file"]
        assert replay(measured_events(log)) == replay_rtmrs(log)


def test_every_real_log_matches_its_quote_as_far_as_the_manifest_says(vectors: Path) -> None:
    seen = 0
    for entry, log in logs_with_values(vectors):
        if "quote" not in entry:
            continue
        rtmrs = rtmrs_of(vectors / "tdx" / entry["quote"])
        wrong = {number for number in range(4) if not entry["matches_quote"][f"rtmr{number}"]}
        if wrong:
            with pytest.raises(EventLogMismatch, match=f"RTMR{min(wrong)}"):
                verify_event_log(log, rtmrs)
        events = verify_event_log(log, rtmrs, unlogged_registers=frozenset(wrong))
        assert {item.register for item in events}.isdisjoint(wrong)
        seen += 1
    assert seen == 4


def test_a_log_of_another_hash_explains_no_rtmr(vectors: Path) -> None:
    log = parse_event_log((vectors / "tdx" / "eventlogs" / "ccel-sm3.bin").read_bytes())
    with pytest.raises(EvidenceUnsupported, match="SM3-256 digests, want SHA-384"):
        verify_event_log(log, [bytes(48)] * 4)


def test_a_mismatch_names_the_register_the_computed_and_the_signed_value() -> None:
    for number in range(4):
        signed = [*RTMRS[:number], b"\x5a" * 48, *RTMRS[number + 1 :]]
        with pytest.raises(EventLogMismatch) as caught:
            verify_event_log(LOG, signed)
        error = caught.value
        assert (error.register, error.computed, error.signed) == (number, RTMRS[number], b"\x5a" * 48)
        assert error.code == "verification.event-log"
        assert error.kind == "guest"
        assert f"RTMR{number} replays to {RTMRS[number].hex()}" in error.message
        assert error.number > VerificationFailed("binding", "").number


def test_an_unlogged_register_may_differ_and_then_none_of_its_events_become_claims() -> None:
    signed = [*RTMRS[:2], b"\x5a" * 48, RTMRS[3]]
    events = verify_event_log(LOG, signed, unlogged_registers=frozenset({2, 3}))
    assert {item.register for item in events} == {0, 1}
    with pytest.raises(EventLogMismatch, match="RTMR2"):
        verify_event_log(LOG, signed, unlogged_registers=frozenset({3}))
    with pytest.raises(EventLogMismatch, match="RTMR0"):
        verify_event_log(LOG, [bytes(48)] * 4, unlogged_registers=frozenset({2}))


def test_a_register_declared_unlogged_that_replays_keeps_its_events() -> None:
    assert verify_event_log(LOG, RTMRS, unlogged_registers=frozenset(range(4))) == measured_events(LOG)


def test_no_action_and_mrtd_entries_extend_nothing_and_become_no_event() -> None:
    extra = [
        event(1, ev.EV_NO_ACTION, b"x" * 20),
        event(0, ev.EV_SEPARATOR, bytes(4)),
        event(0xFFFFFFFF, ev.EV_NO_ACTION, b""),
    ]
    log = parse_event_log(build_event_log([*extra, *direct_boot(), *extra]))
    assert replay_rtmrs(log) == RTMRS
    assert verify_event_log(log, RTMRS) == measured_events(LOG)


@pytest.mark.parametrize("change", ["drop", "swap", "repeat", "move"])
def test_a_log_with_an_event_dropped_swapped_repeated_or_moved_is_refused(change: str) -> None:
    events = direct_boot()
    for number in range(len(events)):
        altered = list(events)
        if change == "drop":
            del altered[number]
        elif change == "repeat":
            altered.insert(number, events[number])
        elif change == "move":
            altered[number] = altered[number]._replace(mr=altered[number].mr % 4 + 1)
        else:
            others = [n for n in range(number + 1, len(events)) if events[n].mr == events[number].mr]
            if not others:
                continue
            altered[number], altered[others[0]] = altered[others[0]], altered[number]
            if altered[number].digests == altered[others[0]].digests:
                continue
        with pytest.raises(EventLogMismatch):
            verify_event_log(parse_event_log(build_event_log(altered)), RTMRS)


def _check_flip(data: bytes, offset: int, bit: int, rtmrs: tuple[bytes, ...], good: tuple[MeasuredEvent, ...]) -> str:
    changed = bytearray(data)
    changed[offset] ^= bit
    try:
        log = parse_event_log(bytes(changed), CCEL)
        events = verify_event_log(log, rtmrs)
    except EvidenceMalformed:
        return "malformed"
    except EventLogMismatch:
        return "mismatch"
    assert [item.digest for item in events] == [item.digest for item in good]
    raw = [item for item in log.events if item.mr and item.type != ev.EV_NO_ACTION]
    for before, after, entry in zip(good, events, raw, strict=True):
        if after != before and after.proven:
            # Only a label changed: what is still proven is what was really hashed.
            covered = read_event(entry.type, entry.data).covered
            assert any(hashlib.sha384(item).digest() == after.digest and item in data for item in covered)
    ours, theirs = event_facts(good), event_facts(events)
    assert theirs.secure_boot == ours.secure_boot
    assert theirs.db in (ours.db, None)
    for name in ("applications", "loaded"):
        assert {item.digest for item in getattr(ours, name)} <= {item.digest for item in getattr(theirs, name)}
    return "relabelled"


@pytest.mark.parametrize("name", ["ccel-ovmf-direct.bin", "direct"])
def test_every_flipped_byte_of_a_log_is_refused_or_changes_only_what_is_not_proven(name: str, vectors: Path) -> None:
    data = direct_boot_log() if name == "direct" else (vectors / "tdx" / "eventlogs" / name).read_bytes()
    log = parse_event_log(data)
    data, rtmrs, good = log.raw, replay_rtmrs(log), measured_events(log)
    outcomes = {_check_flip(data, offset, bit, rtmrs, good) for offset in range(len(data)) for bit in (1, 0x80)}
    assert outcomes == {"malformed", "mismatch", "relabelled"}


def test_flipped_bytes_of_a_long_real_log_change_only_what_is_not_proven(vectors: Path) -> None:
    log = parse_event_log((vectors / "tdx" / "eventlogs" / "ccel-shim-grub.bin").read_bytes())
    rtmrs, good = replay_rtmrs(log), measured_events(log)
    for offset in range(0, len(log.raw), 23):
        _check_flip(log.raw, offset, 1 << offset % 8, rtmrs, good)


def _tpm_log(*events: NewEvent) -> EventLog:
    return parse_event_log(build_event_log(events, kind=TCG2), TCG2)


def test_pcr_0_starts_with_the_locality_the_log_states() -> None:
    item = event(0, ev.EV_S_CRTM_VERSION, b"1")
    digest = hashlib.sha384(b"1").digest()
    for locality in (0, 3, 4):
        log = _tpm_log(event(0, ev.EV_NO_ACTION, b"StartupLocality\0" + bytes([locality])), item, event(4, 5, b"a"))
        pcrs = replay_pcrs(log, ev.SHA384)
        assert pcrs[0] == hashlib.sha384(bytes(47) + bytes([locality]) + digest).digest()
        assert pcrs[4] == hashlib.sha384(bytes(48) + hashlib.sha384(b"a").digest()).digest()
    assert replay_pcrs(_tpm_log(item), ev.SHA384)[0] == hashlib.sha384(bytes(48) + digest).digest()


@pytest.mark.parametrize("stated", [[b"\1"], [b"\3", b"\3"], [b""], [b"\3\3"]])
def test_a_locality_that_is_none_or_is_stated_twice_is_refused(stated: list[bytes]) -> None:
    entries = [event(0, ev.EV_NO_ACTION, b"StartupLocality\0" + value) for value in stated]
    with pytest.raises(EvidenceMalformed, match="StartupLocality"):
        replay_pcrs(_tpm_log(*entries, event(0, ev.EV_SEPARATOR, bytes(4))), ev.SHA384)


def test_pcrs_are_compared_with_signed_ones_and_the_vouched_events_returned() -> None:
    log = _tpm_log(event(0, ev.EV_SEPARATOR, bytes(4)), event(4, 5, b"a"), event(7, 5, b"b"))
    pcrs = replay_pcrs(log, ev.SHA384)
    signed = {number: pcrs.get(number, bytes(48)) for number in (0, 4, 9)}
    assert [item.register for item in verify_pcr_log(log, ev.SHA384, signed)] == [0, 4]
    signed[9] = b"\1" * 48
    with pytest.raises(EventLogMismatch, match="PCR9 replays to 00"):
        verify_pcr_log(log, ev.SHA384, signed)
    assert len(verify_pcr_log(log, ev.SHA384, signed, unlogged_registers=frozenset({9}))) == 2


def test_a_tpm_log_is_no_ccel_and_a_ccel_no_tpm_log() -> None:
    log = _tpm_log(event(7, ev.EV_SEPARATOR, bytes(4)))
    with pytest.raises(EvidenceUnsupported, match="want a CCEL"):
        verify_event_log(log, RTMRS)
    with pytest.raises(EvidenceUnsupported, match="not PCRs"):
        replay_pcrs(LOG, ev.SHA384)
    with pytest.raises(EvidenceUnsupported, match="SHA-1"):
        replay_pcrs(log, ev.SHA1)

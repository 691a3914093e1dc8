"""Our reading of event logs beside ``tpm2_eventlog`` of tpm2-tools: same events, same digests, same PCRs."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attest.evidence import event_types as ev
from attest.evidence.eventlog import TCG2, EventLog, parse_event_log
from attest.evidence.eventlog_build import NewEvent, build_event_log
from attest.verifier.eventlog import replay_pcrs

TOOL = shutil.which("tpm2_eventlog")
pytestmark = pytest.mark.skipif(TOOL is None, reason="tpm2_eventlog is not installed (package tpm2-tools)")
BANKS = {"sha1": ev.SHA1, "sha256": ev.SHA256, "sha384": ev.SHA384, "sha512": ev.SHA512}
NAMES = {number: name for name, number in BANKS.items()}


def peer(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    done = subprocess.run([str(TOOL), str(path)], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("utf-8", "replace")


def events_of(text: str) -> list[tuple[int, str, list[str]]]:
    """(PCR, type, digests) of every entry but the first."""
    rows = []
    for part in text.split("\npcrs:")[0].split("\n- EventNum: ")[2:]:
        pcr = re.search(r"PCRIndex: (\d+)", part)
        kind = re.search(r"EventType: (\S+)", part)
        assert pcr and kind
        rows.append((int(pcr[1]), kind[1], re.findall(r'    Digest: "([0-9a-f]+)"', part)))
    return rows


def pcrs_of(text: str) -> dict[str, dict[int, bytes]]:
    found: dict[str, dict[int, bytes]] = {}
    bank = ""
    for line in text.split("\npcrs:")[1].splitlines():
        if head := re.fullmatch(r"  (\w+):", line):
            bank = head[1]
        elif row := re.fullmatch(r"    (\d+)\s*: 0x([0-9a-f]+)", line):
            found.setdefault(bank, {})[int(row[1])] = bytes.fromhex(row[2])
    return found


def assert_same(log: EventLog, text: str) -> None:
    ours = [(item.mr, [digest.hex() for _, digest in item.digests]) for item in log.events]
    assert [(pcr, digests) for pcr, _, digests in events_of(text)] == ours
    for (_, kind, _), item in zip(events_of(text), log.events, strict=True):
        assert kind == ev.TYPE_NAMES[item.type]
    replayed = {NAMES[bank]: replay_pcrs(log, bank) for bank in log.algorithms}
    assert pcrs_of(text) == {name: values for name, values in replayed.items() if values}


def test_every_real_log_is_read_alike(vectors: Path, tmp_path: Path) -> None:
    """A CCEL becomes a TPM log by its first entry; RTMRs are PCRs then, the arithmetic is the same."""
    seen = 0
    for path in sorted((vectors / "tdx" / "eventlogs").glob("ccel-*.bin")):
        if "sm3" in path.name or "acpi-table" in path.name:
            continue
        source = parse_event_log(path.read_bytes())
        events = [NewEvent(item.mr, item.type, item.digests, item.data) for item in source.events]
        data = build_event_log(events, kind=TCG2)
        assert_same(parse_event_log(data, TCG2), peer(tmp_path / "log", data))
        seen += 1
    assert seen == 5


@st.composite
def random_logs(draw: st.DrawFn) -> bytes:
    banks = draw(st.lists(st.sampled_from(sorted(NAMES)), min_size=1, max_size=4, unique=True))
    events = []
    for _ in range(draw(st.integers(1, 12))):
        data = draw(st.binary(max_size=40))
        digests = tuple((bank, hashlib.new(NAMES[bank], data).digest()) for bank in banks)
        kind = draw(st.sampled_from([ev.EV_EFI_ACTION, ev.EV_ACTION, ev.EV_S_CRTM_VERSION, ev.EV_CPU_MICROCODE]))
        events.append(NewEvent(draw(st.integers(0, 15)), kind, digests, data.hex().encode()))
    return build_event_log(events, kind=TCG2, algorithms=banks)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=random_logs())
def test_random_logs_of_any_banks_are_read_alike(data: bytes, tmp_path: Path) -> None:
    assert_same(parse_event_log(data, TCG2), peer(tmp_path / "log", data))


def test_the_peer_extends_pcr_0_with_the_zeros_of_a_startup_locality_and_we_start_from_it(tmp_path: Path) -> None:
    """A known difference: tpm2-tools 5.4 extends EV_NO_ACTION; TCG says that nothing is extended by it."""
    zeros, separator = ((ev.SHA256, bytes(32)),), hashlib.sha256(bytes(4)).digest()
    first = NewEvent(0, ev.EV_NO_ACTION, zeros, b"StartupLocality\0\3")
    then = NewEvent(0, ev.EV_SEPARATOR, ((ev.SHA256, separator),), bytes(4))
    data = build_event_log([first, then], kind=TCG2, algorithms=(ev.SHA256,))
    start = bytes(31) + b"\3"
    ours = replay_pcrs(parse_event_log(data, TCG2), ev.SHA256)[0]
    assert ours == hashlib.sha256(start + separator).digest()
    theirs = pcrs_of(peer(tmp_path / "log", data))["sha256"][0]
    old = hashlib.sha256(hashlib.sha256(bytes(64)).digest() + separator).digest()
    assert theirs in (ours, old)

"""``attest evidence replay``: registers and events, beside a quote and an expected log, on 100 columns and as JSON."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from attest.cli import main
from attest.evidence.eventlog import parse_event_log
from attest.evidence.eventlog_build import build_event_log
from attest.verifier.eventlog import replay_rtmrs
from tests.fakes.eventlogs import direct_boot_log, event
from tests.unit.attest.evidence.quotes import make_quote

LOG = direct_boot_log(size=4096)
RTMRS = replay_rtmrs(parse_event_log(LOG))
RTMR0_IN_BODY = 328


def quote_with(rtmrs: tuple[bytes, ...]) -> bytes:
    body = bytearray(584)
    body[RTMR0_IN_BODY : RTMR0_IN_BODY + 192] = b"".join(rtmrs)
    return make_quote(body=bytes(body))


class Runner:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys

    def file(self, name: str, data: bytes) -> str:
        (self.folder / name).write_bytes(data)
        return str(self.folder / name)

    def run(self, *words: str) -> tuple[int, str, str]:
        code = main(["evidence", *words])
        out, err = self.capsys.readouterr()
        return code, out, err

    def json(self, *words: str) -> dict[str, Any]:
        _, out, _ = self.run(*words, "--json")
        value: dict[str, Any] = json.loads(out)
        return value


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Runner:
    monkeypatch.chdir(tmp_path)
    return Runner(Path(), capsys)


def test_a_log_is_shown_with_registers_and_every_event_on_100_columns(cli: Runner) -> None:
    code, out, _ = cli.run("replay", cli.file("log", LOG))
    assert code == 0
    for value in RTMRS:
        assert value.hex()[:64] in out
    assert "variable:SecureBoot  on" in out
    assert max(map(len, out.splitlines())) <= 100


def test_a_quote_whose_registers_the_log_gives_matches(cli: Runner) -> None:
    words = ("replay", cli.file("log", LOG), "--quote", cli.file("quote", quote_with(RTMRS)))
    code, out, _ = cli.run(*words)
    assert (code, "the log replays to the quote's registers" in out) == (0, True)
    result = cli.json(*words)
    assert (result["schema"], result["outcome"], result["log"]) == ("attest.evidence.replay/1", "matches", "ccel")
    assert [row["outcome"] for row in result["quote"]] == ["match"] * 4


def test_a_log_that_does_not_replay_exits_6_and_shows_both_values(cli: Runner) -> None:
    signed = (*RTMRS[:2], b"\x5a" * 48, RTMRS[3])
    words = ("replay", cli.file("log", LOG), "--quote", cli.file("quote", quote_with(signed)))
    code, out, _ = cli.run(*words)
    assert code == 6
    assert "RTMR2  mismatch" in out
    assert RTMRS[2].hex()[:64] in out
    assert ("5a" * 48)[:64] in out
    assert cli.json(*words)["outcome"] == "differs"
    code, out, _ = cli.run(*words, "--unlogged", "2")
    assert (code, "RTMR2  unlogged" in out) == (0, True)


def test_differences_from_another_log_are_shown_event_by_event(cli: Runner) -> None:
    other = cli.file("other", direct_boot_log(kernel=b"another kernel"))
    result = cli.json("replay", cli.file("log", LOG), "--expected", other)
    (difference,) = result["differences"]
    assert (difference["register"], difference["kind"], difference["name"]) == ("RTMR1", "changed", "application")
    same = cli.json("replay", "log", "--expected", "log")
    assert same["differences"] == []


def test_evidence_that_carries_a_log_is_replayed_by_itself(cli: Runner) -> None:
    evidence = {
        "quote": base64.b64encode(quote_with(RTMRS)).decode(),
        "cc_eventlog": base64.b64encode(LOG).decode(),
    }
    result = cli.json("replay", cli.file("kbs.json", json.dumps(evidence).encode()))
    assert result["outcome"] == "matches"
    code, _, err = cli.run("replay", cli.file("quote", quote_with(RTMRS)))
    assert (code, "without an event log" in err) == (5, True)


def test_a_tpm_log_shows_its_pcrs_and_has_no_rtmrs_to_compare(cli: Runner) -> None:
    log = cli.file("tpm", build_event_log([event(7, 4, bytes(4))], kind="tcg2"))
    code, out, _ = cli.run("replay", log)
    assert (code, "PCR7   SHA-384" in out) == (0, True)
    code, _, err = cli.run("replay", log, "--quote", cli.file("quote", quote_with(RTMRS)))
    assert (code, "register 7, want 0 to 4" in err) == (5, True)


@pytest.mark.parametrize("data", [b"", b"[1]", LOG[:100], b"\xff" * 99])
def test_a_damaged_log_exits_5(cli: Runner, data: bytes) -> None:
    assert cli.run("replay", cli.file("bad", data))[0] == 5


def test_a_missing_file_exits_10(cli: Runner) -> None:
    assert cli.run("replay", "nowhere")[0] == 10


def test_show_decodes_a_log_and_says_first_that_nothing_was_verified(cli: Runner) -> None:
    code, out, _ = cli.run("show", cli.file("log", LOG))
    assert (code, out.startswith("NOT VERIFIED")) == (0, True)
    result = cli.json("show", "log")
    assert (result["kind"], result["verified"], len(result["events"])) == ("event-log", False, 21)


def test_a_hostile_line_never_drives_the_terminal(cli: Runner) -> None:
    _, out, _ = cli.run("replay", cli.file("log", direct_boot_log(event(3, 0xD, b"grub_cmd: \x1b[2J\0"))))
    assert "\x1b" not in out


def test_every_real_log_and_quote_gets_the_outcome_of_the_manifest(
    vectors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = vectors / "tdx"
    for entry in json.loads((folder / "manifest.json").read_text())["entries"]:
        if entry["kind"] in ("ccel_eventlog", "dstack_eventlog") and "quote" in entry:
            words = ["evidence", "replay", str(folder / entry["file"]), "--quote", str(folder / entry["quote"])]
            assert main(words) == (0 if all(entry["matches_quote"].values()) else 6), entry["file"]
        elif entry["kind"] == "ccel_eventlog_bad":
            refused = entry["expected"]["result"] == "reject"
            assert main(["evidence", "replay", str(folder / entry["file"])]) == (5 if refused else 0)
    capsys.readouterr()

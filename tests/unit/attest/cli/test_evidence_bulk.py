"""``attest evidence verify DIR``: many files, one line each, the worst outcome decides."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attest.cli import evidence_bulk, main
from attest.cli.evidence_bulk import WORST_FIRST
from tests.fakes.amd_pki import FakeAmdPki, Leaf

AT = "2026-06-01T12:00:00Z"
Run = Callable[..., tuple[int, list[str], str]]


@pytest.fixture(scope="module")
def world() -> FakeAmdPki:
    return FakeAmdPki()


@pytest.fixture
def reports(tmp_path: Path, world: FakeAmdPki) -> Path:
    """A folder of reports, and one beside it of certificates."""
    (tmp_path / "certificates").mkdir()
    for number, data in enumerate(world.certificates):
        (tmp_path / "certificates" / f"{number}.der").write_bytes(data)
    folder = tmp_path / "reports"
    folder.mkdir()
    for number in range(3):
        (folder / f"good-{number}.bin").write_bytes(world.raw)
    return folder


@pytest.fixture
def run(reports: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> tuple[int, list[str], str]:
        beside = str(reports.parent / "certificates")
        code = main(
            [
                "evidence",
                "verify",
                str(reports),
                "--collateral",
                beside,
                "--root",
                beside + "/2.der",
                "--at",
                AT,
                *words,
            ]
        )
        done = capsys.readouterr()
        return code, done.out.splitlines(), done.err

    return call


def test_each_file_has_a_line_in_the_order_of_names(reports: Path, run: Run) -> None:
    code, lines, err = run()
    assert code == 0
    assert [line.split()[0] for line in lines] == ["genuine"] * 3
    assert [line.split()[1].rstrip(":") for line in lines] == [
        str(reports / f"good-{number}.bin") for number in range(3)
    ]
    assert err == "attest: 3 files: 3 genuine\n"


def damaged(world: FakeAmdPki) -> dict[str, bytes]:
    flipped = bytearray(world.raw)
    flipped[0x90] ^= 1
    return {
        "malformed": b"nothing known", "failed": bytes(flipped),
        "unavailable": FakeAmdPki(leaf=Leaf(key="other"), report={"reported_tcb": bytes([9, 0, 0, 0, 0, 0, 24, 84])}).raw,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kinds", "code"),
    [(["malformed"], 5), (["failed"], 6), (["malformed", "failed"], 6)],
)
def test_the_worst_outcome_decides(reports: Path, run: Run, world: FakeAmdPki, kinds: list[str], code: int) -> None:
    for kind in kinds:
        (reports / f"{kind}.bin").write_bytes(damaged(world)[kind])
    found, lines, err = run()
    assert found == code
    assert len(lines) == 3 + len(kinds)
    for kind in kinds:
        assert f"1 {kind}" in err


def test_what_cannot_be_judged_is_8_and_what_is_wrong_comes_first(
    tmp_path: Path, world: FakeAmdPki, capsys: Any
) -> None:
    (tmp_path / "a.bin").write_bytes(world.raw)
    assert main(["evidence", "verify", str(tmp_path), "--at", AT]) == 8
    (tmp_path / "b.bin").write_bytes(b"nothing")
    assert main(["evidence", "verify", str(tmp_path), "--at", AT]) == 5
    assert set(WORST_FIRST) == {"genuine", "malformed", "failed", "denied", "unavailable"}


def test_a_policy_denies_file_by_file(reports: Path, run: Run, world: FakeAmdPki, tmp_path: Path) -> None:
    _, lines, _ = run("--json")
    root = json.loads(lines[0])["claims"]["root"]
    text = (Path(__file__).parents[4] / "policy/documents/demo.toml").read_text().replace("test:@EMULATED_ROOT@", root)
    (tmp_path / "policy.toml").write_text(text)
    code, lines, err = run("--policy", str(tmp_path / "policy.toml"))
    assert (code, err) == (7, "attest: 3 files: 3 denied\n")
    assert all("measurement" in line for line in lines)


def test_json_lines_are_the_objects_of_single_files(reports: Path, run: Run, capsys: Any) -> None:
    _, lines, _ = run("--json")
    beside = str(reports.parent / "certificates")
    one = str(reports / "good-0.bin")
    main(["evidence", "verify", one, "--collateral", beside, "--root", beside + "/2.der", "--at", AT, "--json"])
    assert json.loads(lines[0]) == json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("processes", [True, False])
def test_workers_give_the_same_lines_in_the_same_order(
    reports: Path, run: Run, world: FakeAmdPki, monkeypatch: pytest.MonkeyPatch, processes: bool
) -> None:
    for number in range(150):
        (reports / f"{number:03}.bin").write_bytes(world.raw if number % 7 else b"nothing")
    code, alone, _ = run("--jobs", "1")
    monkeypatch.setattr(evidence_bulk, "HAVE_AWSCRT", processes)
    monkeypatch.setattr(evidence_bulk, "_WORTH_WORKERS", 1)
    assert run("--jobs", "2") == (code, alone, "attest: 153 files: 131 genuine, 22 malformed\n")


def test_links_pipes_and_empty_folders_hang_nothing(reports: Path, run: Run) -> None:
    os.mkfifo(reports / "pipe")
    (reports / "loop").symlink_to(reports)
    (reports / "link.bin").symlink_to(reports / "good-0.bin")
    assert len(run()[1]) == 3
    for path in reports.iterdir():
        path.unlink()
    code, lines, err = run()
    assert (code, lines) == (10, [])
    assert "holds no files" in err


def test_a_hostile_file_name_does_not_reach_the_terminal(reports: Path, run: Run) -> None:
    (reports / "\x1b[2J.bin").write_bytes(b"nothing")
    assert not any("\x1b" in line for line in run()[1])


def test_progress_is_drawn_on_a_terminal_only(reports: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(evidence_bulk, "_REDRAW_SECONDS", 0)
    assert "3 of 3, 0 not genuine" in run()[2]


@pytest.mark.parametrize("jobs", ["0", "-1", "x", "1000", "²"])
def test_a_wrong_number_of_workers_is_wrong_usage(reports: Path, run: Run, jobs: str) -> None:
    with pytest.raises(SystemExit) as caught:
        run("--jobs", jobs)
    assert caught.value.code == 2


def test_a_library_of_many_certificates_gives_the_verdicts_of_each_alone(
    tmp_path: Path, capsys: Any, world: FakeAmdPki
) -> None:
    """Ten chips, one of which has no certificate at its TCB: a report is judged by its own chip's only."""
    for name in ("reports", "library"):
        (tmp_path / name).mkdir()
    for number in range(10):
        chip = bytes([number + 1]) * 64
        tcb = bytes([9, 0, 0, 0, 0, 0, 24, 84])
        older = {"reported_tcb": tcb} if number == 9 else {}
        one = FakeAmdPki(leaf=Leaf(hwid=chip, key=f"chip-{number}"), report={"chip_id": chip, **older})
        (tmp_path / "reports" / f"{number}.bin").write_bytes(one.raw)
        (tmp_path / "library" / f"{number}.der").write_bytes(one.leaf_der)
    for name, data in (("ask", world.ask_der), ("ark", world.ark_der)):
        (tmp_path / "library" / name).write_bytes(data)
    words = ["--collateral", str(tmp_path / "library"), "--root", str(tmp_path / "library" / "ark"), "--at", AT]
    assert main(["evidence", "verify", str(tmp_path / "reports"), *words]) == 8
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["genuine"] * 9 + ["unavailable"]
    assert "(but at bootloader=10 tee=0 snp=24 microcode=84)" in lines[9]

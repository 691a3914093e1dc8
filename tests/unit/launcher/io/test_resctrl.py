"""Ways of the last-level cache, against a made-up resctrl tree: no machine with cache allocation was at hand."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from launcher.core.cache_ways import WaysMalformed, choose, l3_masks, line
from launcher.io import resctrl
from launcher.io.resctrl import Partition, partition, release, statement


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two caches of 12 ways; folders get their files and lose them as the kernel's do."""
    (tmp_path / "info/L3").mkdir(parents=True)
    (tmp_path / "info/L3/cbm_mask").write_text("fff\n")
    (tmp_path / "info/L3/min_cbm_bits").write_text("2\n")
    (tmp_path / "info/last_cmd_status").write_text("ok\n")
    (tmp_path / "schemata").write_text("    MB:0=100;1=100\n    L3:0=fff;1=fff\n")

    def mkdir(path: str) -> None:
        Path(path).mkdir()
        for name in ("schemata", "tasks"):
            (Path(path) / name).touch()

    monkeypatch.setattr(resctrl, "_make", mkdir)
    monkeypatch.setattr(resctrl, "_remove", shutil.rmtree)
    return tmp_path


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is written, in its order."""
    found: list[tuple[str, str]] = []
    real = resctrl.write_text

    def write_text(path: str, text: str) -> None:
        found.append((os.path.basename(path), text))
        real(path, text)

    monkeypatch.setattr(resctrl, "write_text", write_text)
    return found


def test_every_thread_gets_the_highest_free_ways_of_every_cache(tree: Path, written: list[tuple[str, str]]) -> None:
    given = partition("web", [7, 8], 4, str(tree))
    assert given == Partition(4, f"{tree}/cvm-web", 0xF00)
    assert written == [("schemata", "L3:0=f00;1=f00\n"), ("tasks", "7"), ("tasks", "8")]
    assert statement(given) == "placement: 4 ways of every L3 (mask f00)"


def test_two_vms_share_no_ways_and_the_third_is_told_that_none_are_left(tree: Path) -> None:
    masks = [partition(name, [], 6, str(tree)).mask for name in ("a", "b")]
    assert masks == [0xFC0, 0x03F]
    third = partition("c", [], 2, str(tree))
    assert third.problem == "no 2 ways beside each other are left by other VMs"
    assert statement(third).startswith("placement: NOT enforced: 2 ways of L3: no 2 ways")
    assert not (tree / "cvm-c").exists()


def test_a_group_that_a_killed_launcher_left_is_used_again_and_taken_away_at_the_end(tree: Path) -> None:
    partition("web", [], 4, str(tree))
    given = partition("web", [], 4, str(tree))
    assert given.mask == 0xF00
    release(given)
    assert not (tree / "cvm-web").exists()
    release(Partition(4, problem="was never there"))


def test_a_machine_without_cache_allocation_is_said_to_have_none(tmp_path: Path) -> None:
    assert "resctrl is not mounted" in partition("web", [], 4, str(tmp_path)).problem


@pytest.mark.parametrize("ways", [1, 13])
def test_ways_the_processor_does_not_have_are_refused_with_what_it_has(ways: int, tree: Path) -> None:
    assert (
        partition("web", [], ways, str(tree)).problem
        == "this processor's L3 has 12 ways, of which at least 2 go together"
    )


def test_a_mask_that_is_none_is_a_problem_and_no_crash(tree: Path) -> None:
    (tree / "info/L3/cbm_mask").write_text("many\n")
    assert "invalid literal" in partition("web", [], 4, str(tree)).problem


def test_what_the_kernel_refuses_is_told_in_its_words_and_leaves_no_group(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "info/last_cmd_status").write_text("Mask out of range\n")

    def refuse(path: str, text: str) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(resctrl, "write_text", refuse)
    given = partition("web", [1], 4, str(tree))
    assert (given.group, given.problem) == ("", "Invalid argument (Mask out of range)")
    assert not (tree / "cvm-web").exists()


def test_a_thread_that_has_ended_is_passed_over(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(path: str, text: str) -> None:
        if path.endswith("/tasks"):
            raise ProcessLookupError

    monkeypatch.setattr(resctrl, "write_text", gone)
    assert partition("web", [1], 4, str(tree)).problem == ""


def test_masks_are_read_and_written_as_the_kernel_has_them() -> None:
    assert l3_masks("MB:0=50\nL3:0=ff;2=0f0\n") == {"0": 0xFF, "2": 0xF0}
    assert l3_masks("L3CODE:0=f\nL3DATA:0=f\n") == {}
    assert line(("0", "2"), 0xF0) == "L3:0=f0;2=f0\n"
    for wrong in ("L3:", "L3:0", "L3:x=f", "L3:0=g"):
        with pytest.raises(WaysMalformed):
            l3_masks(wrong)


@pytest.mark.parametrize(
    ("full", "used", "ways", "mask"),
    [
        (0xFFF, [], 12, 0xFFF),
        (0xFFF, [0x800], 2, 0x600),
        (0xF0F, [], 4, 0xF00),
        (0xF0F, [0xF00], 5, None),
        (0xF, [], 5, None),
    ],
)
def test_ways_are_beside_each_other_and_nobodys(full: int, used: list[int], ways: int, mask: int | None) -> None:
    assert choose(full, used, ways) == mask

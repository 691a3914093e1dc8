"""Where the cache is, and that what appears in it is whole."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest

from launcher.io.cachedir import cache_folder, exclusive, staged


def test_the_environment_chooses_the_cache(tmp_path: Path) -> None:
    assert cache_folder({"CVM_CACHE": str(tmp_path), "HOME": "/h"}) == tmp_path


def test_a_checkout_keeps_its_cache_inside(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    assert cache_folder({"HOME": "/h"}, tmp_path) == tmp_path / ".cache" / "cvm"


def test_an_installation_uses_the_users_cache(tmp_path: Path) -> None:
    assert cache_folder({"HOME": "/h"}, tmp_path) == Path("/h/.cache/cvm")
    assert cache_folder({"HOME": "/h", "XDG_CACHE_HOME": "/x"}, tmp_path) == Path("/x/cvm")


def test_a_staged_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "result"
    with staged(target) as folder:
        (folder / "file").write_text("new")
        assert not target.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["result"]
    assert (target / "file").read_text() == "new"


def test_a_staged_folder_replaces_the_old_one_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "result"
    target.mkdir()
    (target / "old").touch()
    with staged(target) as folder:
        (folder / "new").touch()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_of_an_interrupted_run(tmp_path: Path, failure: type[BaseException]) -> None:
    with pytest.raises(failure), staged(tmp_path / "result") as folder:
        (folder / "half").touch()
        raise failure
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_run_are_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "result.tmp-1").mkdir()
    (tmp_path / "result.tmp-1" / "half").touch()
    with staged(tmp_path / "result"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def _hold(lock: Path, log: Path) -> None:
    with exclusive(lock):
        with log.open("a") as file:
            file.write("in ")
        time.sleep(0.05)
        with log.open("a") as file:
            file.write("out ")


def test_two_processes_do_not_hold_the_lock_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_hold, args=(tmp_path / "lock", tmp_path / "log")) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (tmp_path / "log").read_text().split() == ["in", "out"] * 3

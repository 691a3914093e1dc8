"""How files are shared out between the processes of ``attest audit verify``."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from attest.cli.audit_verify import _MOST, _shares
from tests.fakes.proof_bundles import LOG_KEY
from tests.fakes.served import attest_command


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    found = [tmp_path / f"{number:04}.json" for number in range(1000)]
    for path in found:
        path.write_text("{}")
    return found


@pytest.mark.parametrize("workers", [1, 2, 64])
def test_every_file_is_shared_out_once_and_the_last_shares_are_single_files(paths: list[Path], workers: int) -> None:
    shares = list(_shares(paths, workers))
    assert [task.path for share in shares for task in share] == [str(path) for path in paths]
    sizes = [len(share) for share in shares]
    assert max(sizes) <= _MOST
    assert sizes[-min(len(sizes), workers + 1) :] == [1] * min(len(sizes), workers + 1)


def test_two_files_are_two_shares(paths: list[Path]) -> None:
    assert [len(share) for share in _shares(paths[:2], 8)] == [1, 1]


def test_a_file_that_is_not_there_ends_it_before_anything_is_said(paths: list[Path]) -> None:
    paths[500].unlink()
    done = attest_command("audit", "verify", *map(str, paths), "--log-key", LOG_KEY.vkey, "--processes", "2")
    assert (done.code, done.out) == (3, "")
    assert "0500.json: No such file" in done.err


def test_what_was_kept_from_the_collector_meanwhile_is_given_back(paths: list[Path]) -> None:
    attest_command("audit", "verify", *map(str, paths[:3]), "--log-key", LOG_KEY.vkey)
    assert gc.get_freeze_count() == 0

"""The stand-alone verifier agrees with ours on bundles of proofs and on every change of one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.audit import verify_proof
from attest.broker.presented import Memory
from attest.broker.proof_bundle import Bundle, Trust
from policy.errors import CvmError
from tests.fakes.proof_bundles import LOG_KEY, WITNESS_KEY, bundle, record

GOOD = bundle(range(3, 10), 11)
TRUST = Trust(LOG_KEY, (WITNESS_KEY,), 1)


def ours(data: bytes, folder: Path) -> list[bytes] | None:
    """The records, or ``None`` where something is refused."""
    (folder / "b.jsonl").write_bytes(data)
    try:
        read = Bundle(folder / "b.jsonl")
        found = [one for block in read.blocks for one in read.check(block, TRUST, Memory())]
    except CvmError:
        return None
    return None if any(one.refused for one in found) else [one.proven.text for one in found if one.proven]


def theirs(data: bytes) -> int | None:
    try:
        return len(verify_proof.check_bundle(data, LOG_KEY.vkey, [WITNESS_KEY.vkey]))
    except (verify_proof.Refused, ValueError, KeyError, TypeError, AttributeError):
        return None


def test_a_bundle_holds_for_both(tmp_path: Path) -> None:
    assert ours(GOOD, tmp_path) == [record(number) for number in range(3, 10)]
    assert theirs(GOOD) == 7


def test_every_range_of_every_small_log_holds(tmp_path: Path) -> None:
    for size in range(1, 10):
        for first in range(1, size + 1):
            for last in range(first, size + 1):
                data = bundle(range(first, last + 1), size)
                assert ours(data, tmp_path) == [record(number) for number in range(first, last + 1)]
                assert theirs(data) == last + 1 - first


@settings(max_examples=150)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 7))
def test_no_changed_bit_makes_a_record_of_anything_else(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    data = bytearray(GOOD)
    data[place] ^= 1 << bit
    mine = ours(bytes(data), tmp_path_factory.getbasetemp())
    assert mine is None or theirs(bytes(data)) is not None, "ours accepts what the simple one refuses"
    assert mine is None or set(mine) <= {record(number) for number in range(3, 10)}


def test_it_runs_alone_on_a_bundle(tmp_path: Path) -> None:
    script = tmp_path / "verify_proof.py"
    script.write_bytes(Path(verify_proof.__file__).read_bytes())
    (tmp_path / "log.pub").write_text(LOG_KEY.vkey)
    for data, code, said in ((GOOD, 0, '"seq":9'), (GOOD.replace(b'"seq":9', b'"seq":8'), 1, "REFUSED")):
        (tmp_path / "b.jsonl").write_bytes(data)
        command = [sys.executable, "-I", str(script), "b.jsonl", "log.pub"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, said in done.stdout + done.stderr) == (code, True)

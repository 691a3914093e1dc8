"""The stand-alone verifier agrees with ours on proofs and on every change of one, and needs nothing of ours."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from attest.audit import verify_proof
from attest.audit.checkpoint import LogProof
from attest.audit.merkle import inclusion_path
from attest.audit.note import COSIGNATURE, verifier_of
from attest.broker.proof_file import Entry, ProofFile, check_proof_file, parse_proof_file
from policy.errors import CvmError
from tests.fakes.proof_bundles import LOG_KEY, SEEN, WITNESS_KEY, log, record


def proof_file(number: int = 5, size: int = 11) -> bytes:
    note, nodes = log(size)
    path = tuple(inclusion_path(number - 1, size, nodes))
    data = b"an attached file"
    return ProofFile(
        Entry(record(number), LogProof(number - 1, path, note)), {hashlib.sha256(data).digest(): data}
    ).encode()


GOOD = proof_file()


def test_a_proof_holds_for_both() -> None:
    assert verify_proof.check(GOOD, LOG_KEY.vkey, [WITNESS_KEY.vkey])[0]["seq"] == 5
    assert check_proof_file(parse_proof_file(GOOD), LOG_KEY, witnesses=[WITNESS_KEY], quorum=1).record["seq"] == 5


def test_every_entry_of_every_small_log_holds() -> None:
    for size in range(1, 20):
        for number in range(1, size + 1):
            assert verify_proof.check(proof_file(number, size), LOG_KEY.vkey, [])[0]["seq"] == number


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 7))
def test_no_changed_bit_is_accepted_by_one_and_refused_by_the_other(place: int, bit: int) -> None:
    data = bytearray(GOOD)
    data[place] ^= 1 << bit
    ours = theirs = True
    try:
        check_proof_file(parse_proof_file(bytes(data)), LOG_KEY, witnesses=[WITNESS_KEY], quorum=1)
    except CvmError:
        ours = False
    try:
        verify_proof.check(bytes(data), LOG_KEY.vkey, [WITNESS_KEY.vkey])
    except (verify_proof.Refused, ValueError, KeyError, TypeError, AttributeError):
        theirs = False
    assert theirs or not ours, "ours accepts what the simple one refuses"
    if theirs and not ours:
        # Ours is stricter about how a file is written, never about what it says.
        assert verify_proof.check(bytes(data), LOG_KEY.vkey, [])[0]["seq"] == 5


def test_a_witness_that_did_not_sign_is_missed() -> None:
    other = verifier_of(SEEN, Ed25519PrivateKey.generate(), COSIGNATURE)
    with pytest.raises(verify_proof.Refused, match="not signed by"):
        verify_proof.check(GOOD, LOG_KEY.vkey, [other.vkey])


def test_it_imports_nothing_of_ours() -> None:
    tree = ast.parse(Path(verify_proof.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= {
        "base64",
        "hashlib",
        "json",
        "pathlib",
        "sys",
        "typing",
        "cryptography",
    }


def test_it_runs_alone(tmp_path: Path) -> None:
    script = tmp_path / "verify_proof.py"
    script.write_bytes(Path(verify_proof.__file__).read_bytes())
    for name, data in (("p.json", GOOD), ("log.pub", LOG_KEY.vkey.encode()), ("w.pub", WITNESS_KEY.vkey.encode())):
        (tmp_path / name).write_bytes(data)
    command = [sys.executable, "-I", str(script), "p.json", "log.pub", "w.pub"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, json.loads(done.stdout)["seq"]) == (0, 5)
    (tmp_path / "p.json").write_bytes(GOOD.replace(b'"index 4', b'"index 5').replace(b"index 4", b"index 3"))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, "REFUSED" in done.stderr) == (1, True)
    (tmp_path / "p.json").unlink()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "p.json: cannot be read: No such file or directory\n")

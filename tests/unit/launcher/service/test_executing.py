"""``cvm exec`` on the host's side: keys, the VM file, and every state in which it says no before it speaks to anybody."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import main
from launcher.config.vm_toml import parse_vm
from launcher.errors import VmConfigInvalid
from launcher.io.exec_keys import KeyUnusable, new_key, public_text, read_key
from launcher.io.procid import identity
from tests.fakes.vm_files import PLAIN, WEB_1


def test_a_new_key_is_its_owners_alone_and_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "op.key"
    public = new_key(str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert public_text(read_key(str(path))) == public
    with pytest.raises(KeyUnusable, match="exists"):
        new_key(str(path))


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "op.key"
    new_key(str(path))
    path.chmod(0o640)
    with pytest.raises(KeyUnusable, match="mode 640, want 600"):
        read_key(str(path))


def test_what_is_no_ed25519_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "op.key"
    path.write_bytes(b"-----BEGIN PRIVATE KEY-----\n")
    path.chmod(0o600)
    with pytest.raises(KeyUnusable, match="no private key in PEM"):
        read_key(str(path))


KEY = "A" * 43


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("operators = []", "got 0 keys, want 1 to 8"),
        (f'operators = ["{KEY}", "{KEY}"]', "each once"),
        ('operators = ["op.pub"]', "want a key as `cvm exec --new-key FILE` prints it"),
        (f'operators = ["{"A" * 42}B"]', "want a key as"),
        ("", r"exec\.operators: missing"),
    ],
)
def test_operators_that_are_no_keys_are_named(lines: str, problem: str) -> None:
    with pytest.raises(VmConfigInvalid, match=problem):
        parse_vm((WEB_1.format(platform="sev-snp") + f"[exec]\n{lines}\n").encode(), "vm.toml")


def test_commands_need_a_service_that_accepts_the_guest() -> None:
    with pytest.raises(VmConfigInvalid, match=r"\$\.exec: needs an \[attestation\] table"):
        parse_vm(f'{PLAIN}[exec]\noperators = ["{KEY}"]\n'.encode(), "vm.toml")


@pytest.mark.parametrize(("api", "wrong"), [("token", True), ("evidence", True), ("resource", False)])
def test_commands_exclude_what_lets_a_program_speak_for_the_guest(api: str, *, wrong: bool) -> None:
    text = f'{WEB_1.format(platform="sev-snp")}[guest]\napi = ["{api}"]\n[exec]\noperators = ["{KEY}"]\n'
    if not wrong:
        assert parse_vm(text.encode(), "vm.toml").operators == (KEY,)
        return
    with pytest.raises(VmConfigInvalid, match=rf"\$\.exec: excludes {api} in \$\.guest\.api"):
        parse_vm(text.encode(), "vm.toml")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"state": "refused", "reason": "attest: measurement differs"}, "is refused: attest: measurement differs"),
        ({"state": "running", "attested": False}, "is running and not attested"),
        ({"state": "running", "attested": True, "paused": True}, "is paused"),
        ({"state": "running", "attested": True}, "its VM file has no [exec]"),
    ],
)
def test_a_guest_in_another_state_is_refused_with_the_reason(
    state: dict[str, Any],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CVM_STATE", str(tmp_path / "state"))
    key = str(tmp_path / "op.key")
    new_key(key)
    (tmp_path / "vm.toml").write_text(WEB_1.format(platform="emulated-snp"))
    folder = tmp_path / "state" / "web-1"
    folder.mkdir(parents=True, mode=0o700)
    recorded = {"schema": "cvm.state/1", "name": "web-1", "config": str(tmp_path / "vm.toml"),
                "launcher": identity(os.getpid())} | state  # fmt: skip
    (folder / "state.json").write_text(json.dumps(recorded))
    assert main(["exec", "web-1", "--key", key, "--", "/bin/true"]) == 10
    assert said in capsys.readouterr().err


def test_what_follows_the_dashes_is_the_commands_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exec", "--", "prog", "--help"]) == 2
    assert "want VM, --key FILE and -- COMMAND" in capsys.readouterr().err
    assert main(["exec", "a", "--key", "k", "--timeout", "0", "--", "x"]) == 2

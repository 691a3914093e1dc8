"""``cvm idblock``: what it signs verifies, what does not verify is refused, and no key is shown."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from launcher.cli import main
from ovmf.id_block import verify_id_block
from tests.unit.ovmf.keys import private_key

DIGEST = "ab" * 48


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for number, name in enumerate(("id.pem", "author.pem")):
        key = private_key(number)
        (tmp_path / name).write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            )
        )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def create(capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, object]:
    argv = ["idblock", "create", "--digest", DIGEST, "--id-key", "id.pem", "--block", "b", "--auth", "a", "--json"]
    assert main([*argv, *more]) == 0
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    return document


def test_a_created_block_verifies_and_qemu_gets_the_same_bytes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = create(capsys, "--author-key", "author.pem", "--svn", "5", "--policy", "b0000", "--image-id", "11" * 16)
    block, auth = verify_id_block((folder / "b").read_bytes(), (folder / "a").read_bytes())
    assert (block.launch_digest.hex(), block.guest_svn, block.policy) == (DIGEST, 5, 0xB0000)
    words = dict(word.split("=", 1) for word in str(facts["qemu"]).split(","))
    assert b64decode(words["id-block"]) == block.to_bytes()
    assert b64decode(words["id-auth"]) == auth.to_bytes()
    assert words["author-key-enabled"] == "on"
    digests = ["--id-key-digest", str(facts["id_key_digest"]), "--author-key-digest", str(facts["author_key_digest"])]
    assert main(["idblock", "verify", "--block", "b", "--auth", "a", "--digest", DIGEST, *digests]) == 0
    assert "valid" in capsys.readouterr().out


def test_the_digest_of_a_key_is_the_one_in_the_block(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = create(capsys)
    assert facts["author_key_digest"] is None
    assert main(["idblock", "digest", "id.pem"]) == 0
    assert str(facts["id_key_digest"]) in capsys.readouterr().out


def test_no_private_key_is_ever_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    number = private_key(0).private_numbers().private_value
    assert main(["idblock", "create", "--digest", DIGEST, "--id-key", "id.pem"]) == 0
    output = capsys.readouterr()
    lines = (folder / "id.pem").read_text().splitlines()[1:-1]
    assert f"{number:x}" not in output.out + output.err
    assert not any(line in output.out + output.err for line in lines)


def test_a_block_for_another_image_or_signer_exits_6(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create(capsys)
    verify = ["idblock", "verify", "--block", "b", "--auth", "a"]
    assert main([*verify, "--digest", "cd" * 48]) == 6
    assert main([*verify, "--id-key-digest", "00" * 48]) == 6
    assert main([*verify, "--author-key-digest", "00" * 48]) == 6
    (folder / "b").write_bytes(bytes([(folder / "b").read_bytes()[0] ^ 1]) + (folder / "b").read_bytes()[1:])
    assert main(verify) == 6
    assert "not made by the key" in capsys.readouterr().err


def test_what_is_no_block_or_key_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create(capsys)
    assert main(["idblock", "verify", "--block", "a", "--auth", "a"]) == 5
    assert main(["idblock", "digest", "b"]) == 3
    assert main(["idblock", "digest", "nowhere"]) == 3
    assert main(["idblock", "create", "--digest", DIGEST, "--id-key", "id.pem", "--image-id", "11"]) == 2
    assert "cvm:" in capsys.readouterr().err

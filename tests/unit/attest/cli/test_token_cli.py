"""``attest token``, as operators type it."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import jwt

from tests.fakes.served import Served
from tests.fakes.service_world import PATH, SECRET, reference


def test_keys_rotate_only_in_a_folder_and_are_listed(tmp_path: Path) -> None:
    served = Served(tmp_path / "service").init()
    refused = served.attest("token", "rotate")
    assert refused.code == 3
    assert "one key file cannot overlap with the next" in refused.err
    folder = served.folder / "token-keys"
    folder.mkdir(mode=0o700)
    shutil.move(served.folder / "token.key", folder / "20260101T000000Z.key")
    served.config.write_text(served.config.read_text().replace('"token.key"', '"token-keys"'))
    made = json.loads(served.attest("token", "rotate", "--after", "0", "--alg", "ES384", "--json").out)
    assert (made["alg"], made["erased"]) == ("ES384", [])
    listed = json.loads(served.attest("token", "keys", "--json").out)["keys"]
    assert [entry["alg"] for entry in listed] == ["ES256", "ES384"]
    assert listed[1]["kid"] == made["kid"]
    assert made["kid"] in served.attest("token", "keys").out


def test_a_token_nobody_issued_is_not_found_and_an_id_that_is_none_is_refused(tmp_path: Path) -> None:
    served = Served(tmp_path / "service").init()
    assert served.attest("token", "show", "0" * 32).code == 10
    assert served.attest("token", "revoke", "0" * 32, "--reason", "x").code == 10
    assert served.attest("token", "show", "zz").code == 5
    found = served.attest("token", "introspect", "--json", stdin=b"rubbish")
    assert (found.code, json.loads(found.out)["active"]) == (7, False)


def test_a_running_service_takes_a_new_key_up_and_ends_a_revoked_token(tmp_path: Path) -> None:
    """Real processes: two workers learn of the key by themselves, and tokens of the old one stay good."""
    served = Served(tmp_path / "service").init()
    folder = served.folder / "token-keys"
    folder.mkdir(mode=0o700)
    shutil.move(served.folder / "token.key", folder / "20260101T000000Z.key")
    served.config.write_text(served.config.read_text().replace('"token.key"', '"token-keys"'))
    served.start()
    try:
        assert served.attest("key", "put", PATH, stdin=SECRET).code == 0
        (tmp_path / "ref.json").write_bytes(reference())
        assert served.attest("reference", "add", str(tmp_path / "ref.json")).code == 0
        old = served.guest()
        token = old.handshake()
        made = json.loads(served.attest("token", "rotate", "--after", "0", "--json").out)
        time.sleep(1.1)  # each process looks at the folder once a second
        for _ in range(4):
            assert jwt.get_unverified_header(served.guest().handshake())["kid"] == made["kid"]
        assert old.resource(PATH, token) == SECRET
        claims = jwt.decode(token, options={"verify_signature": False})
        assert served.attest("token", "introspect", stdin=token.encode()).code == 0
        assert served.attest("token", "revoke", claims["jti"], "--reason", "lost").code == 0
        assert served.attest("token", "introspect", stdin=token.encode()).code == 7
        assert old.get(f"/resource/{PATH}", token).json()["code"] == "token.revoked"
    finally:
        assert served.stop() == 0

"""The command line of the service: what it prints, what it changes, how it ends."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest

from attest.cli import main
from attest.cli.common import safe
from attest.settings import load_settings
from tests.fakes.postgres import PostgresServer
from tests.fakes.served import Served, attest_command
from tests.fakes.service_world import GOOD, PATH, SECRET, demo_policy, reference


@pytest.fixture
def service(tmp_path: Path) -> Served:
    return Served(tmp_path / "service").init()


def test_init_makes_everything_with_private_files_private(service: Served) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in service.folder.iterdir()}
    private = {name for name, mode in modes.items() if mode == 0o600}
    assert private == {
        "attest.db", "master.key", "token.key", "answer.key", "log.key", "ca.key", "operator-ca.key", "server.key", "operator.key",
    }  # fmt: skip
    assert stat.S_IMODE(service.folder.stat().st_mode) == 0o700
    assert {"attest.toml", "policy.toml", "ca.pem", "operator.pem", "operator-ca.pem", "server.pem"} <= set(modes)


def test_init_overwrites_nothing(service: Served) -> None:
    before = {path.name: path.read_bytes() for path in service.folder.iterdir() if path.is_file()}
    done = attest_command("init", str(service.folder))
    assert (done.code, "Traceback" in done.err) == (3, False)
    assert before == {path.name: path.read_bytes() for path in service.folder.iterdir() if path.is_file()}


def test_a_service_can_read_collateral_from_a_folder_that_others_fill(tmp_path: Path) -> None:
    elsewhere = tmp_path / 'q"ü 😀'
    elsewhere.mkdir()
    assert attest_command("init", str(tmp_path / "service"), "--collateral", str(elsewhere)).code == 0
    assert load_settings(tmp_path / "service" / "attest.toml").collateral.folder == elsewhere
    assert not (tmp_path / "service" / "collateral").exists()


def test_a_service_can_keep_its_state_in_postgresql(tmp_path: Path, postgres: PostgresServer) -> None:
    address = postgres.new_database()
    folder = tmp_path / "service"
    assert attest_command("init", str(folder), "--database", address).code == 0
    assert not [name for name in ("attest.db", "token.key") if (folder / name).exists()]
    config = ["--config", str(folder / "attest.toml")]
    assert attest_command("key", "put", PATH, *config, stdin=SECRET).code == 0
    listed = json.loads(attest_command("audit", "list", "--json", *config).out)["records"]
    assert [entry["kind"] for entry in listed] == ["policy-apply", "token-key", "resource-put"]
    assert json.loads(attest_command("audit", "verify", "--json", *config).out)["records"] == 3
    again = attest_command("init", str(tmp_path / "other"), "--database", address)
    assert (again.code, "exists already" in again.err) == (3, True)


def test_a_database_address_with_a_password_is_refused_without_showing_it(tmp_path: Path) -> None:
    done = attest_command("init", str(tmp_path / "x"), "--database", "postgresql://u:hunter2@h/d")
    assert done.code == 3
    assert "passfile" in done.err
    assert "hunter2" not in done.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--policy", "demo"], "64 lower-case hex digits"),
        (["--policy", "demo", "--emulated-root", "zz"], "64 lower-case hex digits"),
        (["--emulated-root", "a" * 64], "trusts no emulated chip"),
        (["--policy", "missing.toml"], "cannot be read"),
        (["--listen", "nowhere"], "host:port"),
        (["--collateral", "/nowhere/at all"], "no such folder"),
    ],
)
def test_init_says_what_is_wrong_with_its_options(tmp_path: Path, words: list[str], text: str) -> None:
    done = attest_command("init", str(tmp_path / "x"), *words)
    assert done.code in (3, 10)
    assert text in done.err


def test_the_strict_policy_is_the_default_and_trusts_no_emulated_chip(tmp_path: Path) -> None:
    assert attest_command("init", str(tmp_path / "x")).code == 0
    assert json.loads(attest_command("policy", "check", str(tmp_path / "x/policy.toml"), "--json").out) == {
        "schema": "attest.policy.check/1", "name": "strict", "emulated": False,
    }  # fmt: skip


def test_a_key_comes_from_standard_input_and_is_never_shown(service: Served) -> None:
    assert service.attest("key", "put", PATH, stdin=SECRET).out == f"{PATH} version 1 stored\n"
    assert service.attest("key", "put", PATH, stdin=SECRET).code == 10
    assert service.attest("key", "put", PATH, "--replace", "--for", "web-1", stdin=SECRET).code == 0
    listed = service.attest("key", "list", "--history", "--json")
    assert [entry["version"] for entry in json.loads(listed.out)["resources"]] == [1, 2]
    shown = listed.out + service.attest("key", "list").out + service.attest("audit", "show", "2").out
    assert SECRET.decode() not in shown
    assert service.attest("key", "delete", PATH).code == 0
    assert service.attest("key", "delete", PATH).code == 10


def test_a_key_can_come_from_a_descriptor(service: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "value").write_bytes(SECRET)
    with (tmp_path / "value").open("rb") as file:
        words = ["key", "put", PATH, "--fd", str(file.fileno()), "--json", "--config", str(service.config)]
        assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["version"] == 1


@pytest.mark.parametrize(("path", "value"), [("a/b", b"x"), ("../b/c", b"x"), ("a/b/c", b""), ("a/b/c", b"x" * 65537)])
def test_a_key_with_a_bad_path_or_size_is_refused(service: Served, path: str, value: bytes) -> None:
    assert service.attest("key", "put", path, stdin=value).code == 5


def test_reference_values_are_added_listed_and_retired(service: Served, tmp_path: Path) -> None:
    (tmp_path / "ref.json").write_bytes(reference())
    add = ["reference", "add", str(tmp_path / "ref.json")]
    assert service.attest(*add).code == 0
    assert service.attest(*add).code == 10
    listed = json.loads(service.attest("reference", "list", "--json").out)["references"]
    assert [(entry["name"], entry["launch_digest"], entry["retired"]) for entry in listed] == [
        ("web-1", GOOD.hex(), None)
    ]
    assert service.attest("reference", "retire", "web-1").code == 0
    assert service.attest("reference", "retire", "web-1").code == 10
    assert service.attest(*add).code == 0
    assert "retired" in service.attest("reference", "list").out


def test_a_reference_value_that_is_none_is_exit_5(service: Served, tmp_path: Path) -> None:
    (tmp_path / "ref.json").write_bytes(b"{}")
    done = service.attest("reference", "add", str(tmp_path / "ref.json"), "--json")
    assert done.code == 5
    assert json.loads(done.err)["code"].startswith("reference.")
    assert service.attest("reference", "add", str(tmp_path / "missing")).code == 10


def test_a_policy_is_applied_to_file_and_database_and_explained(service: Served, tmp_path: Path) -> None:
    changed = demo_policy().replace(b'name = "demo"', b'name = "changed"')
    (tmp_path / "p.toml").write_bytes(changed)
    assert "EMULATED" in service.attest("policy", "apply", str(tmp_path / "p.toml")).out
    assert (service.folder / "policy.toml").read_bytes() == changed
    assert json.loads(service.attest("audit", "list", "--json").out)["records"][-1]["subject"] == "changed"
    explained = attest_command("policy", "explain", str(tmp_path / "p.toml")).out
    assert "the launch digest equals a registered reference value" in explained


def test_a_bad_policy_is_exit_3_with_every_problem_and_changes_nothing(service: Served, tmp_path: Path) -> None:
    before = (service.folder / "policy.toml").read_bytes()
    (tmp_path / "p.toml").write_bytes(demo_policy().replace(b"debug", b"debgu").replace(b"vmpl = [0]", b"vmpl = [9]"))
    done = service.attest("policy", "apply", str(tmp_path / "p.toml"))
    assert done.code == 3
    assert "debgu" in done.err
    assert "vmpl" in done.err
    assert (service.folder / "policy.toml").read_bytes() == before


def test_serve_refuses_a_key_that_others_can_read(service: Served) -> None:
    (service.folder / "master.key").chmod(0o644)
    done = attest_command("serve", str(service.config))
    assert done.code == 3
    assert "want 0600" in done.err


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("[store]", "[stroe]", 'did you mean "store"'),
        ('path = "attest.db"', 'path = "attest.db"\nurl = "postgresql:///d"', "not both"),
        ('path = "attest.db"', 'url = "mysql://h/d"', "postgresql://"),
        ("workers = 2", "workers = 0", "workers: got 0, want 1..256"),
        ('listen = "127.0.0.1:0"', 'listen = "x"', 'want "host:port"'),
        ("schema = 1", "schema = 2", "want 1"),
        ("lifetime_seconds = 300", "lifetime_seconds = true", "lifetime_seconds"),
        ("[policy]", "[policy", "not TOML"),
    ],
)
def test_bad_settings_are_exit_3_with_path_and_suggestion(service: Served, old: str, new: str, text: str) -> None:
    service.config.write_text(service.config.read_text().replace(old, new))
    done = attest_command("serve", str(service.config))
    assert (done.code, text in done.err) == (3, True), done.err


def test_a_master_key_can_be_a_systemd_credential(
    service: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (service.folder / "master.key").rename(tmp_path / "master")
    text = service.config.read_text()
    line = next(line for line in text.splitlines() if line.startswith("master_key_file"))
    service.config.write_text(text.replace(line, 'master_key_credential = "master"'))
    assert service.attest("key", "put", PATH, stdin=SECRET).code == 3
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert service.attest("key", "put", PATH, stdin=SECRET).code == 0


def test_a_broken_trail_is_exit_6(service: Served) -> None:
    import sqlite3

    assert service.attest("audit", "verify").code == 0
    with sqlite3.connect(service.folder / "attest.db") as connection:
        connection.execute("UPDATE audit SET record = record || ' '")
    done = service.attest("audit", "verify")
    assert (done.code, "audit record 1" in done.err) == (6, True)


def test_audit_list_filters_and_show_names_a_missing_record(service: Served) -> None:
    assert json.loads(service.attest("audit", "list", "--since", "2999-01-01", "--json").out)["records"] == []
    assert service.attest("audit", "list", "--since", "yesterday").code == 3
    assert service.attest("audit", "show", "99").code == 10


def test_help_is_fast_because_it_imports_nothing_heavy() -> None:
    import subprocess

    code = (
        "import sys; sys.argv=['attest','--help']\nfrom attest.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    )
    code += "print(sorted(set(sys.modules) & {'flask','sqlalchemy','cryptography','requests','gunicorn','dataclasses','jwt'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", ["init", "serve", "reference", "key", "policy", "audit"])
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    assert caught.value.code == 0
    assert len(capsys.readouterr().out) > 100


def test_no_verb_is_a_usage_error_and_a_missing_service_exit_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["audit", "list", "--config", "/nonexistent/attest.toml"]) == 3
    assert "cannot be read" in capsys.readouterr().err


def test_text_of_guests_cannot_drive_a_terminal() -> None:
    assert safe("a\x1b[31mb\u202ec") == "a\\x1b[31mb\\u202ec"

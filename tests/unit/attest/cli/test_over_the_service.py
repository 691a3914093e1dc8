"""The same verbs with ``--service``: they ask the operators' listener, and the record names who asked."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.oidc import FakeProvider
from tests.fakes.served import Done, Served, attest_command
from tests.fakes.service_world import GOOD, PATH, PKI, SECRET, reference


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeProvider]:
    with FakeProvider(tmp_path_factory.mktemp("oidc")) as found:
        yield found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, provider: FakeProvider) -> Iterator[Served]:
    found = Served(tmp_path_factory.mktemp("served") / "service").init(PKI)
    found.config.write_text(found.config.read_text().replace("[store]", provider.toml() + "\n[store]", 1))
    yield found.start()
    found.stop()


def over(served: Served, provider: FakeProvider, tmp_path: Path, role: str = "ops") -> list[str]:
    token = tmp_path / "token"
    token.write_text(provider.token(sub="petra", roles=[role]))
    return [
        "--service",
        f"https://localhost:{served.admin_port}",
        "--ca",
        f"{served.folder}/ca.pem",
        "--token-file",
        str(token),
    ]


def test_keys_references_and_tokens_are_managed_over_the_service(
    served: Served, provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks = over(served, provider, tmp_path)

    def good(*words: str) -> Done:
        done = attest_command(*words, *asks)
        assert done.code == 0, done.err
        return done

    with (tmp_path / "value").open("w+b") as value:
        value.write(SECRET)
        value.seek(0)
        assert PATH in good("key", "put", PATH, "--fd", str(value.fileno()), "--for", "web-1").out
    assert json.loads(good("key", "generate", "default/db-1/root", "--json").out)["version"] == 1
    assert "petra" in good("key", "list").out
    (tmp_path / "conditions.toml").write_text("per_hour = 4\n")
    good("key", "conditions", PATH, str(tmp_path / "conditions.toml"))
    assert "per_hour" in json.loads(good("key", "show", PATH, "--json").out)["conditions"]["document"]
    for words in (("disable", "--reason", "x"), ("enable", "--reason", "x"), ("break-glass", "--reason", "x")):
        good("key", words[0], PATH, *words[1:])
    good("key", "delete", "default/db-1/root")
    (tmp_path / "web-1.ref.json").write_bytes(reference())
    assert GOOD.hex() in good("reference", "add", str(tmp_path / "web-1.ref.json")).out
    assert "web-1" in good("reference", "list").out
    guest = served.guest()
    token = guest.handshake()
    assert guest.resource(PATH) == SECRET
    monkeypatch.setattr("sys.stdin", io.StringIO(token))
    found = json.loads(good("token", "introspect", "--json").out)
    assert found["active"] is True
    assert found["jti"] in good("token", "show", found["jti"]).out
    good("token", "revoke", found["jti"], "--reason", "lost")
    monkeypatch.setattr("sys.stdin", io.StringIO(token))
    assert attest_command("token", "introspect", *asks).code == 7
    good("reference", "retire", "web-1")
    changes = json.loads(served.attest("audit", "ask", "changes", "--json").out)["answer"]
    kinds = [change["kind"] for change in changes if change["actor"] == "operator:petra"]
    assert kinds == [
        "resource-put", "resource-put", "conditions-set", "resource-state", "resource-state", "break-glass",
        "resource-delete", "reference-add", "token-revoke", "reference-retire",
    ]  # fmt: skip


def test_an_auditor_may_look_and_is_told_when_a_verb_is_for_operators(
    served: Served, provider: FakeProvider, tmp_path: Path
) -> None:
    asks = over(served, provider, tmp_path, "audit")
    assert attest_command("reference", "list", *asks).code == 0
    refused = attest_command("key", "generate", "default/x/y", *asks)
    assert (refused.code != 0, "who asks is an auditor" in refused.err) == (True, True), refused.err


def test_an_upgrade_is_not_planned_over_the_service(served: Served, provider: FakeProvider, tmp_path: Path) -> None:
    (tmp_path / "b.json").write_bytes(reference("web-2"))
    words = ("reference", "add", str(tmp_path / "b.json"), "--next", "web-1")
    done = attest_command(*words, *over(served, provider, tmp_path))
    assert (done.code, "--next" in done.err) == (3, True), done.err

"""A service that knows an OpenID provider, as it really runs: people with tokens beside people with certificates."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from attest.web.oidc.caller import Bearers
from attest.web.oidc.errors import ProviderUnavailable
from attest.web.principals import bearer_or, no_caller
from tests.fakes.kbs_client import Reply, TlsTransport
from tests.fakes.oidc import FakeProvider
from tests.fakes.served import Done, Served, attest_command
from tests.fakes.service_world import PATH, PKI, SECRET, ServiceWorld

PEOPLE = ("[[server.oidc.person]]", 'claim = "u-olga"', 'name = "operator"')


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeProvider]:
    with FakeProvider(tmp_path_factory.mktemp("oidc")) as found:
        yield found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, provider: FakeProvider) -> Iterator[Served]:
    found = Served(tmp_path_factory.mktemp("served") / "service").init(PKI, "--dashboard", "127.0.0.1:0")
    text = found.config.read_text().replace("[store]", provider.toml(*PEOPLE) + "\n[store]", 1)
    found.config.write_text(text.replace("# oidc = true", "oidc = true"))
    yield found.start()
    found.stop()


def ask(served: Served, method: str, path: str, token: str | None, *, certificate: bool = False,
        body: bytes | None = None) -> Reply:  # fmt: skip
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return TlsTransport("localhost", served.admin_port, served.tls(operator=certificate)).send(
        method, path, body, headers
    )


def pages(served: Served, path: str, token: str | None, name: str | None = None) -> Reply:
    match = re.search(r"dashboard https://127\.0\.0\.1:(\d+)", served.log.read_text())
    assert match, served.log.read_text()
    context = ssl.create_default_context(cafile=served.folder / "auditor-ca.pem")
    if name is not None:
        context.load_cert_chain(served.folder / f"{name}.pem", served.folder / f"{name}.key")
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return TlsTransport("localhost", int(match[1]), context).send("GET", path, None, headers)


def test_a_token_does_what_its_role_may_and_the_record_says_whose_it_was(
    served: Served, provider: FakeProvider
) -> None:
    resource = f"/kbs/v0/resource/{PATH}"
    operator, auditor, guest = (provider.token(sub="u-17", roles=[role]) for role in ("ops", "audit", "guests"))
    assert ask(served, "POST", resource, operator, body=SECRET).status == 200
    assert [ask(served, "GET", "/cvm/v0/decisions", token).status for token in (operator, auditor)] == [200, 200]
    assert [ask(served, "DELETE", resource, token).status for token in (auditor, guest, None)] == [403, 403, 403]
    refused = ask(served, "GET", "/cvm/v0/decisions", provider.token(aud="other"))
    assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, 'Bearer error="invalid_token"')
    assert refused.json()["code"] == "bearer.audience"
    changed = json.loads(served.attest("audit", "ask", "changes", "--json").out)["answer"][-1]
    assert (changed["actor"], changed["kind"]) == ("operator:u-17", "resource-put")
    assert changed["bearer"] == f"u-17 at {provider.issuer}"
    assert served.attest("audit", "verify").code == 0
    lines = [json.loads(line) for line in served.log.read_text().splitlines() if line.startswith("{")]
    assert {"auditor:u-17", "operator:u-17"} <= {line.get("caller") for line in lines}
    assert operator.split(".")[1] not in served.log.read_text()


def test_a_certificate_still_counts_and_both_at_once_do_not(served: Served, provider: FakeProvider) -> None:
    assert ask(served, "GET", "/cvm/v0/decisions", None, certificate=True).status == 200
    both = ask(served, "GET", "/cvm/v0/decisions", provider.token(), certificate=True)
    assert (both.status, both.json()["code"]) == (401, "bearer.two")
    transport = TlsTransport("localhost", served.admin_port, served.tls())
    for header in ("Basic b2xnYTpvbGdh", "Bearer", f"Bearer {provider.token()}, Bearer x", ""):
        answer = transport.send("GET", "/cvm/v0/decisions", None, {"Authorization": header})
        assert (answer.status, answer.json()["code"]) == (401, "bearer.malformed"), header


def test_a_certificate_of_strangers_does_not_get_through_the_handshake(served: Served, provider: FakeProvider) -> None:
    context = served.tls()
    context.load_cert_chain(provider.folder / "oidc.pem")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        TlsTransport("localhost", served.admin_port, context).send("GET", "/healthz", None, {})


def over(served: Served, token: str | None, folder: Path) -> list[str]:
    words = ["--service", f"https://localhost:{served.admin_port}", "--ca", f"{served.folder}/ca.pem"]
    if token is None:
        return [*words, "--certificate", f"{served.folder}/operator.pem", "--key", f"{served.folder}/operator.key"]
    (folder / "token").write_text(token + "\n")
    return [*words, "--token-file", str(folder / "token")]


def test_one_person_with_certificate_and_token_is_one_approval(
    served: Served, provider: FakeProvider, tmp_path: Path
) -> None:
    path = "default/db-1/root"
    assert served.attest("key", "generate", path).code == 0
    document = tmp_path / "conditions.toml"
    document.write_text('approval = {need = 2, of = ["operator", "otto"]}\n')
    assert served.attest("key", "conditions", path, str(document)).code == 0

    def approve(token: str | None) -> Done:
        return attest_command("key", "approve", path, "--purpose", "export", *over(served, token, tmp_path))

    def export(token: str) -> Done:
        to = ("--reason", "moving", "-o", str(tmp_path / "value"), *over(served, token, tmp_path))
        return attest_command("key", "export", path, *to)

    olga, otto, anna = (provider.token(sub=name) for name in ("u-olga", "otto", "anna"))
    assert approve(None).code == 0
    assert approve(olga).code == 0
    refused = export(olga)
    assert (refused.code != 0, "1 approvals, want 2" in refused.err) == (True, True), refused.err
    assert "do not name operator:anna" in approve(anna).err
    assert approve(otto).code == 0
    assert export(olga).code == 0
    assert (tmp_path / "value").stat().st_size == 32


def test_the_token_comes_from_a_file_and_never_with_a_certificate(
    served: Served, provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = over(served, provider.token(sub="otto"), tmp_path)
    monkeypatch.setenv("ATTEST_TOKEN_FILE", words[-1])
    assert "do not name" in attest_command("key", "approve", PATH, *words[:-2]).err  # asked, as who the token says
    both = [*over(served, None, tmp_path), *words[-2:]]
    for wrong, text in ((both, "not both"), (over(served, None, tmp_path)[:-2], "want both")):
        done = attest_command("key", "approve", PATH, *wrong)
        assert (done.code, text in done.err) == (3, True), done.err
    monkeypatch.delenv("ATTEST_TOKEN_FILE")
    done = attest_command("key", "approve", PATH, *words[:-2])
    assert (done.code, "--token-file" in done.err) == (3, True), done.err
    Path(words[-1]).write_text("not a token\n")
    assert "does not hold a bearer token" in attest_command("key", "approve", PATH, *words).err


def test_the_pages_take_the_same_tokens_and_show_nothing_without(served: Served, provider: FakeProvider) -> None:
    auditor = provider.token(sub="anna", roles=["audit"])
    page = pages(served, "/overview", auditor)
    assert (page.status, b"anna" in page.body) == (200, True)
    assert pages(served, "/overview.json", auditor).json()["schema"]
    assert pages(served, "/overview", None, "auditor").status == 200
    assert [pages(served, "/overview.json", token).status for token in (None, provider.token(roles=[]), "x.y.z")] == [
        403, 403, 401,
    ]  # fmt: skip


def test_when_the_provider_cannot_be_asked_the_answer_is_503_and_not_a_refusal(tmp_path: Path) -> None:
    world = ServiceWorld(tmp_path / "service")
    provider = FakeProvider(tmp_path / "oidc")

    def silent(kid: str) -> None:
        raise ProviderUnavailable("oidc: https://10.0.0.7 does not answer")

    app = world.admin_app_for(bearer_or(no_caller, Bearers(provider.settings(), silent).actor))
    answer = app.test_client().get("/healthz", headers={"Authorization": f"Bearer {provider.token(world.now)}"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.json["code"] == "oidc.unavailable"
    assert b"10.0.0.7" not in answer.data

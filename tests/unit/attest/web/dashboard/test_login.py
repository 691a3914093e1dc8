"""The pages' own log-in: who gets in, everything that keeps others out, and how it ends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient

from attest.settings_dashboard import LoginSettings
from attest.web.dashboard.app import create_dashboard
from attest.web.dashboard.login import OPEN, PENDING_LOGIN, SESSION, Login, inside
from attest.web.dashboard.sessions import MOST, Sessions
from attest.web.dashboard.visitors import Visitor, Visitors
from attest.web.oidc.code_flow import PENDING, CodeFlow
from attest.web.oidc.provider import Provider
from tests.fakes.amd_pki import NOW
from tests.fakes.dashboard_world import house_of
from tests.fakes.oidc import AUDIENCE, CLIENT, KEYS, SECRET, TOKEN, Answer, FakeProvider
from tests.fakes.service_world import ServiceWorld

from .conftest import Get
from .test_routes import _authorities, every_path

ORIGIN = "https://pages.test:8446"
CLOSED = ("/", "/overview", "/overview.json", "/fleet", "/records/1/proof", "/nothing")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeProvider]:
    with FakeProvider(tmp_path_factory.mktemp("login")) as found:
        found.back = f"{ORIGIN}/login/callback"
        yield found


@pytest.fixture
def provider(running: FakeProvider) -> FakeProvider:
    running.person = {"sub": "anna", "roles": ["audit"]}
    running.returns, running.answers, running.discovery, running.secret = {}, {}, {}, None
    running.codes.clear()
    running.asked.clear()
    return running


@dataclass
class Browser:
    """A browser in front of the pages; ``shift`` turns the pages' clock, which starts at the real time."""

    client: FlaskClient
    provider: FakeProvider
    shift: timedelta = timedelta()

    def get(self, path: str, **more: Any) -> Any:
        return self.client.get(path, base_url=ORIGIN, **more)

    def begin(self, to: str = "/fleet") -> str:
        """Begin; the query the provider is asked with."""
        answer = self.get("/login", query_string={"to": to})
        assert answer.status_code == 303, answer.text
        return urlsplit(answer.headers["Location"]).query

    def back(self, query: str) -> Any:
        """What the provider says, brought to the pages."""
        where = self.provider.authorize(query)
        assert where.startswith(ORIGIN)
        return self.get(where.removeprefix(ORIGIN))

    def log_in(self) -> Any:
        return self.back(self.begin())

    @property
    def inside(self) -> bool:
        return bool(self.get("/overview").status_code == 200)


def login_over(provider: FakeProvider, **changes: Any) -> Login:
    own = LoginSettings(CLIENT, ORIGIN)
    settings = provider.settings(**changes)
    return Login(CodeFlow(settings, own, Provider(settings), provider.secret), Sessions(own.life))


def browser_at(world: ServiceWorld, provider: FakeProvider, login: Login | None = None) -> Browser:
    found = Browser(None, provider)  # type: ignore[arg-type]  # set below: the clock reads it
    app = create_dashboard(
        house_of(world), Visitors.of(*_authorities(world)), lambda: datetime.now().astimezone() + found.shift,
        login or login_over(provider),
    )  # fmt: skip
    found.client = app.test_client()
    return found


@pytest.fixture
def browser(world: ServiceWorld, provider: FakeProvider) -> Browser:
    return browser_at(world, provider)


def test_an_auditor_logs_in_reads_and_logs_out(browser: Browser) -> None:
    for path in CLOSED:
        refused = browser.get(path)
        assert refused.status_code == 401, path
        assert "shop-1" not in refused.text
    assert 'href="/login?to=/fleet%3Fasof%3D1"' in browser.get("/fleet?asof=1").text
    done = browser.back(browser.begin("/fleet?asof=3"))
    assert (done.status_code, done.headers["Location"]) == (303, "/fleet?asof=3")
    page = browser.get("/overview")
    assert (page.status_code, "Seen by auditor anna" in page.text) == (200, True)
    word = re.search(r'name="csrf" value="([0-9a-f]{64})"', page.text)
    assert word is not None
    left = browser.client.post("/logout", base_url=ORIGIN, data={"csrf": word[1]}, headers={"Origin": ORIGIN})
    assert (left.status_code, browser.inside) == (303, False)


def test_without_a_session_every_address_asks_to_log_in_but_those_of_the_log_in(
    browser: Browser, world: ServiceWorld, data: Get
) -> None:
    paths = every_path(browser.client.application, world, data)
    assert {"/login", "/login/callback", "/logout"} <= set(paths)
    for path in paths:
        status = {"/login": 303, "/login/callback": 403, "/logout": 401, "/style.css": 200, "/icon.svg": 200}
        answer = browser.get(path)
        assert answer.status_code == status.get(path, 401), path
        assert "shop-1" not in answer.text.replace("name%3Dshop-1", ""), path
    browser.log_in()
    for path in paths:
        if path not in OPEN:
            assert browser.get(path).status_code == (405 if path == "/logout" else 200), path


def test_a_session_that_was_ended_is_not_there_for_a_copy_of_its_cookie(browser: Browser) -> None:
    browser.log_in()
    cookie = browser.client.get_cookie(SESSION, domain="pages.test")
    assert cookie is not None
    word = re.search(r'name="csrf" value="([0-9a-f]{64})"', browser.get("/overview").text)
    assert word is not None
    browser.client.post("/logout", base_url=ORIGIN, data={"csrf": word[1]}, headers={"Origin": ORIGIN})
    browser.client.set_cookie(SESSION, cookie.value, domain="pages.test", secure=True)
    assert not browser.inside


def test_the_request_to_the_provider_is_for_a_code_of_ours_bound_by_pkce(browser: Browser) -> None:
    asked = parse_qs(browser.begin())
    assert set(asked) == {
        "response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge",
        "code_challenge_method",
    }  # fmt: skip
    assert asked["redirect_uri"] == [f"{ORIGIN}/login/callback"]
    again = parse_qs(browser.begin())
    for name in ("state", "nonce", "code_challenge"):
        assert len(asked[name][0]) == 43 and asked[name] != again[name], name


def test_cookies_are_of_this_host_over_tls_and_seen_by_no_script(browser: Browser) -> None:
    begun = browser.get("/login").headers.getlist("Set-Cookie")
    ended = browser.back(browser.begin()).headers.getlist("Set-Cookie")
    for text, name in ((begun[0], PENDING_LOGIN), (ended[0], SESSION)):
        assert text.startswith(f"{name}=") and name.startswith("__Host-")
        parts = set(text.lower().split("; ")[1:])
        assert {"secure", "httponly", "samesite=lax", "path=/"} <= parts
        assert not any(part.startswith("domain") for part in parts), "__Host- forbids it"
        assert any(part.startswith("max-age=") for part in parts)
    assert "Max-Age=0" in ended[1] and ended[1].startswith(PENDING_LOGIN)
    assert browser.get("/overview").headers.getlist("Set-Cookie") == []


def test_a_session_ends_after_its_time_used_or_not(browser: Browser) -> None:
    browser.log_in()
    browser.shift = timedelta(minutes=29)
    assert browser.inside
    browser.shift = timedelta(minutes=31)
    assert not browser.inside


LIES: dict[str, tuple[dict[str, Any], str]] = {
    "another nonce": ({"nonce": "x" * 43}, "nonce"),
    "no nonce": ({"nonce": None}, "nonce"),
    "for the service's own audience": ({"aud": AUDIENCE}, "aud"),
    "for another client too": ({"aud": [CLIENT, "other"], "azp": "other"}, "azp"),
    "made for another client": ({"azp": "other"}, "azp"),
    "of another issuer": ({"iss": "https://evil.example"}, "iss"),
    "expired": ({"iat": 1_700_000_000, "exp": 1_700_000_600}, "expired"),
    "of the future": ({"iat": 4_000_000_000, "exp": 4_000_000_600}, "not valid yet"),
    "an access token": ({"header": {"typ": "at+jwt"}}, "another kind of token"),
    "with a key in its header": ({"header": {"jwk": {}}}, "keys are the provider"),
    "without a subject": ({"sub": None}, "sub"),
    "of somebody without a role": ({"roles": ["visitors"]}, "neither an operator nor an auditor"),
    "of somebody with no word of roles": ({"roles": None}, "neither an operator nor an auditor"),
}


@pytest.mark.parametrize("name", LIES)
def test_an_id_token_with_one_thing_wrong_opens_nothing(browser: Browser, provider: FakeProvider, name: str) -> None:
    changes, said = LIES[name]
    provider.person = {**provider.person, **changes}
    refused = browser.log_in()
    assert refused.status_code in (401, 403), refused.text
    assert said in refused.text
    assert (browser.inside, SESSION in str(refused.headers)) == (False, False)


def test_an_id_token_whose_signature_is_not_the_providers_opens_nothing(
    browser: Browser, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = provider.token
    monkeypatch.setattr(provider, "token", lambda **more: whole(**more)[:-8] + "AAAAAAAA")
    assert (browser.log_in().status_code, browser.inside) == (401, False)


RETURNS: dict[str, tuple[dict[str, str | None], str]] = {
    "another state": ({"state": "x" * 43}, "state"),
    "no state": ({"state": None}, "state"),
    "another issuer": ({"iss": "https://evil.example"}, "the answer is from"),
    "no issuer": ({"iss": None}, "the answer is from"),
    "no code": ({"code": None}, "no code"),
    "a code nobody gave": ({"code": "made up"}, "does not take the code"),
    "an error": ({"error": "access_denied<script>", "code": None}, "access_deniedscript"),
}


@pytest.mark.parametrize("name", RETURNS)
def test_an_answer_with_one_thing_wrong_opens_nothing(browser: Browser, provider: FakeProvider, name: str) -> None:
    provider.returns, said = RETURNS[name]
    refused = browser.log_in()
    assert (refused.status_code, said in refused.text) == (403, True), refused.text
    assert not browser.inside
    asked = TOKEN in provider.asked
    assert asked == (name == "a code nobody gave"), "no code goes out for an answer that is not ours"


def test_a_provider_that_does_not_name_itself_in_answers_is_held_to_that(
    world: ServiceWorld, provider: FakeProvider
) -> None:
    provider.discovery, provider.returns = {"authorization_response_iss_parameter_supported": None}, {"iss": None}
    assert browser_at(world, provider).log_in().status_code == 303
    provider.returns = {"iss": "https://evil.example"}
    assert browser_at(world, provider).log_in().status_code == 403


def test_a_code_or_an_answer_is_taken_once(browser: Browser, provider: FakeProvider) -> None:
    where = provider.authorize(browser.begin()).removeprefix(ORIGIN)
    pending = browser.client.get_cookie(PENDING_LOGIN, domain="pages.test")
    assert pending is not None
    assert browser.get(where).status_code == 303
    exchanges = provider.asked.count(TOKEN)
    browser.client.delete_cookie(SESSION, domain="pages.test")
    browser.client.set_cookie(PENDING_LOGIN, pending.value, domain="pages.test", secure=True)
    again = browser.get(where)
    assert (again.status_code, "ended already" in again.text) == (403, True)
    assert (provider.asked.count(TOKEN), browser.inside) == (exchanges, False)


def test_an_answer_is_for_the_browser_that_began(world: ServiceWorld, provider: FakeProvider) -> None:
    """Somebody who sends others a link with an answer of their own login logs nobody in as themselves."""
    login = login_over(provider)
    mallory, victim = browser_at(world, provider, login), browser_at(world, provider, login)
    where = provider.authorize(mallory.begin()).removeprefix(ORIGIN)
    assert victim.get(where).status_code == 403
    victim.begin()
    assert (victim.get(where).status_code, victim.inside) == (403, False)


@pytest.mark.parametrize("cookie", ["", "x", "AAAA", "A" * 400, "\u00fc"])
def test_a_cookie_that_this_process_did_not_seal_begins_nothing(browser: Browser, cookie: str) -> None:
    where = browser.provider.authorize(browser.begin()).removeprefix(ORIGIN)
    browser.client.delete_cookie(PENDING_LOGIN, domain="pages.test")
    headers = {"Cookie": f"{PENDING_LOGIN}={cookie}".encode().decode("latin-1")}
    assert browser.client.get(where, base_url=ORIGIN, headers=headers).status_code == 403
    other = browser_at_another_process(browser)
    assert other.status_code == 403


def browser_at_another_process(browser: Browser) -> Any:
    """The answer of a process with another sealing key to a login that began in the first."""
    where = browser.provider.authorize(browser.begin()).removeprefix(ORIGIN)
    cookie = browser.client.get_cookie(PENDING_LOGIN, domain="pages.test")
    assert cookie is not None
    login = login_over(browser.provider)
    with pytest.raises(Exception, match="this browser began none here"):
        login.flow.finish({"state": "x"}, cookie.value, NOW)
    browser.client.delete_cookie(PENDING_LOGIN, domain="pages.test")
    return browser.get(where)


def test_a_login_that_took_too_long_ends_in_nothing(browser: Browser) -> None:
    query = browser.begin()
    browser.shift = PENDING + timedelta(seconds=1)
    refused = browser.back(query)
    assert (refused.status_code, "too long" in refused.text) == (403, True)


def test_an_answer_that_holds_something_twice_is_refused(browser: Browser, provider: FakeProvider) -> None:
    where = provider.authorize(browser.begin()).removeprefix(ORIGIN)
    assert browser.get(f"{where}&code=other").status_code == 403
    assert TOKEN not in provider.asked


def test_a_client_with_a_secret_shows_it_and_one_with_a_wrong_one_gets_nothing(
    world: ServiceWorld, provider: FakeProvider
) -> None:
    provider.secret = SECRET
    assert browser_at(world, provider).log_in().status_code == 303
    login = login_over(provider)
    provider.secret = "another"
    assert browser_at(world, provider, login).log_in().status_code == 403


@pytest.mark.parametrize(
    "answer",
    [
        Answer(500, b""),
        Answer(200, b"no json"),
        Answer(200, b"[]"),
        Answer(200, b'{"id_token": 7}'),
        Answer(200, b'{"id_token": "a.b.c"}'),
        Answer(200, b"x" * 70_000),
    ],
)
def test_a_token_endpoint_that_answers_nonsense_opens_nothing(
    browser: Browser, provider: FakeProvider, answer: Answer
) -> None:
    provider.answers = {TOKEN: answer}
    refused = browser.log_in()
    assert refused.status_code in (401, 503), refused.text
    assert not browser.inside


def test_a_provider_that_is_away_lets_nobody_in_and_ends_no_session(
    world: ServiceWorld, provider: FakeProvider
) -> None:
    inside_already = browser_at(world, provider)
    inside_already.log_in()
    provider.answers = {KEYS: Answer(500)}
    outside = browser_at(world, provider)
    assert outside.get("/login").status_code == 503
    assert (outside.inside, inside_already.inside) == (False, True)


def test_strangers_cannot_make_the_pages_ask_without_end(
    browser: Browser, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attest.web.oidc.code_flow.EXCHANGES_PER_MINUTE", 3)
    provider.returns = {"code": "made up"}
    assert [browser.log_in().status_code for _ in range(5)] == [403, 403, 403, 503, 503]
    assert provider.asked.count(TOKEN) == 3


def test_a_session_is_ended_by_its_own_page_only(browser: Browser) -> None:
    browser.log_in()
    word = re.search(r'name="csrf" value="([0-9a-f]{64})"', browser.get("/overview").text)
    assert word is not None
    good = {"csrf": word[1]}
    for origin, form in (
        ("https://evil.example", good), ("null", good), (None, good), (ORIGIN, {}), (ORIGIN, {"csrf": "0" * 64}),
        (ORIGIN, {"csrf": "\u00fc"}),
    ):  # fmt: skip
        headers = {} if origin is None else {"Origin": origin}
        assert browser.client.post("/logout", base_url=ORIGIN, data=form, headers=headers).status_code == 403, origin
    assert browser.get("/logout").status_code == 405
    assert browser.inside
    for method in ("POST", "PUT", "DELETE"):
        for path in ("/", "/overview", "/login", "/login/callback"):
            assert browser.client.open(path, method=method, base_url=ORIGIN, data=good).status_code == 405, path


def test_nobody_ends_a_session_without_having_one(browser: Browser) -> None:
    answer = browser.client.post("/logout", base_url=ORIGIN, data={"csrf": "x"}, headers={"Origin": ORIGIN})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "to",
    ["//evil.example", "/\\evil.example", "https://evil.example", "evil", "", "/a b", "/\r\nX: y", "/" + "x" * 600],
)
def test_after_a_login_nobody_lands_elsewhere(to: str, browser: Browser) -> None:
    assert inside(to) == "/"
    assert browser.back(browser.begin(to)).headers["Location"] == "/"


def test_a_login_makes_a_new_session_and_ends_the_one_before(browser: Browser) -> None:
    browser.log_in()
    first = browser.client.get_cookie(SESSION, domain="pages.test")
    browser.log_in()
    second = browser.client.get_cookie(SESSION, domain="pages.test")
    assert first is not None and second is not None and first.value != second.value
    browser.client.set_cookie(SESSION, first.value, domain="pages.test", secure=True)
    assert not browser.inside


def test_sessions_are_bounded_and_kept_as_digests() -> None:
    sessions = Sessions(timedelta(hours=1))
    shown = [sessions.open(Visitor("auditor", "a"), NOW + timedelta(seconds=number)) for number in range(MOST + 1)]
    later = NOW + timedelta(minutes=1)
    assert sessions.visitor(shown[0], later) is None, "what ends first made place"
    assert sessions.visitor(shown[1], later) is not None
    assert shown[1] not in repr(vars(sessions))
    assert replace(Visitor("auditor", "a", csrf="word")).__repr__().count("word") == 0


def test_every_answer_of_a_login_has_the_headers_of_every_page(browser: Browser) -> None:
    for answer in (browser.get("/login"), browser.log_in(), browser.get("/login/callback")):
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Strict-Transport-Security"]
        assert answer.headers["Referrer-Policy"] == "same-origin"

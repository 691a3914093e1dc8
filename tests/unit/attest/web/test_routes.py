"""Every route of both listeners, tried by everybody: what a table does not allow does not happen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attest.audit.record import Actor
from attest.settings_roles import Duty, Role
from attest.web.admin import ADMIN_ROUTES
from attest.web.duties import Roles
from attest.web.guest import GUEST_ROUTES
from attest.web.oidc.caller import Bearers
from attest.web.oidc.keys import parse_key_set
from attest.web.principals import Who, bearer_or, may, no_caller, tls_caller
from attest.web.routes import Route
from tests.fakes.kbs_client import KbsClient, Reply
from tests.fakes.oidc import FakeProvider
from tests.fakes.service_world import AUDITOR, OPERATOR, PATH, SECRET, ServiceWorld

CALLERS = ("nobody", "guest", "auditor", "operator")
HOLDERS = {"auditor": AUDITOR, "operator": OPERATOR}
LISTENERS = {"guests": GUEST_ROUTES, "operators": ADMIN_ROUTES}
EVERY = [
    pytest.param(listener, route, caller, id=f"{listener} {route.method} {route.path} {caller}")
    for listener in LISTENERS
    for route in (*GUEST_ROUTES, *ADMIN_ROUTES)
    for caller in CALLERS
]


@pytest.fixture
def world(tmp_path: Path) -> ServiceWorld:
    return ServiceWorld(tmp_path / "service")


class Desk:
    """Somebody in front of a world's listeners: a guest with cookie and token, the others with a certificate."""

    def __init__(self, world: ServiceWorld, caller: str) -> None:
        self.world, self.headers = world, {}
        if caller == "guest":
            guest = world.client()
            token = guest.handshake()
            self.headers = {"Authorization": f"Bearer {token}", "Cookie": f"kbs-session-id={guest.cookie}"}
        self.apps = {"guests": world.guest_app(), "operators": world.admin_app(HOLDERS.get(caller))}

    def ask(self, listener: str, route: Route) -> Reply:
        """One request."""
        answer = (
            self.apps[listener]
            .test_client(use_cookies=False)
            .open(
                filled(route),
                method=route.method,
                headers=self.headers,
                data=b"{}" if route.max_body else None,
                base_url="https://kbs.test",
            )
        )
        return Reply(answer.status_code, dict(answer.headers), answer.get_data())


@pytest.fixture(scope="module")
def desks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Desk]:
    """Everybody at one world, for what is refused: that changes nothing for those who come later."""
    world = ServiceWorld(tmp_path_factory.mktemp("desks") / "service")
    return {caller: Desk(world, caller) for caller in CALLERS}


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> FakeProvider:
    return FakeProvider(tmp_path_factory.mktemp("oidc"))


@pytest.mark.parametrize("caller", ["nobody", "stranger", "auditor", "operator"])
def test_by_bearer_token_every_route_serves_the_same_people(
    world: ServiceWorld, provider: FakeProvider, caller: str
) -> None:
    roles = {"stranger": ["visitors"], "auditor": ["audit"], "operator": ["ops"]}.get(caller)
    token = provider.token(world.now, roles=roles)
    headers = {} if caller == "nobody" else {"Authorization": f"Bearer {token}"}
    bearers = Bearers(provider.settings(), parse_key_set(json.dumps({"keys": provider.keys}).encode()).get)
    client = world.admin_app_for(bearer_or(no_caller, bearers.actor)).test_client(use_cookies=False)
    for route in ADMIN_ROUTES:
        before = len(world.records())
        body = b"{}" if route.max_body else None
        answer = client.open(filled(route), method=route.method, headers=headers, data=body)
        if allowed("operators", route, caller):
            assert answer.status_code in (200, 400, 404, 409), (route, answer.data)
        else:
            assert (answer.status_code, len(world.records())) == (403, before), (route, answer.data)
    guests = {(route.method, route.path) for route in GUEST_ROUTES}
    for route in ADMIN_ROUTES:  # and none of it where guests connect
        answer = world.guest_app().test_client().open(filled(route), method=route.method, headers=headers)
        own = (route.method, route.path) in guests
        assert answer.status_code in ((200, 404) if own else (401, 404, 405)), (route, answer.data)


def filled(route: Route) -> str:
    """The path with something for each argument."""
    return (
        route.path.replace("<repository>/<kind>/<tag>", PATH)
        .replace("<name>", "web-1")
        .replace("<number>", "1")
        .replace("<version>", "1")
        .replace("<id>", "0" * 32)
        .replace("/entries/<path:tile>", "/entries/000.p/1")
        .replace("<path:tile>", "0/000.p/1")
    )


def allowed(listener: str, route: Route, caller: str) -> bool:
    """What the tables say."""
    found = [own for own in LISTENERS[listener] if (own.method, own.path) == (route.method, route.path)]
    if not found:
        return False
    if found[0].who is Who.ANYONE:
        return True
    served = {Who.OPERATOR: ("operator",), Who.AUDITOR: ("operator", "auditor")}
    return caller in served.get(found[0].who, ("guest",))


@pytest.mark.parametrize(("listener", "route", "caller"), EVERY)
def test_a_route_serves_those_its_table_names_and_nobody_else(
    tmp_path: Path, desks: dict[str, Desk], listener: str, route: Route, caller: str
) -> None:
    if allowed(listener, route, caller):
        reply = Desk(ServiceWorld(tmp_path / "service"), caller).ask(listener, route)
        assert reply.status in (200, 400, 404, 409), reply
        assert b"http.404" not in reply.body, reply
        return
    desk = desks[caller]
    before = desk.world.records()
    reply = desk.ask(listener, route)
    same_path = [other for other in LISTENERS[listener] if other.path == route.path]
    assert reply.status in ((401, 403, 405) if same_path else (404, 405)), reply
    assert desk.world.records() == before, "a refused request changed something"
    assert SECRET not in reply.body


def test_nothing_on_the_guests_listener_is_for_operators_and_the_reverse() -> None:
    assert not {Who.OPERATOR, Who.AUDITOR} & {route.who for route in GUEST_ROUTES}
    assert {route.who for route in ADMIN_ROUTES} == {Who.OPERATOR, Who.AUDITOR}


def test_what_auditors_may_use_is_this_and_only_reads() -> None:
    """Whoever adds a route for auditors says so here too."""
    assert {(route.method, route.path) for route in ADMIN_ROUTES if route.who is Who.AUDITOR} == {
        ("GET", "/kbs/v0/resource"),
        ("GET", "/cvm/v0/resource/<repository>/<kind>/<tag>"),
        ("GET", "/cvm/v0/reference-value"),
        ("GET", "/cvm/v0/reference-value/<name>/progress"),
        ("GET", "/cvm/v0/collateral"),
        ("GET", "/cvm/v0/policy"),
        ("GET", "/cvm/v0/policy/<version>"),
        ("POST", "/cvm/v0/policy/check"),
        ("POST", "/cvm/v0/policy/replay"),
        ("GET", "/kbs/v0/resource-policy"),
        ("GET", "/kbs/v0/reference-value"),
        ("GET", "/kbs/v0/reference-value/<name>"),
        ("GET", "/cvm/v0/host"),
        ("GET", "/cvm/v0/token-key"),
        ("GET", "/cvm/v0/expiry"),
        ("GET", "/cvm/v0/decisions"),
        ("POST", "/cvm/v0/decisions/<number>/explanation"),
        ("GET", "/cvm/v0/audit"),
        ("GET", "/cvm/v0/audit/<number>"),
        ("GET", "/cvm/v0/audit-questions/<question>"),
        ("GET", "/metrics"),
        ("GET", "/cvm/v0/whoami"),
        ("GET", "/cvm/v0/log/checkpoint"),
        ("POST", "/cvm/v0/log/checkpoint"),  # has one more signed, of what is there
        ("POST", "/cvm/v0/log/growth"),
        ("GET", "/cvm/v0/audit/<number>/proof"),
        ("GET", "/cvm/v0/log/tile/<path:tile>"),
        ("GET", "/cvm/v0/log/tile/entries/<path:tile>"),
    }


@pytest.mark.parametrize("duty", [*Duty, None])
def test_an_operator_with_one_duty_may_use_its_routes_and_those_for_reading_only(
    world: ServiceWorld, duty: Duty | None
) -> None:
    """``None``: somebody no role names, in a service that has roles."""
    roles = Roles(
        (Role("others", tuple(Duty), ("somebody else",)), *([Role("own", (duty,), ("olga",))] if duty else []))
    )
    client = world.admin_app_for(lambda environ, now: OPERATOR, roles).test_client(use_cookies=False)
    served = set()
    for route in sorted(ADMIN_ROUTES, key=lambda route: route.method == "DELETE"):  # nothing is gone before it is tried
        before = world.records()
        answer = client.open(filled(route), method=route.method, data=b"{}" if route.max_body else None)
        if route.duty in (duty, None):
            assert answer.status_code in (200, 400, 404, 409), (route, answer.data)
            served.add(route.duty)
        else:
            assert (answer.status_code, answer.json["code"]) == (403, "duty.missing"), (route, answer.data)
            assert answer.json["detail"].endswith(f"olga has {duty or 'none'}"), answer.json
            assert world.records() == before, "a refused request changed something"
    assert served == {duty, None}


def test_every_route_that_changes_something_takes_a_duty_and_no_other_does() -> None:
    without = {(route.method, route.path) for route in ADMIN_ROUTES if route.who is Who.OPERATOR and not route.duty}
    assert without == {("GET", "/healthz"), ("GET", "/readyz")}
    assert not [route for route in (*GUEST_ROUTES, *ADMIN_ROUTES) if route.who is not Who.OPERATOR and route.duty]


def test_a_kind_of_caller_nobody_thought_of_may_use_no_route_of_operators_or_auditors() -> None:
    for kind in ("", "guest", "local", "host", "Operator"):
        assert not may(Who.OPERATOR, Actor(kind, "x"))
        assert not may(Who.AUDITOR, Actor(kind, "x"))


def test_no_question_an_auditor_may_ask_changes_the_log_or_shows_a_secret(world: ServiceWorld) -> None:
    world.client().resource(PATH)
    before, auditor = world.records(), world.admin_app(AUDITOR).test_client()
    for path in (
        "/kbs/v0/resource?history=1",
        f"/cvm/v0/resource/{PATH}",
        f"/cvm/v0/audit-questions/releases?value={PATH}",
    ):
        reply = auditor.get(path)
        assert (reply.status_code, SECRET in reply.data) == (200, False), path
    assert auditor.post(f"/cvm/v0/export/{PATH}?reason=x").status_code == 403
    assert world.records() == before


def test_every_answer_forbids_caching_and_sniffing(world: ServiceWorld) -> None:
    for path in ("/healthz", "/nowhere", "/kbs/v0/resource/a/b/c", "/kbs//v0/auth"):
        headers = dict(world.guest_app().test_client().get(path).headers)
        assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff"), path


@pytest.mark.parametrize(
    "path",
    [
        "/kbs/v0/resource/../../etc/passwd",
        "/kbs/v0/resource/a/b/c/d",
        "/kbs/v0/resource/a/b/%2e%2e",
        "/static/x",
        "/kbs/v0//auth",
    ],
)
def test_a_path_outside_the_table_does_not_exist(world: ServiceWorld, path: str) -> None:
    client = world.client()
    client.handshake()
    assert client.transport.send("GET", path, None, client._cookies()).status in (400, 404, 405)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_health_check_may_ask_for_the_head_alone_and_nobody_else_may(world: ServiceWorld, path: str) -> None:
    for app in (world.guest_app(), world.admin_app()):
        reply = app.test_client().head(path, base_url="https://kbs.test")
        assert (reply.status_code, reply.data) == (200, b"")
    client = world.client()
    client.handshake()
    cookies = client._cookies()
    refused = client.transport.send("HEAD", f"/kbs/v0/resource/{PATH}", None, cookies)
    assert (refused.status, refused.headers["Allow"]) == (405, "GET")
    assert not world.records("release")


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/kbs/v0/nebula-ca/credential", 404, "path: nothing is at GET '/kbs/v0/nebula-ca/credential' on this"),
        ("DELETE", "/kbs/v0/auth", 405, "method: got DELETE '/kbs/v0/auth', want POST"),
        ("DELETE", "/healthz", 405, "method: got DELETE '/healthz', want GET or HEAD"),
        ("DELETE", "/.well-known/jwks.json", 405, "want GET"),
        ("POST", "/kbs/v0/auth", 413, "body: more than the 16384 bytes that /kbs/v0/auth takes"),
    ],
)
def test_what_no_route_takes_is_refused_in_words_of_ours(
    world: ServiceWorld, method: str, path: str, status: int, said: str
) -> None:
    reply = world.guest_app().test_client().open(path, method=method, data=b"x" * 70000, base_url="https://kbs.test")
    assert (reply.status_code, said in reply.json["detail"]) == (status, True), reply.json


def test_a_header_never_makes_an_operator(world: ServiceWorld) -> None:
    assert no_caller({"gunicorn.socket": object(), "SSL_CLIENT_VERIFY": "SUCCESS"}, world.now) is None
    assert tls_caller()({"SSL_CLIENT_VERIFY": "SUCCESS", "HTTP_X_SSL_CLIENT_CERT": "x"}, world.now) is None
    assert tls_caller()({"gunicorn.socket": object()}, world.now) is None


def test_operators_store_list_and_erase_resources_without_ever_reading_one(world: ServiceWorld) -> None:
    client = world.admin_app().test_client()
    where = "/kbs/v0/resource/default/db-1/root"
    assert client.post(where, data=b"value").status_code == 200
    assert client.post(where, data=b"other").status_code == 409
    assert client.post(f"{where}?replace=1&for=web-1", data=b"other").json == {
        "path": "default/db-1/root",
        "version": 2,
    }
    listed = {
        entry["version"]: entry
        for entry in client.get("/kbs/v0/resource?history=1").json["resources"]
        if "db-1" in entry["path"]
    }
    assert (listed[1]["retired"] is not None, listed[2]["only_for"]) == (True, ["web-1"])
    assert client.get(where).status_code == 405
    assert [entry["version"] for entry in client.get("/kbs/v0/resource").json["resources"]] == [2, 1]
    assert client.delete(where).status_code == 200
    assert client.delete(where).status_code == 404
    assert [record["kind"] for record in world.records()][-3:] == ["resource-put", "resource-put", "resource-delete"]


@pytest.mark.parametrize("route", ADMIN_ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_what_an_operators_route_does_not_read_is_refused_and_nothing_happens(
    desks: dict[str, Desk], route: Route
) -> None:
    """A mistyped name would otherwise be the default: another purpose, another number of minutes."""
    desk = desks["operator"]
    client, before = desk.apps["operators"].test_client(use_cookies=False), desk.world.records()
    body = b"{}" if route.max_body else None
    said = []
    for query in ("?purpse=export", *(f"?{name}=1&{name}=2" for name in route.query)):
        said.append(client.open(f"{filled(route)}{query}", method=route.method, data=body))
    if not route.max_body:
        said.append(client.open(filled(route), method=route.method, data=b"{}"))
    for reply in said:
        assert (reply.status_code, reply.json["code"]) == (400, "request.malformed"), reply.json
        assert reply.json["detail"].startswith(("query: ", "body: ")), reply.json
    assert desk.world.records() == before


@pytest.mark.parametrize("query", ["?replace=yes", "?replace="])
def test_a_flag_is_0_or_1(world: ServiceWorld, query: str) -> None:
    assert world.admin_app().test_client().post(f"/kbs/v0/resource/a/b/c{query}", data=b"x").status_code == 400


@pytest.mark.parametrize(("body", "status"), [(b"", 400), (b"x" * 65536, 200), (b"x" * 65537, 413)])
def test_a_resource_has_1_byte_to_64_kib(world: ServiceWorld, body: bytes, status: int) -> None:
    assert world.admin_app().test_client().post("/kbs/v0/resource/a/b/c", data=body).status_code == status


def test_operators_read_decisions_and_guests_reasons_only(world: ServiceWorld) -> None:
    guest: KbsClient = world.client(measurement=b"\x77" * 48)
    guest.auth()
    reply = guest.post_raw("/attest", json.dumps(guest.evidence()).encode())
    number = reply.json()["decision"]
    admin = world.admin_app().test_client()
    assert admin.get("/cvm/v0/decisions?limit=1").json["records"][0]["number"] == number
    record = admin.get(f"/cvm/v0/audit/{number}").json
    failed = [check for check in record["body"]["decision"]["checks"] if check["outcome"] == "fail"]
    assert [check["expected"] for check in failed] == ["11" * 48]
    assert admin.get("/cvm/v0/audit/99999").status_code == 404
    assert admin.get("/cvm/v0/decisions?limit=0").status_code == 400


def test_an_error_of_ours_shows_an_id_and_nothing_else(
    world: ServiceWorld, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object) -> None:
        raise RuntimeError("secret detail")

    client = world.client()
    client.auth()
    body = client.evidence()
    monkeypatch.setattr("attest.broker.rules.RulesInForce.current", broken)
    reply = client.post_raw("/attest", json.dumps(body).encode())
    assert reply.status == 500
    assert b"secret detail" not in reply.body
    assert reply.json()["detail"].removeprefix("internal error ") in caplog.text


CHANGING = [route for route in ADMIN_ROUTES if route.method != "GET"]


@pytest.mark.parametrize(
    "sent_by", [{"Origin": "https://evil.test"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}], ids=str
)
def test_no_page_in_an_operators_browser_changes_anything(world: ServiceWorld, sent_by: dict[str, str]) -> None:
    """A browser that holds the operator's certificate shows it whichever site's form sends a request here."""
    client = world.admin_app().test_client(use_cookies=False)
    before = world.records()
    for route in CHANGING:
        answer = client.open(
            filled(route), method=route.method, headers=sent_by, data=b"{}" if route.max_body else None
        )
        assert (answer.status_code, answer.json and answer.json["code"]) == (403, "operator.page"), route
    assert world.records() == before, "a refused request changed something"
    assert client.get("/cvm/v0/whoami", headers=sent_by).status_code == 200

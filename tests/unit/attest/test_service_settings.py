"""``attest.toml``: limits and tokens, decoded strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from attest.settings import Settings, SettingsInvalid, load_dashboard, load_settings
from attest.settings_dashboard import LoginSettings
from attest.settings_server import LimitSettings
from tests.fakes.served import Served
from tests.fakes.service_world import PKI


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return Served(tmp_path / "service").init().config


def changed(file: Path, old: str, new: str) -> Settings:
    """The settings after one change of the text."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    return load_settings(file)


def test_a_new_service_bounds_its_queue_and_nothing_else(file: Path) -> None:
    assert load_settings(file).limits == LimitSettings(0, 0, 32)
    assert load_settings(file).token_dialect == "trustee"


def test_without_the_table_the_queue_is_bounded_all_the_same(file: Path) -> None:
    text = file.read_text()
    start, end = text.index("[limits]"), text.index("[session]")
    file.write_text(text[:start] + text[end:])
    assert load_settings(file).limits.queue == 32


def test_limits_are_read(file: Path) -> None:
    found = changed(file, "[limits]", "[limits]\naddress_per_minute = 600\nchip_per_minute = 120")
    assert found.limits == LimitSettings(600, 120, 32)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("queue = 32", "queue = 0"),
        ("queue = 32", "queue = 101"),
        ("queue = 32", 'queue = "64"'),
        ("queue = 32", "queue = 32\nchip_per_minute = -1"),
        ("queue = 32", "queue = 32\nper_minute = 5"),
        ("lifetime_seconds = 300", 'lifetime_seconds = 300\ndialect = "cwt"'),
        ('token_key_file = "token.key"', 'token_key_file = "token.key"\ntoken_keys = "database"'),
        ('token_key_file = "token.key"', 'token_keys = "memory"'),
    ],
)
def test_a_wrong_value_or_word_is_refused(file: Path, old: str, new: str) -> None:
    with pytest.raises(SettingsInvalid):
        changed(file, old, new)


def oidc_file(file: Path) -> str:
    """The settings with the commented table in force."""
    text = file.read_text()
    start, end = text.index("# [server.oidc]"), text.index("[store]")
    table = "\n".join(line.removeprefix("# ") for line in text[start:end].splitlines())
    file.write_text(text[:start] + table + "\n" + text[end:])
    return file.read_text()


def test_the_commented_provider_of_a_new_file_can_be_put_in_force(file: Path) -> None:
    assert load_settings(file).server.oidc is None
    oidc_file(file)
    found = load_settings(file).server.oidc
    assert found is not None
    assert (found.issuer, found.audience) == ("https://login.example/realms/ops", "attest")
    assert (found.role, found.operator, found.auditor) == (("roles",), ("attest-operators",), ("attest-auditors",))
    assert (found.name, dict(found.people)) == ("email", {"olga@example.org": "olga"})
    assert found.ca == file.parent / "login-ca.pem"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("https://login", "http://login", "want an https URL"),
        ("realms/ops", "realms/ops?x=1", "want an https URL"),
        ('audience = "attest"\nca', 'audience = ""\nca', "empty string"),
        ('role_claim = ["roles"]', 'role_claim = "roles"', "want a list of strings"),
        ('role_claim = ["roles"]', "role_claims = []", "unknown key"),
        ('operator = ["attest-operators"]', 'operator = ["attest-auditors"]', "makes operators too"),
        ('name_claim = "email"', 'name_claim = "preferred_username"', 'one of "sub", "email"'),
        ('name_claim = "email"', 'name_claim = "email"\nalgorithms = ["HS256"]', "got ['HS256']"),
        ('name_claim = "email"', 'name_claim = "email"\nalgorithms = []', "got none"),
        ('name_claim = "email"', 'name_claim = "email"\nleeway_seconds = 121', "want 0..120"),
        ('name = "olga"', 'name = "olga"\nrole = "operator"', "unknown key"),
        (
            'name = "olga"',
            'name = "olga"\n[[server.oidc.person]]\nclaim = "olga@example.org"\nname = "o"',
            "there twice",
        ),
    ],
)
def test_a_provider_that_is_described_wrongly_is_refused(file: Path, old: str, new: str, problem: str) -> None:
    text = oidc_file(file)
    for line in text.splitlines():  # comments behind values
        text = text.replace(line, line.split("  # ")[0].rstrip()) if "  # " in line else text
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(SettingsInvalid, match=problem.replace("[", r"\[").replace(".", r"\.")):
        load_settings(file)


def test_a_provider_that_makes_nobody_anything_is_refused(file: Path) -> None:
    text = (
        oidc_file(file)
        .replace('operator = ["attest', '# operator = ["attest')
        .replace('auditor = ["', '# auditor = ["')
    )
    file.write_text(text)
    with pytest.raises(SettingsInvalid, match="otherwise nobody is anything"):
        load_settings(file)


def test_pages_with_tokens_need_a_provider(tmp_path: Path) -> None:
    file = Served(tmp_path / "service").init(PKI, "--dashboard", "127.0.0.1:0").config
    file.write_text(file.read_text().replace("# oidc = true", "oidc = true"))
    with pytest.raises(SettingsInvalid, match=r"there is no \[server\.oidc\]"):
        load_dashboard(file)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('origin = "http://pages.test"', "want https://HOST"),
        ('origin = "https://pages.test/"', "want https://HOST"),
        ('origin = "https://pages.test:443"', "want https://HOST"),
        ('origin = "https://Pages.test"', "want https://HOST"),
        ('origin = "https://me@pages.test"', "want https://HOST"),
        ('origin = "https://pages.test:x"', "want https://HOST"),
        ('origin = "https://pages.test"\nsession_minutes = 0', "want 1..480"),
        ('origin = "https://pages.test"\nsession_minuets = 5', "did you mean"),
        ('origin = "https://pages.test"', "there is no [server.oidc]"),
    ],
)
def test_a_log_in_that_could_not_work_is_refused_with_its_place(tmp_path: Path, line: str, problem: str) -> None:
    file = Served(tmp_path / "service").init(PKI, "--dashboard", "127.0.0.1:0").config
    file.write_text(file.read_text() + f'\n[dashboard.login]\nclient = "pages"\n{line}\n')
    for load in (load_dashboard, load_settings):
        with pytest.raises(SettingsInvalid, match=problem.replace("[", r"\[").replace(".", r"\.")):
            load(file)


def test_a_log_in_is_read_and_means_nothing_without_tls(tmp_path: Path) -> None:
    login = '\n[dashboard.login]\nclient = "pages"\norigin = "https://pages.test:8446"\nscope = ["email"]\n'
    file = Served(tmp_path / "a").init(PKI, "--dashboard", "127.0.0.1:0").config
    oidc = '[server.oidc]\nissuer = "https://login.test"\naudience = "x"\nrole_claim = ["r"]\nauditor = ["a"]\n'
    file.write_text(file.read_text().replace("[store]", oidc + "\n[store]", 1) + login)
    found = load_dashboard(file)
    assert found.own.login == LoginSettings("pages", "https://pages.test:8446", None, "openid email")
    assert found.oidc is not None and not found.own.oidc
    assert load_settings(file).dashboard == found.own
    one_audience = file.read_text().replace('client = "pages"', 'client = "x"')
    file.write_text(one_audience)
    for load in (load_dashboard, load_settings):  # whoever takes over the pages holds operators' tokens of their logins
        with pytest.raises(SettingsInvalid, match=r"\$\.dashboard\.login\.client: .*open the operators' listener"):
            load(file)
    plain = Served(tmp_path / "b").init(PKI, "--dashboard", "127.0.0.1:0", "--dashboard-plain").config
    plain.write_text(plain.read_text().replace("[store]", oidc + "\n[store]", 1) + login)
    with pytest.raises(SettingsInvalid, match="its cookies go over TLS only"):
        load_dashboard(plain)


def test_the_commented_lines_of_a_new_file_are_right_when_they_are_taken_out_of_the_comment(file: Path) -> None:
    text = file.read_text()
    for name in ("address_per_minute", "chip_per_minute", "dialect"):
        text = text.replace(f"# {name}", name)
    file.write_text(text)
    found = load_settings(file)
    assert (found.limits.address_per_minute, found.limits.chip_per_minute, found.token_dialect) == (600, 120, "ear")

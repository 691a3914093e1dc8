"""The pages' log-in in a real browser, against the real process and a provider on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser.chromium import NARROW, WIDE, chromium, look, violations
from tests.fakes.oidc import CLIENT, FakeProvider
from tests.fakes.served import Served
from tests.fakes.service_world import PKI
from tests.unit.attest.web.dashboard.test_role import port


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, FakeProvider]]:
    """The address of the pages, and who knows their people."""
    folder = tmp_path_factory.mktemp("login")
    with FakeProvider(folder / "oidc") as provider:
        found = Served(folder / "service").init(PKI, "--dashboard", f"127.0.0.1:{free_port()}")
        text = found.config.read_text()
        origin = "https://localhost:" + text.split('listen = "127.0.0.1:')[-1].split('"')[0]
        provider.back = f"{origin}/login/callback"
        login = f'\n[dashboard.login]\nclient = "{CLIENT}"\norigin = "{origin}"\n'
        found.config.write_text(text.replace("[store]", provider.toml() + "\n[store]", 1) + login)
        found.start()
        assert port(found) == int(origin.rpartition(":")[2])
        yield origin, provider
        found.stop()


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def shows(browser: Chrome, text: str) -> None:
    """A click does not wait for the page it leads to."""
    WebDriverWait(browser, 30).until(lambda now: text in now.page_source, text)


@pytest.fixture(scope="module")
def browser(pages: tuple[str, FakeProvider]) -> Iterator[Chrome]:
    """The authorities of both are made for the test. It ends before them, who would wait for the connections it keeps."""
    with chromium("--ignore-certificate-errors") as found:
        yield found


def test_an_auditor_logs_in_with_a_browser_and_out_again(browser: Chrome, pages: tuple[str, FakeProvider]) -> None:
    origin, provider = pages
    look(browser, width=NARROW, dark=False)
    browser.get(f"{origin}/fleet")
    assert "Not logged in" in browser.page_source
    assert violations(browser) == []
    browser.find_element(By.LINK_TEXT, "Log in").click()
    shows(browser, "Seen by auditor anna.")
    assert browser.current_url == f"{origin}/fleet"
    assert browser.execute_script("return document.cookie") == ""
    assert browser.execute_script("return document.documentElement.scrollWidth") <= NARROW
    assert violations(browser) == []
    look(browser, width=WIDE, dark=True)
    assert violations(browser, "color-contrast") == []
    browser.find_element(By.CSS_SELECTOR, "form.leave button").click()
    shows(browser, "Not logged in")
    provider.person = {"sub": "victor", "roles": ["visitors"]}
    browser.get(f"{origin}/login")
    assert "neither an operator nor an auditor" in browser.page_source
    browser.get(f"{origin}/overview")
    assert "Not logged in" in browser.page_source

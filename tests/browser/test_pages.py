"""Every page in a real browser: axe finds nothing that keeps people out, nothing runs, nothing sticks out, keys work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

from attest.cli.audit_export import as_html
from attest.store.records import EVERY
from tests.browser.chromium import NARROW, WIDE, chromium, look, screenshot, violations
from tests.fakes.dashboard_world import furnish, listening, pages_over
from tests.fakes.service_world import ServiceWorld

LOOKS = {
    "wide": (WIDE, False),
    "wide-dark": (WIDE, True),
    "narrow": (NARROW, False),
    "narrow-dark": (NARROW, True),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> ServiceWorld:
    return furnish(tmp_path_factory.mktemp("browser") / "service")


@pytest.fixture(scope="module")
def url(world: ServiceWorld) -> Iterator[str]:
    with listening(pages_over(world)) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def pages(world: ServiceWorld) -> dict[str, str]:
    """A page of each kind, by name."""

    def newest(kind: str, outcome: str) -> int:
        found = [item["number"] for item in world.records() if (item["kind"], item["outcome"]) == (kind, outcome)]
        return int(max(found))

    client = pages_over(world).test_client()
    fleet = client.get("/fleet.json", headers={"Host": "127.0.0.1"}).json
    assert fleet is not None
    return {
        "overview": "/",
        "vms": "/vms",
        "vm": "/vm?name=shop-1",
        "decisions": "/decisions?result=denied",
        "decision-denied": f"/decisions/{newest('decision', 'contraindicated')}",
        "decision-accepted": f"/decisions/{newest('decision', 'affirming')}",
        "decision-hostile": f"/decisions/{newest('decision', 'malformed')}",
        "policies": "/policies",
        "policy": f"/policies/{newest('policy-apply', 'in force')}",
        "references": "/references",
        "reference": "/references/2",
        "endorsements": "/endorsements",
        "fleet": "/fleet",
        "fleet-earlier": "/fleet?asof=2026-05-20",
        "anomalies": "/anomalies",
        "chip": f"/chips/{fleet['chips'][0]['chip']}",
        "records": "/records?kind=policy-apply",
        "record": f"/records/{newest('release', 'released')}",
        "compliance": "/compliance",
        "family": "/compliance/soc-2",
        "problem": "/nothing-here",
    }


def complaints(browser: Chrome) -> list[str]:
    """What the browser itself complained about since it was asked last: refused styles, scripts, images."""
    return [entry["message"] for entry in browser.get_log("browser") if "404" not in entry["message"]]


@pytest.mark.parametrize("name", LOOKS)
def test_axe_finds_nothing_serious_and_nothing_sticks_out(
    browser: Chrome, url: str, pages: dict[str, str], name: str
) -> None:
    width, dark = LOOKS[name]
    look(browser, width=width, dark=dark)
    for page, path in pages.items():
        browser.get(url + path)
        assert complaints(browser) == [], page
        if page in ("overview", "decision-denied", "policy", "fleet", "anomalies", "decision-hostile"):
            screenshot(browser, f"{page}-{name}")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, page
        # Colours are all that differs in the dark.
        assert violations(browser, *(("color-contrast",) if dark else ())) == [], page
        browser.get_log("browser")  # what injecting axe into such a page brings


def test_axe_is_able_to_find_something(browser: Chrome, url: str) -> None:
    browser.get(url + "/fleet")
    browser.execute_script("document.querySelector('main').innerHTML = '<img src=/icon.svg><a href=/></a>'")
    assert {line.split()[0] for line in violations(browser)} >= {"image-alt", "link-name"}


def test_hostile_text_runs_nothing_and_does_not_turn_the_line(browser: Chrome, url: str, pages: dict[str, str]) -> None:
    browser.get(url + pages["decision-hostile"])
    browser.execute_script("window.alerted = false; window.alert = () => { window.alerted = true; }")
    shown = browser.find_element(By.CSS_SELECTOR, ".lead").text
    assert shown.startswith(r"\x1b[2J\x1b]0;owned\x07<script>alert(1)</script>\u202egnp.exe\u2066")
    assert browser.find_elements(By.CSS_SELECTOR, "script, main img") == []
    browser.get(url + pages["decision-denied"])
    assert browser.find_elements(By.CSS_SELECTOR, "script") == []
    assert "</title></text><script>" in browser.find_element(By.CSS_SELECTOR, "details table").get_attribute(
        "textContent"
    )


def test_the_browser_refuses_a_script_and_a_style_put_into_the_page(browser: Chrome, url: str) -> None:
    """The policy is enforced, not only sent: the page's own inserted elements do nothing."""
    browser.get(url + "/")
    browser.execute_script(
        "const script = document.createElement('script'); script.src = '/style.css'; document.body.append(script);"
        "document.body.insertAdjacentHTML('beforeend', '<p id=x style=\"color: rgb(1, 2, 3)\">x</p>')"
    )
    colour = browser.execute_script("return getComputedStyle(document.getElementById('x')).color")
    assert colour != "rgb(1, 2, 3)"
    assert sum("Content Security Policy" in entry["message"] for entry in browser.get_log("browser")) >= 2


def test_the_keyboard_reaches_the_content_first_and_every_page_by_the_menu(browser: Chrome, url: str) -> None:
    look(browser, width=WIDE, dark=False)
    browser.get(url + "/")
    ActionChains(browser).send_keys(Keys.TAB).perform()
    assert browser.switch_to.active_element.text == "Skip to the content"
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    assert browser.switch_to.active_element.get_attribute("id") == "main"
    browser.get(url + "/")
    menu = [link.get_attribute("href") for link in browser.find_elements(By.CSS_SELECTOR, "nav a")]
    reached = []
    for _ in range(len(menu) + 2):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        reached.append(browser.switch_to.active_element.get_attribute("href"))
    assert reached[2:] == menu
    outline = browser.switch_to.active_element.value_of_css_property("outline-style")
    assert outline == "solid"


def test_colours_follow_the_reader_and_paper_has_no_menu(browser: Chrome, url: str, pages: dict[str, str]) -> None:
    grounds = []
    for dark in (False, True):
        look(browser, width=WIDE, dark=dark)
        browser.get(url + "/")
        grounds.append(browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color"))
    assert grounds == ["rgba(246, 247, 246, 1)", "rgba(15, 20, 19, 1)"]
    fills = []
    for dark in (True, False):  # whoever reads in the dark prints on white paper
        look(browser, width=794, dark=dark, media="print")
        browser.get(url + pages["decision-denied"])
        assert violations(browser, "color-contrast") == []
        box = browser.find_element(By.CSS_SELECTOR, ".picture-wide .digest-differs rect")
        fills.append(box.value_of_css_property("fill"))
    assert fills[0] == fills[1]
    screenshot(browser, "decision-denied-paper")
    assert not browser.find_element(By.TAG_NAME, "nav").is_displayed()
    assert browser.find_element(By.CSS_SELECTOR, ".picture-wide").is_displayed()
    look(browser, width=WIDE, dark=False)


def test_an_exported_page_is_readable_on_a_telephone_and_on_paper(
    browser: Chrome, world: ServiceWorld, tmp_path: Path
) -> None:
    page = tmp_path / "records.html"
    with world.database.read() as tx:
        page.write_text("".join(as_html(tx, EVERY)))
    for name, width, media in (("narrow", NARROW, "screen"), ("paper", 794, "print")):
        look(browser, width=width, dark=False, media=media)
        browser.get(page.as_uri())
        screenshot(browser, f"export-{name}")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, name
        # A word of the narrow columns is never broken in the middle: each is as wide as its longest word.
        assert (
            browser.execute_script(
                "return [...document.querySelectorAll('.report td:nth-child(3) .content')]"
                ".filter(cell => cell.scrollWidth > cell.parentElement.clientWidth + 1).length"
            )
            == 0
        ), name
    look(browser, width=NARROW, dark=False)
    browser.get(page.as_uri())
    assert violations(browser) == []
    look(browser, width=WIDE, dark=False)

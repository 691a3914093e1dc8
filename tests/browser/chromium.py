"""Debian's Chromium without a window, driven through WebDriver; and axe, which looks for what keeps people out."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / ".cache" / "screenshots"
WIDE, NARROW = 1280, 360
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
)


@contextmanager
def chromium(*more: str) -> Iterator[Chrome]:
    """A browser with a profile of its own, with ``more`` flags. Skips where Debian's packages chromium and chromium-driver are missing."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no chromium and chromedriver: sh launcher/setup.sh test installs them")
    with tempfile.TemporaryDirectory(prefix="cvm-chromium-") as profile:
        options = ChromeOptions()
        options.binary_location = program
        for flag in (*_FLAGS, *more, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        browser = Chrome(options=options, service=ChromeService(driver))
        try:
            yield browser
        finally:
            browser.quit()


def look(browser: Chrome, *, width: int, dark: bool, media: str = "screen") -> None:
    """From now on a screen of this width, in this colour scheme; ``media`` ``print`` is paper."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [scheme]})


def screenshot(browser: Chrome, name: str) -> Path:
    """The whole page as a PNG below ``.cache/screenshots``."""
    import base64

    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
    path = SCREENSHOTS / f"{name}.png"
    path.write_bytes(base64.b64decode(shot["data"]))
    return path


def violations(browser: Chrome, *rules: str) -> list[str]:
    """What axe calls serious or critical on the page as it is shown now, one line each; by all rules, or by these."""
    browser.execute_script((files("axe_core_python") / "axe.min.js").read_text())
    found: dict[str, Any] = browser.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run(document, {resultTypes: ['violations'], ...arguments[0]}).then(done, error => done({violations: [], error: String(error)}))",
        {"runOnly": list(rules)} if rules else {},
    )
    if "error" in found:
        raise AssertionError(found["error"])
    return [
        f"{item['id']} ({item['impact']}): {node['target'][0]} {node['html'][:160]}"
        for item in found["violations"]
        if item["impact"] in ("serious", "critical")
        for node in item["nodes"]
    ]

"""The reader in Chromium: what is chosen is what is underlined, and nothing fails."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from refrag_rl.page.html import reader_section, write_page
from tests.page_data import EXPANDED, SHOWN, reader_data

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="chromium and chromedriver are needed (Debian: chromium, chromium-driver)",
)


class Browser:
    """A session of WebDriver."""

    def __init__(self, address: str, profile: Path) -> None:
        self._address = f"{address}/session"
        # Chromium's sandbox does not work for root.
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        options = {"binary": CHROMIUM, "args": [*FLAGS, *root, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self.call("", {"capabilities": {"alwaysMatch": wanted}})
        self._address += f"/{session['sessionId']}"

    def call(self, path: str, data: dict[str, Any] | None = None, method: str = "POST") -> Any:
        """Return what a command of WebDriver answers."""
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(self._address + path, body, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            request, timeout=60
        ) as answer:
            return json.load(answer)["value"]

    def run(self, script: str) -> Any:
        """Return what a script returns in the page."""
        return self.call("/execute/sync", {"script": script, "args": []})

    def click(self, css: str) -> None:
        """Click on an element."""
        found = self.call("/element", {"using": "css selector", "value": css})
        self.call(f"/element/{next(iter(found.values()))}/click", {})


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    assert DRIVER
    with subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, text=True) as driver:
        try:
            assert driver.stdout
            port = next(
                found[1]
                for line in driver.stdout
                if (found := re.search(r"started successfully on port (\d+)", line))
            )
            session = Browser(f"http://127.0.0.1:{port}", tmp_path / "profile")
            yield session
            session.call("", method="DELETE")
        finally:
            driver.terminate()


UNDERLINED = """
return [...document.querySelectorAll("#context [role=option]")]
  .map((chunk, index) => [getComputedStyle(chunk).textDecorationLine, index])
  .filter(([line]) => line.includes("underline")).map(([, index]) => index);
"""


def test_selector_and_budget_change_what_is_underlined(browser: Browser, tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", SHOWN, [reader_section(reader_data())])
    browser.call("/url", {"url": (tmp_path / "page.html").as_uri()})
    seen = []
    for selector in (1, 2):
        browser.click(f"#selector option:nth-child({selector})")
        for budget in (1, 2):
            browser.click(f"#budget option:nth-child({budget})")
            seen.append(browser.run(UNDERLINED))
    assert seen == EXPANDED

    about = 'return document.getElementById("about").textContent'
    first = browser.run(about)
    browser.click("#next")
    assert browser.run(about) != first
    # Documents brought no elements, and their text is there as it is.
    assert browser.run('return document.querySelectorAll("img").length') == 0
    assert SHOWN in browser.run('return document.getElementById("context").textContent')
    # Arrow keys walk from chunk to chunk and tell of each.
    told = browser.run("""
      const chunk = document.querySelector("#context [role=option]");
      chunk.focus();
      chunk.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true}));
      return document.getElementById("detail").textContent;
    """)
    assert told.startswith("Chunk 2 of 5")
    assert "planted" in told
    assert browser.call("/se/log", {"type": "browser"}) == []

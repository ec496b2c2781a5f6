"""Chromium without a window, which opens a page from a file and tells what the page did."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, sync_playwright
from waiting import HANG_SECONDS

MARKS = ".role-mark :is(path, line, text)"
"""What Vega draws for data, not for axes and legends."""


@dataclass
class Opened:
    """An open page. ``requests``: what it asked for besides itself; ``said``: lines on its console, and errors."""

    page: Page
    requests: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def marks(self) -> dict[str, int]:
        """Return the number of marks in each plot."""
        script = "(all, marks) => all.map(one => [one.dataset.chart, one.querySelectorAll(marks).length])"
        return dict(self.page.eval_on_selector_all("[data-chart]", script, MARKS))

    def complaints(self) -> list[str]:
        """Return what axe finds inaccessible: rule, and the first element."""
        found: list[dict[str, Any]] = Axe().run(self.page).response["violations"]
        return [f"{row['id']}: {row['nodes'][0]['html'][:200]}" for row in found]


@contextmanager
def opened(path: Path, *, width: int = 1200, dark: bool = False) -> Iterator[Opened]:
    """Open a report and wait until its plots are drawn."""
    with sync_playwright() as playwright:
        # Root has no sandbox, and the tests' pages are their own.
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"], timeout=HANG_SECONDS * 1000
        )
        try:
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
            page.set_default_timeout(HANG_SECONDS * 1000)
            made = Opened(page)
            page.on("console", lambda message: made.said.append(f"{message.type}: {message.text}"))
            page.on("pageerror", lambda error: made.said.append(f"error: {error}"))
            page.on("request", lambda request: made.requests.append(request.url))
            page.goto(path.as_uri())
            page.wait_for_selector("html[data-state]", state="attached")
            made.requests.remove(path.as_uri())
            yield made
        finally:
            browser.close()

"""A real browser before the real service, and what every page has to put up with while it is watched."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.commands.serving import Serving

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

DESKTOP = {"width": 1200, "height": 850}
PHONE = {"width": 390, "height": 844}
# Milliseconds from asking for a page until it showed something, as the browser measured it.
FIRST_CONTENT = """new Promise((tell) => new PerformanceObserver((list) => {
    const [paint] = list.getEntriesByName("first-contentful-paint");
    if (paint) tell(paint.startTime);
}).observe({ type: "paint", buffered: true }))"""
_QUIET = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    arguments = [*_QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        await browser.close()


class Visitor:
    """Somebody with a browser of their own. Whatever goes wrong there is kept in `faults`."""

    def __init__(self, service: Serving, context: BrowserContext, page: Page, refused: set[int]) -> None:
        self.refused = refused
        self.service = service
        self.context = context
        self.page = page
        self.faults: list[str] = []
        self._opening = 200
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("console", self._heard)
        page.on("request", self._sent)
        page.on("response", self._answered)
        page.on("dialog", self._asked)

    async def open(self, path: str, status: int = 200) -> Page:
        """Go there; fails the test where the answer is another."""
        self._opening = status
        answer = await self.page.goto(f"http://localhost:{self.service.port}{path}")
        assert answer is not None and answer.status == status, f"{path}: {answer}"
        self._opening = 200
        return self.page

    async def sign_in(self, email: str, *more: str) -> None:
        """As an operator lets somebody in: with a session made on the command line."""
        token = await self.service.token(email, *more)
        url = f"http://localhost:{self.service.port}"
        await self.context.add_cookies([{"name": "__session", "value": token, "url": url}])

    def _heard(self, message: Any) -> None:
        # Of a refusal the console has a line that does not say which; those are judged by their status.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.faults.append(f"console: {message.text}")

    def _sent(self, request: Any) -> None:
        if not request.url.startswith((f"http://localhost:{self.service.port}/", "data:", "blob:")):
            self.faults.append(f"request to {request.url}")

    def _answered(self, response: Any) -> None:
        if response.status >= 400 and response.status not in (*self.refused, self._opening):
            self.faults.append(f"{response.status} for {response.request.method} {response.url}")

    async def _asked(self, dialog: Any) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        await dialog.dismiss()


@asynccontextmanager
async def visitor(
    browser: Browser,
    service: Serving,
    *,
    viewport: Any = DESKTOP,
    dark: bool = False,
    refused: set[int] | None = None,
) -> AsyncIterator[Visitor]:
    """A visitor in a fresh browser; fails the test on any fault, or a refusal but those of `refused`."""
    context = await browser.new_context(
        viewport=viewport, color_scheme="dark" if dark else "light", reduced_motion="reduce"
    )
    someone = Visitor(service, context, await context.new_page(), refused or set())
    someone.page.set_default_timeout(10_000)
    try:
        yield someone
    finally:
        await context.close()
    assert someone.faults == []

"""The player page of a real edge in Debian's Chromium."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Browser, async_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required"]
WITHIN_S = 90.0
LOOK_EVERY_S = 0.1


@dataclass
class Watched:
    """`window.starling` after so many seconds, what the page shows of sources, and what the console complained of."""

    figures: dict[str, Any]
    letters: list[str]  # of the strip of segments: M, D, P, O
    totals: str
    complaints: list[str] = field(default_factory=list)

    def amiss(self, seconds: float) -> list[str]:
        """Why this was not smooth playback; nothing if it was."""
        figures = self.figures
        found = [f"fatal: {error}" for error in figures["fatal"]] + [f"console: {one}" for one in self.complaints]
        if figures["stalls"]:
            found.append(f"{figures['stalls']} stalls, {figures['stalled_s']:.2f} s")
        if figures["played_s"] < seconds:
            found.append(f"only {figures['played_s']:.1f} s played")
        if not sum(figures["bytes"].values()) or not self.letters or not set(self.letters) <= set("MDPO"):
            found.append(f"no sources shown: {self.letters}, {figures['bytes']}")
        return found


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


async def watch_page(browser: Browser, url: str, seconds: float, within_s: float = WITHIN_S) -> Watched:
    """Open the page and let it play so long. What there is when the deadline has passed, otherwise."""
    page = await browser.new_page(viewport={"width": 1200, "height": 1000})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(url)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            done = f"window.starling.played_s >= {seconds} || window.starling.fatal.length > 0"
            while not await page.evaluate(done):
                await asyncio.sleep(LOOK_EVERY_S)
    figures: dict[str, Any] = await page.evaluate("(({playback, ...rest}) => rest)(window.starling)")
    letters = await page.locator(".segment .answer").all_inner_texts()
    totals = await page.inner_text("#totals")
    await page.close()
    return Watched(figures, letters, totals, complaints)

"""The page, in Debian's Chromium, under the policy an edge may send: no inline script, nothing from elsewhere."""

import asyncio
import contextlib

import pytest
from playwright.async_api import Page, async_playwright

from tests.player.hls_server import HlsServer, live_encoder

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required"]


@contextlib.asynccontextmanager
async def opened(url, complaints=None):
    """The page in a browser of its own; what its console complains of is appended to `complaints`."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = await browser.new_page(viewport={"width": 1200, "height": 1000})
        said = complaints if complaints is not None else []
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        await page.goto(url)
        try:
            yield page
        finally:
            await browser.close()


async def until(page: Page, condition: str, seconds: float = 40):
    """Wait for a fact in the page. (Playwright's own wait needs eval, which the policy forbids.)"""
    async with asyncio.timeout(seconds):
        while not await page.evaluate(condition):
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("path", ["/film/main.m3u8", "/live/index.m3u8"])
async def test_it_plays_ten_seconds_without_a_stall(media, path):
    complaints: list[str] = []
    async with (
        live_encoder(media),
        HlsServer(media).running() as server,
        opened(f"{server.url}/-/player/?src={path}", complaints) as page,
    ):
        await until(page, "window.starling.played_s >= 10")
        figures = await page.evaluate("(({playback, ...rest}) => rest)(window.starling)")
        assert (figures["fatal"], figures["stalls"], complaints) == ([], 0, [])
        assert figures["startup_s"] < 15
        assert (figures["latency_s"] is None) == path.startswith("/film")
        assert len(figures["segments"]) >= 5
        assert sum(figures["bytes"].values()) >= sum(segment["bytes"] for segment in figures["segments"])
        for segment in figures["segments"]:
            assert segment["bytes"] > 0
            assert segment["source"] == "origin"  # nobody has asked this server before
        assert await page.inner_text("#latency") != "–" or path.startswith("/film")


async def test_it_shows_where_each_segment_came_from(media):
    async with HlsServer(media).running() as server:
        for index, times in enumerate([0, 1, 2, 3]):  # the next request is the first, second, third, fourth
            for name in ("low", "high"):
                server.requests[f"/film/{name}/index{index}.m4s"] = times
        async with opened(f"{server.url}/-/player/?src=/film/main.m3u8") as page:
            await until(page, "document.querySelectorAll('.segment .fetch i').length >= 4")
            letters = await page.locator(".segment .answer").all_inner_texts()
            assert letters[:4] == ["O", "P", "D", "M"]
            await page.focus("#strip")
            await page.keyboard.press("Home")
            await page.keyboard.press("ArrowRight")
            detail = await page.inner_text("#detail")
            assert "from another edge" in detail
            assert "100 % came from peers" in detail
            assert "edge-2" in detail
            assert await page.get_attribute("#strip .segment:nth-child(2)", "aria-selected") == "true"
            await until(page, "document.querySelector('#helpers').innerText.includes('edge-3')")
            totals = await page.inner_text("#totals")
            assert "peers" in totals


async def test_it_draws_the_swarm_without_addresses(media):
    async with HlsServer(media).running() as server, opened(f"{server.url}/-/player/") as page:
        await until(page, "document.querySelector('#swarm svg') !== null")
        words = await page.text_content("#swarm")
        assert all(name in words for name in ("edge-1", "edge-2", "edge-3", "edge-4", "edge-5", "origin"))
        assert "127.0.0.1" not in words
        assert await page.text_content("#edge") == "edge-1 · fra · hybrid · 3 other edges"
        label = await page.get_attribute("#swarm svg", "aria-label")
        assert label.startswith("edge-1 in zone fra, topology hybrid, with 4 other edges; 2 of them are sending")


async def test_the_form_chooses_a_stream(media):
    async with HlsServer(media).running() as server, opened(f"{server.url}/-/player/") as page:
        await page.fill("#src", "/film/low/index.m3u8")
        await page.press("#src", "Enter")
        await page.wait_for_url("**/-/player/?src=%2Ffilm%2Flow%2Findex.m3u8")
        await until(page, "window.starling.played_s > 0.5")


async def test_a_stream_that_is_not_there_is_said_aloud(media):
    async with HlsServer(media).running() as server, opened(f"{server.url}/-/player/?src=/none.m3u8") as page:
        await until(page, "window.starling.fatal.length > 0")
        assert "404" in await page.inner_text("#alert")
        assert (await page.evaluate("window.starling.fatal"))[0]["type"] == "networkError"


@pytest.mark.parametrize(
    "src", ["https://elsewhere.example/a.m3u8", "//elsewhere.example/a.m3u8", "javascript:alert(1)"]
)
async def test_only_paths_of_this_edge_are_played(media, src):
    async with HlsServer(media).running() as server, opened(f"{server.url}/-/player/?src={src}") as page:
        await until(page, "!document.querySelector('#alert').hidden")
        assert "Only a path on this edge" in await page.inner_text("#alert")
        assert await page.evaluate("window.starling.playback === undefined")

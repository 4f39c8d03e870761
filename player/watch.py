"""The asyncio shell around `swarm.playback`: does what each viewer's model asks for, over HTTP, in real time."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import aiohttp
from xxhash import xxh3_64
from yarl import URL

from daemon.version import VERSION
from player.cache_status import source_of
from player.report import Received, Report, ViewerReport
from swarm.playback import FetchPlaylist, FetchSegment, Finished, Playback, PlaybackConfig, Wait

CONNECT_S = 5.0
SILENCE_S = 10.0  # a body that stops for so long has failed
LONGEST_FETCH_S = 60.0
MOST_PLAYLIST_BYTES = 8 << 20
FIRST_FRAME_WITHIN_S = 60.0  # a viewer who has seen nothing by then leaves, and that is an error
LEAVE_WITHIN_S = 1.0
SUCCESS = frozenset({200, 206})


async def watch(
    urls: Sequence[str],
    *,
    seconds: float | None = None,
    viewers: int = 1,
    config: PlaybackConfig | None = None,
    first_frame_within_s: float = FIRST_FRAME_WITHIN_S,
    on_progress: Callable[[Report], None] | None = None,
    stop: asyncio.Event | None = None,
) -> Report:
    """Watch with `viewers` viewers, dealt round the URLs, each for `seconds` from its first frame (None: to the end).

    Args:
        on_progress: called each second with the totals so far.
        stop: set it to make everybody leave early.
    """
    received = Received()
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        headers={"User-Agent": f"starling-player/{VERSION}", "Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(total=LONGEST_FETCH_S, connect=CONNECT_S, sock_read=SILENCE_S),
    ) as session:
        watching = [
            _Viewer(urls[index % len(urls)], session, received, seconds, config, first_frame_within_s)
            for index in range(viewers)
        ]

        def report() -> Report:
            return Report([viewer.report() for viewer in watching], received)

        async with asyncio.TaskGroup() as helpers:
            watchers = asyncio.ensure_future(asyncio.gather(*(viewer.run() for viewer in watching)))
            ticking = helpers.create_task(_tick(on_progress, report)) if on_progress else None
            stopping = helpers.create_task(_leave(stop, watching)) if stop else None
            try:
                await watchers
            finally:
                for helper in filter(None, (ticking, stopping)):
                    helper.cancel()
        return report()


async def _tick(on_progress: Callable[[Report], None], report: Callable[[], Report]) -> None:
    while True:
        await asyncio.sleep(1.0)
        on_progress(report())


async def _leave(stop: asyncio.Event, watching: Sequence["_Viewer"]) -> None:
    await stop.wait()
    for viewer in watching:
        viewer.leave()


class _Viewer:
    """One viewer: fetches one thing at a time, as its model says."""

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        received: Received,
        seconds: float | None,
        config: PlaybackConfig | None,
        first_frame_within_s: float,
    ) -> None:
        self._url = url
        self._session = session
        self._received = received
        self._seconds = seconds
        self._first_frame_by = time.monotonic() + first_frame_within_s
        self._playback = Playback(url, time.monotonic(), config)
        self._leaving = asyncio.Event()
        self._fetching: asyncio.Timeout | None = None
        self._ended_at: float | None = None
        self._error: str | None = None

    def report(self) -> ViewerReport:
        figures = self._playback.figures(self._ended_at if self._ended_at is not None else time.monotonic())
        return ViewerReport(self._url, figures, self._error)

    def leave(self) -> None:
        """Stop watching, and wait for what is being fetched no longer than a moment."""
        self._leaving.set()
        if self._fetching is not None:
            self._fetching.reschedule(asyncio.get_running_loop().time() + LEAVE_WITHIN_S)

    async def run(self) -> None:
        while (now := time.monotonic()) < self._end_at() and not self._leaving.is_set():
            match self._playback.next_step(now):
                case FetchPlaylist() | FetchSegment() as step:
                    await self._fetch(step)
                case Wait(until):
                    await self._sleep(min(until, self._end_at()) - now)
                case Finished(error):
                    self._error = error
                    break
        self._ended_at = time.monotonic()
        if self._playback.first_frame_at is None and self._error is None and not self._leaving.is_set():
            self._error = "no frame was ever shown"
        if self._error is not None:
            self._received.on_problem(self._error)

    def _end_at(self) -> float:
        began_at = self._playback.first_frame_at
        if began_at is None:
            return self._first_frame_by
        return began_at + self._seconds if self._seconds is not None else float("inf")

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._leaving.wait(), max(0.0, seconds))

    async def _fetch(self, step: FetchPlaylist | FetchSegment) -> None:
        """Do what was asked, and tell the model what came of it."""
        began_at = time.monotonic()
        try:
            async with asyncio.timeout(None) as self._fetching:
                await self._get(step, began_at)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            if not self._leaving.is_set():
                self._fail(step, None, f"{type(error).__name__} {error}".strip())
        finally:
            self._fetching = None

    async def _get(self, step: FetchPlaylist | FetchSegment, began_at: float) -> None:
        async with self._session.get(
            URL(step.url, encoded=True), headers=_headers(step), timeout=_timeout(step)
        ) as response:
            source = source_of(", ".join(response.headers.getall("Cache-Status", [])))
            is_playlist = isinstance(step, FetchPlaylist)
            size, digest, kept = 0, xxh3_64(), bytearray()
            try:
                async for data in response.content.iter_any():
                    size += len(data)
                    digest.update(data)
                    if is_playlist and size <= MOST_PLAYLIST_BYTES:
                        kept += data
            except (aiohttp.ClientError, TimeoutError):
                self._received.on_cut(source, size)
                raise
            if response.status not in SUCCESS:
                self._received.on_cut(source, size)
                self._fail(step, response.status, f"status {response.status}")
                return
            self._received.on_body(source, _name(step, response.url), size, digest.intdigest())
            final_url = str(response.url)
        now = time.monotonic()
        if not is_playlist:
            self._playback.on_segment(size, now - began_at, now)
        elif size > MOST_PLAYLIST_BYTES:
            self._fail(step, None, f"a playlist of {size} bytes")
        else:
            self._playback.on_playlist(kept.decode("utf-8", "replace"), final_url, now)

    def _fail(self, step: FetchPlaylist | FetchSegment, status: int | None, why: str) -> None:
        self._received.on_problem(f"{step.url}: {why}")
        self._playback.on_failure(time.monotonic(), status=status, why=why)


def _headers(step: FetchPlaylist | FetchSegment) -> dict[str, str]:
    """CMCD (CTA-5004): how many milliseconds are buffered tells the edge how urgent this is."""
    headers = {"CMCD-Request": f"bl={round(step.buffer_s * 10) * 100}"}
    if isinstance(step, FetchSegment) and step.byterange is not None:
        first, size = step.byterange.first, step.byterange.size
        headers["Range"] = f"bytes={first}-{first + size - 1}"
    return headers


def _timeout(step: FetchPlaylist | FetchSegment) -> aiohttp.ClientTimeout:
    patience_s = step.patience_s if isinstance(step, FetchPlaylist) else 0.0
    return aiohttp.ClientTimeout(LONGEST_FETCH_S + patience_s, CONNECT_S, SILENCE_S + patience_s)


def _name(step: FetchPlaylist | FetchSegment, url: URL) -> str:
    """A body's name at every edge: the path, without host and query, and the range if only a range was asked for."""
    byterange = step.byterange if isinstance(step, FetchSegment) else None
    return f"{url.raw_path} {byterange}" if byterange is not None else url.raw_path

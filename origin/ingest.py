"""What packagers send, from the first byte to being visible: received apart, renamed into place, playlists last."""

import asyncio
import logging
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

from daemon.logs import fields
from origin.describing import PLAYLIST_SUFFIXES, may_be_playlist
from origin.disk import Disk
from origin.held_playlists import Held, HeldPlaylists, promised_paths
from swarm.errors import RemoteError
from swarm.names import BadPath, file_parts, normalise

log = logging.getLogger(__name__)

MOST_OBJECT_BYTES = 256 << 20  # one segment or playlist; what is longer is no segment
WRITE_BYTES = 256 << 10  # gathered before a thread writes it


class TooLong(Exception):
    """The body is longer than any segment; nothing of it is kept."""


class NotAPlaylist(Exception):
    """It is called a playlist, and no player could read it; nothing of it is kept."""


class TooMuchHeld(Exception):
    """Too many playlists wait for segments that never came."""


class Ingest:
    """Below `directory`: `received` (whole or in part, never served) and `visible` (the tree that is served)."""

    def __init__(self, directory: Path, prefix: str, disk: Disk) -> None:
        self.prefix = prefix
        self.visible = directory / "visible"
        self._received = directory / "received"
        self._disk = disk
        self._held = HeldPlaylists()
        self._landing = asyncio.Lock()  # one at a time: each landing decides by what is visible
        self._landings: set[asyncio.Task[bool]] = set()
        self._last_mtime_ns = 0

    def __repr__(self) -> str:
        return f"<Ingest {self.prefix} in {self.visible}, {len(self._held)} held>"

    def prepare(self) -> None:
        """Make the directories; what a crashed run left half received is removed. OSError."""
        shutil.rmtree(self._received, ignore_errors=True)
        self._received.mkdir(parents=True)
        self.visible.mkdir(parents=True, exist_ok=True)

    def place(self, target: str) -> str:
        """The URL path that a request target names. BadPath unless it can be a file below the prefix."""
        url_path = normalise("", target).url_path
        if not url_path.startswith(self.prefix):
            raise BadPath(f"not below {self.prefix}")
        file_parts(url_path)
        return url_path

    def held(self) -> list[str]:
        """The playlists held back."""
        return sorted(held.url_path for held in self._held.items())

    async def close(self) -> None:
        """See through what has arrived completely."""
        await asyncio.gather(*self._landings, return_exceptions=True)

    async def receive(self, body: AsyncIterator[bytes]) -> Path:
        """Write a body to a file apart. TooLong, OSError, and whatever `body` raises; then nothing is left of it."""
        path = self._received / secrets.token_hex(16)
        total, gathered = 0, bytearray()
        try:
            async for chunk in body:
                total += len(chunk)
                if total > MOST_OBJECT_BYTES:
                    raise TooLong(f"longer than {MOST_OBJECT_BYTES} bytes")
                gathered += chunk
                if len(gathered) >= WRITE_BYTES:
                    await self._disk.run(_append, path, bytes(gathered))
                    gathered.clear()
            await self._disk.run(_append, path, bytes(gathered))
        except BaseException:
            _discard(path)
            raise
        return path

    async def land(self, url_path: str, received: Path) -> bool:
        """Make a received file visible, or hold it back if it is a playlist of what is not; True if it is new.

        Raises NotAPlaylist, TooMuchHeld, OSError; then it is removed.
        """
        landing = asyncio.create_task(self._land(url_path, received))
        self._landings.add(landing)
        landing.add_done_callback(self._landings.discard)
        return await asyncio.shield(landing)  # it arrived whole: a packager that hangs up now changes nothing

    async def _land(self, url_path: str, received: Path) -> bool:
        try:
            promised = await self._promised(url_path, received)
            async with self._landing:
                is_new = not await self._disk.run(self._exists, url_path)
                missing = await self._disk.run(self._absent, promised)
                if missing:
                    self._hold(Held(url_path, received, promised), missing)
                else:
                    await self._reveal(url_path, received)
                return is_new
        except BaseException:
            _discard(received)
            raise

    async def delete(self, url_path: str) -> bool:
        """False if there was nothing of that name. OSError."""
        async with self._landing:
            held = self._held.drop(url_path)
            if held is not None:
                _discard(held.received)
            try:
                await self._disk.run(os.unlink, self._file_of(url_path))
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return held is not None
            return True

    async def _promised(self, url_path: str, received: Path) -> frozenset[str]:
        size = (await self._disk.run(received.stat)).st_size
        if not may_be_playlist(url_path, size):
            if url_path.lower().endswith(PLAYLIST_SUFFIXES):
                raise NotAPlaylist(f"a playlist of {size} bytes")
            return frozenset()
        try:
            text = (await self._disk.run(received.read_bytes)).decode("utf-8")
            return promised_paths(url_path, text, self.prefix)
        except (RemoteError, UnicodeDecodeError) as error:
            raise NotAPlaylist(str(error)) from error

    def _hold(self, held: Held, missing: frozenset[str]) -> None:
        if self._held.is_full:
            raise TooMuchHeld("too many playlists name segments that never came")
        superseded = self._held.hold(held)
        if superseded is not None:
            _discard(superseded.received)
        log.info("playlist held back", extra=fields(path=held.url_path, missing=",".join(sorted(missing)[:3])))

    async def _reveal(self, url_path: str, received: Path) -> None:
        """Rename into place, then whatever waited for it, and so on."""
        if (superseded := self._held.drop(url_path)) is not None and superseded.received != received:
            _discard(superseded.received)
        await self._disk.run(self._rename, url_path, received)
        for held in self._held.waiting_for(url_path):
            if not await self._disk.run(self._absent, held.promised):
                log.info("playlist is visible now", extra=fields(path=held.url_path))
                await self._reveal(held.url_path, held.received)

    def _rename(self, url_path: str, received: Path) -> None:
        # The version id comes from size and mtime: two files of one name must never share both.
        self._last_mtime_ns = max(self._last_mtime_ns + 1, time.time_ns())
        os.utime(received, ns=(self._last_mtime_ns, self._last_mtime_ns))
        target = self._file_of(url_path)
        target.parent.mkdir(parents=True, exist_ok=True)
        received.replace(target)

    def _file_of(self, url_path: str) -> Path:
        return self.visible.joinpath(*file_parts(url_path))

    def _exists(self, url_path: str) -> bool:
        try:
            return self._file_of(url_path).is_file()
        except BadPath:
            return False

    def _absent(self, promised: frozenset[str]) -> frozenset[str]:
        return frozenset(path for path in promised if not self._exists(path))


def _discard(received: Path) -> None:
    """A file that nobody was served."""
    received.unlink(missing_ok=True)


def _append(path: Path, data: bytes) -> None:
    """Opened for each write: so no descriptor outlives a packager that hangs up."""
    with path.open("ab", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]

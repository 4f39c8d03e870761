"""Playlists as viewers take them: compressed once per version, and with the viewer's own token in their URIs.

The cache knows neither: it holds the plain body, of which these forms are made. What was made is kept by the name of
its version, which never changes; what nobody asks for any more makes room.
"""

import asyncio
import gzip
import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from swarm.encodings import GZIP, IDENTITY, LEAST_GZIP_BYTES, encoding_for
from swarm.errors import RemoteError
from swarm.playlist import query_slots
from swarm.tokens import PARAMETER, Token

MOST_PLAYLIST_BYTES = 8 << 20  # what is longer is served as it is, whatever its name
MOST_KEPT_BYTES = 32 << 20
THREAD_BYTES = 64 << 10  # to compress or to cut up more would hold up everybody for tens of milliseconds
LEVEL, HASTY_LEVEL = 6, 1  # once per version; once per viewer

Slots = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Form:
    """One way to send a playlist, with what its head must say of it."""

    body: bytes
    encoding: str
    etag: str | None
    personal: bool  # has the viewer's token in it: what was changed when says nothing about it


class Playlists:
    """Makes and keeps the forms."""

    def __init__(self, most_bytes: int = MOST_KEPT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[bytes, tuple[bytes | Slots, int]] = OrderedDict()
        self._kept_bytes = 0
        self._making: dict[bytes, asyncio.Task[bytes]] = {}

    def __repr__(self) -> str:
        return f"<Playlists: {len(self._kept)} forms, {self._kept_bytes} bytes>"

    async def form(self, version: bytes, body: bytes, etag: str | None, encoding: str, token: Token | None) -> Form:
        """The playlist `body` (the whole of `version`, whose validator is `etag`) in this coding, for this viewer."""
        plain = Form(body, IDENTITY, etag, personal=False)
        if token is not None and len(slots := await self._slots(version, body)) > 1:
            plain = _with_token(slots, token)
        if encoding == IDENTITY or len(plain.body) <= LEAST_GZIP_BYTES:
            return plain
        packed = await _pack(plain.body, HASTY_LEVEL) if plain.personal else await self._packed(version, body)
        return Form(packed, GZIP, weak(plain.etag), plain.personal) if len(packed) < len(plain.body) else plain

    async def _packed(self, version: bytes, body: bytes) -> bytes:
        """The compressed form that all share: made once, whoever asks meanwhile."""
        key = b"gzip" + version
        kept = self._find(key)
        if isinstance(kept, bytes):
            return kept
        making = self._making.get(key)
        if making is None:
            making = self._making[key] = asyncio.create_task(_pack(body, LEVEL))
            making.add_done_callback(lambda _: self._making.pop(key))
        packed = await asyncio.shield(making)  # a viewer who leaves takes nobody's with him
        self._keep(key, packed, len(packed))
        return packed

    async def _slots(self, version: bytes, body: bytes) -> Slots:
        """Where a token goes; one slot alone where there is no place for it, or no playlist after all."""
        key = b"slot" + version
        kept = self._find(key)
        if isinstance(kept, tuple):
            return kept
        slots = _cut(body) if len(body) < THREAD_BYTES else await asyncio.to_thread(_cut, body)
        self._keep(key, slots, len(body))
        return slots

    def _find(self, key: bytes) -> bytes | Slots | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        self._kept.move_to_end(key)
        return kept[0]

    def _keep(self, key: bytes, made: bytes | Slots, size: int) -> None:
        if key not in self._kept:
            self._kept[key] = made, size
            self._kept_bytes += size
        while self._kept_bytes > self._most_bytes:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._kept_bytes -= dropped


def personal(body: bytes, token: Token) -> Form:
    """A playlist with the viewer's token, of which nothing is kept."""
    return _with_token(_cut(body), token)


def _with_token(slots: Slots, token: Token) -> Form:
    body = f"{PARAMETER}={token.text}".encode().join(slots)
    return Form(body, IDENTITY, f'"{hashlib.sha256(body).hexdigest()[:32]}"', personal=True)


def _cut(body: bytes) -> Slots:
    try:
        return tuple(slot.encode() for slot in query_slots(body.decode(), PARAMETER))
    except (UnicodeDecodeError, RemoteError):
        return (body,)


def varies(url_path: str, size: int | None, headers: tuple[tuple[str, str], ...]) -> bool:
    """Whether this is a playlist whose coding depends on what the viewer accepts. Not one that is encoded already, nor
    one that nobody may change on the way (`no-transform`, RFC 9111 section 5.2.2.6)."""
    if not is_playlist(url_path) or size is None or not LEAST_GZIP_BYTES < size <= MOST_PLAYLIST_BYTES:
        return False
    return not any(
        name.lower() == "content-encoding" or (name.lower() == "cache-control" and "no-transform" in value.lower())
        for name, value in headers
    )


def is_playlist(url_path: str) -> bool:
    return url_path.endswith(".m3u8")


def coding(accept_encoding: str | None, asks_for_range: bool) -> str:
    """Ranges are of the plain form: a compressed one differs with whoever compressed it."""
    return IDENTITY if asks_for_range else encoding_for(accept_encoding)


def weak(etag: str | None) -> str | None:
    """The validator of the same content in another coding (RFC 9110 section 8.8.1): equal, but not byte for byte."""
    return etag if etag is None or etag.startswith("W/") else f"W/{etag}"


async def _pack(body: bytes, level: int) -> bytes:
    if len(body) < THREAD_BYTES:
        return gzip.compress(body, level, mtime=0)
    return await asyncio.to_thread(gzip.compress, body, level, mtime=0)

"""HTTP by hand: requests that no client library would send, and plain ones whose every byte is counted."""

import hashlib
import http.client
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

READ_BYTES = 1 << 18
WITHIN_S = 60.0


@dataclass(frozen=True)
class Answer:
    """One response, its body only as size and digest unless it is short."""

    status: int
    headers: dict[str, str]
    size: int
    sha256: str
    body: bytes
    took_s: float

    @property
    def cache_status(self) -> str:
        return self.headers.get("cache-status", "")


def get(url: str, *, method: str = "GET", headers: dict[str, str] | None = None, within_s: float = WITHIN_S) -> Answer:
    """One request on a connection of its own. OSError, HTTPException if it is not answered to the end."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=within_s)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    began = time.monotonic()
    try:
        connection.request(method, target or "/", headers=headers or {})
        response = connection.getresponse()
        digest, size, kept = hashlib.sha256(), 0, bytearray()
        while chunk := response.read(READ_BYTES):
            digest.update(chunk)
            size += len(chunk)
            if len(kept) < READ_BYTES:
                kept += chunk
        took_s = time.monotonic() - began
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, size, digest.hexdigest(), bytes(kept), took_s)
    finally:
        connection.close()


def get_all(urls: list[str], at_once: int = 8) -> list[Answer]:
    """In the order of `urls`."""
    with ThreadPoolExecutor(at_once) as threads:
        return list(threads.map(get, urls))


def raw(address: str, request: bytes, within_s: float = WITHIN_S) -> bytes:
    """Exactly these bytes to `host:port`; everything that comes back until the other side closes."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=within_s) as connection:
        connection.sendall(request)
        answer = bytearray()
        try:
            while chunk := connection.recv(READ_BYTES):
                answer += chunk
        except ConnectionResetError:
            pass  # it refused to read on: what it said before is in `answer`
        return bytes(answer)


def status_of(answer: bytes) -> int:
    """The status in a raw response; 0 if there is none."""
    words = answer.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[0].startswith(b"HTTP/1.") else 0

"""Plain HTTP downloads, several at the same instant, and what the origin says it sent meanwhile."""

import hashlib
import http.client
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

from deploy.programs import Swarm

CHUNK_BYTES = 64 << 10
SILENCE_S = 60.0
MIB = 1 << 20
WHOLE = 64 * MIB


@dataclass
class Download:
    """What one viewer got. `error` if the body broke off or nothing came."""

    url: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    size: int = 0
    sha256: str = ""
    took_s: float = 0.0
    error: str = ""


def random_file(path: Path, size: int) -> str:
    """Bytes that nothing can guess or compress; the SHA-256 of them."""
    digest, left, rng = hashlib.sha256(), size, random.Random(f"{path.name} {size}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        while left:
            data = rng.randbytes(min(left, MIB))
            out.write(data)
            digest.update(data)
            left -= len(data)
    return digest.hexdigest()


def download(
    url: str, headers: Mapping[str, str] | None = None, on_size: Callable[[int], None] = lambda size: None
) -> Download:
    """One GET, read to its end. `on_size` is told how much has come so far, at first nothing."""
    got = Download(url)
    parts = urlsplit(url)
    assert parts.hostname is not None
    digest, began = hashlib.sha256(), monotonic()
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=SILENCE_S)
    try:
        connection.request("GET", parts.path, headers=dict(headers or {}))
        on_size(0)
        answer = connection.getresponse()
        got.status = answer.status
        got.headers = {name.lower(): value for name, value in answer.getheaders()}
        while data := answer.read(CHUNK_BYTES):
            digest.update(data)
            got.size += len(data)
            on_size(got.size)
        if got.headers.get("content-length") not in (None, str(got.size)):
            got.error = f"{got.size} of {got.headers['content-length']} bytes"
    except (OSError, http.client.HTTPException) as error:
        got.error = f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    got.sha256, got.took_s = digest.hexdigest(), monotonic() - began
    return got


def at_once(calls: Sequence[Callable[[], Download]]) -> list[Download]:
    """All of them, begun at the same instant."""
    results: list[Download | None] = [None] * len(calls)
    start = threading.Barrier(len(calls))

    def run(index: int) -> None:
        start.wait()
        results[index] = calls[index]()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [result for result in results if result is not None]


def download_everywhere(swarm: Swarm, path: str, nodes: Sequence[str] | None = None) -> list[Download]:
    """The same file, asked of every edge at the same instant."""
    urls = [swarm.url(node, path) for node in nodes or swarm.edges]
    return at_once([partial(download, url) for url in urls])


def sent_by_origin(swarm: Swarm) -> int:
    """Body bytes by the origin's own counter."""
    return int(swarm.total("origin", "starling_origin_sent_bytes_total"))


def wrong(downloads: Sequence[Download], sha256: str) -> list[str]:
    """What is amiss, one sentence each."""
    return [
        f"{one.url}: status {one.status}, {one.size} bytes, {one.error or 'wrong bytes'}"
        for one in downloads
        if one.error or one.status not in (200, 206) or one.sha256 != sha256
    ]

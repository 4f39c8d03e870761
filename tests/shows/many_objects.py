"""`python -m tests.shows.many_objects DIRECTORY NODE COUNT`: a cache of so many tiny objects, written by the store.

What an edge would have that had fetched them all: signed by its own key, and found under the names `path_of` them.
"""

import asyncio
import sys
import time
from pathlib import Path as FilePath

from daemon.keys import Signer, load_or_make_node_key
from edge.config import DEFAULT_SITE
from edge.cutter import Cutter
from edge.disk import Logged
from edge.held import Held
from edge.metrics import EdgeMetrics
from edge.named_files import NODE_KEY
from edge.pointers import Known
from edge.store import Store
from swarm.accounting import Source
from swarm.metainfo import POINTER_CONTEXT, Pointer, encode, open_page
from swarm.names import Path, version_id
from swarm.wire import PageFrame, PieceFrame

LIFETIME_S = 86_400.0
AT_ONCE = 1024


def path_of(number: int) -> Path:
    return Path(DEFAULT_SITE, f"/objects/{number}.m4s")


def body_of(number: int) -> bytes:
    return f"object {number}\n".encode()


def write_one(store: Store, signer: Signer, number: int, now: float) -> None:
    path, body = path_of(number), body_of(number)
    version = version_id(path.key, "", '"1"', len(body))
    pointer = Pointer(
        site=path.site,
        path=path.target,
        version=version,
        status=200,
        headers=(("Content-Type", "video/iso.segment"), ("ETag", '"1"'), ("Cache-Control", "max-age=86400")),
        sequence=number + 1,
        made=now,
        expires=now + LIFETIME_S,
        born=now,
        size=len(body),
    )
    signed = signer.sign(POINTER_CONTEXT, encode(pointer))
    monotonic = time.monotonic()
    store.learn(Known(path, pointer, signed, "attested", monotonic), now, monotonic)
    held = store.hold(path, pointer, "attested")
    cutter = Cutter(version, pointer.piece_bytes, signer)
    for frame in (*cutter.feed(body), *cutter.finish()):
        if isinstance(frame, PageFrame):
            store.add_page(held, open_page(frame.signed, lambda context, signed: None), frame.signed)
        elif isinstance(frame, PieceFrame):
            store.put(held, frame.piece, frame.data, Source.ORIGIN, "origin")


async def write_all(directory: FilePath, node: str, count: int) -> None:
    store = Store(directory, 64 << 20, 1 << 50, EdgeMetrics(node, "", "0"))
    signer = load_or_make_node_key(directory / NODE_KEY, node)
    await store.open(_nothing_to_adopt, lambda path, record: None)
    for number in range(count):
        write_one(store, signer, number, time.time())
        if number % AT_ONCE == 0:  # by turns: two busy threads would only wait for each other
            while store.pending_bytes:
                await asyncio.sleep(0.001)
    await store.close()


def _nothing_to_adopt(logged: Logged) -> Held | None:
    raise AssertionError("the cache was not empty")


if __name__ == "__main__":
    asyncio.run(write_all(FilePath(sys.argv[1]), sys.argv[2], int(sys.argv[3])))

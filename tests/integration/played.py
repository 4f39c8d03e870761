"""A scripted origin in a thread of its own, for tests that ask one thing after another."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping

from tests.integration.streaming import Origin, Request


class Played(Origin):
    """`at` scripts a path, answer by answer: each is (status, headers, body), the last one again and again. A request
    with the answer's own ETag gets a 304."""

    def at(self, path: str, *answers: tuple[int, Mapping[str, str], bytes]) -> None:
        left = list(answers)

        async def answer(request: Request) -> None:
            status, headers, body = left.pop(0) if len(left) > 1 else left[0]
            if "ETag" in headers and request.headers.get("if-none-match") == headers["ETag"]:
                status, body = 304, b""
            if status in (204, 304):
                await request.begin(headers, status)
            elif request.method == "HEAD":
                await request.begin({"Content-Length": str(len(body)), **headers}, status)
            else:
                await request.answer(body, headers, status)

        self.behaviours[path] = answer

    def last(self) -> Request:
        return self.asked[-1]


@contextlib.contextmanager
def played() -> Iterator[Played]:
    """It runs for the length of a `with`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    origin = Played()
    running = origin.running()
    asyncio.run_coroutine_threadsafe(running.__aenter__(), loop).result(10)
    try:
        yield origin
    finally:
        asyncio.run_coroutine_threadsafe(running.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()

"""The origins of this edge's sites, behind one shape: asked with an `Ask`, each answers with frames.

`SignedOrigin` is our origin server; `PlainOrigin` (in `edge/plain_origin.py`) is any HTTP server.
"""

import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

from daemon.asking import Asker
from daemon.peer_auth import WrongSecret
from swarm.accounting import OriginFault
from swarm.errors import OriginUnreachable, RemoteError, Unreachable
from swarm.metainfo import (
    CheckSignature,
    Pointer,
)
from swarm.wire import (
    Ask,
    Frame,
)

log = logging.getLogger(__name__)

SILENCE_S = 10.0  # our origin says WAIT while it works; a foreign one may think so long before its first byte
CONNECT_S = 3.0
SLOW_FAILURE_S = 0.5
SILENT_PAUSE_S = 2.0


class Origin(Protocol):
    """One site's origin. `ask` raises OriginUnreachable, before the first frame or in the middle; a foreign one
    NotShared too. `stored` and `errors_are_silence` matter to that alone."""

    trust: str
    check: CheckSignature
    inline_bytes: int  # up to which size a body follows its pointer at once

    def ask(
        self, ask: Ask, stored: Sequence[Pointer] = (), *, errors_are_silence: bool = False
    ) -> AsyncGenerator[Frame, None]: ...

    def take_urls(self, urls: Sequence[str]) -> None: ...

    async def close(self) -> None: ...


Failed = Callable[[OriginFault], None]


class SignedOrigin:
    """Our origin server, or several of them in order of preference."""

    trust = "signed"

    def __init__(
        self,
        urls: Sequence[str],
        check: CheckSignature,
        asker: Asker,
        anonymous: Asker,
        is_standalone: Callable[[], bool],
        inline_bytes: int,
        on_fault: Failed,
    ) -> None:
        self.take_urls(urls)
        self.check = check
        self._asker = asker
        self._anonymous = anonymous
        self._is_standalone = is_standalone
        self.inline_bytes = inline_bytes
        self._on_fault = on_fault
        self._silent: OriginUnreachable | None = None  # how it failed lately, if that took long
        self._silent_until = 0.0

    def take_urls(self, urls: Sequence[str]) -> None:
        """Asked from now on, in order of preference."""
        self._urls = [url.rstrip("/") for url in urls]

    async def close(self) -> None:
        """Its connections are the asker's."""

    async def ask(
        self, ask: Ask, stored: Sequence[Pointer] = (), *, errors_are_silence: bool = False
    ) -> AsyncGenerator[Frame, None]:
        """The first origin that answers; what breaks off in the middle is the caller's to ask for again."""
        if self._silent is not None and time.monotonic() < self._silent_until:
            raise OriginUnreachable(str(self._silent), timed_out=self._silent.timed_out)
        asked_at = time.monotonic()
        problem: Exception | None = None
        for url in self._urls:
            begun = False
            try:
                async with aclosing(self._frames(url, ask)) as frames:
                    async for frame in frames:
                        begun = True
                        yield frame
            except (Unreachable, RemoteError, WrongSecret) as error:
                self._on_fault(OriginFault.BROKEN if begun else OriginFault.UNREACHABLE)
                problem = error
                if begun:
                    break
            else:
                self._silent = None
                return
        timed_out = isinstance(problem, Unreachable) and "silent" in str(problem)
        failure = OriginUnreachable(f"origin: {problem}", timed_out=timed_out)
        if time.monotonic() - asked_at > SLOW_FAILURE_S:
            # Each question to an origin that swallows packets costs its asker a second: ask only once in a while.
            self._silent, self._silent_until = failure, time.monotonic() + SILENT_PAUSE_S
        raise failure from problem

    async def _frames(self, url: str, ask: Ask) -> AsyncGenerator[Frame, None]:
        """One origin's answer. Standalone, or refused for a wrong secret before the tracker could say so, this edge
        asks like anybody: what the origin sends is signed all the same."""
        if not self._is_standalone():
            try:
                async with aclosing(self._asker.ask(url, ask, silence_s=SILENCE_S)) as frames:
                    async for frame in frames:
                        yield frame
            except WrongSecret as error:  # always before the first frame
                log.warning("the origin refused us: %s; asking it as a stranger", error)
            else:
                return
        async with aclosing(self._anonymous.ask(url, ask, silence_s=SILENCE_S)) as frames:
            async for frame in frames:
                yield frame

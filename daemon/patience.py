"""Waiting for others, fairly: a deadline that does not count time in which we ourselves were not running.

On an overloaded machine our own event loop may be late by seconds. What the other side sent meanwhile lies unread in
the socket; to call it silent would send everybody to the origin just when everything is slow. So the wait is cut into
quarters, and a quarter in which the loop was late counts little: on a machine that is always late, four times as long.
"""

import asyncio
from types import TracebackType

QUARTERS = 4
LATE_S = 0.05  # a timer that fires later than this tells that the loop was not running
LATE_COUNTS = 0.25  # of a quarter


class Patience:
    """`async with Patience(1.0): …` raises TimeoutError after a second in which we were there to listen."""

    def __init__(self, within_s: float) -> None:
        self._quarter_s = within_s / QUARTERS
        self._left = float(QUARTERS)
        self._loop = asyncio.get_running_loop()
        self._scope = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        await self._scope.__aenter__()
        self._arm()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._scope.__aexit__(kind, error, trace)

    def _arm(self) -> None:
        self._due_at = self._loop.time() + self._quarter_s
        self._timer = self._loop.call_at(self._due_at, self._on_quarter)

    def _on_quarter(self) -> None:
        self._left -= 1 if self._loop.time() - self._due_at <= LATE_S else LATE_COUNTS
        if self._left > 0:
            self._arm()
        else:
            self._scope.reschedule(self._loop.time())

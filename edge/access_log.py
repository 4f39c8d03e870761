"""The access log: one JSON object a line for each viewer's request that was counted. Never in a viewer's way.

Lines wait in memory, up to a bound, for a thread that writes them; where the disk (or whoever reads the pipe) is slower
than that, they are lost and counted. The file is opened anew on SIGHUP, for logrotate.
"""

import contextlib
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import msgspec
from aiohttp import web

from edge.config import STDERR, Log
from edge.metrics import EdgeMetrics
from swarm.accounting import Outcome, Source
from swarm.tokens import hide

log = logging.getLogger(__name__)

MOST_WAITING = 20_000  # lines: some 10 MB
MOST_TEXT = 2048  # characters of what a viewer sent, in one field
PAUSE_S = 0.2  # between two batches
RETRY_S = 5.0  # after an error the file is left alone so long
CLOSE_S = 2.0  # for what still waits at the end


class Line(msgspec.Struct, omit_defaults=True):
    """One request; what is empty or unknown is left out. Times in milliseconds, `bytes` of the body alone."""

    time: str
    client: str
    method: str
    path: str
    status: int
    bytes: int
    outcome: str
    host: str | None = None
    source: str | None = None  # of the first byte of the body
    ttfb_ms: float | None = None
    total_ms: float | None = None
    referer: str | None = None
    user_agent: str | None = None
    range: str | None = None
    sample: float | None = None  # this line stands for 1/sample hits


class AccessLog:
    """Where lines go; nowhere until `take` says so."""

    def __init__(self, metrics: EdgeMetrics, swarm_time: Callable[[], float]) -> None:
        self._metrics = metrics
        self._swarm_time = swarm_time
        self.is_on = False
        self._sample = 1.0
        self._due = 0.0  # hits are counted up to the next that gets a line
        self._waiting: deque[Line] = deque()
        self._wake = threading.Event()
        self._writer: _Writer | None = None
        self._counting = threading.Lock()

    def __repr__(self) -> str:
        return f"<AccessLog to {self._writer.path if self._writer else 'nowhere'}, {len(self._waiting)} waiting>"

    def take(self, config: Log) -> None:
        """Put a configuration in force; the file is opened anew also where it is the same."""
        self._sample = config.sample
        self.is_on = config.access is not None
        if self._writer is not None and self._writer.path == config.access:
            self._writer.reopen()
            return
        self.close()
        if config.access is not None:
            self._writer = _Writer(config.access, self._waiting, self._wake, self._lose)
            self._writer.start()

    def close(self) -> None:
        """Write what waits, if that goes quickly."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    @property
    def trouble(self) -> str:
        """Why lines are lost at present."""
        return self._writer.trouble if self._writer is not None else ""

    # --- requests

    def on_answer(self, request: web.BaseRequest, ended: "Ended", total_s: float) -> None:
        """A request that was answered the long way."""
        if sample := self._sample_of(ended.outcome):
            found = _fields_of((str(name), value) for name, value in request.headers.items())
            said = Said(request.remote or "", request.method, request.raw_path, found)
            ttfb_s = total_s if ended.ttfb_s is None else ended.ttfb_s
            self._write(said, ended, _ms(ttfb_s), _ms(total_s), sample)

    def on_hit(self, client: str, line: bytes, block: bytes, sent_bytes: int) -> None:
        """A request answered from the hit path at once: its line, and its fields with the CRLFs around them."""
        if sample := self._sample_of(Outcome.HIT):
            method, target, _ = line.decode("latin-1").split(" ", 2)
            said = Said(client, method, target, _fields_of_block(block))
            self._write(said, Ended(Outcome.HIT, 200, Source.MEMORY, sent_bytes), 0.0, 0.0, sample)

    def on_malformed(self, client: str, status: int) -> None:
        """What came was no request, or none that anybody should act upon."""
        if self.is_on:
            self._write(Said(client, "", "", {}), Ended(Outcome.REFUSED, status), None, None, 1.0)

    def _sample_of(self, outcome: Outcome) -> float:
        """0 if this request gets no line, else how many of its kind do: of hits a sample, of the rest every one."""
        if not self.is_on:
            return 0.0
        if outcome is not Outcome.HIT or self._sample >= 1.0:
            return 1.0
        self._due += self._sample
        if self._due < 1.0 - 1e-9:  # ten tenths are a little less than one
            return 0.0
        self._due -= 1.0
        return self._sample

    def _write(
        self, said: "Said", ended: "Ended", ttfb_ms: float | None, total_ms: float | None, sample: float
    ) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self._lose(1)
            return
        at, found = self._swarm_time(), said.found
        self._waiting.append(
            Line(
                time=f"{_second(int(at))}.{int(at % 1 * 1000):03}Z",
                client=said.client,
                method=_text(said.method),
                host=found.get("host"),
                path=_text(hide(said.target)),
                status=int(ended.status),
                bytes=ended.sent_bytes,
                outcome=str(ended.outcome),
                source=str(ended.source) if ended.source else None,
                ttfb_ms=ttfb_ms,
                total_ms=total_ms,
                referer=found.get("referer"),
                user_agent=found.get("user-agent"),
                range=found.get("range"),
                sample=sample if sample < 1.0 else None,
            )
        )
        self._wake.set()

    def _lose(self, count: int) -> None:
        with self._counting:  # the writer's thread loses lines too
            self._metrics.access_log_lost.value += count


@dataclass(frozen=True, slots=True)
class Said:
    """What a viewer sent; `found` are those of its fields that are logged, fit for that."""

    client: str
    method: str
    target: str
    found: dict[str, str]


@dataclass(slots=True)
class Ended:
    """How a request ended; `source` is that of the first byte of its body."""

    outcome: Outcome
    status: int
    source: Source | None = None
    sent_bytes: int = 0
    ttfb_s: float | None = None


_LOGGED = frozenset({"host", "referer", "user-agent", "range"})


def _fields_of(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): _text(hide(value)) for name, value in headers if name.lower() in _LOGGED}


@lru_cache(maxsize=256)  # viewers send the same headers with each request: half the cost of a line
def _fields_of_block(block: bytes) -> dict[str, str]:
    fields = (field.partition(":") for field in block.decode("latin-1").split("\r\n"))
    return _fields_of((name, value.strip()) for name, _, value in fields)


@lru_cache(maxsize=4)
def _second(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _text(text: str) -> str:
    """Cut short, and without the surrogates that stand for bytes that are not UTF-8."""
    return text[:MOST_TEXT].encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


class _Writer:
    """The thread that writes. An error costs the lines that wait meanwhile, and one word in the program's own log."""

    def __init__(self, path: Path, waiting: deque[Line], wake: threading.Event, lost: Callable[[int], None]) -> None:
        self.path = path
        self.trouble = ""
        self._waiting = waiting
        self._wake = wake
        self._on_lost = lost
        self._closing = threading.Event()
        self._reopen = False
        self._file: int | None = None
        self._torn = False  # the last write ended in the middle of a line
        # A daemon: a disk that hangs must not keep the program from ending.
        self._thread = threading.Thread(target=self._run, name="access log", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def reopen(self) -> None:
        self._reopen = True
        self._wake.set()

    def close(self) -> None:
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            self._write_waiting()
            self._closing.wait(RETRY_S if self.trouble else PAUSE_S)
        self._write_waiting()
        self._on_lost(len(self._waiting))
        self._waiting.clear()
        self._close_file()

    def _write_waiting(self) -> None:
        data = b""
        try:
            file = self._opened()
            lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
            data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
            if self._torn and data:
                data = b"\n" + data
            while data:
                written = os.write(file, data)
                self._torn = data[written - 1 : written] != b"\n"
                data = data[written:]
        except OSError as error:
            self._on_lost(data.count(b"\n"))
            if not self.trouble:
                log.error("access log %s: %s; lines are lost until that is mended", self.path, error.strerror)
            self.trouble = f"{self.path}: {error.strerror}"
            self._close_file()
        else:
            if self.trouble:
                log.info("access log %s: written again", self.path)
            self.trouble = ""

    def _opened(self) -> int:
        """Opened anew where that was asked for."""
        if self._reopen:
            self._reopen = self._torn = False
            self._close_file()
        if self._file is None:
            if self.path == STDERR:
                self._file = os.dup(sys.stderr.fileno())
            else:
                self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        return self._file

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # it has failed already, and that was said
                os.close(file)

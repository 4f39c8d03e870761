"""An edge killed outright while it writes, again and again; what it serves afterwards is held against every body."""

import hashlib
import http.client
import itertools
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.alone import Alone, alone_config
from tests.integration.by_hand import Answer, get
from tests.integration.plain_origin import PlainOrigin, Stored, plain_origin

CLIENTS = 6
READERS = 4
DISK = "48MiB"  # less than what is asked for: files are removed as well as written
SIZES = (0, 1, 700, 16_384, 16_385, 100_000, 65_536, 400_000, 1_500_000)
BEFORE_A_KILL = (20, 90)  # answers


def body_of(number: int) -> bytes:
    return random.Random(number).randbytes(SIZES[number % len(SIZES)])


def target_of(number: int) -> str:
    return f"/made/{number}.bin"


class Made(dict[str, Stored]):
    """Every path there can be; 503 for each while `down`."""

    down = False

    def get(self, path: str, default: Any = None) -> Stored:
        if self.down:
            return Stored(b"not now\n", status=503)
        number = int(path.removeprefix("/made/").removesuffix(".bin"))
        return Stored(body_of(number), {"Cache-Control": "max-age=86400", "ETag": f'"{number}"'})


@dataclass
class Findings:
    """What was found over all kills. `wrong`: answers that were not the body, told as sentences."""

    kills: int = 0
    asked: int = 0
    checked: int = 0
    kept: int = 0  # of those checked: still there, with the origin down
    wrong: list[str] = field(default_factory=list)
    errors_with_origin: list[str] = field(default_factory=list)  # failures of what the origin can serve


class Load:
    """Clients that ask for one new object after another, until the edge is killed under them."""

    def __init__(self, findings: Findings, numbers: Iterator[int]) -> None:
        self._findings = findings
        self._numbers = numbers
        self._lock = threading.Lock()
        self.asked: list[int] = []

    def until_killed(self, edge: Alone, after: int) -> None:
        answered = itertools.count(1)
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                with self._lock:
                    number = next(self._numbers)
                    self.asked.append(number)
                try:
                    answer = get(edge.url(target_of(number)))
                except (OSError, http.client.HTTPException):
                    return  # killed in the middle of it
                if not is_right(answer, number) and not is_cut(answer):
                    self._findings.wrong.append(f"while written: {describe(answer, number)}")
                if next(answered) >= after:
                    stop.set()
                    edge.program.process.kill()

        clients = [threading.Thread(target=ask) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        edge.program.kill()


def is_right(answer: Answer, number: int) -> bool:
    return answer.status == 200 and answer.sha256 == hashlib.sha256(body_of(number)).hexdigest()


def is_cut(answer: Answer) -> bool:
    """Short of its Content-Length, which tells every client that it is not whole (RFC 9112 section 8)."""
    return answer.size < int(answer.headers.get("content-length", "0"))


def describe(answer: Answer, number: int) -> str:
    return f"{target_of(number)}: {answer.status}, {answer.size} of {len(body_of(number))} bytes, {answer.cache_status}"


def check_all(edge: Alone, numbers: list[int], findings: Findings, *, has_origin: bool) -> None:
    """Every body: right, or honestly an error; with the origin there, right."""
    left = iter(numbers)
    lock = threading.Lock()

    def check() -> None:
        while True:
            with lock:
                number = next(left, None)
            if number is None:
                return
            answer = get(edge.url(target_of(number)))
            if is_right(answer, number):
                findings.kept += not has_origin
            elif answer.status < 500 and not is_cut(answer):
                findings.wrong.append(describe(answer, number))
            elif has_origin:
                findings.errors_with_origin.append(describe(answer, number))

    readers = [threading.Thread(target=check) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    findings.checked += len(numbers)


@contextmanager
def origin_of_made() -> Iterator[tuple[PlainOrigin, Made]]:
    made = Made()
    with plain_origin({}) as origin:
        origin.paths = made
        yield origin, made


def kill_again_and_again(directory: Path, kills: int, seed: int) -> Findings:
    """Load, kill, start, compare all with the origin down; at the end once more with the origin there."""
    rng = random.Random(seed)
    findings = Findings()
    load = Load(findings, itertools.count())
    with origin_of_made() as (origin, made):
        config = alone_config(directory, origin.url, cache=cache_config(directory))
        for _ in range(kills):
            made.down = False
            load.until_killed(Alone(directory, config), rng.randint(*BEFORE_A_KILL))
            findings.kills += 1
            made.down = True
            edge = Alone(directory, config)
            try:
                check_all(edge, load.asked, findings, has_origin=False)
            finally:
                edge.program.kill()
        made.down = False
        edge = Alone(directory, config)
        try:
            check_all(edge, load.asked, findings, has_origin=True)
        finally:
            edge.program.stop()
    findings.asked = len(load.asked)
    return findings


def cache_config(directory: Path) -> dict[str, Any]:
    return {"directory": str(directory / "cache"), "memory": "4MiB", "disk": DISK}

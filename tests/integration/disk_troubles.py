"""A cache whose disk fills up, turns read-only or fails under an edge, and is mended while it runs."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.deploy.panels import wait_until
from tests.integration.alone import Alone, alone_config
from tests.integration.by_hand import get
from tests.integration.kills import SIZES, describe, is_right, origin_of_made, target_of

SOURCE = Path(__file__).with_name("failing_disk.c")
WITHIN_S = 60.0
SMALL = "16m"
NOTE = "disk failing"


@dataclass
class Troubled:
    """What viewers, operators and metrics saw."""

    answers: int = 0
    wrong: list[str] = field(default_factory=list)
    errors_counted: float = 0
    logged: bool = False
    recovered: bool = False
    written_after: float = 0  # bytes more on disk, once it was mended


@dataclass
class Disk:
    """A directory for a cache, and how to spoil and to mend what it lies on."""

    directory: Path
    spoil: Callable[[], object]
    mend: Callable[[], object]
    environ: dict[str, str] = field(default_factory=dict)


# --- ways to fail


def lacks_compiler() -> str:
    return "" if shutil.which("cc") else "no C compiler (cc) is installed"


def failing(directory: Path, how: str) -> Disk:
    """`how`: EIO, EROFS or ENOSPC; by a library preloaded into the edge."""
    library, switch, cache = directory / "failing.so", directory / "switch", directory / "cache"
    command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    environ = {"LD_PRELOAD": str(library), "FAILING_DIRECTORY": str(cache), "FAILING_SWITCH": str(switch)}
    return Disk(cache, lambda: switch.write_text(how), switch.unlink, environ)


@contextlib.contextmanager
def small_file_system(directory: Path) -> Iterator[Disk]:
    """That others fill up. Needs root."""
    mount = directory / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", mount], check=True)
    ballast = mount / "ballast"
    try:
        yield Disk(mount / "cache", lambda: fill(ballast), ballast.unlink)
    finally:
        subprocess.run(["umount", mount], check=True)


def fill(ballast: Path) -> None:
    """To the last block."""
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def free_share(directory: Path) -> float:
    system = os.statvfs(directory)
    return system.f_bavail / system.f_blocks


# --- what happens meanwhile


class Viewer:
    """Asks for objects in order, new ones and ones it had before."""

    def __init__(self, edge: Alone, found: Troubled) -> None:
        self._edge = edge
        self._found = found
        self._next = 0

    def ask_for_new(self, count: int) -> None:
        self._ask(range(self._next, self._next + count))
        self._next += count

    def ask_again(self) -> None:
        self._ask(range(self._next))

    def learns_of_trouble(self) -> bool:
        """Only /readyz says so."""
        self.ask_for_new(len(SIZES))
        return is_failing(self._edge)

    def _ask(self, numbers: range) -> None:
        for number in numbers:
            answer = get(self._edge.url(target_of(number)))
            self._found.answers += 1
            if not is_right(answer, number):
                self._found.wrong.append(describe(answer, number))


def through(disk: Disk, directory: Path, objects: int, **cache: Any) -> Troubled:
    """The disk is spoiled under an edge that serves, mended again, and used again."""
    found = Troubled()
    with origin_of_made() as (origin, _):
        config = alone_config(directory, origin.url)
        config["cache"] = {"directory": str(disk.directory), "memory": "2MiB", "disk": "1GiB", **cache}
        edge = Alone(directory, config, environ=disk.environ)
        try:
            viewer = Viewer(edge, found)
            viewer.ask_for_new(objects)
            viewer.ask_again()
            disk.spoil()
            viewer.ask_again()
            wait_until(viewer.learns_of_trouble, WITHIN_S, lambda: readyz(edge))
            viewer.ask_again()
            viewer.ask_for_new(objects)
            found.errors_counted = sum(
                value for name, value in edge.metrics().items() if name.startswith("starling_disk_errors_total")
            )
            found.logged = "serving on from memory" in edge.program.said()
            disk.mend()
            wait_until(lambda: not is_failing(edge), WITHIN_S, lambda: readyz(edge))
            found.recovered = True
            before = on_disk(edge)
            viewer.ask_again()
            viewer.ask_for_new(objects)
            wait_until(lambda: on_disk(edge) != before, WITHIN_S, lambda: str(edge.metrics()))
            found.written_after = on_disk(edge) - before
            viewer.ask_again()
        finally:
            edge.program.stop()
    return found


def fill_up(disk: Disk, directory: Path, objects: int, **cache: Any) -> tuple[Troubled, list[float]]:
    """What viewers saw of a cache that may grow beyond its file system, and the share that was free as it grew."""
    found, shares = Troubled(), []
    with origin_of_made() as (origin, _):
        config = alone_config(directory, origin.url)
        config["cache"] = {"directory": str(disk.directory), "memory": "2MiB", "disk": "1GiB", **cache}
        edge = Alone(directory, config)
        try:
            viewer = Viewer(edge, found)
            for _ in range(objects // len(SIZES)):
                viewer.ask_for_new(len(SIZES))
                shares.append(free_share(disk.directory))
            viewer.ask_again()
            assert not is_failing(edge), readyz(edge)
        finally:
            edge.program.stop()
    return found, shares


def readyz(edge: Alone) -> str:
    answer = get(f"http://{edge.program.ready['admin']}/readyz")
    assert answer.status == 200, answer
    return answer.body.decode()


def is_failing(edge: Alone) -> bool:
    return NOTE in readyz(edge)


def on_disk(edge: Alone) -> float:
    return edge.metrics()['starling_cache_bytes{tier="disk"}']

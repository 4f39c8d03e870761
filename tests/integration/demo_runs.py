"""`make demo` as a newcomer runs it, and which of its processes are left."""

import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from deploy.programs import ROOT

MARK = "STARLING_DEMO_MARK"  # in the environment of every process of one demo
ENDS_WITHIN_S = 300.0  # a deadline, not a promise: the machine may be busy


def _as_from_a_terminal() -> None:
    """A shell without job control starts what it runs in the background with these ignored, and that is inherited."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class DemoRun:
    """One `make demo`, in a session of its own as in a terminal. `kill` takes down whatever is left of it."""

    def __init__(self, log: Path, environ: Mapping[str, str]) -> None:
        self.log = log
        self._out: IO[bytes] = log.open("wb")
        self._mark = uuid.uuid4().hex
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "DEMO_"))}
        self.process = subprocess.Popen(
            ["make", "--no-print-directory", "demo"],
            cwd=ROOT,
            env={**clean, MARK: self._mark, **environ},
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_as_from_a_terminal,
        )

    def __enter__(self) -> "DemoRun":
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.left():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self._out.close()

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self, within_s: float = ENDS_WITHIN_S) -> int:
        """make's exit code. TimeoutExpired."""
        return self.process.wait(within_s)

    def wait_until_said(self, words: str, within_s: float = ENDS_WITHIN_S) -> None:
        """TimeoutError, or RuntimeError if it ends without having said so."""
        until = time.monotonic() + within_s
        while words not in self.said():
            if self.process.poll() is not None:
                raise RuntimeError(f"the demo ended before it said {words!r}: {self.said()[-2000:]}")
            if time.monotonic() > until:
                raise TimeoutError(f"not said in {within_s} s: {words!r}")
            time.sleep(0.02)

    def figures(self) -> dict[str, Any]:
        """The JSON object of the last line."""
        figures: dict[str, Any] = json.loads(self.said().strip().splitlines()[-1])
        return figures

    def left(self) -> dict[int, str]:
        """Its processes that still run: pid -> command line."""
        mark = f"{MARK}={self._mark}".encode()
        found = {}
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (directory / "environ").read_bytes().split(b"\0"):
                    words = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                    if words:  # a zombie has none
                        found[int(directory.name)] = words
            except OSError:
                continue  # it has just ended
        return found


def interrupt_group(run: DemoRun) -> None:
    """Ctrl-C, as a terminal does it."""
    os.killpg(run.process.pid, signal.SIGINT)


def interrupt_make(run: DemoRun) -> None:
    run.process.send_signal(signal.SIGINT)


def terminate_make(run: DemoRun) -> None:
    run.process.terminate()


def hang_up(run: DemoRun) -> None:
    """The terminal is closed."""
    os.killpg(run.process.pid, signal.SIGHUP)


def kill_make(run: DemoRun) -> None:
    run.process.kill()


WAYS = (interrupt_group, interrupt_make, terminate_make, hang_up, kill_make)


def wait_for_nothing_left(run: DemoRun, within_s: float = 60.0) -> dict[int, str]:
    """What is still there after the deadline: nothing, it is hoped."""
    until = time.monotonic() + within_s
    while (left := run.left()) and time.monotonic() < until:
        time.sleep(0.02)
    return left

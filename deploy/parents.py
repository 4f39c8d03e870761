"""Ends this program when the `make` that started it is told to end and does not pass it on.

Ctrl-C in a terminal reaches every process of the group. `kill -INT` of make alone does not: make then blocks the signal
and waits for its children without a word to them; killed outright, it leaves them to init. Both mean: stop.
"""

import os
import signal
import threading
import time
from pathlib import Path

from deploy.programs import STOPPING

EVERY_S = 0.2


def stop_with_make() -> None:
    """From now on SIGTERM comes to us when it has come to the make that is our parent. Nothing without one (Linux)."""
    parent = os.getppid()
    if _field(parent, "Name") in ("make", "gmake"):
        threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)  # they are the main thread's
    while os.getppid() == parent and not _is_stopping(parent):
        time.sleep(EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)


def _is_stopping(pid: int) -> bool:
    """Whether it blocks SIGINT for longer than starting a child takes."""
    if not _blocks_interrupt(pid):
        return False
    time.sleep(EVERY_S)
    return _blocks_interrupt(pid)


def _blocks_interrupt(pid: int) -> bool:
    return bool(int(_field(pid, "SigBlk") or "0", 16) >> (signal.SIGINT - 1) & 1)


def _field(pid: int, name: str) -> str:
    """Of /proc/PID/status; empty if there is none."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:")), "")

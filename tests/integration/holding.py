"""Many viewers in a process of their own: `python -m tests.integration.holding PORT COUNT KIND`, until stdin ends.

`idle`: each asks once and then for nothing. `slow`: each asks for a large body and takes 2 KiB a second. `half`: each
sends half a header. Says on stdout, in a line of JSON, when all are there, and at the end how many were cut off.
"""

import json
import resource
import select
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from subprocess import PIPE, Popen
from typing import Any

HEAD = b"GET %s HTTP/1.1\r\nHost: video.example\r\nUser-Agent: holding\r\n\r\n"
SIP_BYTES = 2048
TURN_S = 1.0


def connect(port: int, kind: str) -> socket.socket:
    sock = socket.socket()
    if kind == "slow":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * SIP_BYTES)
    sock.settimeout(30.0)
    sock.connect(("127.0.0.1", port))
    match kind:
        case "idle":
            sock.sendall(HEAD % b"/vod/film/seg0.m4s")
            if not sock.recv(1 << 16).startswith(b"HTTP/1.1 200 "):
                raise RuntimeError("not served")
        case "slow":
            sock.sendall(HEAD % b"/large/one.m4s")
        case _:
            sock.sendall(HEAD[:-2] % b"/")
    sock.setblocking(False)
    return sock


def sip(sock: socket.socket, kind: str) -> bool:
    """Whether the connection is still there."""
    try:
        return bool(sock.recv(SIP_BYTES if kind == "slow" else 1 << 16))
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def main() -> None:
    port, count, kind = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as stack:
        held = [stack.enter_context(connect(port, kind)) for _ in range(count)]
        print(json.dumps({"held": len(held)}), flush=True)
        there = held
        while not select.select([sys.stdin], [], [], TURN_S)[0]:
            there = [sock for sock in there if sip(sock, kind)]
            print(json.dumps({"there": len(there)}), flush=True)


class Holding:
    """The viewers of another process."""

    def __init__(self, process: "Popen[str]") -> None:
        self._process = process

    def said(self) -> dict[str, Any]:
        """Its next line: once a second how many are still `there`."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the viewers' process ended")
        said: dict[str, Any] = json.loads(line)
        return said


@contextmanager
def holding(port: int, count: int, kind: str) -> Iterator[Holding]:
    """So many viewers, until the end of the `with`."""
    command = [sys.executable, "-m", "tests.integration.holding", str(port), str(count), kind]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:
        viewers = Holding(process)
        if viewers.said() != {"held": count}:
            raise RuntimeError("not all viewers came")
        try:
            yield viewers
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.kill()


if __name__ == "__main__":
    main()

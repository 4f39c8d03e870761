"""A real origin process for tests, and the small clients they look at it with."""

import contextlib
import dataclasses
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from daemon import keys
from daemon.asking import Asker
from swarm.metainfo import CheckSignature, Metainfo, Pointer, Signed, open_page, open_pointer
from swarm.wire import Ask, PageFrame, PieceFrame, PointerFrame, RefusedFrame, UnchangedFrame

ROOT = Path(__file__).parents[2]
READY_S = 20.0


@dataclasses.dataclass
class RunningOrigin:
    """An origin that said it is ready. `directory` holds its keys, media, state and log."""

    process: subprocess.Popen[str]
    directory: Path
    listen: str
    admin: str

    @property
    def base(self) -> str:
        return f"http://{self.listen}"

    @property
    def media(self) -> Path:
        return self.directory / "media"

    @property
    def ingested(self) -> Path:
        return self.directory / "state" / "ingest" / "visible"

    @property
    def received(self) -> Path:
        """Where whole and partial bodies wait that nobody is served."""
        return self.directory / "state" / "ingest" / "received"

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def check(self) -> CheckSignature:
        return keys.checker(keys.load_public_keys(self.directory / "signing.pub").get)

    def secrets(self) -> tuple[bytes, ...]:
        return keys.load_secrets(self.directory / "swarm.secret")

    def connect(self) -> socket.socket:
        host, port = self.listen.rsplit(":", 1)
        return socket.create_connection((host, int(port)), timeout=10)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Its exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=15)


def configure(directory: Path, **changed: object) -> Path:
    """A configuration file on free ports, with keys, media and state below `directory`; None takes a key away."""
    if not (directory / "signing.key").exists():
        keys.write_key_files(directory)
    (directory / "media").mkdir(exist_ok=True)
    config: dict[str, object] = {
        "listen": "127.0.0.1:0",
        "admin": {"listen": "127.0.0.1:0"},
        "media": str(directory / "media"),
        "state": str(directory / "state"),
        "ingest": True,
        "signing_key_file": str(directory / "signing.key"),
        "swarm": {"secret_file": str(directory / "swarm.secret")},
    }
    config |= changed
    file = directory / "origin.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in config.items() if value is not None}))
    return file


@contextlib.contextmanager
def running(directory: Path, **changed: object) -> Iterator[RunningOrigin]:
    """Ended, whatever happens, when the block is left."""
    config = configure(directory, **changed)
    with (directory / "log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "origin", "--config", str(config)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"no ready line; its log says: {(directory / 'log').read_text()}"
        said: Mapping[str, str] = json.loads(line)
        assert bool(said["ready"])
        yield RunningOrigin(process, directory, said["listen"], said["admin"])
    finally:
        process.kill()
        process.wait()
        process.communicate()
    assert "Traceback" not in (directory / "log").read_text()


def refused(directory: Path, **changed: object) -> tuple[int, str]:
    """Exit code and stderr of an origin that should not start."""
    done = subprocess.run(
        [sys.executable, "-m", "origin", "--config", str(configure(directory, **changed))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stderr


@dataclasses.dataclass
class Answered:
    """One answer, every signature and digest in it verified."""

    said: Pointer | None = None
    unchanged: bool = False
    age_ms: int = -1
    pieces: dict[int, bytes] = dataclasses.field(default_factory=dict)
    pages: list[Signed] = dataclasses.field(default_factory=list)
    refusals: list[RefusedFrame] = dataclasses.field(default_factory=list)
    order: list[str] = dataclasses.field(default_factory=list)  # "page 0", "piece 0", ...

    @property
    def pointer(self) -> Pointer:
        assert self.said is not None, "no pointer came"
        return self.said

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces[piece] for piece in sorted(self.pieces))


async def answered(origin: RunningOrigin, asker: Asker, ask: Ask, pointer: Pointer | None = None) -> Answered:
    """Ask, and check each page against the key and each piece against its page."""
    check = origin.check()
    result = Answered()
    metainfo: Metainfo | None = None
    async for frame in asker.ask(origin.base, ask):
        if isinstance(frame, PointerFrame):
            pointer = result.said = open_pointer(frame.signed, check)
            result.age_ms = frame.age_ms
        elif isinstance(frame, UnchangedFrame):
            result.unchanged = True
            result.age_ms = frame.age_ms
        elif isinstance(frame, PageFrame):
            assert pointer is not None
            assert pointer.version is not None
            metainfo = metainfo or Metainfo(pointer.version, pointer.piece_bytes, pointer.size)
            page = open_page(frame.signed, check)
            metainfo.add(page, frame.signed)
            result.pages.append(frame.signed)
            result.order.append(f"page {page.first_piece}")
        elif isinstance(frame, PieceFrame):
            assert metainfo is not None
            metainfo.check(frame.piece, frame.data)
            result.pieces[frame.piece] = frame.data
            result.order.append(f"piece {frame.piece}")
        elif isinstance(frame, RefusedFrame):
            result.refusals.append(frame)
    return result


def say(connection: socket.socket, text: str | bytes) -> None:
    connection.sendall(text.encode() if isinstance(text, str) else text)


def hear(connection: socket.socket, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """Status, headers (lower-case names) and body of one response; status 0 if the connection ended without one."""
    data = b""
    while b"\r\n\r\n" not in data:
        try:
            more = connection.recv(65536)
        except ConnectionResetError:
            more = b""
        if not more:
            return 0, {}, data
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = 0 if method == "HEAD" else int(headers.get("content-length", "0"))
    while len(body) < length:
        more = connection.recv(65536)
        if not more:
            break
        body += more
    return int(status_line.split()[1]), headers, body


def metric(text: str, name: str, **labels: str) -> float:
    """The sum of the samples of that name with those labels."""
    total = 0.0
    for line in text.splitlines():
        match = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
        if match and all(f'{label}="{value}"' in (match[1] or "") for label, value in labels.items()):
            total += float(match[2])
    return total

"""A foreign origin in this process, whose answers a test changes while edges ask it."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HELD_FOR_S = 30.0


@dataclass
class Resource:
    """What one path is at the moment. `held`: cleared, answers wait, made but unsent, until it is set."""

    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"Cache-Control": "max-age=3600", "ETag": '"1"'})
    held: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)
    requests: list[str] = field(default_factory=list)  # the validator sent with each, or ""

    def __post_init__(self) -> None:
        self.held.set()


class ChangingOrigin:
    """`paths` may be changed at any time; `down`: connections are closed without an answer."""

    def __init__(self) -> None:
        self.paths: dict[str, Resource] = {}
        self.down = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        origin = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.headers.get("Starling-Reason") == "audit":  # they come by chance: tests count without them
                    self.send_error(404)
                    return
                resource = origin.paths[self.path]
                if origin.down:
                    self.close_connection = True
                    return
                validator = self.headers.get("If-None-Match", "")
                resource.requests.append(validator)
                same = validator != "" and validator == resource.headers.get("ETag")
                body, headers = b"" if same else resource.body, dict(resource.headers)
                resource.asked.set()
                resource.held.wait(HELD_FOR_S)
                self.send_response(304 if same else 200)
                for name, value in headers.items():
                    self.send_header(name, value)
                if not same:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Tests read `requests`."""

        return Handler

    @contextlib.contextmanager
    def running(self) -> Iterator["ChangingOrigin"]:
        self._thread.start()
        try:
            yield self
        finally:
            for resource in self.paths.values():
                resource.held.set()
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

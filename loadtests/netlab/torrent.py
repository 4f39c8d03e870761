"""The rival: one libtorrent session on a host, driven over HTTP. Run by the Python of .venv-rivals, on its own.

    torrent.py seed|peer DIRECTORY ADDRESS HTTP_ADDRESS:PORT OTHERS [URL]

`POST /name` prepares: the seed makes `name.torrent` in the directory `torrents` beside `media` and offers it; a peer
joins it without wanting anything yet, so that connections stand. `GET /name` at a peer wants it, and answers with the
body once the last piece is there. OTHERS: addresses to connect to, by comma; URL: where the origin is a web seed.
"""

import http.server
import json
import sys
import time
from pathlib import Path

import libtorrent as lt

PORT = 6881
EVERY_S = 0.002
PIECE_BYTES = 32 << 10
# What was fastest of what was tried with eight peers on links of 40 Mbit/s, last finish / limit in brackets: TCP alone,
# everybody unchoked, rarest first from the first piece on, small pieces told before they are whole, short queues (1.6).
# The defaults, with pieces of 256 KiB: 2.2; long queues: 1.8; uploads limited to the link: 1.75; pieces of 16 KiB: 1.7;
# super seeding, the only way to one copy from the seed: 2.8.
SETTINGS = {
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "allow_multiple_connections_per_ip": True,
    "close_redundant_connections": False,
    "unchoke_slots_limit": -1,
    "unchoke_interval": 1,
    "initial_picker_threshold": 0,
    "min_reconnect_time": 1,
    "connection_speed": 500,
    "peer_turnover": 0,
    "predictive_piece_announce": 30,
    "request_queue_time": 1,
    "max_out_request_queue": 8,
    "send_buffer_watermark": 32 << 10,
    "send_buffer_low_watermark": 16 << 10,
    "send_buffer_watermark_factor": 5,
    "alert_mask": 0,
}


class Node:
    """One session. `seed`: has the files; else downloads them."""

    def __init__(self, seed: bool, directory: Path, address: str, others: list[str], url: str) -> None:
        self.seed, self.directory, self.others, self.url = seed, directory, others, url
        self.torrents = directory / "torrents"
        self.store = directory / "media" if seed else directory / f"store-{address}"
        self.store.mkdir(exist_ok=True)
        extra = json.loads((directory / "settings.json").read_text())
        self.super_seeding = extra.pop("super_seeding", False)
        self.piece_bytes = extra.pop("piece_bytes", PIECE_BYTES)
        self.session = lt.session(SETTINGS | extra | {"listen_interfaces": f"{address}:{PORT}"})
        self.handles: dict[str, lt.torrent_handle] = {}

    def prepare(self, name: str) -> None:
        if self.seed:
            self._make(name)
        given = lt.add_torrent_params()
        given.ti = lt.torrent_info(str(self.torrents / f"{name}.torrent"))
        given.save_path = str(self.store)
        given.peers = [(other, PORT) for other in self.others]
        given.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
        if self.seed:
            given.flags |= lt.torrent_flags.seed_mode
            if self.super_seeding:
                given.flags |= lt.torrent_flags.super_seeding
        else:
            given.file_priorities = [0]
        handle = self.handles[name] = self.session.add_torrent(given)
        while not self.seed and handle.status().state in (
            lt.torrent_status.states.checking_files, lt.torrent_status.states.checking_resume_data
        ):  # fmt: skip
            time.sleep(EVERY_S)

    def _make(self, name: str) -> None:
        files = lt.file_storage()
        lt.add_files(files, str(self.store / name))
        made = lt.create_torrent(files, self.piece_bytes)
        if self.url:
            made.add_url_seed(f"{self.url}/{name}")
        lt.set_piece_hashes(made, str(self.store))
        self.torrents.mkdir(exist_ok=True)
        (self.torrents / f"{name}.torrent").write_bytes(lt.bencode(made.generate()))

    def fetch(self, name: str) -> bytes:
        handle = self.handles[name]
        handle.prioritize_files([4])
        while not handle.status().is_seeding:
            time.sleep(EVERY_S)
        handle.flush_cache()
        return (self.store / name).read_bytes()


class Handler(http.server.BaseHTTPRequestHandler):
    """Set by `main`."""

    protocol_version = "HTTP/1.1"
    node: Node

    def do_POST(self) -> None:
        self.node.prepare(self.path[1:])
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(self.node.fetch(self.path[1:]))

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    role, directory, address, listen, others, *url = sys.argv[1:]
    named = [other for other in others.split(",") if other and other != address]
    Handler.node = Node(role == "seed", Path(directory), address, named, url[0] if url else "")
    host, _, port = listen.rpartition(":")
    server = http.server.ThreadingHTTPServer((host, int(port)), Handler)
    print(json.dumps({"ready": True}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

"""The viewer port: who is let in, and the one timer by which all connections are looked after."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_address, ip_network
from time import monotonic

from aiohttp import web

from daemon.listeners import limit_waiting, raise_file_limit
from edge.access_log import AccessLog
from edge.body_file import MOST_WAITING_BYTES
from edge.config import Viewer
from edge.connection import Connection
from edge.held import Held
from edge.hits import Hits
from edge.metrics import EdgeMetrics
from edge.pointers import Known
from swarm import proxy_protocol
from swarm.accounting import Dropped
from swarm.errors import RemoteError

log = logging.getLogger(__name__)

SWEEP_S = 1.0
MOST_ACCEPTS = 64  # in one go
OTHER_FILES = 500  # beside viewers' connections: peers, the origin, the cache


class Front:
    """The viewer port."""

    def __init__(
        self, config: Viewer, server: web.Server, hits: Hits, metrics: EdgeMetrics, swarm_time: Callable[[], float],
        most_unsent_bytes: int, access_log: AccessLog, rest_of: Callable[[Known, Held, int], AsyncIterator[bytes]],
    ) -> None:  # fmt: skip
        self.rest_of = rest_of
        self.access_log = access_log
        self.config = config
        self.server = server
        self.hits = hits
        self.metrics = metrics
        self.swarm_time = swarm_time
        self.most_unsent_bytes = most_unsent_bytes
        self.unsent_bytes = 0  # of hits whose viewers are slower than we; these keep pieces in memory
        self.connections: set[Connection] = set()
        self._loop = asyncio.get_running_loop()
        self._listener: socket.socket | None = None
        self._accepting = False
        self._tls: ssl.SSLContext | None = None
        self._open = 0  # connections, those that still shake hands included
        self._by_address: Counter[str] = Counter()
        self._admitting: set[asyncio.Task[None]] = set()
        self._sweeping: asyncio.TimerHandle | None = None
        self._all_gone = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Front {self._open} connections>"

    def start(self, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        most = raise_file_limit()
        if most < self.config.connections + OTHER_FILES:
            log.warning("viewer.connections is %d, but the process may have %d files", self.config.connections, most)
        self._listener, self._tls = listener, tls
        self._accept_again()
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)

    def take(self, config: Viewer, tls: ssl.SSLContext | None, most_unsent_bytes: int) -> None:
        """Other limits from now on, and for new connections another certificate."""
        self.config, self._tls, self.most_unsent_bytes = config, tls, most_unsent_bytes

    def count(self) -> int:
        return self._open

    async def close(self, patience_s: float) -> None:
        """Accept no more, let every connection finish the answer it is at, then cut those that have not."""
        self._stop_accepting()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for task in self._admitting:
            task.cancel()
        for connection in tuple(self.connections):
            connection.finish()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self.connections:
                    self._all_gone.clear()
                    await self._all_gone.wait()
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in tuple(self.connections):
            connection.abort()

    # --- accepting

    def _accept_again(self) -> None:
        if self._listener is not None and not self._accepting:
            self._accepting = True
            self._loop.add_reader(self._listener, self._accept)

    def _stop_accepting(self) -> None:
        """Those who come wait in the kernel's queue."""
        if self._listener is not None and self._accepting:
            self._accepting = False
            self._loop.remove_reader(self._listener)

    def _accept(self) -> None:
        for _ in range(MOST_ACCEPTS):
            if self._open >= self.config.connections:
                self._stop_accepting()  # until the sweep finds that some have left
                return
            try:
                assert self._listener is not None
                sock, address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("no more connections: %s", error.strerror)
                self._stop_accepting()
                return
            self._open += 1
            # An IPv6 socket that takes IPv4, too, writes IPv4 addresses in its own way.
            task = self._loop.create_task(self._admit(sock, str(address[0]).removeprefix("::ffff:")))
            self._admitting.add(task)
            task.add_done_callback(self._admitting.discard)

    async def _admit(self, sock: socket.socket, address: str) -> None:
        """Who it is, then TLS if there is any, then its connection; or nothing, and the socket is closed."""
        connection = None
        patience_s = float(self.config.header_timeout)
        try:
            sock.setblocking(False)
            if self._is_balancer(address):
                async with asyncio.timeout(patience_s):
                    address = await self._read_source(sock) or address
            if not self._is_balancer(address) and self._by_address[address] >= self.config.connections_per_address:
                self.metrics.viewers_dropped[Dropped.TOO_MANY] += 1
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            limit_waiting(sock, MOST_WAITING_BYTES)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection = Connection(self, address, None if self._tls else sock)
            self._by_address[address] += 1
            await self._loop.connect_accepted_socket(
                lambda: connection, sock, ssl=self._tls, ssl_handshake_timeout=patience_s if self._tls else None
            )
        except (OSError, TimeoutError, RemoteError) as error:
            log.debug("%s was not admitted: %s", address, error)
        finally:
            if connection is None:
                self._open -= 1
                sock.close()
            elif not connection.was_made:
                self.on_lost(connection)
                sock.close()

    def _is_balancer(self, address: str) -> bool:
        return any(ip_address(address) in ip_network(network) for network in self.config.proxy_protocol_from)

    async def _read_source(self, sock: socket.socket) -> str | None:
        """What a balancer says before anything else (PROXY protocol); None if it speaks for itself. RemoteError."""
        head = b""
        while more := proxy_protocol.needed(head):
            data = await self._loop.sock_recv(sock, more)
            if not data:
                raise ConnectionResetError("closed within its PROXY head")
            head += data
        return proxy_protocol.source(head)

    def on_made(self, connection: Connection) -> None:
        self.connections.add(connection)

    def on_lost(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._open -= 1
        self._by_address[connection.address] -= 1
        if not self._by_address[connection.address]:
            del self._by_address[connection.address]
        if not self.connections:
            self._all_gone.set()

    # --- time

    def _sweep(self) -> None:
        """One timer for all connections; deadlines are kept to within SWEEP_S."""
        now = monotonic()
        for connection in tuple(self.connections):
            connection.on_sweep(now)
        self.hits.settle(now)
        if self._open < self.config.connections:
            self._accept_again()
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)

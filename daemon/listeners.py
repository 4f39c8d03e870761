"""Binds the TCP ports a configuration names; what cannot be bound stops the program with one clear line."""

import os
import resource
import socket
import ssl
import sys
from pathlib import Path

from daemon.addresses import Address
from daemon.errors import StartupError

_ACKED = slice(120, 128)  # in Linux's struct tcp_info
TCP_NOTSENT_LOWAT = 25  # Linux; Python 3.11 has no name for it
BACKLOG = 4096  # connections the kernel holds for us; Linux caps it at net.core.somaxconn


def listen(key: str, address: Address, congestion: str | None = None) -> socket.socket:
    """A listening, non-blocking socket at `address` (port 0: a free one), for aiohttp's SockSite.

    `key` is the configuration key, for the error. `congestion` (cubic, bbr) is inherited by what it accepts. Raises
    StartupError, for instance "viewer.listen 127.0.0.1:8080: address already in use".
    """
    try:
        family, kind, protocol, _, where = _resolve(address)
        listener = socket.socket(family, kind, protocol)
        try:
            _prepare(listener, congestion)
            listener.bind(where)
            listener.listen(BACKLOG)  # here, not later: two of our own keys on one port must be told apart
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise StartupError(f"{key} {address}: {_reason(error)}") from error
    return listener


def set_congestion(connection: socket.socket, congestion: str) -> None:
    """Chooses a connection's congestion control (`transport.congestion`). StartupError where there is no such."""
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
    except OSError as error:
        raise StartupError(f"transport.congestion {congestion}: not available here ({_reason(error)})") from error


def bound_address(listener: socket.socket) -> Address:
    """Where it listens really, for the ready line: the port the system chose."""
    host, port = listener.getsockname()[:2]
    return Address(str(host), int(port))


def acked_bytes(connection: socket.socket) -> int:
    """How many bytes the other side of a TCP connection has acknowledged (tcpi_bytes_acked, RFC 4898)."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED.stop)
    return int.from_bytes(info[_ACKED], sys.byteorder)


def limit_waiting(connection: socket.socket, most_bytes: int) -> None:
    """How much that was not sent yet the kernel takes from us for the other side (TCP_NOTSENT_LOWAT)."""
    connection.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, most_bytes)


def raise_file_limit() -> int:
    """Take as many open files, and so connections, as the system lets this process have; that many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """For a server port, from PEM files. StartupError when they are missing or do not fit each other."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise StartupError(f"viewer.tls {certificate}, {key}: {_reason(error)}") from error
    return context


def _resolve(address: Address) -> tuple[int, int, int, str, tuple[object, ...]]:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, name, where = found[0]
    return int(family), int(kind), protocol, name, where


def _prepare(listener: socket.socket, congestion: str | None) -> None:
    if sys.platform != "win32":  # there it would let a second program share the port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if listener.family == socket.AF_INET6 and listener.type == socket.SOCK_STREAM:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # [::] takes IPv4 too, whatever the sysctl
    if congestion is not None:
        set_congestion(listener, congestion)


def _reason(error: OSError) -> str:
    """In the system's words, without Python's numbers around them."""
    if isinstance(error, socket.gaierror | ssl.SSLError):
        return str(error.strerror or error).lower()
    return os.strerror(error.errno).lower() if error.errno else str(error)

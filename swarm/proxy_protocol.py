"""The PROXY protocol, versions 1 and 2: a balancer says whose connection it passes on, before the first byte of it.

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, section 2.
"""

import ipaddress
import re

from swarm.errors import RemoteError

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LEAST_BYTES = 16  # of a head of version 2
TOLD_APART_BYTES = 8  # by so many the versions are; no head is shorter
MOST_LINE_BYTES = 107  # version 1
MOST_BYTES = 4096  # version 2, addresses and what may follow them

_LINE = re.compile(
    rb"PROXY (?:UNKNOWN[^\r\n]*|TCP([46]) ([0-9A-Fa-f.:]{2,39}) [0-9A-Fa-f.:]{2,39} [0-9]{1,5} [0-9]{1,5})\r\n"
)
_ADDRESS_BYTES = {0x11: 4, 0x21: 16}  # TCP over IPv4, over IPv6


def needed(data: bytes) -> int:
    """How many more bytes to read; 0 if the head is whole. Never asks beyond its end. RemoteError."""
    if data.startswith(SIGNATURE[: len(data)]):
        if len(data) < LEAST_BYTES:
            return (LEAST_BYTES if len(data) >= TOLD_APART_BYTES else TOLD_APART_BYTES) - len(data)
        length = int.from_bytes(data[14:16], "big")
        if length > MOST_BYTES:
            raise RemoteError("a PROXY head that is too long")
        return max(0, LEAST_BYTES + length - len(data))
    if not data.startswith(b"PROXY "[: len(data)]) or len(data) >= MOST_LINE_BYTES:
        raise RemoteError("no PROXY head where one must be")
    return 0 if data.endswith(b"\r\n") else 1


def source(head: bytes) -> str | None:
    """The client's address, from a whole head; None if the balancer speaks for itself (LOCAL, UNKNOWN). RemoteError."""
    return _source_of_2(head) if head.startswith(SIGNATURE) else _source_of_1(head)


def _source_of_1(line: bytes) -> str | None:
    match = _LINE.fullmatch(line)
    if match is None:
        raise RemoteError("a malformed PROXY line")
    if match[1] is None:
        return None
    try:
        address = ipaddress.ip_address(match[2].decode("ascii"))
    except ValueError as error:
        raise RemoteError("a malformed address in a PROXY line") from error
    if address.version != int(match[1]):
        raise RemoteError("an address of the other kind in a PROXY line")
    return str(address)


def _source_of_2(head: bytes) -> str | None:
    command, family = head[12], head[13]
    if command == 0x20:  # LOCAL: a health check of the balancer's own
        return None
    if command != 0x21:
        raise RemoteError("a PROXY head of another version, or an unknown command")
    size = _ADDRESS_BYTES.get(family)
    if size is None:
        return None
    if len(head) < LEAST_BYTES + 2 * size + 4:
        raise RemoteError("a PROXY head too short for its addresses")
    return str(ipaddress.ip_address(head[LEAST_BYTES : LEAST_BYTES + size]))

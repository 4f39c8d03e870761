"""Addresses as configuration names them: `host:port` to listen on, URLs to fetch from, names of nodes and hosts."""

import ipaddress
import re
from dataclasses import dataclass
from typing import NewType
from urllib.parse import urlsplit

Url = NewType("Url", str)  # absolute http or https, without query, fragment, user or final slash
NodeName = NewType("NodeName", str)  # goes into headers, metric labels and file names: letters, digits and . _ - only
HostName = NewType("HostName", str)  # lower case, no port
Network = NewType("Network", str)  # IP addresses that begin alike, such as 10.0.0.0/8; for `ipaddress.ip_network`

ADDRESS_EXPECTED = 'host:port, such as 0.0.0.0:8080 or "[::]:8080"'
URL_EXPECTED = "a URL such as http://origin:8000 (http or https, no query, no user name)"
NAME_EXPECTED = "a name of at most 63 letters, digits, dots, dashes or underscores"
NETWORK_EXPECTED = "an IP address or a network such as 10.0.0.0/8"
HOST_EXPECTED = "a host name without a port, such as video.example"

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62})", re.ASCII)
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]{0,252})|\[[0-9a-f:.]{2,45}\]", re.ASCII)
_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9_.-]+)):(?P<port>[0-9]{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a TCP port; port 0 takes a free one. IPv6 hosts stand without their brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in ("localhost", "::1") or bool(re.fullmatch(r"127(?:\.[0-9]{1,3}){3}", self.host))


def parse_address(value: object) -> Address:
    """`host:port`, IPv6 in brackets. ValueError otherwise."""
    match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match["port"]) > 65535:
        raise ValueError(f"expected {ADDRESS_EXPECTED}")
    return Address(host=match["v6"] or match["host"], port=int(match["port"]))


def parse_url(value: object) -> Url:
    """An absolute URL without its final slash, so that a path can simply be appended. ValueError otherwise."""
    problem = ValueError(f"expected {URL_EXPECTED}")
    if not isinstance(value, str) or any(character <= " " or character > "~" for character in value):
        raise problem
    try:
        parts = urlsplit(value)
        port = parts.port  # raises ValueError when out of range
    except ValueError:
        raise problem from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise problem
    if parts.username is not None or parts.query or parts.fragment:
        raise problem
    return Url(value.rstrip("/"))


def parse_node_name(value: object) -> NodeName:
    """ValueError unless it can stand in a header, a label and a file name as it is."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(f"expected {NAME_EXPECTED}")
    return NodeName(value)


def parse_host_name(value: object) -> HostName:
    """A host name in lower case. ValueError when it carries a port or anything that no host name has."""
    host = value.lower() if isinstance(value, str) else ""
    if not _HOST.fullmatch(host):
        raise ValueError(f"expected {HOST_EXPECTED}")
    return HostName(host)


def parse_network(value: object) -> Network:
    """An IP address or a network of them. ValueError otherwise."""
    if not isinstance(value, str):
        raise ValueError(f"expected {NETWORK_EXPECTED}")
    try:
        return Network(str(ipaddress.ip_network(value)))
    except ValueError:
        raise ValueError(f"expected {NETWORK_EXPECTED}") from None


def url_host(remote: str) -> str:
    """An IP address as it stands in a URL."""
    try:
        address = ipaddress.ip_address(remote)
    except ValueError:
        return remote
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address) if mapped or address.version == 4 else f"[{address}]"

"""What an edge can be told (docs/design.md, section 8), with units and the reason for each default.

Sizes are bytes, rates bits per second, durations seconds, once read. Checks that concern several keys stand in
`__post_init__` of the section they belong to, so that a configuration built in code is held to them too.
"""

from pathlib import Path
from typing import Literal

import msgspec

from daemon.addresses import Address, HostName, Network, NodeName, Url
from swarm.units import BitsPerSecond, Bytes, Seconds, Share

DEFAULT_SITE = "default"  # the site of the bare `origin`: every host that `sites` does not name
STDERR = Path("stderr")  # in place of a log file
LEAST_MEMORY_BYTES = 1 << 20  # one piece of the largest kind must fit


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """PEM files of the viewer port's certificate chain and its key."""

    certificate: Path
    key: Path


class Viewer(msgspec.Struct, frozen=True, kw_only=True):
    """Where viewers ask, over plain HTTP or TLS, and how long and how many of them are put up with."""

    listen: Address = Address("0.0.0.0", 8080)  # noqa: S104 - an edge is there to be reached
    tls: Tls | None = None
    header_timeout: Seconds = Seconds(10.0)  # from a request's first byte (or connecting) to the end of its header
    idle_timeout: Seconds = Seconds(75.0)  # between requests: longer than the 60 s of common balancers before us
    least_rate: BitsPerSecond = BitsPerSecond(8_000)  # who takes less over 30 s is cut off; no stream is so thin
    connections: int = 20_000  # altogether; the next ones wait in the kernel
    connections_per_address: int = 4_096  # generous: a whole campus may come from one; the next ones are closed
    proxy_protocol_from: tuple[Network, ...] = ()  # balancers that say first who the viewer is (PROXY protocol 1 or 2)


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Where other edges ask: pieces, gossip and long polls on one TCP port."""

    listen: Address = Address("0.0.0.0", 7400)  # noqa: S104 - an edge is there to be reached
    advertise: Url | None = None  # how others reach `listen`; left out: the address the tracker or seed sees us at


class Admin(msgspec.Struct, frozen=True, kw_only=True):
    """Metrics, status and purge. Loopback unless told otherwise: it shows addresses and can empty the cache."""

    listen: Address = Address("127.0.0.1", 9400)
    token_file: Path | None = None  # POST needs this bearer token, unless it comes from loopback


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """Viewers of the site must show a token, made with one of the keys in the file (docs/operating.md)."""

    keys_file: Path


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where the truth of a site is, and how far its bytes can be trusted once they come from a peer."""

    url: tuple[Url, ...]  # one, or several in order of preference (failover)
    trust: Literal["signed", "attested"] = "attested"  # signed needs our origin there; any HTTP server can be attested
    public_key_file: Path | None = None  # signing.pub of our origin
    capacity: BitsPerSecond | None = None  # its uplink, bits/s; learnt if left out
    tokens: Tokens | None = None  # left out: whoever asks is served

    def __post_init__(self) -> None:
        if not self.url:
            raise ValueError("url is empty; give at least one")
        if self.trust == "signed" and self.public_key_file is None:
            raise ValueError("trust: signed needs public_key_file (signing.pub, made by `python -m origin keys DIR`)")
        if self.trust == "attested" and self.public_key_file is not None:
            raise ValueError("public_key_file is given but trust is attested; say trust: signed, or leave the file out")


class Swarm(msgspec.Struct, frozen=True, kw_only=True):
    """How this edge meets the others. Left out: it stands alone, a plain cache."""

    topology: Literal["hybrid", "pure", "superpeer"] = "hybrid"  # how the view is learned and who carries weight
    role: Literal["edge", "superpeer"] = "edge"
    tracker: tuple[Url, ...] = ()  # asked in order
    seeds: tuple[Address, ...] = ()  # peer ports where gossip starts; in hybrid for when the tracker is silent
    secret_file: Path  # shared by the swarm; several lines: the first signs, all verify (rotation)
    capacity: BitsPerSecond | None = None  # what this edge may upload to peers, bits/s; learnt if left out

    def __post_init__(self) -> None:
        if self.role == "superpeer" and self.topology != "superpeer":
            raise ValueError(f"role: superpeer has no meaning in topology {self.topology}; only in topology superpeer")
        if self.topology == "hybrid" and not self.tracker:
            raise ValueError("tracker is missing; without one use topology: pure, with seeds")
        if self.topology == "pure" and self.tracker:
            raise ValueError("tracker has no meaning in topology pure; give seeds, or use topology: hybrid")
        if self.topology == "superpeer" and self.role == "edge" and not (self.tracker or self.seeds):
            raise ValueError("tracker and seeds are missing: an edge must find the superpeers by one or the other")
        if any(seed.port == 0 for seed in self.seeds):
            raise ValueError("seeds: port 0 cannot be asked")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Hard ceilings in bits per second, all counted on bodies; left out: none."""

    uplink: BitsPerSecond | None = None  # everything sent, viewers and peers together
    peers_up: BitsPerSecond | None = None  # sent to peers
    down: BitsPerSecond | None = None  # everything fetched
    origin: BitsPerSecond | None = None  # fetched from the origins


class Transport(msgspec.Struct, frozen=True, kw_only=True):
    """TCP below the streams."""

    congestion: Literal["cubic", "bbr"] | None = (
        None  # for sockets of the viewer and peer ports; left out: the system's
    )


class Cache(msgspec.Struct, frozen=True, kw_only=True):
    """Memory over disk. In memory bodies are counted, on disk whole blocks of files."""

    directory: Path = Path("/var/cache/starling")
    disk: Bytes = Bytes(50 << 30)  # 0: memory only, the directory is then not touched
    min_free: Bytes | None = None  # left free on its file system; left out: a twentieth of it, at most 1 GiB
    # 0: what is on disk is kept there alone. A few minutes of a busy live edge: six renditions, 10 Mbit/s altogether.
    memory: Bytes = Bytes(512 << 20)
    ignore_query: tuple[str, ...] = ()  # query parameters that do not change the body; CMCD never does

    def __post_init__(self) -> None:
        if self.memory and self.memory < LEAST_MEMORY_BYTES:
            raise ValueError("memory must be at least 1MiB, one piece of the largest kind, or 0")
        if not self.memory and not self.disk:
            raise ValueError("memory: 0 needs a disk")


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """One JSON object a line for each viewer's request (docs/operating.md); the program's own log is on stderr."""

    access: Path | None = None  # a file, or `stderr`; left out: none
    sample: Share = Share(1.0)  # of hits, the part that gets a line; whatever else happens always does


class Drain(msgspec.Struct, frozen=True, kw_only=True):
    """How an edge takes its leave, on SIGTERM or POST /drain."""

    grace: Seconds = Seconds(
        5.0
    )  # health says 503 this long before listeners close: balancers poll every second or two


class EdgeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an edge can be told. `node` and an origin are enough."""

    node: NodeName  # its name in the swarm, in headers and metrics; unique
    zone: str = ""  # edges between which bytes are cheap share a zone
    viewer: Viewer = Viewer()
    peer: Peer = Peer()  # accepted and unused without `swarm`
    admin: Admin = Admin()
    origin: Origin | None = None
    sites: dict[HostName, Origin] = {}
    swarm: Swarm | None = None
    limits: Limits = Limits()
    transport: Transport = Transport()
    cache: Cache = Cache()
    log: Log = Log()
    drain: Drain = Drain()

    def __post_init__(self) -> None:
        if self.origin is None and not self.sites:
            raise ValueError("origin is missing: set origin.url, or at least one host under sites")
        if DEFAULT_SITE in self.sites:
            raise ValueError(f"sites: {DEFAULT_SITE!r} is the site of the bare origin; set origin instead")
        if len(self.zone) > 63 or not self.zone.isprintable() or not self.zone.isascii():
            raise ValueError("zone: expected at most 63 printable ASCII characters")

    def origins(self) -> dict[str, Origin]:
        """Site -> its origin; the bare `origin` is the site `default`."""
        sites: dict[str, Origin] = {str(host): origin for host, origin in self.sites.items()}
        return sites if self.origin is None else {DEFAULT_SITE: self.origin, **sites}

    def site_of(self, host: str) -> str | None:
        """The site that a `Host` header (with or without a port) asks for; None: no site here, nor a default one."""
        before, _, port = host.rpartition(":")
        name = (before if port.isdecimal() else host).lower().removesuffix(".")
        if name in self.sites:
            return name
        return DEFAULT_SITE if self.origin is not None else None

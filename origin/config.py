"""What an origin can be told (docs/design.md, section 8): its content, its keys, and whether it tracks."""

from pathlib import Path
from typing import Literal

import msgspec

from daemon.addresses import Address, Url
from swarm.units import BitsPerSecond


class Admin(msgspec.Struct, frozen=True, kw_only=True):
    """Metrics and status, on loopback unless told otherwise."""

    listen: Address = Address("127.0.0.1", 9401)  # beside an edge's 9400 on the same machine


class Ingest(msgspec.Struct, frozen=True, kw_only=True):
    """PUT, POST and DELETE by a packager, below one prefix."""

    prefix: str = "/live/"
    token_file: Path | None = None  # a bearer token for every write; left out: loopback senders only

    def __post_init__(self) -> None:
        plain = self.prefix.startswith("/") and self.prefix.endswith("/") and len(self.prefix) > 2
        if not plain or "//" in self.prefix or not all(" " < character <= "~" for character in self.prefix):
            raise ValueError(f"prefix: expected a path such as /live/, got {self.prefix!r}")
        if self.prefix.startswith("/-/") or any(part in (".", "..") for part in self.prefix.split("/")):
            raise ValueError(f"prefix: {self.prefix!r} cannot be used")


class Swarm(msgspec.Struct, frozen=True, kw_only=True):
    """Proves edges to the tracker and the tracker to edges."""

    secret_file: Path  # several lines: the first signs, all verify (rotation)
    capacity: BitsPerSecond | None = None  # the origin's uplink, bits/s; learnt if left out


class Tracker(msgspec.Struct, frozen=True, kw_only=True):
    """Where the tracker keeps its view."""

    store: Literal["memory"] = "memory"


class OriginConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an origin can be told. Content (media, upstream or ingest), a tracker, or both."""

    listen: Address = Address("0.0.0.0", 8000)  # noqa: S104 - viewers, edges and tracker on one port
    admin: Admin = Admin()
    media: Path | None = None  # a directory to serve
    upstream: Url | None = None  # a foreign origin to stand before
    ingest: bool | Ingest = False  # true: the defaults of Ingest
    state: Path = Path("/var/lib/starling")  # metainfo, generations and what was ingested
    signing_key_file: Path | None = None  # signing.key, made by `python -m origin keys DIR`
    swarm: Swarm | None = None
    tracker: Tracker | None = Tracker()  # runs when `swarm` is set; null: never

    def __post_init__(self) -> None:
        if self.media is not None and self.upstream is not None:
            raise ValueError("media and upstream exclude each other; give one")
        if self.upstream is not None:
            raise ValueError("upstream is not in this version yet; let the edges name that server with trust: attested")
        if self.has_content and self.signing_key_file is None:
            raise ValueError("signing_key_file is required to serve content (made by `python -m origin keys DIR`)")
        if not self.has_content and not self.runs_tracker:
            raise ValueError("nothing to do: set media or ingest, or swarm.secret_file for a tracker alone")

    @property
    def has_content(self) -> bool:
        """Whether it serves anything but the tracker."""
        return self.media is not None or self.upstream is not None or self.ingest_rules is not None

    @property
    def ingest_rules(self) -> Ingest | None:
        """What may be written and by whom; None: nothing."""
        if isinstance(self.ingest, Ingest):
            return self.ingest
        return Ingest() if self.ingest else None

    @property
    def runs_tracker(self) -> bool:
        """Whether edges can announce themselves here."""
        return self.swarm is not None and self.tracker is not None

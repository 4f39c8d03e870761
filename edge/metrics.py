"""Every counter of an edge, once, beside the sentence that explains it.

Byte counters count bytes of content bodies as they were sent or received; `/-/` pages and control messages are not
among them. The words of the labels are explained in `swarm/accounting.py`.
"""

from collections.abc import Callable

from daemon.metrics import (
    Count,
    Exposition,
    Gauge,
    Gauges,
    Histogram,
    Histograms,
    Info,
    Tally,
    defined_in,
)
from swarm.accounting import (
    Cause,
    Control,
    DiskOperation,
    Dropped,
    OriginFault,
    Outcome,
    PeerState,
    PurgeKind,
    Reason,
    Role,
    Source,
    Tier,
)

FETCHED_FROM = (Source.PEER, Source.ORIGIN)

# A playlist within its lifetime lags 0; three targets of 2 s is where serving it stops.
LAG_BUCKETS_S = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 6.0, 10.0, 20.0, 60.0)
READY_BUCKETS_S = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 30.0)


class EdgeMetrics:
    """The numbers of one edge; gauges are read from whoever keeps them, set by `app.py` (`metrics.ready.read = …`)."""

    def __init__(self, node: str, zone: str, version: str) -> None:
        self.build = Info(
            "starling_build_info",
            "Which program this is, its version, and its name and zone in the swarm.",
            {"program": "edge", "version": version, "node": node, "zone": zone},
        )
        self.ready = Gauge("starling_ready", "1 while /readyz says yes, 0 while starting, draining or not ready.")

        self.viewer_requests = Tally(
            "starling_viewer_requests_total",
            "Viewers' requests for content, by how they ended; the outcomes sum to all of them.",
            "outcome",
            Outcome,
        )
        self.viewer_bytes = Tally(
            "starling_viewer_bytes_total",
            "Body bytes sent to viewers, by where this edge had them from; the sources sum to all of them.",
            "source",
            Source,
        )
        self.viewer_ttfb = Histogram(
            "starling_viewer_ttfb_seconds",
            "From a viewer's request being read to the first body byte being handed to the kernel.",
        )
        self.access_log_lost = Count(
            "starling_access_log_lost_lines_total",
            "Lines of the access log that were not written: its disk failed, or was slower than requests came.",
        )
        self.viewer_connections = Gauge("starling_viewer_connections", "Connections viewers hold open.")
        self.viewers_dropped = Tally(
            "starling_viewers_dropped_total", "Viewers' connections that this edge closed, by why.", "why", Dropped
        )
        self.hit_path = Count(
            "starling_hit_path_total",
            "Requests answered on the hit path, before any parser; part of those with outcome hit.",
        )

        self.fetched_bytes = Tally(
            "starling_fetched_bytes_total",
            "Body bytes this edge received, from other edges or from the origin, wanted or not.",
            "source",
            FETCHED_FROM,
        )
        self.fetch = Histograms(
            "starling_fetch_seconds",
            "From asking a peer or the origin to its first byte of content.",
            "source",
            FETCHED_FROM,
        )
        self.origin_bytes = Tally(
            "starling_origin_bytes_total",
            "Body bytes this edge read from the origin, by why it asked; the reasons sum to the origin's own count.",
            "reason",
            Reason,
        )
        self.origin_requests = Tally(
            "starling_origin_requests_total",
            "Requests this edge sent to the origin, by why it asked, answered or not.",
            "reason",
            Reason,
        )
        self.origin_failures = Tally(
            "starling_origin_failures_total",
            "Requests to the origin that failed, by how.",
            "fault",
            OriginFault,
        )

        self.peer_sent_bytes = Tally(
            "starling_peer_sent_bytes_total",
            "Body bytes this edge sent to other edges, by the role in which it was asked.",
            "kind",
            Role,
        )
        self.pieces_rejected = Tally(
            "starling_pieces_rejected_total",
            "Pieces, or streams of them, from peers that were thrown away before anybody saw them, by cause.",
            "cause",
            Cause,
        )
        self.peers = Gauges(
            "starling_peers", "Other edges this edge knows, by what it knows of them.", "state", PeerState
        )
        self.zone_crossing_bytes = Count(
            "starling_zone_crossing_bytes_total",
            "Body bytes this edge received from edges of other zones; part of what it fetched from peers.",
        )
        self.control_bytes = Tally(
            "starling_control_bytes_total",
            "Bytes sent beside the content, in requests and answers, by what they carried.",
            "kind",
            Control,
        )

        self.playlist_lag = Histogram(
            "starling_playlist_lag_seconds",
            "For each live playlist sent to a viewer: by how much its age was past its lifetime, 0 within it.",
            LAG_BUCKETS_S,
        )
        self.live_segment_ready = Histogram(
            "starling_live_segment_ready_seconds",
            "For each live segment: from being complete at the origin until this edge held all of it.",
            READY_BUCKETS_S,
        )

        self.cache_bytes = Gauges("starling_cache_bytes", "Bytes the cache holds, by tier.", "tier", Tier)
        self.cache_limit_bytes = Gauges(
            "starling_cache_limit_bytes", "Bytes the cache may hold, by tier.", "tier", Tier
        )
        self.evicted_bytes = Tally(
            "starling_evicted_bytes_total", "Bytes dropped to make room for others, by tier.", "tier", Tier
        )
        self.disk_errors = Tally(
            "starling_disk_errors_total",
            "Times the cache's disk failed; the edge serves on from memory and peers.",
            "operation",
            DiskOperation,
        )

        self.purges = Tally(
            "starling_purges_total",
            "Purges that came into force here, made at this edge or heard from others, by what they name.",
            "kind",
            PurgeKind,
        )

        self.settle: Callable[[], None] = lambda: None  # count what was done on the hit path; call it before reading
        self._exposition = Exposition(defined_in(self))

    def render(self) -> bytes:
        """What `/metrics` answers, as `daemon.metrics.CONTENT_TYPE`."""
        self.settle()
        return self._exposition.render()

"""Every counter of an origin, once, beside the sentence that explains it.

Byte counters count bytes of content bodies as they were sent or received; pointers, metainfo and views are control
bytes. The words of the labels are explained in `swarm/accounting.py`.
"""

from daemon.metrics import Count, Exposition, Gauge, Gauges, Info, Ledger, Tally, defined_in
from swarm.accounting import Control, IngestResult, PeerState, Reason

DIRECT = "direct"
"""Stands in the ledger for whoever asks without being an edge; always there, so that the ledger is never empty."""


class OriginMetrics:
    """The numbers of one origin; gauges are read from whoever keeps them, set by `app.py`."""

    def __init__(self, version: str) -> None:
        self.build = Info(
            "starling_build_info",
            "Which program this is, and its version.",
            {"program": "origin", "version": version},
        )
        self.ready = Gauge("starling_ready", "1 while /readyz says yes, 0 while starting, draining or not ready.")

        self.sent_bytes = Ledger(
            "starling_origin_sent_bytes_total",
            "The ledger: every body byte sent, by the edge that asked and why; `direct` is whoever is no edge.",
            ("edge", "reason"),
            Reason,
        )
        self.answers = Ledger(
            "starling_origin_answers_total",
            "Requests for content answered, by the edge that asked and why.",
            ("edge", "reason"),
            Reason,
        )
        for ledger in (self.sent_bytes, self.answers):
            ledger[DIRECT]
        self.distinct_bytes = Count(
            "starling_origin_distinct_bytes_total",
            "Body bytes of versions sent for the first time since start: the least any swarm could have asked for.",
        )

        self.ingest_bytes = Count("starling_ingest_bytes_total", "Body bytes received from packagers, kept or not.")
        self.ingest_requests = Tally(
            "starling_ingest_requests_total", "Requests from packagers, by how they ended.", "result", IngestResult
        )

        self.tracker_members = Gauges(
            "starling_tracker_members", "Edges the tracker knows, by what it knows of them.", "state", PeerState
        )
        self.control_bytes = Tally(
            "starling_control_bytes_total",
            "Bytes sent beside the content, in requests and answers, by what they carried.",
            "kind",
            Control,
        )

        self._exposition = Exposition(defined_in(self))

    def render(self) -> bytes:
        """What `/metrics` answers, as `daemon.metrics.CONTENT_TYPE`."""
        return self._exposition.render()

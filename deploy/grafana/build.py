"""Writes the dashboard: `python deploy/grafana/build.py` after a change here; a test checks that nobody forgot.

Its first row answers the question Starling exists for: how much did the origin not have to send? Plain dictionaries in
Grafana's JSON model, schema 36, which every Grafana from 9 on reads and migrates by itself.
"""

import json
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).parent / "dashboards" / "starling.json"
COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
EDGES = 'job="starling-edge", instance=~"$edge"'

Json = dict[str, Any]


@dataclass(frozen=True)
class Query:
    """One PromQL expression and how its series are named in the legend."""

    expr: str
    legend: str = ""


def targets(queries: tuple[Query, ...], instant: bool) -> list[Json]:
    return [
        {
            "datasource": DATASOURCE,
            "editorMode": "code",
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "instant": instant,
            "range": not instant,
            "refId": chr(ord("A") + index),
        }
        for index, query in enumerate(queries)
    ]


def stat(title: str, why: str, unit: str, *queries: Query, width: int = 4, decimals: int = 2) -> Json:
    """A large number; NaN (nothing asked for yet) reads as "no traffic"."""
    return {
        "type": "stat",
        "title": title,
        "description": why,
        "gridPos": {"w": width, "h": 5},
        "targets": targets(queries, instant=True),
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "decimals": decimals,
                "noValue": "no traffic",
                "mappings": [{"type": "special", "options": {"match": "nan", "result": {"text": "no traffic"}}}],
                "color": {"mode": "fixed", "fixedColor": "text"},
            },
            "overrides": [],
        },
        "options": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "textMode": "auto",
        },
    }


def graph(
    title: str,
    why: str,
    unit: str,
    *queries: Query,
    width: int = 8,
    stacked: bool = False,
    most: float | None = None,
) -> Json:
    """Lines over time; stacked where the series are parts of one whole. `most` fixes the top of the axis."""
    return {
        "type": "timeseries",
        "title": title,
        "description": why,
        "gridPos": {"w": width, "h": 8},
        "targets": targets(queries, instant=False),
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "min": 0,
                **({"max": most} if most is not None else {}),
                "color": {"mode": "palette-classic"},
                "custom": {
                    "drawStyle": "line",
                    "lineWidth": 1,
                    "fillOpacity": 40 if stacked else 5,
                    "showPoints": "never",
                    "spanNulls": False,
                    "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
                },
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def spared() -> list[Json]:
    return [
        stat(
            "Origin copies",
            "How often each byte left the origin, over 5 minutes. 1 is the least there is; N plain caches cost N.",
            "none",
            Query("starling:origin_copies:ratio5m"),
        ),
        stat(
            "Peer share",
            "Of the bytes edges fetched, the part that came from other edges. With N edges at most 1 - 1/N.",
            "percentunit",
            Query("starling:peer_share:ratio5m"),
        ),
        stat(
            "Origin offload",
            "Of the bytes viewers got, the part the origin did not send. Compare it with the next figure.",
            "percentunit",
            Query("starling:origin_offload:ratio5m"),
        ),
        stat(
            "… without the swarm",
            "What plain caches would have spared the origin: as if each byte an edge fetched had come from it.",
            "percentunit",
            Query("starling:origin_offload_without_swarm:ratio5m"),
        ),
        stat(
            "Not sent by the origin",
            "Bytes viewers got less bytes the origin sent the edges, over the time shown.",
            "bytes",
            Query(
                "sum(increase(starling_viewer_bytes_total[$__range]))"
                " - sum(increase(starling_origin_bytes_total[$__range]))"
            ),
            decimals=1,
        ),
        stat(
            "Sent by the origin",
            "Body bytes by the origin's own ledger, over the time shown.",
            "bytes",
            Query("sum(increase(starling_origin_sent_bytes_total[$__range]))"),
            decimals=1,
        ),
        graph(
            "Who had to send",
            "What viewers got, what edges had to fetch for it, and what of that the origin sent.",
            "Bps",
            Query("starling:viewer_bytes:rate5m", "viewers got"),
            Query("starling:fetched_bytes:rate5m", "edges fetched"),
            Query("starling:origin_bytes:rate5m", "the origin sent"),
            width=12,
        ),
        graph(
            "Origin offload, with and without the swarm",
            "The gap between the lines is the swarm's own work.",
            "percentunit",
            Query("starling:origin_offload:ratio5m", "with the swarm"),
            Query("starling:origin_offload_without_swarm:ratio5m", "plain caches"),
            width=12,
            most=1,
        ),
    ]


def viewers() -> list[Json]:
    return [
        graph(
            "Requests by outcome",
            "How viewers' requests ended.",
            "reqps",
            Query(
                f"sum by (outcome) (rate(starling_viewer_requests_total{{{EDGES}}}[$__rate_interval]))", "{{outcome}}"
            ),
            stacked=True,
        ),
        graph(
            "Bytes to viewers by source",
            "Memory and disk are this edge's cache; peer and origin were fetched while the viewer waited.",
            "Bps",
            Query(f"sum by (source) (rate(starling_viewer_bytes_total{{{EDGES}}}[$__rate_interval]))", "{{source}}"),
            stacked=True,
        ),
        graph(
            "Time to first byte",
            "From a viewer's request to the first body byte, all edges.",
            "s",
            Query("starling:viewer_ttfb_seconds:p50_5m", "p50"),
            Query("starling:viewer_ttfb_seconds:p95_5m", "p95"),
            Query("starling:viewer_ttfb_seconds:p99_5m", "p99"),
        ),
        graph(
            "Hit ratio by edge",
            "Answered from the edge's cache: hit, stale_hit, revalidated.",
            "percentunit",
            Query('instance:starling_hit:ratio5m{instance=~"$edge"}', "{{instance}}"),
            Query("starling:hit:ratio5m", "all"),
            most=1,
        ),
        graph(
            "Failed requests",
            "502, 503, 504 and broken bodies, as a part of all requests.",
            "percentunit",
            Query("starling:viewer_failures:ratio5m", "failed"),
        ),
        graph(
            "Connections by edge",
            "Connections viewers hold open, on each edge.",
            "none",
            Query(f"starling_viewer_connections{{{EDGES}}}", "{{instance}}"),
        ),
        graph(
            "Hits on the hit path",
            "Answered before any parser, as a part of hits. Little of it: viewers ask in ways it does not know.",
            "percentunit",
            Query(
                f"sum by (instance) (rate(starling_hit_path_total{{{EDGES}}}[$__rate_interval]))"
                f' / clamp_min(sum by (instance) (rate(starling_viewer_requests_total{{{EDGES},outcome="hit"}}'
                "[$__rate_interval])), 0.01)",
                "{{instance}}",
            ),
            most=1,
        ),
        graph(
            "Connections closed by the edge",
            "By why: no request in time, idle, too slow, or too many from one address.",
            "cps",
            Query(f"sum by (why) (rate(starling_viewers_dropped_total{{{EDGES}}}[$__rate_interval]))", "{{why}}"),
            stacked=True,
        ),
        graph(
            "Purges",
            "That came into force, by what they name; each edge counts them once.",
            "none",
            Query(f"sum by (kind) (increase(starling_purges_total{{{EDGES}}}[$__rate_interval]))", "{{kind}}"),
        ),
    ]


def swarm() -> list[Json]:
    return [
        graph(
            "Who sends to peers",
            "Body bytes each edge sends to others; even is good, one flat-topped line is a full uplink.",
            "Bps",
            Query('instance:starling_peer_sent_bytes:rate5m{instance=~"$edge"}', "{{instance}}"),
            stacked=True,
        ),
        graph(
            "As home and as holder",
            "The role in which edges were asked.",
            "Bps",
            Query(f"sum by (kind) (rate(starling_peer_sent_bytes_total{{{EDGES}}}[$__rate_interval]))", "{{kind}}"),
            stacked=True,
        ),
        graph(
            "First byte from peers and from the origin",
            "p90 of the time from asking to the first byte of content.",
            "s",
            Query("source:starling_fetch_seconds:p90_5m", "{{source}}"),
        ),
        graph(
            "Edges known, by state",
            "Each edge's own view, added up.",
            "none",
            Query(f"sum by (state) (starling_peers{{{EDGES}}})", "{{state}}"),
        ),
        graph(
            "Pieces thrown away",
            "By cause; none of their bytes reached a viewer.",
            "none",
            Query(f"sum by (cause) (rate(starling_pieces_rejected_total{{{EDGES}}}[$__rate_interval]))", "{{cause}}"),
        ),
        graph(
            "Control bytes and zone crossings",
            "What flows beside the content by kind, and content that crossed zones.",
            "Bps",
            Query("sum by (kind) (rate(starling_control_bytes_total[$__rate_interval]))", "{{kind}}"),
            Query(
                f"sum(rate(starling_zone_crossing_bytes_total{{{EDGES}}}[$__rate_interval]))", "content across zones"
            ),
        ),
    ]


def origin() -> list[Json]:
    return [
        graph(
            "Bytes from the origin by reason",
            "first_copy, playlist and prefetch are the price of watching; each of the others names its cure.",
            "Bps",
            Query("reason:starling_origin_bytes:rate5m", "{{reason}}"),
            stacked=True,
        ),
        graph(
            "Requests to the origin by reason",
            "Sent by edges, answered or not.",
            "reqps",
            Query(f"sum by (reason) (rate(starling_origin_requests_total{{{EDGES}}}[$__rate_interval]))", "{{reason}}"),
            stacked=True,
        ),
        graph(
            "The origin's ledger by edge",
            "The same bytes as the origin counted them; direct is whoever is no edge.",
            "Bps",
            Query("sum by (edge) (rate(starling_origin_sent_bytes_total[$__rate_interval]))", "{{edge}}"),
            stacked=True,
        ),
        graph(
            "Failed requests to the origin",
            "As the edges saw them.",
            "reqps",
            Query(f"sum by (fault) (rate(starling_origin_failures_total{{{EDGES}}}[$__rate_interval]))", "{{fault}}"),
        ),
        graph(
            "Bytes by edge that asked",
            "Even, if homes are dealt evenly.",
            "Bps",
            Query('instance:starling_origin_bytes:rate5m{instance=~"$edge"}', "{{instance}}"),
            stacked=True,
        ),
        graph(
            "Edges the tracker knows",
            "By state; a tracker that is down is survived, see the edges' own views.",
            "none",
            Query("starling_tracker_members", "{{state}}"),
        ),
    ]


def live() -> list[Json]:
    return [
        graph(
            "Playlists past their lifetime",
            "p99 of how much too old live playlists were when sent; viewers stall from a target duration on.",
            "s",
            Query("starling:playlist_lag_seconds:p99_5m", "p99"),
        ),
        graph(
            "A new segment everywhere",
            "From being complete at the origin until an edge holds all of it.",
            "s",
            Query("starling:live_segment_ready_seconds:p50_5m", "p50"),
            Query("starling:live_segment_ready_seconds:p95_5m", "p95"),
        ),
        graph(
            "Ingest",
            "Uploads from packagers by how they ended.",
            "reqps",
            Query("sum by (result) (rate(starling_ingest_requests_total[$__rate_interval]))", "{{result}}"),
        ),
    ]


def machine() -> list[Json]:
    return [
        graph(
            "Cache used",
            "Of what each tier may hold.",
            "percentunit",
            Query(
                f"sum by (tier, instance) (starling_cache_bytes{{{EDGES}}})"
                f" / sum by (tier, instance) (starling_cache_limit_bytes{{{EDGES}}})",
                "{{instance}} {{tier}}",
            ),
            most=1,
        ),
        graph(
            "Evicted",
            "Dropped to make room; much of it with origin copies above 1 means the caches are too small.",
            "Bps",
            Query(f"sum by (tier) (rate(starling_evicted_bytes_total{{{EDGES}}}[$__rate_interval]))", "{{tier}}"),
        ),
        graph(
            "Disk errors, and lost lines of the access log",
            "The edge serves on from memory and peers.",
            "none",
            Query(f"sum by (instance) (rate(starling_disk_errors_total{{{EDGES}}}[$__rate_interval]))", "{{instance}}"),
            Query(
                f"sum by (instance) (rate(starling_access_log_lost_lines_total{{{EDGES}}}[$__rate_interval]))",
                "{{instance}} lost lines",
            ),
        ),
        graph(
            "CPU",
            "Of one core.",
            "percentunit",
            Query('rate(process_cpu_seconds_total{job=~"starling-.*"}[$__rate_interval])', "{{instance}}"),
        ),
        graph(
            "Memory",
            "Resident.",
            "bytes",
            Query('process_resident_memory_bytes{job=~"starling-.*"}', "{{instance}}"),
        ),
        graph(
            "Ready, and open files",
            "1 while ready; the part of the files it may open.",
            "none",
            Query("starling_ready", "{{instance}} ready"),
            Query('process_open_fds{job=~"starling-.*"} / process_max_fds', "{{instance}} files"),
        ),
    ]


ROWS = (
    ("How much did the origin not have to send?", spared),
    ("Viewers", viewers),
    ("Swarm", swarm),
    ("Origin", origin),
    ("Live", live),
    ("Cache and machine", machine),
)


def laid_out() -> list[Json]:
    """All panels with ids and places: left to right, on to the next line where one would not fit."""
    ids, placed, y = count(1), [], 0
    for title, panels in ROWS:
        row = {"type": "row", "title": title, "collapsed": False, "panels": []}
        placed.append({"id": next(ids), "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}, **row})
        x, y, line_height = 0, y + 1, 0
        for panel in panels():
            size = panel["gridPos"]
            if x + size["w"] > COLUMNS:
                x, y, line_height = 0, y + line_height, 0
            placed.append({"id": next(ids), **panel, "datasource": DATASOURCE, "gridPos": {"x": x, "y": y, **size}})
            x, line_height = x + size["w"], max(line_height, size["h"])
        y += line_height
    return placed


def variables() -> list[Json]:
    return [
        {
            "name": "datasource",
            "label": "Prometheus",
            "type": "datasource",
            "query": "prometheus",
            "current": {},
            "hide": 0,
        },
        {
            "name": "edge",
            "label": "Edge",
            "type": "query",
            "datasource": DATASOURCE,
            "definition": 'label_values(up{job="starling-edge"}, instance)',
            "query": {"query": 'label_values(up{job="starling-edge"}, instance)', "refId": "edges"},
            "includeAll": True,
            "multi": True,
            "allValue": ".*",
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
            "refresh": 2,
            "sort": 1,
            "hide": 0,
        },
    ]


def dashboard() -> Json:
    return {
        "uid": "starling",
        "title": "Starling",
        "description": "A swarm of edges: what it spared the origin, how viewers fare, and why.",
        "tags": ["starling"],
        "schemaVersion": 36,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "templating": {"list": variables()},
        "annotations": {"list": []},
        "panels": laid_out(),
    }


def text() -> str:
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DASHBOARD.write_text(text(), encoding="utf-8")

"""The admin port: metrics, health, and a status page for people (the same as JSON for programs)."""

import json
from collections.abc import Callable, Mapping
from html import escape

from aiohttp import web

from daemon.metrics import CONTENT_TYPE
from origin.metrics import OriginMetrics

Status = dict[str, object]

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<title>Starling origin</title><style>body{{font:15px/1.5 system-ui;margin:2rem;max-width:60rem}}
table{{border-collapse:collapse;margin:.5rem 0 1.5rem}}td,th{{text-align:left;padding:.2rem .8rem .2rem 0;
border-bottom:1px solid #ddd;vertical-align:top}}td.number{{text-align:right}}</style>
<h1>Starling origin</h1>{body}</html>"""


def admin_app(
    metrics: OriginMetrics, status: Callable[[], Status], missing: Callable[[], list[str]]
) -> web.Application:
    """`missing`: what keeps the origin from being ready, as sentences; empty when it is."""

    async def handle_metrics(request: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    async def handle_live(request: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def handle_ready(request: web.Request) -> web.Response:
        lacks = missing()
        return web.json_response({"ready": not lacks, "missing": lacks}, status=503 if lacks else 200)

    async def handle_status(request: web.Request) -> web.Response:
        return web.Response(text=json.dumps(status(), indent=1) + "\n", content_type="application/json")

    async def handle_page(request: web.Request) -> web.Response:
        return web.Response(text=render_page(status()), content_type="text/html")

    app = web.Application()
    app.router.add_get("/metrics", handle_metrics)
    app.router.add_get("/livez", handle_live)
    app.router.add_get("/readyz", handle_ready)
    app.router.add_get("/status", handle_status)
    app.router.add_get("/", handle_page)
    return app


def render_page(status: Status) -> str:
    """Every section of the status as a table."""
    return _PAGE.format(body="".join(f"<h2>{escape(name)}</h2>{_render(value)}" for name, value in status.items()))


def _render(value: object) -> str:
    if isinstance(value, Mapping):
        rows = "".join(f"<tr><th>{escape(str(name))}</th>{_cell(inner)}</tr>" for name, inner in value.items())
        return f"<table>{rows}</table>" if rows else "<p>none</p>"
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        names = list(value[0])
        head = "".join(f"<th>{escape(str(name))}</th>" for name in names)
        rows = "".join("<tr>" + "".join(_cell(row[name]) for name in names) + "</tr>" for row in value)
        return f"<table><tr>{head}</tr>{rows}</table>"
    if isinstance(value, list):
        return f"<p>{escape(', '.join(map(str, value))) or 'none'}</p>"
    return f"<p>{escape(str(value))}</p>"


def _cell(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f'<td class="number">{value:,}</td>'
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"<td>{escape(text)}</td>"

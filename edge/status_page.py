"""The status page for people: what `/status` says as JSON, at a glance."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:62rem;padding:0 1rem;color-scheme:light dark}"
    "h1{margin-bottom:0}h2{font-size:1.05rem;margin:1.6rem 0 .4rem}p{margin:.3rem 0}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:.15rem 1.2rem .15rem 0;"
    "text-align:left}th{font-weight:600}td.n{text-align:right}.bad{color:#c2410c;font-weight:600}"
    ".bar{display:inline-block;height:.7rem;background:#0d9488;border-radius:.2rem}"
)


def page(status: Mapping[str, Any]) -> str:
    """The whole page; `status` as `Admin.status` gives it."""
    ready = "ready" if status["ready"] else "not ready"
    zone = f" in zone {status['zone']}" if status["zone"] else ""
    troubles = [*status["missing"], *status["troubles"]]
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta http-equiv=refresh content=5>"
        "<meta name=viewport content='width=device-width'>"
        f"<title>{escape(str(status['node']))} - Starling</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(str(status['node']))}</h1><p>{ready}, {escape(str(status['state']))}{escape(zone)}</p>"
        + "".join(f"<p class=bad>{escape(str(trouble))}</p>" for trouble in troubles)
        + _headline(status)
        + "<h2>What viewers got, by where this edge had it from</h2>"
        + _bars(status["viewer_bytes"])
        + "<h2>How their requests ended</h2>"
        + _counts(status["viewer_requests"])
        + "<h2>What the origin was asked for, and why</h2>"
        + (_bars(status["origin_bytes"]) if status["origin_bytes"] else "<p>nothing yet</p>")
        + "<h2>Other edges</h2>"
        + _peers(status["peers"])
        + _bans(status["banned"])
        + "<h2>Latest purges</h2>"
        + _purges(status["purges"]["latest"])
        + "<h2>Under way</h2>"
        + ("".join(f"<p>{escape(fill)}</p>" for fill in status["fills"]) or "<p>nothing</p>")
        + "<p><a href=/status>as JSON</a> · <a href=/metrics>metrics</a> · <a href=/readyz>readiness</a> · "
        "<code>/explain?path=/…</code> says who has a path and whom this edge would ask</p></body></html>"
    )


def _headline(status: Mapping[str, Any]) -> str:
    fetched = status["fetched_bytes"]
    total = sum(fetched.values())
    share = (
        f"{fetched['peer'] / total:.1%} of what it fetched came from other edges" if total else "nothing fetched yet"
    )
    offload = status["origin_offload"]
    spared = f"; {offload:.1%} of what viewers got did not come from the origin" if offload is not None else ""
    return f"<p><strong>{share}{spared}</strong></p>"


def _bars(amounts: Mapping[str, int]) -> str:
    most = max([*amounts.values(), 1])
    rows = (
        f"<tr><th>{escape(name)}</th><td class=n>{_size(amount)}</td>"
        f"<td><span class=bar style='width:{16 * amount / most:.2f}rem'></span></td></tr>"
        for name, amount in amounts.items()
    )
    return f"<table>{''.join(rows)}</table>"


def _counts(counts: Mapping[str, int]) -> str:
    rows = (
        f"<tr><th>{escape(name.replace('_', ' '))}</th><td class=n>{count}</td></tr>" for name, count in counts.items()
    )
    return f"<table>{''.join(rows)}</table>"


def _peers(peers: Sequence[Mapping[str, Any]]) -> str:
    if not peers:
        return "<p>none known</p>"
    rows = (
        f"<tr><td>{escape(peer['node'])}</td><td>{escape(peer['address'])}</td><td>{escape(peer['zone'] or '-')}</td>"
        f"<td>{escape(peer['state'])}</td><td>{escape(peer['link'])}</td>"
        f"<td class=n>{_size(peer['received_bytes'])}</td><td class=n>{_size(peer['sent_bytes'])}</td></tr>"
        for peer in peers
    )
    head = "<tr><th>node<th>address<th>zone<th>state<th>link<th>received from it<th>sent to it</tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _bans(bans: Sequence[Mapping[str, Any]]) -> str:
    """Only where there are some."""
    told = (
        f"<p class=bad>{escape(ban['node'])} is banned for {ban['for_s']:.0f} s: it lied, and there is evidence</p>"
        for ban in bans
    )
    return "".join(told)


def _purges(purges: Sequence[Mapping[str, Any]]) -> str:
    if not purges:
        return "<p>none in force</p>"
    rows = (
        f"<tr><td>{'soft' if purge['soft'] else 'hard'}</td><td>{escape(purge['kind'])}</td>"
        f"<td>{escape(purge['site'] or 'every site')}</td><td>{escape(purge['value'])}</td>"
        f"<td class=n>{purge['age_s']:.0f} s ago</td><td>{escape(purge['issuer'])}</td></tr>"
        for purge in purges
    )
    return f"<table><tr><th><th>by<th>site<th>what<th>made<th>at</tr>{''.join(rows)}</table>"


def _size(amount: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"

"""What viewers saw and what they received: running totals, a table for people, one JSON object for programs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from xxhash import xxh3_64_intdigest

from player.cache_status import SOURCES
from swarm.playback import Figures

MOST_PROBLEMS = 20  # different sentences kept; `errors` counts them all


@dataclass
class Received:
    """Body bytes of all viewers; errors that a viewer survives are counted in its own figures."""

    by_source: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SOURCES, 0))
    distinct_bytes: int = 0
    _problems: Counter[str] = field(default_factory=Counter)
    _seen: set[int] = field(default_factory=set)

    @property
    def body_bytes(self) -> int:
        return sum(self.by_source.values())

    def on_body(self, source: str, path: str, size_bytes: int, digest: int) -> None:
        """A whole body. The same bytes under the same path are distinct once, from whichever edge they came."""
        self.by_source[source] += size_bytes
        body = xxh3_64_intdigest(f"{path} {digest}".encode())
        if body not in self._seen:
            self._seen.add(body)
            self.distinct_bytes += size_bytes

    def on_cut(self, source: str, size_bytes: int) -> None:
        """Bytes of a body that broke off: received, but nothing was watched."""
        self.by_source[source] += size_bytes

    def on_problem(self, sentence: str) -> None:
        if sentence in self._problems or len(self._problems) < MOST_PROBLEMS:
            self._problems[sentence] += 1

    @property
    def problems(self) -> list[str]:
        """Each sentence once, in the order of its first time."""
        return [f"{text} ({times} times)" if times > 1 else text for text, times in self._problems.items()]


@dataclass(frozen=True)
class ViewerReport:
    """One viewer; `error` says why it could not go on."""

    url: str
    figures: Figures
    error: str | None = None

    @property
    def errors(self) -> int:
        return self.figures.errors + (self.error is not None)


@dataclass(frozen=True)
class Report:
    """All viewers together."""

    each: Sequence[ViewerReport]
    received: Received

    @property
    def errors(self) -> int:
        return sum(viewer.errors for viewer in self.each)

    def as_dict(self) -> dict[str, Any]:
        """The public JSON object (docs/design.md, section 8): seconds, bytes, bits per second; means over viewers."""
        figures = [viewer.figures for viewer in self.each]
        return {
            "viewers": len(self.each),
            "startup_s": _mean([one.startup_s for one in figures]),
            "stalls": sum(one.stalls for one in figures),
            "stalled_s": round(sum(one.stalled_s for one in figures), 3),
            "watched_s": round(sum(one.watched_s for one in figures), 3),
            "latency_s": _mean([one.latency_s for one in figures]),
            "bitrate_bps": _mean([one.bitrate_bps for one in figures]),
            "bytes": dict(self.received.by_source),
            "errors": self.errors,
            "body_bytes": self.received.body_bytes,
            "distinct_bytes": self.received.distinct_bytes,
            "switches": sum(one.switches for one in figures),
            "skipped": sum(one.skipped for one in figures),
            "playing": sum(one.state.value == "playing" for one in figures),
            "problems": self.received.problems,
            "each": [_row(viewer) for viewer in self.each],
        }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(fmean(known), 3) if known else None


def _row(viewer: ViewerReport) -> dict[str, Any]:
    one = viewer.figures
    return {
        "url": viewer.url,
        "state": one.state.value,
        "startup_s": _mean([one.startup_s]),
        "stalls": one.stalls,
        "stalled_s": round(one.stalled_s, 3),
        "watched_s": round(one.watched_s, 3),
        "latency_s": _mean([one.latency_s]),
        "bitrate_bps": _mean([one.bitrate_bps]),
        "buffer_s": round(one.buffer_s, 3),
        "switches": one.switches,
        "skipped": one.skipped,
        "errors": viewer.errors,
        "error": viewer.error,
    }


# ---- the table ----

COLUMNS = ("viewer", "start-up", "stalls", "stalled", "watched", "latency", "bitrate", "switches", "errors", "url")


def table(report: Mapping[str, Any]) -> str:
    """`Report.as_dict()` as lines for people."""
    rows = [COLUMNS, *(_cells(str(index + 1), row) for index, row in enumerate(report["each"]))]
    if report["viewers"] > 1:
        rows.append(_cells("all", {**report, "url": "(sums; start-up, latency and bitrate are means)"}))
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS) - 1)]
    lines = [
        "  ".join([*(cell.rjust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    body_bytes = report["body_bytes"]
    shares = (f"{source} {size_text(size)} ({_share(size, body_bytes)})" for source, size in report["bytes"].items())
    lines += [
        "",
        f"received {size_text(body_bytes)}, {size_text(report['distinct_bytes'])} of it distinct: {', '.join(shares)}",
    ]
    lines += [f"problem: {sentence}" for sentence in report["problems"]]
    return "\n".join(lines)


def _cells(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        name,
        _text(row["startup_s"], "{:.2f} s"),
        str(row["stalls"]),
        _text(row["stalled_s"], "{:.2f} s"),
        _text(row["watched_s"], "{:.1f} s"),
        _text(row["latency_s"], "{:.2f} s"),
        _text(row["bitrate_bps"] and row["bitrate_bps"] / 1000, "{:.0f} kbit/s"),
        str(row["switches"]),
        str(row["errors"]),
        row["url"],
    )


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "0%"


def size_text(size_bytes: float) -> str:
    """A size for people: 1.5 MiB."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.2f} GiB"

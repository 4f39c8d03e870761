"""One figure that a show measured, how it reads on a terminal, and its row in docs/measurements.md."""

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
MEASUREMENTS = ROOT / "docs" / "measurements.md"
CONGESTION_CONTROL = Path("/proc/sys/net/ipv4/tcp_congestion_control")
COLUMNS = ("what", "value", "limit", "", "detail")


@dataclass(frozen=True)
class Measured:
    """A figure. `limit`: what it is held against, None where it is only told; `ok`: whether the promise is kept."""

    what: str
    value: float | None
    unit: str = ""
    limit: float | None = None
    ok: bool = True
    detail: str = ""
    runs: int = 1
    network: str = ""  # congestion control and links, where it was not the system's over loopback


def at_most(what: str, values: Sequence[float], limit: float, unit: str = "", detail: str = "") -> Measured:
    """The median of several runs, none of which may exceed the limit."""
    spread = f"{text_of(min(values))} to {text_of(max(values))}" if len(set(values)) > 1 else ""
    told = "; ".join(filter(None, (detail, spread)))
    return Measured(what, median(values), unit, limit, max(values) <= limit, told, len(values))


def at_least(what: str, values: Sequence[float], limit: float, unit: str = "", detail: str = "") -> Measured:
    """The median of several runs, none of which may fall short of the limit."""
    return Measured(what, median(values), unit, limit, min(values) >= limit, detail, len(values))


def told(what: str, values: Sequence[float], unit: str = "", detail: str = "") -> Measured:
    """A figure without a promise, for the record."""
    return Measured(what, median(values), unit, None, True, detail, len(values))


def all_held(what: str, wrong: Sequence[str], checked: int, runs: int = 1) -> Measured:
    """How many of `checked` statements were found wrong: none may be. `detail` quotes the first few."""
    first = " ".join("; ".join(wrong[:3]).split())
    return Measured(what, len(wrong), "wrong", 0, not wrong, first or f"{checked} checked", runs)


def text_of(value: float | None) -> str:
    if value is None:
        return "-"
    return str(int(value)) if float(value).is_integer() else f"{value:.4g}"


def table(figures: Iterable[Measured]) -> str:
    """Lines for people."""
    rows: list[tuple[str, ...]] = [COLUMNS]
    for one in figures:
        value = f"{text_of(one.value)} {one.unit}".strip()
        rows.append((one.what, value, text_of(one.limit), "ok" if one.ok else "NOT OK", one.detail))
    widths = [max(len(row[at]) for row in rows) for at in range(len(COLUMNS) - 1)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def row(one: Measured, command: str, now: datetime) -> str:
    """Its line in docs/measurements.md."""
    value = f"{text_of(one.value)} {one.unit}".strip() + ("" if one.ok else " (**promise not kept**)")
    ratio = one.value / one.limit if one.value is not None and one.limit else None
    cells = (
        one.what,
        f"`{command}`",
        machine(),
        one.network or CONGESTION_CONTROL.read_text().strip() + ", loopback",
        f"{now:%Y-%m-%d}",
        str(one.runs),
        value,
        text_of(one.limit),
        text_of(ratio),
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def append(figures: Iterable[Measured], command: str, file: Path = MEASUREMENTS) -> None:
    """Rows are only ever added, at the end of the table that ends the file."""
    now = datetime.now(UTC)
    with file.open("a", encoding="utf-8") as out:
        out.writelines(row(one, command, now) + "\n" for one in figures)


def machine() -> str:
    """Cores, memory and kernel."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    return f"{len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, Linux {platform.release()}"

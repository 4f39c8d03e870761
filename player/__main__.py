"""`python -m player URL [URL…]`: headless viewers that watch in real time and report what they saw."""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from daemon.version import VERSION
from player.report import Report, table
from player.watch import watch
from swarm.playback import PlaybackConfig

CLEAN, ERRORS = 0, 1  # and 2 for bad usage, which argparse sees to


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=_called(sys.argv[0]),
        description="Watch HLS streams in real time without showing them, and report start-up, stalls, latency, "
        "bitrate and where the bytes came from (Cache-Status). Several URLs are dealt round the viewers.",
        epilog="Exit status: 0, 1 if anything failed on the way (a stall is no failure), 2 for bad usage.",
    )
    parser.add_argument("urls", metavar="URL", nargs="+", type=_url, help="a multivariant or media playlist")
    parser.add_argument(
        "--seconds", type=_positive_float, help="watch so long, from each viewer's first frame (default: to the end)"
    )
    parser.add_argument("--viewers", type=_positive_int, help="how many viewers (default: one for each URL)")
    parser.add_argument(
        "--low-latency",
        action="store_true",
        help="start at the part hold-back and fetch parts with blocking reloads, where the playlist offers them; "
        "otherwise no different. Preload hints are not followed, delta updates not asked for, and speed never changes "
        "to catch up",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument(
        "--progress", action="store_true", help="print the totals so far, as JSON, on stderr each second"
    )
    parser.add_argument("--version", action="version", version=f"starling-player {VERSION}")
    return parser.parse_args(argv)


def _called(argv0: str) -> str:
    """As it was called: the installed command's name, or `python -m player`."""
    name = Path(argv0).name
    return name if name.startswith("starling-player") else "python -m player"


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good:
        raise argparse.ArgumentTypeError(f"not an http or https URL: {text!r}")
    return text


def _positive_float(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be more than 0")
    return value


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


async def run(arguments: argparse.Namespace) -> Report:
    """Watch until everybody has seen enough, or SIGINT or SIGTERM comes: then report what there is."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await watch(
        arguments.urls,
        seconds=arguments.seconds,
        viewers=arguments.viewers or len(arguments.urls),
        config=PlaybackConfig(low_latency=arguments.low_latency),
        on_progress=_print_progress if arguments.progress else None,
        stop=stop,
    )


def _print_progress(report: Report) -> None:
    print(json.dumps(report.as_dict()), file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    report = uvloop.run(run(arguments))
    totals = report.as_dict()
    print(json.dumps(totals) if arguments.json else table(totals))
    return ERRORS if report.errors else CLEAN


if __name__ == "__main__":
    sys.exit(main())

"""Logs for people, on stderr: one line each, the fields as key=value at its end.

log.warning("broken link", extra=fields(peer="edge-2", rejected=3))
2026-11-22T14:03:09.120Z WARNING edge.fills broken link peer=edge-2 rejected=3
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import TextIO

from aiohttp.http_exceptions import HttpProcessingError

from swarm.tokens import hide

_BARE = re.compile(r"[A-Za-z0-9._:/@%+,\[\]-]+", re.ASCII)
_FIELDS = "starling_fields"
MOST_QUOTED = 200  # characters of what a stranger sent


def fields(**values: object) -> dict[str, object]:
    """For `extra=` of a logging call: what the line is about, apart from its sentence."""
    return {_FIELDS: values}


class LineFormatter(logging.Formatter):
    """One record, one line: control characters are escaped, so that no peer or viewer can forge a second one. Viewer
    tokens are cut off, whoever mentions one."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = f"{at} {record.levelname} {record.name} {_one_line(record.getMessage())}"
        for name, value in getattr(record, _FIELDS, {}).items():
            line += f" {name}={_value(value)}"
        if record.exc_info:  # a traceback is the one thing that may span lines
            line += "\n" + self.formatException(record.exc_info)
        return hide(line)


def set_up(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Sends every record to `stream` (stderr), replacing whatever handlers the root logger had."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # One line a request is metrics' work; and a viewer who leaves mid-body is no error.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.server").addFilter(brief_on_malformed)


def brief_on_malformed(record: logging.LogRecord) -> bool:
    """What is no HTTP is the sender's fault: one short line, no traceback, whatever a stranger sends how often."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.msg, record.args = "malformed request: %s", (" ".join(str(error.message).split())[:MOST_QUOTED],)
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.exc_info = record.exc_text = None
    return True


def _value(value: object) -> str:
    """Bare where it reads as one word, else quoted as JSON; floats short."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text)


def _one_line(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)

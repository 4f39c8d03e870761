"""What strangers send does not fill the log."""

import io
import logging

from aiohttp.http_exceptions import BadHttpMessage

from daemon.logs import LineFormatter, brief_on_malformed, fields


def test_a_malformed_request_is_one_short_line_without_a_traceback():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter())
    log = logging.Logger("aiohttp.server")
    log.addHandler(handler)
    log.addFilter(brief_on_malformed)
    try:
        raise BadHttpMessage("x" * 100_000 + "\nforged line")
    except BadHttpMessage:
        log.exception("Error handling request from %s", "10.0.0.1")
    (line,) = stream.getvalue().splitlines()
    assert " INFO aiohttp.server malformed request: xxx" in line
    assert len(line) < 300


def test_no_viewer_token_stands_in_the_log():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter())
    log = logging.Logger("edge")
    log.addHandler(handler)
    log.warning("broke off: %s", "GET /a?starling_token=web-1.1.Lw.c2VjcmV0&x=1", extra=fields(of="?starling_token=s"))
    assert stream.getvalue().endswith('GET /a?starling_token=web-1....&x=1 of="?starling_token=..."\n')


def test_a_failure_of_our_own_keeps_its_traceback():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter())
    log = logging.Logger("aiohttp.server")
    log.addHandler(handler)
    log.addFilter(brief_on_malformed)
    try:
        raise KeyError("ours")
    except KeyError:
        log.exception("Error handling request")
    assert "Traceback" in stream.getvalue()

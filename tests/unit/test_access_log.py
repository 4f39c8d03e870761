"""The access log by itself: which requests get a line, what it says, and that nobody waits for its disk."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request

from edge.access_log import MOST_WAITING, AccessLog, Ended
from edge.config import Log
from edge.metrics import EdgeMetrics
from swarm.accounting import Outcome, Source
from swarm.units import Share

AT = 1_764_000_000.25
TOKEN = "web-1.1764003600.L2xpdmUv.UlVplw4evsSy2FXyeiwokH6Mxspi0XtTCt9aSZCnmi4"


@pytest.fixture
def metrics() -> EdgeMetrics:
    return EdgeMetrics("e", "", "0")


@pytest.fixture
def log_to(metrics: EdgeMetrics) -> Iterator[Callable[..., AccessLog]]:
    """An access log in force; closed at the end."""
    made: list[AccessLog] = []

    def make(path: Path | None, sample: float = 1.0) -> AccessLog:
        made.append(AccessLog(metrics, lambda: AT))
        made[-1].take(Log(access=path, sample=Share(sample)))
        return made[-1]

    yield make
    for log in made:
        log.close()


def lines_of(log: AccessLog, path: Path) -> list[dict[str, object]]:
    """Everything written once the log is closed."""
    log.close()
    return [json.loads(line) for line in path.read_text().splitlines()]


def hits(log: AccessLog, count: int) -> None:
    for _ in range(count):
        log.on_hit("192.0.2.1", b"GET /a.ts HTTP/1.1", b"\r\nHost: e\r\nUser-Agent: test\r\n\r\n", 5)


def test_a_line_says_who_asked_what_and_how_it_ended(log_to: Callable[..., AccessLog], tmp_path: Path):
    log = log_to(tmp_path / "log")
    headers = {"Host": "e:80", "Referer": f"http://page/?starling_token={TOKEN}", "Range": "bytes=0-4", "X-Other": "x"}
    request = make_mocked_request("GET", f"/a.ts?CMCD=br%3D3&starling_token={TOKEN}", headers=headers)
    log.on_answer(request, Ended(Outcome.MISS, 206, Source.ORIGIN, 5, ttfb_s=0.0123), total_s=1.5)
    hits(log, 1)
    log.on_malformed("192.0.2.1", 400)
    assert lines_of(log, tmp_path / "log") == [
        {
            "time": "2025-11-24T16:00:00.250Z",
            "client": "",
            "method": "GET",
            "path": "/a.ts?CMCD=br%3D3&starling_token=web-1....",
            "status": 206,
            "bytes": 5,
            "outcome": "miss",
            "host": "e:80",
            "source": "origin",
            "ttfb_ms": 12.3,
            "total_ms": 1500.0,
            "referer": "http://page/?starling_token=web-1....",
            "range": "bytes=0-4",
        },
        {
            "time": "2025-11-24T16:00:00.250Z",
            "client": "192.0.2.1",
            "method": "GET",
            "path": "/a.ts",
            "status": 200,
            "bytes": 5,
            "outcome": "hit",
            "host": "e",
            "source": "memory",
            "ttfb_ms": 0.0,
            "total_ms": 0.0,
            "user_agent": "test",
        },
        {
            "time": "2025-11-24T16:00:00.250Z",
            "client": "192.0.2.1",
            "method": "",
            "path": "",
            "status": 400,
            "bytes": 0,
            "outcome": "refused",
        },
    ]


def test_of_hits_a_sample_is_written_and_of_the_rest_all(log_to: Callable[..., AccessLog], tmp_path: Path):
    log = log_to(tmp_path / "log", 0.1)
    hits(log, 50)
    for _ in range(3):
        log.on_answer(make_mocked_request("GET", "/b"), Ended(Outcome.REFUSED, 403), 0.0)
    lines = lines_of(log, tmp_path / "log")
    assert [line["outcome"] for line in lines].count("hit") == 5
    assert {line.get("sample") for line in lines if line["outcome"] == "hit"} == {0.1}
    assert [line.get("sample") for line in lines if line["outcome"] == "refused"] == [None] * 3


def test_no_hit_is_written_where_none_is_wanted(log_to: Callable[..., AccessLog], tmp_path: Path):
    log = log_to(tmp_path / "log", 0.0)
    hits(log, 100)
    assert lines_of(log, tmp_path / "log") == []


def test_nothing_is_kept_where_there_is_no_log(log_to: Callable[..., AccessLog]):
    log = log_to(None)
    hits(log, 3)
    log.on_malformed("192.0.2.1", 400)
    assert repr(log) == "<AccessLog to nowhere, 0 waiting>"


def test_bytes_that_are_no_text_and_control_characters_stay_within_their_line(
    log_to: Callable[..., AccessLog], tmp_path: Path
):
    log = log_to(tmp_path / "log")
    log.on_hit("192.0.2.1", b"GET /\xff\xc3\xa9 HTTP/1.1", b'\r\nHost: e\r\nUser-Agent: a\t"b"\xff\\\r\n\r\n', 5)
    log.on_answer(make_mocked_request("GET", "/\udcff" + "x" * 9000), Ended(Outcome.REFUSED, 414), 0.0)
    first, second = lines_of(log, tmp_path / "log")
    assert first["user_agent"] == 'a\t"b"ÿ\\'
    assert len(str(second["path"])) == 2048


def test_after_logrotate_the_file_is_opened_anew(log_to: Callable[..., AccessLog], tmp_path: Path):
    path = tmp_path / "log"
    log = log_to(path)
    hits(log, 2)
    wait_for(lambda: path.exists() and path.read_text().count("\n") == 2)
    path.rename(tmp_path / "log.1")
    log.take(Log(access=path))
    hits(log, 3)
    assert len(lines_of(log, path)) == 3
    assert (tmp_path / "log.1").read_text().count("\n") == 2


def test_a_file_that_cannot_be_written_loses_lines_says_so_once_and_harms_nobody(
    log_to: Callable[..., AccessLog], metrics: EdgeMetrics, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    log = log_to(tmp_path / "gone" / "log")
    hits(log, 3)
    wait_for(lambda: bool(log.trouble))
    assert log.trouble == f"{tmp_path / 'gone' / 'log'}: No such file or directory"
    hits(log, 2)
    log.close()
    assert metrics.access_log_lost.value == 5
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_full_disk_loses_lines(log_to: Callable[..., AccessLog], metrics: EdgeMetrics):
    log = log_to(Path("/dev/full"))
    hits(log, 3)
    wait_for(lambda: bool(log.trouble))
    assert "No space left" in log.trouble
    assert metrics.access_log_lost.value == 3


def test_a_reader_who_does_not_read_costs_lines_and_no_time(
    log_to: Callable[..., AccessLog], metrics: EdgeMetrics, tmp_path: Path
):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # opening it waits for a reader
    log = log_to(pipe)
    hits(log, MOST_WAITING + 100)
    assert metrics.access_log_lost.value == 100
    with pipe.open() as reader:  # or the thread would outlive the test
        log.close()
        assert reader.readline().endswith("\n")


def wait_for(fact: Callable[[], bool], within_s: float = 20.0) -> None:
    """Until the writer's thread has done it."""
    until = time.monotonic() + within_s
    while not fact():
        assert time.monotonic() < until
        time.sleep(0.01)

"""The access log of a real edge: a line for each request that is counted."""

import json
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.alone import Alone, alone_config, check, running_alone
from tests.integration.by_hand import get, raw
from tests.integration.plain_origin import PlainOrigin, Stored, plain_origin

pytestmark = pytest.mark.processes

BODY = bytes(range(256)) * 400
PATHS = {
    "/a.m4s": Stored(BODY, {"Cache-Control": "max-age=60", "ETag": '"one"'}),
    "/a.m3u8": Stored(b"#EXTM3U\n" + b"#EXTINF:4,\nseg.ts\n" * 100, {"Cache-Control": "max-age=60"}),
    "/private": Stored(b"for one", {"Cache-Control": "no-store"}),
}


def lines_of(path: Path, count: int, within_s: float = 20.0) -> list[dict[str, Any]]:
    """So many lines, once they are there; the log is written behind the answers."""
    until = time.monotonic() + within_s
    while True:
        lines = path.read_text().splitlines() if path.exists() else []
        if len(lines) >= count:
            return [json.loads(line) for line in lines]
        assert time.monotonic() < until, lines
        time.sleep(0.02)


def ask_everything(edge: Alone, origin: PlainOrigin) -> int:
    """Requests that end in many ways; how many."""
    get(edge.url("/a.m4s"))
    for _ in range(3):
        get(edge.url("/a.m4s?"))
    get(edge.url("/a.m4s"), headers={"Range": "bytes=0-9", "User-Agent": "test", "Referer": "http://page/"})
    get(edge.url("/a.m4s"), headers={"If-None-Match": '"one"'})
    get(edge.url("/a.m4s"), method="HEAD")
    get(edge.url("/a.m3u8"), headers={"Accept-Encoding": "gzip"})
    get(edge.url("/private"))
    get(edge.url("/none"))
    get(edge.url("/%zz"))
    raw(edge.program.ready["viewer"], b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n")
    return 12


def test_lines_and_counters_agree(tmp_path: Path):
    path = tmp_path / "access.log"
    with plain_origin(PATHS) as origin:
        config = alone_config(tmp_path, origin.url, log={"access": str(path)})
        with running_alone(tmp_path, config) as edge:
            lines = lines_of(path, ask_everything(edge, origin))
            counted = edge.metrics()
    outcomes = Counter(line["outcome"] for line in lines)
    for outcome in ("hit", "miss", "passed", "refused", "failed", "joined", "revalidated", "stale_hit"):
        assert counted[f'starling_viewer_requests_total{{outcome="{outcome}"}}'] == outcomes[outcome], lines
    assert all(line["client"] == "127.0.0.1" for line in lines)
    first, *_ = lines
    assert (first["method"], first["path"], first["status"], first["bytes"]) == ("GET", "/a.m4s", 200, len(BODY))
    assert (first["outcome"], first["source"]) == ("miss", "origin")
    assert 0 <= first["ttfb_ms"] <= first["total_ms"]
    (ranged,) = [line for line in lines if line.get("range")]
    assert (ranged["status"], ranged["bytes"], ranged["user_agent"]) == (206, 10, "test")
    assert (ranged["referer"], ranged["range"]) == ("http://page/", "bytes=0-9")
    statuses = Counter(line["status"] for line in lines)
    assert (statuses[304], statuses[404], statuses[400]) == (1, 1, 2)
    (packed,) = [line for line in lines if line["path"] == "/a.m3u8"]
    assert 0 < packed["bytes"] < len(PATHS["/a.m3u8"].body)


def test_hits_are_sampled_and_the_rest_is_not(tmp_path: Path):
    path = tmp_path / "access.log"
    with plain_origin(PATHS) as origin:
        config = alone_config(tmp_path, origin.url, log={"access": str(path), "sample": 0.1})
        with running_alone(tmp_path, config) as edge:
            for _ in range(51):
                get(edge.url("/a.m4s"))
            get(edge.url("/%zz"))
            lines = lines_of(path, 7)
    assert Counter(line["outcome"] for line in lines) == {"miss": 1, "hit": 5, "refused": 1}
    assert {line.get("sample") for line in lines if line["outcome"] == "hit"} == {0.1}


def test_a_full_log_disk_harms_no_viewer_and_is_told(tmp_path: Path):
    with plain_origin(PATHS) as origin:
        config = alone_config(tmp_path, origin.url, log={"access": "/dev/full"})
        with running_alone(tmp_path, config) as edge:
            asked = ask_everything(edge, origin)
            until = time.monotonic() + 20
            while not edge.metrics()["starling_access_log_lost_lines_total"] and time.monotonic() < until:
                time.sleep(0.02)
            assert 0 < edge.metrics()["starling_access_log_lost_lines_total"] <= asked
            assert get(edge.url("/a.m4s")).size == len(BODY)
            admin = f"http://{edge.program.ready['admin']}/readyz"
            assert "access log is not written: /dev/full: No space left on device" in get(admin).body.decode()


@pytest.mark.parametrize(
    "log, line",
    [
        ({"access": "/none/access.log"}, "log.access /none/access.log: no such directory"),
        ({"access": "/tmp"}, "log.access /tmp: is a directory"),
        ({"access": "stderr", "sample": 2}, "log.sample: expected a number from 0 to 1 such as 0.01, got 2"),
    ],
)
def test_what_cannot_be_a_log_is_one_line_and_exit_2(tmp_path: Path, log: dict[str, Any], line: str):
    file = tmp_path / "edge.yaml"
    file.write_text(yaml.safe_dump(alone_config(tmp_path, "http://127.0.0.1:1", log=log)))
    checked = check(file)
    assert (checked.returncode, checked.stderr.count("\n")) == (2, 1)
    assert checked.stderr.endswith(f"{line}\n")


def test_on_standard_error_lines_stand_beside_the_programs_own(tmp_path: Path):
    with plain_origin(PATHS) as origin:
        config = alone_config(tmp_path, origin.url, log={"access": "stderr"})
        with running_alone(tmp_path, config) as edge:
            get(edge.url("/a.m4s"))
            edge.program.process.send_signal(signal.SIGTERM)
            edge.program.process.wait(30)
            said = edge.program.said().splitlines()
    (line,) = [json.loads(line) for line in said if line.startswith("{")]
    assert line["path"] == "/a.m4s"
    assert any("stopped" in line for line in said)

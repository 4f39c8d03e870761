"""The headless player, as a program, against real HLS."""

import asyncio
import json
import signal
import sys

import pytest

from daemon.version import VERSION
from player.report import COLUMNS
from tests.player.hls_server import ROOT, HlsServer, live_encoder

pytestmark = pytest.mark.processes


async def player(*arguments):
    """(exit status, stdout, stderr) of `python -m player`."""
    process = await start(*arguments)
    out, err = await asyncio.wait_for(process.communicate(), 45)
    return process.returncode, out.decode(), err.decode()


async def start(*arguments):
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "player", *arguments, stdout=pipe, stderr=pipe, cwd=ROOT
    )


async def test_a_film_is_watched_by_three_viewers_through_two_edges(media):
    async with HlsServer(media).running() as one, HlsServer(media).running() as two:
        urls = [f"{one.url}/film/main.m3u8", f"{two.url}/film/main.m3u8"]
        status, out, err = await player(*urls, "--viewers", "3", "--seconds", "4", "--json")
        report = json.loads(out)
        assert (status, err) == (0, "")
        assert [viewer["url"] for viewer in report["each"]] == [urls[0], urls[1], urls[0]]
        assert (report["viewers"], report["errors"], report["stalls"], report["latency_s"]) == (3, 0, 0, None)
        assert 12.0 <= report["watched_s"] < 13.0
        assert report["startup_s"] < 2.0
        assert report["switches"] >= 3  # all climb from the low rendition
        assert report["bytes"] == {source: one.sent[source] + two.sent[source] for source in report["bytes"]}
        assert report["body_bytes"] == sum(one.sent.values()) + sum(two.sent.values())
        watched = set(one.requests | two.requests)
        assert report["distinct_bytes"] == sum((media / path[1:]).stat().st_size for path in watched)
        assert any(headers["CMCD-Request"] not in ("bl=0",) for headers in one.headers)


async def test_a_short_film_is_watched_to_its_end_and_shown_as_a_table(media):
    async with HlsServer(media).running() as server:
        status, out, _ = await player(f"{server.url}/film/low/index.m3u8")
    assert status == 0
    head, _, row, *_ = out.splitlines()
    assert head.split() == list(COLUMNS)
    assert "12.0 s" in row
    assert "received" in out
    assert "origin" in out


async def test_a_live_stream_is_followed_without_a_stall(media):
    async with live_encoder(media), HlsServer(media).running() as server:
        status, out, err = await player(f"{server.url}/live/index.m3u8", "--seconds", "8", "--json", "--progress")
    report = json.loads(out)
    assert (status, report["stalls"], report["errors"]) == (0, 0, 0), report
    assert 8.0 <= report["watched_s"] < 9.0
    assert 2.0 < report["latency_s"] < 5.0
    progress = [json.loads(line) for line in err.splitlines()]
    assert len(progress) >= 8
    assert progress[-1]["watched_s"] > progress[4]["watched_s"]


async def test_what_fails_is_counted_and_told(media):
    broken = {"/film/low/index1.m4s": 404, "/film/high/index1.m4s": 404}
    async with HlsServer(media, broken).running() as server:
        status, out, _ = await player(f"{server.url}/film/main.m3u8", "--json")
    report = json.loads(out)
    assert (status, report["errors"], report["skipped"]) == (1, 1, 1)
    assert report["watched_s"] == pytest.approx(10.0, abs=0.2)
    assert report["problems"][0].endswith("index1.m4s: status 404")


@pytest.mark.slow
async def test_a_server_that_is_not_there_is_an_error_not_a_traceback(unused_tcp_port_factory):
    status, out, err = await player(f"http://127.0.0.1:{unused_tcp_port_factory()}/a.m3u8", "--json")
    report = json.loads(out)
    assert (status, report["errors"], report["startup_s"]) == (1, 11, None)
    assert "failures in a row" in report["each"][0]["error"]
    assert report["problems"][0].endswith("(10 times)")
    assert len(report["problems"]) == 2  # and why the viewer gave up
    assert "Traceback" not in err


async def test_a_signal_ends_it_early_with_a_report(media):
    async with HlsServer(media).running() as server:
        process = await start(f"{server.url}/film/low/index.m3u8", "--json", "--progress")
        await asyncio.wait_for(process.stderr.readline(), 20)
        process.send_signal(signal.SIGTERM)
        out, _ = await asyncio.wait_for(process.communicate(), 10)
    report = json.loads(out)
    assert process.returncode == 0
    assert 0 < report["watched_s"] < 12


@pytest.mark.parametrize(
    "arguments",
    [[], ["ftp://host/a.m3u8"], ["http://e/a.m3u8", "--viewers", "0"], ["http://e/a.m3u8", "--seconds", "nan"]],
)
async def test_bad_usage_exits_2(arguments):
    status, out, err = await player(*arguments)
    assert (status, out) == (2, "")
    assert "error:" in err


async def test_its_version():
    assert await player("--version") == (0, f"starling-player {VERSION}\n", "")

"""Real locust, without its web page, against real HLS: what it prints, and how it exits."""

import asyncio
import csv
import sys

import pytest

from tests.player.hls_server import ROOT, HlsServer, live_encoder, make_film

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    directory = tmp_path_factory.mktemp("media")
    make_film(directory)
    return directory


async def locust(server, *arguments, files="loadtests/locustfile.py"):
    """(exit status, everything it printed)."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "locust", "-f", files, "--headless", "--host", server.url),
        *("--live", "/live/index.m3u8", "--film", "/film/main.m3u8", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 50)
    return process.returncode, out.decode()


def rows(directory):
    """The table as `--csv` writes it: name -> row."""
    with (directory / "run_stats.csv").open() as file:
        return {row["Name"]: row for row in csv.DictReader(file)}


async def test_viewers_watch_live_and_on_demand_without_a_failure(media, tmp_path):
    audience = ("--users", "4", "--spawn-rate", "4", "--run-time", "12s", "--watch", "4")
    async with live_encoder(media), HlsServer(media).running() as server:
        status, out = await locust(server, *audience, "--csv", str(tmp_path / "run"))
    assert status == 0, out
    table = rows(tmp_path)
    for kind in ("live", "film"):
        for what in ("playlist", "segment", "map", "start-up", "watched"):
            assert int(table[f"{kind} {what}"]["Request Count"]) >= 1, f"{kind} {what}\n{out}"
    assert "live stall" not in table
    assert 1000 < float(table["live latency"]["Average Response Time"]) < 6000
    assert table["film start-up"]["Type"] == "VIEW"
    assert "film segment" in out  # and the same in the table for people
    assert sum(server.sent.values()) > 0


async def test_what_fails_is_shown_and_makes_the_exit_status(media):
    broken = {f"/film/{name}/index{index}.m4s": 503 for name in ("low", "high") for index in range(2, 6)}
    async with HlsServer(media, broken).running() as server:
        status, out = await locust(server, "--users", "2", "--run-time", "10s", "--watch", "30", "FilmViewer")
    assert status == 1
    assert "503" in out
    assert "Stalled" in out
    assert "live" not in out.replace("/live/index.m3u8", "").split("Type")[-1]


async def test_a_flash_crowd_ends_by_itself(media):
    shape = ("--crowd", "6", "--crowd-before", "1", "--crowd-at", "2", "--crowd-within", "1", "--crowd-for", "4")
    files = "loadtests/locustfile.py,loadtests/shapes.py"
    async with HlsServer(media).running() as server:
        status, out = await locust(server, *shape, "--live", "", "--watch", "4", files=files)
    assert status == 0, out
    assert '"FilmViewer": 6' in out
    assert "LiveViewer" not in out

"""One edge's clock half a minute fast, another's half a minute slow: no viewer sees a difference."""

import json
import subprocess
import sys
import time
from email.utils import parsedate_to_datetime

import pytest

from deploy.programs import ROOT, Program, running_swarm
from deploy.streams import live_command, make_film
from tests.deploy.panels import wait_until
from tests.integration.by_hand import get
from tests.integration.clocks import start_edge

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(240)]
LIVE, FILM = "/live/master.m3u8", "/film/master.m3u8"
OFF_S = {"right": 0.0, "fast": 30.0, "slow": -30.0}
WITHIN_S = 60.0
CLOSE_S = 10.0  # to the true time: far from half a minute, far beyond what a busy machine takes


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Three edges whose clocks differ by a minute in all, a film, and a live stream that has begun."""
    directory = tmp_path_factory.mktemp("clock")
    with running_swarm(directory, []) as programs:
        for node, off_s in OFF_S.items():
            start_edge(programs, node, off_s)
        programs.wait_joined(WITHIN_S)
        make_film(programs.media / "film", 12.0)
        url = f"http://{programs.origin_address}/live"
        live = Program("ffmpeg", live_command(url), directory / "ffmpeg.log", waits=False)
        try:
            wait_until(lambda: get(programs.url("right", LIVE)).status == 200, WITHIN_S, live.said)
            yield programs
        finally:
            live.stop(within_s=5)


def newest_segment(playlist: bytes) -> int:
    """The media sequence number of the last segment."""
    lines = playlist.decode().splitlines()
    first = next((int(line.partition(":")[2]) for line in lines if line.startswith("#EXT-X-MEDIA-SEQUENCE:")), 0)
    return first + sum(not line.startswith("#") for line in lines if line) - 1


def test_live_and_film_play_through_all_three_at_one_copy(programs):
    urls = [programs.url(node, path) for node in OFF_S for path in (LIVE, FILM)]
    command = [sys.executable, "-m", "player", *urls, "--seconds", "6", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["errors"] == 0
    sent = programs.total("origin", "starling_origin_sent_bytes_total")
    assert sent / programs.metrics("origin")["starling_origin_distinct_bytes_total"] <= 1.15
    for node in OFF_S:
        assert programs.total(node, "starling_pieces_rejected_total") == 0


@pytest.mark.parametrize("node", OFF_S)
def test_the_edge_knows_how_far_its_clock_is_off(node, programs):
    assert programs.status(node)["clock_offset_s"] == pytest.approx(-OFF_S[node], abs=CLOSE_S)


@pytest.mark.parametrize("node", OFF_S)
def test_a_viewer_reads_the_true_date_and_a_true_age(node, programs):
    for path in ("/live/0.m3u8", FILM):
        answer = get(programs.url(node, path))
        date = parsedate_to_datetime(answer.headers["date"]).timestamp()
        assert date == pytest.approx(time.time(), abs=CLOSE_S)
        assert 0 <= int(answer.headers["age"]) < 30 + CLOSE_S
    (programs.media / f"{node}.txt").write_bytes(b"new")
    assert int(get(programs.url(node, f"/{node}.txt")).headers["age"]) < CLOSE_S
    hit = get(programs.url(node, f"/{node}.txt"))
    assert "; hit" in hit.cache_status  # fresh for a minute, whatever the clock says
    assert int(hit.headers["age"]) < CLOSE_S


@pytest.mark.parametrize("node", OFF_S)
def test_each_shows_what_the_origin_shows_soon_after(node, programs):
    newest = newest_segment(get(f"http://{programs.origin_address}/live/0.m3u8").body)
    wait_until(
        lambda: newest_segment(get(programs.url(node, "/live/0.m3u8")).body) >= newest,
        WITHIN_S,
        lambda: f"{node} never showed segment {newest}",
    )


@pytest.mark.parametrize("node", ["fast", "slow"])
def test_what_it_kept_on_disk_is_as_fresh_as_it_was_after_a_restart(node, programs):
    """And it bears its name still: an incarnation counted by a clock that was set right is not an older one."""
    name = f"/kept-{node}.txt"
    (programs.media / name.strip("/")).write_bytes(b"kept" * 50_000)
    before = get(programs.url(node, name))
    assert programs.edges[node].stop() == 0
    start_edge(programs, node, -OFF_S[node])  # as wrong the other way: a minute from where it was
    programs.wait_joined(WITHIN_S)
    after = get(programs.url(node, name))
    assert (after.status, after.sha256) == (200, before.sha256)
    assert programs.total(node, "starling_origin_bytes_total") == 0

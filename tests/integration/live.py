"""A live stream sent to a swarm's origin in real time."""

import contextlib
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from deploy.programs import Program, Swarm
from deploy.streams import RENDITIONS, live_command

LIVE = "/live/master.m3u8"
SEGMENTS = 3  # a viewer starts that far behind the live edge
WITHIN_S = 60.0


@contextlib.contextmanager
def live_stream(swarm: Swarm) -> Iterator[Program]:
    """Runs until the block is left; long enough to be watched when it is entered."""
    url = f"http://{swarm.origin_address}/live"
    ffmpeg = Program("live", live_command(url), swarm.directory / "live.log", waits=False)
    try:
        _wait_until_long_enough(swarm, ffmpeg)
        yield ffmpeg
    finally:
        ffmpeg.stop(within_s=5)


def _wait_until_long_enough(swarm: Swarm, ffmpeg: Program) -> None:
    until = time.monotonic() + WITHIN_S
    for index in range(len(RENDITIONS)):
        while _segments(f"http://{swarm.origin_address}/live/{index}.m3u8") < SEGMENTS:
            if time.monotonic() > until or ffmpeg.process.poll() is not None:
                raise TimeoutError(f"no live stream: {ffmpeg.said()}")
            time.sleep(0.1)


def _segments(playlist: str) -> int:
    try:
        with urllib.request.urlopen(playlist, timeout=5) as answer:
            text: bytes = answer.read()
    except urllib.error.HTTPError:
        return 0
    return text.count(b"#EXTINF")

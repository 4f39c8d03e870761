"""`make demo`: a live and an on-demand stream through three edges, six viewers, and what the origin was spared.

`DEMO_SECONDS=20` ends it by itself (counted from the first frame watched) with one line of JSON last; `DEMO_SWARM=off`
runs the same edges each on its own, for comparison, `DEMO_TOPOLOGY=pure` (or `superpeer`) in another topology. Runs
without root, on free ports, and leaves nothing behind.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import FrameType
from typing import Any

from deploy.parents import stop_with_make
from deploy.programs import ROOT, STOPPING, Program, Swarm, die_with_parent, undisturbed
from deploy.streams import RENDITIONS, live_command, make_film

EDGES = ["edge-1", "edge-2", "edge-3"]
TOPOLOGIES = ("hybrid", "pure", "superpeer")
VIEWERS = 6
FILM_S = 120.0
UNTIL_STOPPED_S = FILM_S - 10  # one round of viewers, again and again until Ctrl-C
COUNTERS = ("starling_viewer_bytes_total", "starling_origin_bytes_total", "starling_fetched_bytes_total")
LIVE, FILM = "/live/master.m3u8", "/film/master.m3u8"
LIVE_SEGMENTS = 3  # a viewer starts that far behind the live edge
LIVE_WITHIN_S = 60.0
SUMMARY_EVERY_S = 2.0


class Stopped(BaseException):
    """Ctrl-C or SIGTERM: take everything down."""


def say(text: str = "") -> None:
    print(text, flush=True)


class Demo:
    """The whole cast; `close` takes it down in order."""

    def __init__(self, directory: Path, *, swarm: bool, topology: str) -> None:
        self.programs = Swarm(directory, swarm=swarm, topology=topology)
        self.swarm = swarm
        self.ffmpeg: Program | None = None
        self.players: subprocess.Popen[str] | None = None
        self._before = dict.fromkeys(COUNTERS, 0.0)  # when the round of viewers now watching began

    def start(self) -> None:
        directory = self.programs.directory
        say("making a film (ffmpeg, two renditions) ...")
        make_film(self.programs.media / "film", FILM_S)
        self.programs.start_origin()
        say(f"origin  and tracker, at {self.programs.origin_address}")  # no link: there is nothing at its /
        say(f"        status  {self.programs.admin_url('origin', '/')}")
        for node in EDGES:
            self.programs.start_edge(node)
        if self.swarm:
            self.programs.wait_joined()
        live = live_command(f"http://{self.programs.origin_address}/live")
        Program("ffmpeg", live, directory / "ffmpeg.log", waits=False, on_started=self._on_ffmpeg)
        self._wait_for_live()
        for node in EDGES:
            say(f"{node}  player  {self.programs.url(node, '/-/player/?src=' + LIVE)}")
            say(f"        film    {self.programs.url(node, '/-/player/?src=' + FILM)}")
            say(f"        status  {self.programs.admin_url(node, '/')}")
        say()

    def _on_ffmpeg(self, ffmpeg: Program) -> None:
        self.ffmpeg = ffmpeg

    def _wait_for_live(self) -> None:
        """Until every rendition has the segments that a viewer starts behind the live edge. Asked of the origin
        itself, so that no edge remembers a time before the stream."""
        say(f"waiting for {LIVE_SEGMENTS} live segments ...")
        assert self.ffmpeg is not None
        waiting = [LIVE.replace("master", str(index)) for index in range(len(RENDITIONS))] + [LIVE]
        until = time.monotonic() + LIVE_WITHIN_S
        while waiting and time.monotonic() < until:
            if self.ffmpeg.process.poll() is not None:
                raise RuntimeError(f"the live stream ended early: {self.ffmpeg.said()}")
            if self._has_begun(waiting[0]):
                waiting.pop(0)
            else:
                time.sleep(0.2)
        if waiting:
            raise RuntimeError(f"no live stream after {LIVE_WITHIN_S:.0f} s: {self.ffmpeg.said()}")

    def _has_begun(self, playlist: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.programs.origin_address}{playlist}", timeout=5) as answer:
                text: bytes = answer.read()
        except urllib.error.HTTPError:
            return False
        return playlist == LIVE or text.count(b"#EXTINF") >= LIVE_SEGMENTS

    def watch(self, seconds: float) -> dict[str, Any]:
        """Six viewers, each stream through each edge; what they report. A summary is printed meanwhile."""
        if self.players is not None:
            self._before = self._counted()  # "distinct" begins anew with every round, so all else must
        urls = [self.programs.url(node, path) for node in EDGES for path in (LIVE, FILM)]
        command = [sys.executable, "-m", "player", *urls, "--viewers", str(VIEWERS), "--seconds", str(seconds)]
        with undisturbed():
            self.players = subprocess.Popen(
                [*command, "--json", "--progress"],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=die_with_parent,
            )
        progress: dict[str, Any] = {}
        problems: list[str] = []
        reading = threading.Thread(target=_follow, args=(self.players, progress, problems), daemon=True)
        reading.start()
        self._summarise_until_done(progress)
        assert self.players.stdout is not None
        out = self.players.stdout.read()
        code = self.players.wait()
        reading.join(timeout=5)
        for problem in problems:
            say(f"viewers: {problem}")
        if not out.strip():
            raise RuntimeError(f"the viewers ended with exit code {code} and no report")
        report: dict[str, Any] = json.loads(out)
        for problem in report.get("problems", []):
            say(f"a viewer met: {problem}")
        return report

    def _summarise_until_done(self, progress: dict[str, Any]) -> None:
        assert self.players is not None
        while True:
            try:
                self.players.wait(SUMMARY_EVERY_S)
            except subprocess.TimeoutExpired:
                say(self._summary(progress))
            else:
                return

    def figures(self, report: dict[str, Any]) -> dict[str, Any]:
        """The figures of this round so far; bytes by the edges' own counters, what was watched by the viewers'."""
        now = self._counted()
        viewer, origin, fetched = (now[name] - self._before[name] for name in COUNTERS)
        distinct = report.get("distinct_bytes", 0)
        return {
            "viewer_bytes": int(viewer),
            "origin_bytes": int(origin),
            "distinct_bytes": int(distinct),
            "origin_copies": round(origin / distinct, 4) if distinct else None,
            "offload": round(1 - origin / viewer, 4) if viewer else None,
            "offload_without_swarm": round(1 - fetched / viewer, 4) if viewer else None,
            "peer_share": round(1 - origin / fetched, 4) if fetched else None,
            "stalls": report.get("stalls", 0),
            "errors": report.get("errors", 0),
            "viewers": report.get("viewers", VIEWERS),
            "startup_s": report.get("startup_s"),
            "latency_s": report.get("latency_s"),
            "swarm": self.swarm,
        }

    def _counted(self) -> dict[str, float]:
        return {name: sum(self.programs.total(node, name) for node in EDGES) for name in COUNTERS}

    def _summary(self, progress: dict[str, Any]) -> str:
        now = self.figures(progress)
        copies = f"{now['origin_copies']:.2f}" if now["origin_copies"] is not None else "-"
        share = f"{now['peer_share']:.0%}" if now["peer_share"] is not None else "-"
        return (
            f"viewers got {_mib(now['viewer_bytes'])}, the origin sent {_mib(now['origin_bytes'])}: "
            f"{copies} copies of what was watched, {share} of what edges fetched came from peers; "
            f"stalls {now['stalls']}, errors {now['errors']}"
        )

    def close(self) -> None:
        if self.players is not None and self.players.poll() is None:
            self.players.kill()
            self.players.wait()
        if self.ffmpeg is not None:
            self.ffmpeg.stop(within_s=5)
        self.programs.stop()


def _follow(players: "subprocess.Popen[str]", progress: dict[str, Any], problems: list[str]) -> None:
    """The viewers' stderr: one JSON object a second, and whatever they complain of."""
    assert players.stderr is not None
    for line in players.stderr:
        try:
            progress.update(json.loads(line))
        except ValueError:
            problems.append(line.strip())


def _mib(size: float) -> str:
    return f"{size / (1 << 20):.1f} MiB"


def _on_signal(number: int, frame: FrameType | None) -> None:
    _close_undisturbed()
    raise Stopped(number)


def _close_undisturbed() -> None:
    """Closing is under way: it takes a second or two, and a second Ctrl-C must not leave half of the cast behind."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


def main() -> int:
    seconds = os.environ.get("DEMO_SECONDS")
    swarm = os.environ.get("DEMO_SWARM", "on").lower() not in ("off", "0", "no", "false")
    topology = os.environ.get("DEMO_TOPOLOGY") or TOPOLOGIES[0]
    try:
        length = float(seconds) if seconds else None
    except ValueError:
        print(f"DEMO_SECONDS: expected a number of seconds, got {seconds!r}", file=sys.stderr)
        return 2
    if topology not in TOPOLOGIES:
        print(f"DEMO_TOPOLOGY: expected one of {', '.join(TOPOLOGIES)}, got {topology!r}", file=sys.stderr)
        return 2
    for number in STOPPING:
        signal.signal(number, _on_signal)
    stop_with_make()
    with tempfile.TemporaryDirectory(prefix="starling-demo-", ignore_cleanup_errors=True) as directory:
        demo: Demo | None = None
        try:
            demo = Demo(Path(directory), swarm=swarm, topology=topology)
            demo.start()
            return _play(demo, length)
        except Stopped:
            say("\nstopping")
            return 0
        except (RuntimeError, TimeoutError, OSError) as error:
            print(f"demo: {error}", file=sys.stderr)
            return 1
        finally:
            _close_undisturbed()
            if demo is not None:
                demo.close()


def _play(demo: Demo, length: float | None) -> int:
    if length is None:
        say("Open a player above; Ctrl-C ends the demo.")
        while True:
            demo.watch(UNTIL_STOPPED_S)
            say("Everybody watches again: the film, which the edges hold by now, and the live stream as it goes on.")
    say(f"Everybody watches for {length:g} s from the first frame; then the demo ends with one line of JSON.")
    figures = demo.figures(demo.watch(length))
    say(json.dumps(figures))
    return 0 if not figures["errors"] else 1


if __name__ == "__main__":
    sys.exit(main())

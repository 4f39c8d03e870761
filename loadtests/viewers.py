"""Locust users that watch as people do: in real time, with a buffer, changing renditions, pausing, moving on.

What they see comes from `swarm.playback`, the model the headless player and the simulator use too.
"""

import random
import time
from typing import Any, ClassVar

import gevent
from locust import FastHttpUser, between, task

from swarm.playback import FetchPlaylist, FetchSegment, Figures, Finished, Playback, PlaybackConfig, Wait
from swarm.playhead import State

FIRST_FRAME_WITHIN_S = 30.0  # who has seen nothing by then leaves, and that is a failure
PAUSE_SHARE = 0.3  # of sittings have a pause in them
PAUSE_S = (2.0, 10.0)
SUCCESS = frozenset({200, 206})


class Stalled(Exception):
    """The buffer ran empty: the viewer saw a frozen picture."""


class NothingShown(Exception):
    """The stream never began, or could not go on."""


class Viewer(FastHttpUser):
    """Watches one of `paths` for a while, thinks for some seconds, and takes another. Subclasses name the paths."""

    abstract = True
    wait_time = between(1, 5)
    kind = "stream"
    paths: ClassVar[list[str]] = []
    watch_s: ClassVar[float] = 60.0  # a sitting's mean length
    config: ClassVar[PlaybackConfig] = PlaybackConfig()

    def on_start(self) -> None:
        self.rng = random.Random()
        gevent.sleep(self.rng.uniform(0, 1))  # people do not press play in step

    @task
    def watch(self) -> None:
        """One sitting."""
        assert self.host is not None, "locust insists on --host"
        url = self.host.rstrip("/") + self.rng.choice(self.paths)
        sitting = Sitting(self, url, self.watch_s * self.rng.uniform(0.5, 1.5))
        if self.rng.random() < PAUSE_SHARE:
            sitting.pause_after(sitting.watch_s * self.rng.uniform(0.2, 0.8), self.rng.uniform(*PAUSE_S))
        try:
            sitting.run()
        finally:  # locust ends users in the middle of whatever they do
            sitting.sum_up()

    def tell(self, what: str, value_s: float, failure: Exception | None = None) -> None:
        """A line of locust's table: seconds, in the column for response times (ms)."""
        self.environment.events.request.fire(
            request_type="VIEW",
            name=f"{self.kind} {what}",
            response_time=value_s * 1000,
            response_length=0,
            exception=failure,
            context={},
        )


class Sitting:
    """One viewer with one stream."""

    def __init__(self, viewer: Viewer, url: str, watch_s: float) -> None:
        self.watch_s = watch_s
        self._viewer = viewer
        self._url = url
        self._began_at = time.monotonic()
        self._playback = Playback(url, self._began_at, viewer.config)
        self._pause: tuple[float, float] | None = None  # (after so many seconds, for so many)
        self._told_stalled_s = 0.0
        self._has_told_startup = False

    def pause_after(self, seconds: float, pause_s: float) -> None:
        self._pause = (seconds, pause_s)

    def run(self) -> None:
        while (now := time.monotonic()) < self._end_at():
            self._tell_news(self._playback.figures(now))
            if self._is_pause_due(now):
                self._take_pause()
                continue
            match self._playback.next_step(now):
                case FetchPlaylist() | FetchSegment() as step:
                    self._fetch(step)
                case Wait(until):
                    gevent.sleep(max(0.0, min(until, self._end_at()) - now))
                case Finished(error):
                    if error is not None:
                        self._viewer.tell("given up", now - self._began_at, NothingShown(error))
                    return
        if self._playback.first_frame_at is None:
            sentence = f"{self._url}: no frame within {FIRST_FRAME_WITHIN_S:.0f} s"
            self._viewer.tell("start-up", FIRST_FRAME_WITHIN_S, NothingShown(sentence))

    def sum_up(self) -> None:
        """What is only known at the end."""
        figures = self._playback.figures(time.monotonic())
        self._tell_news(figures, is_last=True)
        if figures.watched_s > 0:
            self._viewer.tell("watched", figures.watched_s)
        if figures.latency_s is not None:
            self._viewer.tell("latency", figures.latency_s)

    def _end_at(self) -> float:
        began_at = self._playback.first_frame_at
        return self._began_at + FIRST_FRAME_WITHIN_S if began_at is None else began_at + self.watch_s

    def _tell_news(self, figures: Figures, *, is_last: bool = False) -> None:
        """Start-up once it is over, and each stall when it is over."""
        if figures.startup_s is not None and not self._has_told_startup:
            self._has_told_startup = True
            self._viewer.tell("start-up", figures.startup_s)
        stalled_s = figures.stalled_s - self._told_stalled_s
        if stalled_s > 0 and (is_last or figures.state is not State.STALLED):
            self._told_stalled_s = figures.stalled_s
            self._viewer.tell("stall", stalled_s, Stalled(self._url))

    def _is_pause_due(self, now: float) -> bool:
        began_at = self._playback.first_frame_at
        return self._pause is not None and began_at is not None and now >= began_at + self._pause[0]

    def _take_pause(self) -> None:
        assert self._pause is not None, "a pause is due only if there is one"
        pause_s, self._pause = self._pause[1], None
        self._playback.pause(time.monotonic())
        gevent.sleep(pause_s)
        self._playback.resume(time.monotonic())

    def _fetch(self, step: FetchPlaylist | FetchSegment) -> None:
        began_at = time.monotonic()
        response: Any = self._viewer.client.get(step.url, name=self._name(step), headers=_headers(step))
        now = time.monotonic()
        if response.status_code not in SUCCESS:
            status = response.status_code or None  # locust says 0 where there was no answer
            self._playback.on_failure(now, status=status, why=str(response.error or f"status {status}"))
        elif isinstance(step, FetchPlaylist):
            self._playback.on_playlist((response.content or b"").decode("utf-8", "replace"), step.url, now)
        else:
            self._playback.on_segment(len(response.content or b""), now - began_at, now)

    def _name(self, step: FetchPlaylist | FetchSegment) -> str:
        """One line in the table for each kind of thing, not one for each segment."""
        if isinstance(step, FetchPlaylist):
            return f"{self._viewer.kind} playlist"
        return f"{self._viewer.kind} {'segment' if step.duration_s else 'map'}"


def _headers(step: FetchPlaylist | FetchSegment) -> dict[str, str]:
    """CMCD (CTA-5004): how many milliseconds are buffered tells the edge how urgent this is."""
    headers = {"CMCD-Request": f"bl={round(step.buffer_s * 10) * 100}"}
    if isinstance(step, FetchSegment) and step.byterange is not None:
        first, size = step.byterange.first, step.byterange.size
        headers["Range"] = f"bytes={first}-{first + size - 1}"
    return headers

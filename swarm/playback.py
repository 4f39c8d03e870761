"""One viewer of an HLS stream, as a machine without clock or network: buffer, stalls, live edge, choice of rendition.

The shell asks `next_step(now)`, does what it is told - fetch this playlist, fetch this segment, wait - and reports with
`on_playlist`, `on_segment` or `on_failure`; then it asks again. One thing at a time, as over one connection. Headless
players, locust viewers and the simulator share this model, so that their stalls mean the same.

A live viewer starts three target durations behind the edge, as hls.js does, and not before the stream has grown that
long: nearer, a healthy server would stall him. Weak spots: time is not stretched to catch up after a stall, and a
rendition is joined by date or sequence number, not by the timestamps inside the media.
"""

import math
from dataclasses import dataclass, field, replace
from urllib.parse import urljoin

from swarm import abr
from swarm.errors import RemoteError
from swarm.playhead import Playhead, State
from swarm.playlist import ByteRange, Map, Media, Multivariant, Rendition, is_live, parse
from swarm.track import (
    HOLD_BACK_TARGETS,
    Track,
    Unit,
    can_block,
    found_by_date,
    found_by_position,
    hold_back_s,
    reload_after_s,
    start_in,
    units_of,
)

HOLD_BACK_SLACK = 0.9  # segments run a little shorter than the target: three of them are near enough
GONE = frozenset({404, 410})
FIRST_RETRY_S, LONGEST_RETRY_S = 0.25, 4.0
SEGMENT_TRIES = 4  # then the segment is skipped
PAUSED_POLL_S = 1.0  # a paused viewer with a full buffer looks again this often


@dataclass(frozen=True, slots=True)
class PlaybackConfig:
    """How a viewer behaves; durations in seconds."""

    low_latency: bool = False  # start at the part hold-back and fetch parts, where the playlist has them
    max_ahead_s: float = 30.0  # hls.js maxBufferLength
    startup_buffer_s: float = 2.5  # as ExoPlayer; less where the hold-back is under twice this
    max_failures: int = 10  # in a row, then the viewer gives up


@dataclass(frozen=True, slots=True)
class FetchPlaylist:
    """Get this playlist. `patience_s`: a blocking reload may be held by the server that long."""

    url: str
    buffer_s: float
    patience_s: float = 0.0


@dataclass(frozen=True, slots=True)
class FetchSegment:
    """Get this segment, part or map; `buffer_s` is what a CMCD `bl` would say."""

    url: str
    buffer_s: float
    duration_s: float = 0.0  # 0: a map, which plays nothing
    byterange: ByteRange | None = None
    bandwidth_bps: int = 0


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to fetch before this instant."""

    until: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The stream was watched to its end (`error` None), or the viewer gave up."""

    error: str | None = None


Step = FetchPlaylist | FetchSegment | Wait | Finished


@dataclass(frozen=True, slots=True)
class Figures:
    """How playback went so far. `latency_s` is the mean distance behind the live edge while playing, None for films."""

    state: State
    startup_s: float | None
    stalls: int
    stalled_s: float
    watched_s: float
    latency_s: float | None
    bitrate_bps: float | None
    buffer_s: float
    switches: int
    skipped: int  # segments that never came, and jumps back into the live window
    errors: int


@dataclass
class _Asked:
    """The order under way."""

    step: FetchPlaylist | FetchSegment
    track: Track | None = None
    unit: Unit | None = None
    map: Map | None = None


@dataclass
class _Totals:
    fetched_bytes: int = 0
    fetched_s: float = 0.0
    latency_area: float = 0.0  # latency integrated over watched time
    live_watched_s: float = 0.0
    switches: int = 0
    skipped: int = 0
    errors: int = 0


@dataclass
class _Stream:
    """What was learnt of the stream: its renditions if it has several, and the tracks that play."""

    renditions: tuple[Rendition, ...] = ()
    multivariant: Multivariant | None = None
    base_url: str = ""
    tracks: list[Track] = field(default_factory=list)
    films: dict[str, Track] = field(default_factory=dict)  # per URL: ended playlists need no second look
    is_film: bool = False  # it began at its beginning, so that positions are those of the playlist


class Playback:
    """See the module. Every method takes `now`, in seconds of any steady clock."""

    def __init__(self, url: str, now: float, config: PlaybackConfig | None = None) -> None:
        self._url = url
        self._config = config or PlaybackConfig()
        self._low_latency = self._config.low_latency
        self._began_at = now
        self._now = now
        self._playhead = Playhead(now, self._config.startup_buffer_s)
        self._throughput = abr.Throughput()
        self._stream = _Stream()
        self._totals = _Totals()
        self._asked: _Asked | None = None
        self._retry_at = now
        self._failures = 0  # in a row
        self._error: str | None = None

    def __repr__(self) -> str:
        return f"<Playback {self._url} {self._playhead!r} {self._totals.errors} errors>"

    # ---- what the shell reads ----

    @property
    def first_frame_at(self) -> float | None:
        """When the first frame was shown, on the clock of `now`."""
        return self._playhead.first_frame_at

    def figures(self, now: float) -> Figures:
        """How it went until now."""
        self._advance(now)
        head, totals = self._playhead, self._totals
        return Figures(
            state=head.state,
            startup_s=head.first_frame_at - self._began_at if head.first_frame_at is not None else None,
            stalls=head.stalls,
            stalled_s=head.stalled_s,
            watched_s=head.watched_s,
            latency_s=totals.latency_area / totals.live_watched_s if totals.live_watched_s else None,
            bitrate_bps=totals.fetched_bytes * 8 / totals.fetched_s if totals.fetched_s else None,
            buffer_s=head.buffer_s,
            switches=totals.switches,
            skipped=totals.skipped,
            errors=totals.errors,
        )

    # ---- what the viewer does ----

    def pause(self, now: float) -> None:
        self._advance(now)
        self._playhead.pause()

    def resume(self, now: float) -> None:
        self._advance(now)
        self._playhead.resume()

    # ---- what to do next ----

    def next_step(self, now: float) -> Step:
        """The one thing to do now; a fetch must be answered by an `on_…` before the next question."""
        assert self._asked is None, f"asked again while {self._asked} is under way"
        self._advance(now)
        if self._error is not None:
            return Finished(self._error)
        if now < self._retry_at:
            return Wait(self._retry_at)
        if not self._stream.tracks:
            return self._ask_playlist(None, self._url)
        due = next((track for track in self._stream.tracks if self._reload_at(track) <= now), None)
        return self._ask_playlist(due, self._reload_url(due)) if due is not None else self._next_segment()

    def _next_segment(self) -> Step:
        while waiting := [(track, unit) for track in self._stream.tracks if (unit := self._next_unit(track))]:
            track, unit = min(waiting, key=lambda pair: pair[0].end_s)
            if not unit.gap:
                return self._take_or_wait(track, unit)
            self._skip(track, unit)
        return self._nothing_new()

    def _take_or_wait(self, track: Track, unit: Unit) -> Step:
        surplus_s = track.end_s - self._playhead.position_s - self._config.max_ahead_s
        if surplus_s >= 0:
            return Wait(min(self._next_reload_at(), self._now + self._time_to_drain(surplus_s)))
        if track is self._stream.tracks[0] and self._switch(track, unit):
            return self.next_step(self._now)
        return self._ask_unit(track, unit)

    def _nothing_new(self) -> Step:
        """Everything the playlists name is fetched."""
        if (reload_at := self._next_reload_at()) < math.inf:
            return Wait(reload_at)
        self._playhead.complete()
        if self._playhead.first_frame_at is None:
            return Finished("the stream is empty")
        if self._playhead.state is State.ENDED:
            return Finished()
        return Wait(self._now + self._time_to_drain(self._playhead.buffer_s))

    def _time_to_drain(self, seconds: float) -> float:
        return PAUSED_POLL_S if self._playhead.state is State.PAUSED else max(seconds, 0.01)

    def _next_unit(self, track: Track) -> Unit | None:
        return next(track.units(parts=self._low_latency), None)

    def _ask_playlist(self, track: Track | None, url: str) -> FetchPlaylist:
        patience_s = HOLD_BACK_TARGETS * track.media.target_duration_s if track and track.media else 0.0
        step = FetchPlaylist(url, self._playhead.buffer_s, patience_s)
        self._asked = _Asked(step, track)
        return step

    def _ask_unit(self, track: Track, unit: Unit) -> FetchSegment:
        """The unit, or before it the map it needs."""
        wanted = unit.segment.map
        if wanted is not None and (track.url, wanted) != track.map:
            step = FetchSegment(urljoin(track.base_url, wanted.uri), self._playhead.buffer_s, 0.0, wanted.byterange)
            self._asked = _Asked(step, track, map=wanted)
            return step
        step = FetchSegment(
            urljoin(track.base_url, unit.uri),
            self._playhead.buffer_s,
            unit.duration_s,
            unit.byterange,
            track.bandwidth_bps,
        )
        self._asked = _Asked(step, track, unit)
        return step

    # ---- what came of it ----

    def on_playlist(self, text: str, url: str, now: float) -> None:
        """The playlist came; `url` is where it was found in the end, which its own URIs are relative to."""
        asked = self._answered(now)
        try:
            playlist = parse(text)
        except RemoteError as error:
            self._fail(asked, str(error))
            return
        self._failures = 0
        if isinstance(playlist, Multivariant):
            self._on_multivariant(playlist, url)
        elif asked.track is None:
            self._stream.tracks = [Track(self._url)]
            self._on_media(self._stream.tracks[0], playlist, url)
        else:
            self._on_media(asked.track, playlist, url)

    def on_segment(self, size_bytes: int, took_s: float, now: float) -> None:
        """The segment, part or map came whole."""
        asked = self._answered(now)
        assert asked.track is not None, "a segment belongs to a track"
        self._failures = asked.track.tries = 0
        self._throughput.on_download(size_bytes, took_s)
        if asked.unit is None:
            assert asked.map is not None, "neither segment nor map was asked for"
            asked.track.map = (asked.track.url, asked.map)
            return
        self._totals.fetched_bytes += size_bytes
        if asked.track is self._stream.tracks[0]:
            self._totals.fetched_s += asked.unit.duration_s
        self._move(asked.track, asked.unit)
        self._playhead.extend_to(min(track.end_s for track in self._stream.tracks))

    def on_failure(self, now: float, *, status: int | None = None, why: str = "") -> None:
        """It did not come: an HTTP status other than success, or (None) no answer at all."""
        asked = self._answered(now)
        if asked.unit is not None and asked.track is not None:
            asked.track.tries += 1
            if status in GONE or asked.track.tries >= SEGMENT_TRIES:
                asked.track.tries = 0
                self._skip(asked.track, asked.unit)
        self._fail(asked, why or (f"status {status}" if status is not None else "no answer"))

    def _answered(self, now: float) -> _Asked:
        self._advance(now)
        assert self._asked is not None, "an answer to nothing"
        asked, self._asked = self._asked, None
        return asked

    def _fail(self, asked: _Asked, why: str) -> None:
        self._totals.errors += 1
        self._failures += 1
        self._retry_at = self._now + min(LONGEST_RETRY_S, FIRST_RETRY_S * 2 ** (self._failures - 1))
        if self._failures >= self._config.max_failures:
            self._error = f"{asked.step.url}: {why}, {self._failures} failures in a row"

    # ---- playlists ----

    def _on_multivariant(self, playlist: Multivariant, url: str) -> None:
        stream = self._stream
        if stream.tracks or not playlist.renditions:
            self._error = f"{url}: " + ("a multivariant playlist names another" if stream.tracks else "no renditions")
            return
        stream.multivariant, stream.base_url, stream.renditions = playlist, url, _playable(playlist)
        rates = [rendition.bandwidth_bps for rendition in stream.renditions]
        self._take(self._rendition(abr.pick(rates, None, self._throughput.bps, 0.0, 0.0)))

    def _rendition(self, rate_bps: int) -> Rendition:
        return next(rendition for rendition in self._stream.renditions if rendition.bandwidth_bps == rate_bps)

    def _take(self, rendition: Rendition) -> None:
        """Play this rendition from where the tracks stand, with the audio it goes with."""
        stream = self._stream
        assert stream.multivariant is not None, "renditions come with a multivariant playlist"
        audio = stream.multivariant.audio_of(rendition)
        uris = [rendition.uri] + ([audio.uri] if audio is not None and audio.uri is not None else [])
        urls = [urljoin(stream.base_url, uri) for uri in uris]
        old = stream.tracks or [Track(urls[0])]
        stream.tracks = [self._moved(old[min(index, len(old) - 1)], url) for index, url in enumerate(urls)]
        stream.tracks[0].bandwidth_bps = rendition.bandwidth_bps
        for track in stream.tracks:
            known = stream.films.get(track.url)
            if track.is_moved and known is not None and known.media is not None:
                self._on_media(track, known.media, known.base_url)

    def _moved(self, track: Track, url: str) -> Track:
        if track.url == url and track.media is not None:
            return track
        return replace(track, url=url, bandwidth_bps=0, media=None, is_moved=track.at is not None, seen=(-1, -1))

    def _switch(self, track: Track, unit: Unit) -> bool:
        """Whether another rendition shall be played from this unit on; then it has been taken."""
        rates = [rendition.bandwidth_bps for rendition in self._stream.renditions]
        if len(rates) < 2 or unit.at[1] > 0:
            return False
        current = track.bandwidth_bps
        rate = abr.pick(rates, current, self._throughput.bps, self._playhead.buffer_s, unit.duration_s)
        if rate == current or (self._playhead.first_frame_at is None and rate > current):
            return False
        self._totals.switches += 1
        self._take(self._rendition(rate))
        return True

    def _on_media(self, track: Track, media: Media, base_url: str) -> None:
        track.media, track.base_url = media, base_url
        if not is_live(media):
            self._stream.films[track.url] = track
        if track.at is None:
            self._begin(track, media)
        elif track.is_moved:
            track.at = self._found_again(track, media)
        track.is_moved = False
        ends = (media.next_sequence, len(media.parts) if self._low_latency else 0)
        has_grown = ends > track.seen
        if has_grown:
            track.seen, track.grown_at = ends, self._now
        self._keep_in_window(track, media)
        track.edge_s = track.end_s + sum(unit.duration_s for unit in track.units(parts=self._low_latency))
        track.reload_at = self._now + reload_after_s(media, has_grown=has_grown, low_latency=self._low_latency)
        self._release_when_grown(media)

    def _begin(self, track: Track, media: Media) -> None:
        """The first media playlist: where the viewer joins, for the audio beside it too."""
        units = list(units_of(media, parts=self._low_latency))
        half_s = hold_back_s(media, low_latency=self._low_latency) / 2
        self._playhead.startup_buffer_s = min(self._config.startup_buffer_s, half_s)
        self._stream.is_film = not is_live(media)
        index, into_s = start_in(units, media, low_latency=self._low_latency)
        track.at = units[index].at if units else (media.next_sequence, 0)
        track.program_date_at = units[index].program_date_at if units else None
        for other in self._stream.tracks[1:]:
            other.at, other.program_date_at, other.is_moved = track.at, track.program_date_at, True
        self._playhead.begin_at(into_s)

    def _found_again(self, track: Track, media: Media) -> tuple[int, int]:
        """The same instant in another rendition's playlist: by position in a film, else by date, else by sequence."""
        assert track.at is not None, "a track that moves has begun"
        if self._stream.is_film:
            return found_by_position(media, track.end_s)
        if track.program_date_at is None or not media.segments or media.segments[0].program_date_at is None:
            return track.at
        return found_by_date(media, track.program_date_at)

    def _keep_in_window(self, track: Track, media: Media) -> None:
        """Rejoin a live stream whose window has left us behind, or whose numbers have begun anew."""
        assert track.at is not None, "a track with a playlist has begun"
        lost = media.media_sequence + media.skipped - track.at[0]
        # A playlist that ends before what we have may be an old copy: only if it stays so has the stream begun anew.
        stuck_s = HOLD_BACK_TARGETS * media.target_duration_s
        is_anew = media.next_sequence < track.at[0] and self._now - track.grown_at > stuck_s
        if lost <= 0 and not is_anew:
            return
        units = list(units_of(media, parts=self._low_latency))
        index, _ = start_in(units, media, low_latency=self._low_latency)
        track.at = units[index].at if units else (media.next_sequence, 0)
        track.seen, track.grown_at = (media.next_sequence, 0), self._now
        self._totals.skipped += 1
        passed_s = lost * media.target_duration_s + sum(unit.duration_s for unit in units[:index])
        self._leave_hole(track, 0.0 if is_anew else passed_s)

    def _release_when_grown(self, media: Media) -> None:
        """Let the first frame be shown once the edge is as far away as it is meant to stay."""
        distance_s = self._stream.tracks[0].edge_s - self._playhead.position_s
        enough_s = HOLD_BACK_SLACK * hold_back_s(media, low_latency=self._low_latency)
        if self._playhead.is_held and (not is_live(media) or distance_s >= enough_s):
            self._playhead.release()

    def _reload_at(self, track: Track) -> float:
        """When the track's playlist is to be read (again); never for one that has ended."""
        if track.media is None or track.is_moved:
            return self._now
        is_pointless = can_block(track.media, low_latency=self._low_latency) and self._next_unit(track) is not None
        return track.reload_at if is_live(track.media) and not is_pointless else math.inf

    def _next_reload_at(self) -> float:
        return min(self._reload_at(track) for track in self._stream.tracks)

    def _reload_url(self, track: Track) -> str:
        """With the delivery directives of RFC 8216bis section 6.2.5.2 where the server can hold the answer back."""
        media = track.media
        if media is None or track.is_moved or not can_block(media, low_latency=self._low_latency):
            return track.url
        directives = f"_HLS_msn={media.next_sequence}&_HLS_part={len(media.parts)}"
        return f"{track.url}{'&' if '?' in track.url else '?'}{directives}"

    # ---- time and place ----

    def _advance(self, now: float) -> None:
        self._now = now
        watched_s = self._playhead.watched_s
        self._playhead.advance(now)
        main = self._stream.tracks[0] if self._stream.tracks else None
        if main is not None and main.media is not None and is_live(main.media):
            played_s = self._playhead.watched_s - watched_s
            latency_s = main.edge_s + (now - main.grown_at) - self._playhead.position_s
            self._totals.latency_area += latency_s * played_s
            self._totals.live_watched_s += played_s

    def _move(self, track: Track, unit: Unit) -> None:
        track.at = unit.after
        track.end_s += unit.duration_s
        if unit.program_date_at is not None:
            track.program_date_at = unit.program_date_at + unit.duration_s
        elif track.program_date_at is not None:
            track.program_date_at += unit.duration_s

    def _skip(self, track: Track, unit: Unit) -> None:
        """Go on behind a unit that will not come."""
        self._totals.skipped += 1
        start_s = track.end_s
        self._move(track, unit)
        self._mark_hole(track, start_s)

    def _leave_hole(self, track: Track, lost_s: float) -> None:
        start_s = track.end_s
        track.end_s += lost_s
        self._mark_hole(track, start_s)

    def _mark_hole(self, track: Track, start_s: float) -> None:
        if track is self._stream.tracks[0]:  # the other track's holes are heard, but nobody waits for them
            self._playhead.skip(start_s, track.end_s)
        self._playhead.extend_to(min(one.end_s for one in self._stream.tracks))


def _playable(playlist: Multivariant) -> tuple[Rendition, ...]:
    """The renditions a viewer chooses among: those with pictures, if any has."""
    seen = tuple(rendition for rendition in playlist.renditions if rendition.resolution is not None)
    return seen or playlist.renditions

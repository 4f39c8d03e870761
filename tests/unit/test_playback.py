"""A viewer on a virtual clock, watching streams whose server and network the test lays down."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.abr import Throughput, pick
from swarm.playback import FetchPlaylist, FetchSegment, Finished, Playback, PlaybackConfig, Wait
from swarm.playhead import Playhead, State

KBIT = 1000


@dataclass
class Server:
    """Streams as functions of time, over a line of so many bits per second."""

    line_bps: float = 100_000 * KBIT
    delay_s: float = 0.01
    playlists: dict[str, Callable[[float], str]] = field(default_factory=dict)
    failures: dict[str, list[int | None]] = field(default_factory=dict)  # URL -> statuses, used up one by one
    asked: list[str] = field(default_factory=list)

    def play(self, url, until, config=None, began_at=0.0):
        """Watch until an instant or the end; returns (playback, when)."""
        playback, now = Playback(url, began_at, config), began_at
        return playback, self.go_on(playback, now, until)

    def go_on(self, playback, now, until):
        steps = 0
        while now < until:
            steps += 1
            assert steps < 20_000, f"{playback} spins"
            step = playback.next_step(now)
            match step:
                case Finished():
                    return now
                case Wait(at):
                    assert at > now
                    now = min(at, until)
                case _:
                    now = self.answer(playback, step, now)
        return now

    def answer(self, playback, step, now):
        self.asked.append(step.url)
        done = now + self.delay_s
        if statuses := self.failures.get(step.url):
            playback.on_failure(done, status=statuses.pop(0))
        elif isinstance(step, FetchPlaylist):
            playback.on_playlist(self.playlists[step.url](done), step.url, done)
        else:
            size = int(max(step.bandwidth_bps, 400 * KBIT) * step.duration_s / 8) or 700
            took = self.delay_s + size * 8 / self.line_bps
            done = now + took
            playback.on_segment(size, took, done)
        return done


def film(count=10, segment_s=4.0, tail="#EXT-X-ENDLIST\n"):
    body = "".join(f"#EXTINF:{segment_s},\n{index}.ts\n" for index in range(count))
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:{math.ceil(segment_s)}\n{body}{tail}"


def live(now, *, segment_s=2.0, window=6, first=0, since=0.0, dated=False, ends_at=math.inf):
    """A live playlist as its encoder has it at `now`: a segment appears when its last frame is made."""
    made = int((min(now, ends_at) - since) / segment_s + 1e-9)
    start = max(0, made - window)
    head = f"#EXTM3U\n#EXT-X-TARGETDURATION:{math.ceil(segment_s)}\n#EXT-X-MEDIA-SEQUENCE:{first + start}\n"
    body = ""
    for index in range(start, made):
        at = since + index * segment_s
        stamp = f"#EXT-X-PROGRAM-DATE-TIME:1970-01-01T01:{int(at) // 60:02}:{at % 60:06.3f}Z\n" if dated else ""
        body += f"{stamp}#EXTINF:{segment_s},\n{first + index}.ts\n"
    return head + body + ("#EXT-X-ENDLIST\n" if now >= ends_at else "")


def always(text: str) -> Callable[[float], str]:
    """A playlist that does not change."""
    return lambda _: text


LADDER = (
    "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=400000\nlow.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=1500000\nmid.m3u8\n"
    "#EXT-X-STREAM-INF:BANDWIDTH=5000000\nhigh.m3u8\n"
)


# ---- the playhead ----


def test_a_playhead_starts_stalls_and_ends():
    head = Playhead(now=100.0, startup_buffer_s=2.0)
    head.release()
    head.advance(101.0)
    head.extend_to(1.0)
    assert head.state is State.STARTING
    head.extend_to(4.0)
    assert (head.state, head.first_frame_at) == (State.PLAYING, 101.0)
    head.advance(103.0)
    assert (head.position_s, head.buffer_s) == (2.0, 2.0)
    head.advance(106.0)  # empty at 105
    assert (head.state, head.stalls, head.stalled_s, head.watched_s) == (State.STALLED, 1, 1.0, 4.0)
    head.advance(107.0)
    head.extend_to(6.0)
    assert (head.state, head.stalled_s) == (State.PLAYING, 2.0)
    head.complete()
    head.advance(109.0)
    assert (head.state, head.stalls, head.watched_s) == (State.ENDED, 1, 6.0)


def test_an_empty_buffer_at_the_very_instant_of_the_next_segment_is_no_stall():
    head = Playhead(now=0.0, startup_buffer_s=1.0)
    head.release()
    head.extend_to(2.0)
    head.advance(2.0)
    head.extend_to(4.0)
    head.advance(4.0)
    assert head.stalls == 0


def test_a_playhead_jumps_over_a_hole_without_watching_it():
    head = Playhead(now=0.0, startup_buffer_s=1.0)
    head.release()
    head.extend_to(4.0)
    head.skip(4.0, 6.0)
    head.extend_to(10.0)
    assert head.buffer_s == 8.0
    head.advance(5.0)
    assert (head.position_s, head.watched_s, head.buffer_s) == (7.0, 5.0, 3.0)


def test_a_paused_viewer_neither_watches_nor_stalls():
    head = Playhead(now=0.0, startup_buffer_s=1.0)
    head.release()
    head.extend_to(4.0)
    head.advance(1.0)
    head.pause()
    head.advance(60.0)
    head.resume()
    head.advance(62.0)
    assert (head.watched_s, head.stalls, head.state) == (3.0, 0, State.PLAYING)


# ---- the choice of rendition ----


@pytest.mark.parametrize(
    "current, estimate, buffer_s, expected",
    [
        (None, 500, 0, 400),  # the first guess
        (None, 100, 0, 400),  # nothing fits: the lowest
        (400, 2000, 8, 400),  # 1500 needs 2143 to climb
        (400, 2200, 8, 1500),
        (400, 9000, 8, 5000),
        (400, 9000, 0, 400),  # nothing buffered: no adventures
        (1500, 1600, 8, 1500),  # held with less than climbing needs
        (1500, 1400, 8, 400),
        (1500, 1400, 12, 1500),  # a slow spell is ridden out on a full buffer
        (1500, 500, 12, 400),  # but not one that would outlast it
    ],
)
def test_which_rendition_comes_next(current, estimate, buffer_s, expected):
    current_bps = None if current is None else current * KBIT
    assert pick([1500 * KBIT, 400 * KBIT, 5000 * KBIT], current_bps, estimate * KBIT, buffer_s, 4.0) == expected * KBIT


def test_the_estimate_falls_fast_and_climbs_slowly():
    throughput = Throughput()
    for _ in range(10):
        throughput.on_download(1_000_000, 1.0)
    assert throughput.bps == pytest.approx(8_000_000)
    for _ in range(3):
        throughput.on_download(125_000, 1.0)
    fallen = throughput.bps
    assert 4_000_000 < fallen < 5_000_000  # half-way after one fast half-life
    for _ in range(3):
        throughput.on_download(1_000_000, 1.0)
    assert throughput.bps < 6_700_000


# ---- films ----


def test_a_film_is_watched_to_its_end():
    server = Server(playlists={"http://e/film.m3u8": lambda now: film()})
    playback, ended_at = server.play("http://e/film.m3u8", until=100)
    figures = playback.figures(ended_at)
    assert playback.next_step(ended_at) == Finished()
    assert (figures.state, figures.stalls, figures.errors, figures.latency_s) == (State.ENDED, 0, 0, None)
    assert figures.watched_s == pytest.approx(40.0)
    assert figures.startup_s == pytest.approx(0.036)  # playlist, then one segment of 4 s
    assert server.asked == ["http://e/film.m3u8", *(f"http://e/{index}.ts" for index in range(10))]


def test_no_more_than_thirty_seconds_are_fetched_ahead():
    server = Server(playlists={"http://e/film.m3u8": lambda now: film(count=100)})
    server.play("http://e/film.m3u8", until=1.0)
    assert len(server.asked) == 1 + 8  # 8 segments are 32 s: at 28 s there was still room


def test_a_line_too_slow_for_the_film_stalls_it():
    server = Server(line_bps=200 * KBIT, playlists={"http://e/film.m3u8": lambda now: film()})
    playback, ended_at = server.play("http://e/film.m3u8", until=200)
    figures = playback.figures(ended_at)
    assert figures.stalls == 9  # each segment of 4 s takes 8 s
    assert figures.watched_s + figures.stalled_s == pytest.approx(ended_at - playback.first_frame_at)


def test_a_missing_segment_is_skipped_and_counted():
    server = Server(playlists={"http://e/film.m3u8": lambda now: film()}, failures={"http://e/3.ts": [404]})
    playback, ended_at = server.play("http://e/film.m3u8", until=100)
    figures = playback.figures(ended_at)
    assert (figures.errors, figures.skipped, figures.stalls) == (1, 1, 0)
    assert figures.watched_s == pytest.approx(36.0)


def test_a_segment_that_fails_at_first_is_asked_again():
    server = Server(playlists={"http://e/film.m3u8": lambda now: film()}, failures={"http://e/3.ts": [502, None]})
    playback, ended_at = server.play("http://e/film.m3u8", until=100)
    figures = playback.figures(ended_at)
    assert (figures.errors, figures.skipped) == (2, 0)
    assert figures.watched_s == pytest.approx(40.0)


def test_a_viewer_gives_up_in_the_end():
    server = Server(failures={"http://e/film.m3u8": [503] * 99})
    playback, gave_up_at = server.play("http://e/film.m3u8", until=100)
    assert playback.next_step(gave_up_at) == Finished("http://e/film.m3u8: status 503, 10 failures in a row")
    assert 20 < gave_up_at < 35


@pytest.mark.parametrize("text", ["<html>", film(count=0)])
def test_a_stream_that_is_none(text):
    playback, ended_at = Server(playlists={"http://e/a.m3u8": lambda now: text}).play("http://e/a.m3u8", until=100)
    last = playback.next_step(ended_at)
    assert isinstance(last, Finished)
    assert last.error


def test_a_viewer_climbs_and_drops_with_the_line():
    urls = {f"http://e/{name}.m3u8": lambda now: film(count=60) for name in ("low", "mid", "high")}
    server = Server(line_bps=20_000 * KBIT, playlists={"http://e/main.m3u8": lambda now: LADDER, **urls})
    playback, now = server.play("http://e/main.m3u8", until=60)
    assert playback.figures(now).switches == 1
    assert server.asked[:2] == ["http://e/main.m3u8", "http://e/low.m3u8"]
    assert "http://e/high.m3u8" in server.asked
    server.line_bps = 900 * KBIT
    ended_at = server.go_on(playback, now, until=400)
    figures = playback.figures(ended_at)
    assert (figures.stalls, figures.switches) == (0, 2)
    assert figures.watched_s == pytest.approx(240.0)
    assert server.asked.count("http://e/low.m3u8") == 1  # a film's playlist needs no second look
    assert 400 * KBIT < figures.bitrate_bps < 5000 * KBIT


def test_separate_audio_is_fetched_beside_the_video():
    main = (
        '#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="en",URI="audio/main.m3u8"\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=400000,AUDIO="a"\nvideo.m3u8\n'
    )
    text = film(count=3).replace("#EXTINF", '#EXT-X-MAP:URI="init.mp4"\n#EXTINF', 1)
    playlists = {"http://e/m.m3u8": main, "http://e/video.m3u8": text, "http://e/audio/main.m3u8": text}
    server = Server(playlists={url: always(text) for url, text in playlists.items()})
    playback, ended_at = server.play("http://e/m.m3u8", until=100)
    assert playback.figures(ended_at).watched_s == pytest.approx(12.0)
    names = ["init.mp4", "0.ts", "1.ts", "2.ts"]
    assert sorted(server.asked[3:]) == sorted(
        [f"http://e/{folder}{name}" for folder in ("", "audio/") for name in names]
    )


# ---- live ----


@pytest.mark.parametrize("joined_at", [20.0, 20.7, 21.3, 21.99])
@pytest.mark.parametrize("old_s", [0.0, 0.5, 1.0])
def test_a_live_viewer_stays_three_target_durations_behind_and_never_stalls(joined_at, old_s):
    """Also where the playlist comes from a cache, up to half a target duration old."""
    server = Server(playlists={"http://e/live.m3u8": lambda now: live(now - old_s)})
    playback, _ = server.play("http://e/live.m3u8", until=joined_at + 600, began_at=joined_at)
    figures = playback.figures(joined_at + 600)
    assert (figures.stalls, figures.errors, figures.skipped) == (0, 0, 0)
    assert 5.0 < figures.latency_s < 8.1  # counted from the edge as the viewer knows it, up to half a target old
    assert figures.startup_s < 0.1
    assert figures.watched_s == pytest.approx(600 - figures.startup_s)


def test_who_joins_a_stream_that_has_just_begun_waits_until_it_is_long_enough():
    server = Server(playlists={"http://e/live.m3u8": live})
    playback, now = server.play("http://e/live.m3u8", until=60)
    figures = playback.figures(now)
    assert 6.0 <= figures.startup_s <= 7.1
    assert figures.stalls == 0


def test_a_frozen_playlist_stalls_and_the_viewer_goes_on_where_he_was():
    server = Server(playlists={"http://e/live.m3u8": lambda now: live(now if not 40 < now < 50 else 40)})
    playback, now = server.play("http://e/live.m3u8", until=80, began_at=20)
    figures = playback.figures(now)
    assert figures.stalls == 1
    assert 3.0 < figures.stalled_s < 6.0
    assert (figures.errors, figures.skipped) == (0, 0)
    assert figures.watched_s + figures.stalled_s + figures.startup_s == pytest.approx(60)


def test_an_old_copy_of_the_playlist_now_and_then_is_no_new_stream():
    server = Server(playlists={"http://e/live.m3u8": lambda now: live(now - (5.0 if int(now) % 3 == 0 else 0.0))})
    playback, now = server.play("http://e/live.m3u8", until=120, began_at=20)
    figures = playback.figures(now)
    assert (figures.errors, figures.skipped) == (0, 0)
    assert len(server.asked) == len({url for url in server.asked if url.endswith("ts")}) + server.asked.count(
        "http://e/live.m3u8"
    )


def test_a_sequence_that_jumps_ahead_is_followed():
    playlist = lambda now: live(now) if now < 40 else live(now, first=1000)  # noqa: E731
    server = Server(playlists={"http://e/live.m3u8": playlist})
    playback, now = server.play("http://e/live.m3u8", until=80, began_at=20)
    figures = playback.figures(now)
    assert (figures.skipped, figures.errors, figures.state) == (1, 0, State.PLAYING)
    assert figures.stalls <= 1


def test_a_stream_whose_numbers_begin_anew_is_joined_again():
    playlist = lambda now: live(now) if now < 100 else live(now, since=80)  # noqa: E731
    server = Server(playlists={"http://e/live.m3u8": playlist})
    playback, now = server.play("http://e/live.m3u8", until=160, began_at=20)
    figures = playback.figures(now)
    assert (figures.skipped, figures.state) == (1, State.PLAYING)
    assert figures.stalled_s < 12


def test_a_live_stream_that_ends_is_watched_to_its_end():
    server = Server(playlists={"http://e/live.m3u8": lambda now: live(now, ends_at=40)})
    playback, ended_at = server.play("http://e/live.m3u8", until=100, began_at=20)
    figures = playback.figures(ended_at)
    assert (figures.state, figures.stalls) == (State.ENDED, 0)
    assert 46 <= ended_at <= 48.5
    assert figures.watched_s == pytest.approx(26.0)


def test_a_live_viewer_climbs_by_dates_where_the_numbers_differ():
    playlists = {
        "http://e/main.m3u8": lambda now: LADDER,
        "http://e/low.m3u8": lambda now: live(now, dated=True),
        "http://e/mid.m3u8": lambda now: live(now, dated=True, first=500),
        "http://e/high.m3u8": lambda now: live(now, dated=True, first=900),
    }
    server = Server(line_bps=50_000 * KBIT, playlists=playlists)
    playback, now = server.play("http://e/main.m3u8", until=80, began_at=20)
    figures = playback.figures(now)
    assert (figures.switches, figures.skipped, figures.stalls) == (1, 0, 0)
    segments = [int(url.split("/")[-1].removesuffix(".ts")) for url in server.asked if url.endswith("ts")]
    in_time = [number % 900 for number in segments]
    assert in_time == list(range(7, 7 + len(in_time)))  # 20 s in, ten are made; three are held back
    assert segments[-1] > 900


def test_a_viewer_who_paused_too_long_rejoins_the_window():
    server = Server(playlists={"http://e/live.m3u8": live})
    playback, now = server.play("http://e/live.m3u8", until=40, began_at=20)
    playback.pause(now)
    playback.resume(100.0)
    now = server.go_on(playback, 100.0, until=140)
    figures = playback.figures(now)
    assert (figures.skipped, figures.errors, figures.state) == (1, 0, State.PLAYING)
    assert figures.watched_s > 55


def low_latency(now, *, part_s=0.5, parts=4, window=6):
    """Parts as they are made; the whole segment's line comes with its last part."""
    made = int(now / part_s + 1e-9)
    whole, open_parts = divmod(made, parts)
    start = max(0, whole - window)
    text = (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:{math.ceil(part_s * parts)}\n#EXT-X-PART-INF:PART-TARGET={part_s}\n"
        f"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={3 * part_s}\n#EXT-X-MEDIA-SEQUENCE:{start}\n"
    )
    for index in range(start, whole):
        if index >= whole - 3:
            text += "".join(f'#EXT-X-PART:DURATION={part_s},URI="{index}.{n}.ts"\n' for n in range(parts))
        text += f"#EXTINF:{part_s * parts},\n{index}.ts\n"
    return text + "".join(f'#EXT-X-PART:DURATION={part_s},URI="{whole}.{n}.ts"\n' for n in range(open_parts))


class BlockingServer(Server):
    """Holds a reload back until the part it names exists (RFC 8216bis section 6.2.5.2)."""

    def answer(self, playback, step, now):
        _url, _, query = step.url.partition("?")
        if not query:
            return super().answer(playback, step, now)
        self.asked.append(step.url)
        sequence, part = (int(directive.split("=")[1]) for directive in query.split("&"))
        done = max(now, (sequence * 4 + part + 1) * 0.5) + self.delay_s
        playback.on_playlist(low_latency(done), step.url, done)
        return done


def test_a_low_latency_viewer_plays_parts_near_the_edge():
    server = BlockingServer(playlists={"http://e/ll.m3u8": low_latency})
    playback, now = server.play("http://e/ll.m3u8", 60, PlaybackConfig(low_latency=True), began_at=20.2)
    figures = playback.figures(now)
    assert (figures.stalls, figures.errors, figures.skipped) == (0, 0, 0)
    assert 1.4 < figures.latency_s < 2.1
    names = [url.split("/")[-1] for url in server.asked if url.endswith("ts")]
    assert names[:4] == ["9.1.ts", "9.2.ts", "9.3.ts", "10.0.ts"]
    assert len(names) == len(set(names))
    assert "http://e/ll.m3u8?_HLS_msn=12&_HLS_part=2" in server.asked


# ---- whatever happens ----

ANSWERS = st.lists(st.sampled_from(["ok", "ok", "ok", "slow", 404, 503, None, "nonsense", "frozen"]), max_size=60)


@given(ANSWERS, st.booleans(), st.sampled_from([live, lambda now: film(), low_latency, lambda now: LADDER]))
def test_time_adds_up_whatever_the_server_does(answers, low, playlist):
    config = PlaybackConfig(low_latency=low)
    playback, now = Playback("http://e/x.m3u8", 20.0, config), 20.0
    for answer in answers:
        step = playback.next_step(now)
        if isinstance(step, Finished):
            break
        if isinstance(step, Wait):
            assert now < step.until < math.inf
            now = step.until
            continue
        now += 7.0 if answer == "slow" else 0.05
        if answer in (404, 503, None):
            playback.on_failure(now, status=answer)
        elif isinstance(step, FetchSegment):
            playback.on_segment(50_000, 0.05, now)
        else:
            version = playlist if step.url.endswith("x.m3u8") or playlist is not LADDER else live
            playback.on_playlist(
                "?" if answer == "nonsense" else version(20.0 if answer == "frozen" else now), step.url, now
            )
    figures = playback.figures(now)
    shown = figures.watched_s + figures.stalled_s
    assert shown == pytest.approx(0 if playback.first_frame_at is None else now - playback.first_frame_at) or (
        figures.state is State.ENDED
    )

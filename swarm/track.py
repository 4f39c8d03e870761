"""What a viewer fetches of one media playlist: units (segments or parts), and how far along it he is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from swarm.playlist import ByteRange, Map, Media, Segment, is_live

HOLD_BACK_TARGETS = 3  # hls.js liveSyncDurationCount; RFC 8216bis section 4.4.3.8 HOLD-BACK
SHORTEST_RELOAD_S = 0.1  # whatever the playlist says: nobody asks more often


@dataclass(frozen=True, slots=True)
class Unit:
    """What is fetched at once: a segment, or one of its parts."""

    segment: Segment
    uri: str
    duration_s: float
    byterange: ByteRange | None
    gap: bool
    program_date_at: float | None
    at: tuple[int, int]  # (sequence, part)
    after: tuple[int, int]  # the same of the next unit


@dataclass
class Track:
    """Video, or the separate audio beside it: its playlist and how far it is fetched."""

    url: str
    base_url: str = ""  # where the playlist was found in the end
    bandwidth_bps: int = 0
    media: Media | None = None
    at: tuple[int, int] | None = None  # (sequence, part) of the next unit
    end_s: float = 0.0  # content fetched up to here
    program_date_at: float | None = None  # the same instant as a date
    is_moved: bool = False  # to another rendition: `at` must be found again
    seen: tuple[int, int] = (-1, -1)  # (sequence, part) that the newest playlist ends before
    edge_s: float = 0.0
    grown_at: float = 0.0  # when the playlist last had something new
    reload_at: float = 0.0
    map: tuple[str, Map] | None = None  # the last one fetched
    tries: int = 0

    def units(self, *, parts: bool) -> Iterator[Unit]:
        """What the playlist still has for us, in order."""
        if self.media is None or self.at is None:
            return
        for unit in units_of(self.media, parts=parts, first=self.at[0]):
            if unit.at >= self.at:
                yield unit


def units_of(media: Media, *, parts: bool, first: int = 0) -> Iterator[Unit]:
    """A playlist from sequence number `first` on: parts where it has them and they are wanted, else segments."""
    passed = max(0, first - media.media_sequence - media.skipped)
    for segment in media.segments[passed:]:
        if parts and segment.parts:
            yield from _parts_of(segment, is_whole=True)
        else:
            at, after = (segment.sequence, 0), (segment.sequence + 1, 0)
            date = segment.program_date_at
            yield Unit(segment, segment.uri, segment.duration_s, segment.byterange, segment.gap, date, at, after)
    if parts and media.parts:
        last = media.segments[-1] if media.segments else None
        made = Segment("", 0.0, media.next_sequence, map=last.map if last else None, parts=media.parts)
        yield from _parts_of(made, is_whole=False)


def _parts_of(segment: Segment, *, is_whole: bool) -> Iterator[Unit]:
    date = segment.program_date_at
    for index, part in enumerate(segment.parts):
        is_last = is_whole and index == len(segment.parts) - 1
        after = (segment.sequence + 1, 0) if is_last else (segment.sequence, index + 1)
        at, gap = (segment.sequence, index), part.gap or segment.gap
        yield Unit(segment, part.uri, part.duration_s, part.byterange, gap, date, at, after)
        date = date + part.duration_s if date is not None else None


def hold_back_s(media: Media, *, low_latency: bool) -> float:
    """How far behind the edge a viewer stays: what the server says, else three target durations (or parts)."""
    control = media.server_control
    if low_latency and media.part_target_s is not None:
        return control.part_hold_back_s or HOLD_BACK_TARGETS * media.part_target_s
    return control.hold_back_s or HOLD_BACK_TARGETS * media.target_duration_s


def can_block(media: Media, *, low_latency: bool) -> bool:
    """Whether the server holds a reload back until there is something new (RFC 8216bis section 6.2.5.2)."""
    return low_latency and media.server_control.can_block_reload


def reload_after_s(media: Media, *, has_grown: bool, low_latency: bool) -> float:
    """RFC 8216 section 6.3.4: a target duration if the playlist has changed, else half of it.

    A blocking reload follows at once, unless the last one brought nothing: then the server does not keep its word.
    """
    if has_grown and can_block(media, low_latency=low_latency):
        return 0.0
    target_s = media.part_target_s if low_latency and media.part_target_s else media.target_duration_s
    return max(SHORTEST_RELOAD_S, target_s if has_grown else target_s / 2)


def start_in(units: Sequence[Unit], media: Media, *, low_latency: bool) -> tuple[int, float]:
    """(which unit, seconds into it) a viewer who joins now begins at: a film's start, or a live stream's hold-back."""
    behind_s = sum(unit.duration_s for unit in units) - hold_back_s(media, low_latency=low_latency)
    if not is_live(media) or behind_s <= 0:
        return 0, 0.0
    for index, unit in enumerate(units):
        if behind_s < unit.duration_s:
            return index, behind_s
        behind_s -= unit.duration_s
    return len(units) - 1, 0.0


def found_by_position(media: Media, position_s: float) -> tuple[int, int]:
    """(sequence, part) of what a film's playlist has at a position."""
    start_s = 0.0
    for segment in media.segments:
        if start_s >= position_s - segment.duration_s / 2:
            return segment.sequence, 0
        start_s += segment.duration_s
    return media.next_sequence, 0


def found_by_date(media: Media, date_at: float) -> tuple[int, int]:
    """The same by EXT-X-PROGRAM-DATE-TIME."""
    for segment in media.segments:
        date = segment.program_date_at
        if date is not None and date >= date_at - segment.duration_s / 2:
            return segment.sequence, 0
    return media.next_sequence, 0

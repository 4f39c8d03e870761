"""HLS playlists (RFC 8216 and its second edition, draft-pantos-hls-rfc8216bis): read, rewrite, name what they name.

The tokenizer is lossless: the lines of a text, joined again, are that text byte for byte, so `rewrite` touches
nothing but the URIs it means to. Text is read as players read it: tags nobody knows are skipped, a byte order mark and
CRLF are endured, but a playlist that no player could play (mixed kinds, a segment without a duration) is a RemoteError.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from urllib.parse import SplitResult, urljoin, urlsplit

from swarm.errors import RemoteError

MULTIVARIANT_LIFETIME_S = 30.0  # as gohlslib: renditions come and go seldom
ENDED_LIFETIME_S = 3600.0  # a playlist with an end does not change any more
BLOCKING_LIFETIME_TARGETS = 6  # RFC 8216bis appendix B.1: a blocking answer is immutable under its URL

_LINE = re.compile(r"([^\n]*?)(\r?\n|\Z)")
_TAG = re.compile(r"#(EXT[^:\s]*)(?::(.*))?")
_ATTRIBUTE = re.compile(r'\s*([A-Z0-9-]+)\s*=\s*(?:"([^"]*)"|([^",]*))\s*(?:,|$)')
_INTEGER = re.compile(r"[0-9]{1,20}")  # decimal-integer, RFC 8216 section 4.2
_FLOAT = re.compile(r"[0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20}")
_BYTERANGE = re.compile(r"([0-9]{1,20})(?:@([0-9]{1,20}))?")
_SLOT = "\0"
_ODD = re.compile(r"[\x00-\x1f\\]")
_VARIABLE = re.compile(r"\{\$([A-Za-z0-9_-]+)\}")

_URI_ATTRIBUTES = frozenset({"URI", "SERVER-URI", "X-ASSET-URI", "X-ASSET-LIST"})
_MULTIVARIANT_TAGS = frozenset(
    {"EXT-X-STREAM-INF", "EXT-X-MEDIA", "EXT-X-I-FRAME-STREAM-INF", "EXT-X-SESSION-DATA", "EXT-X-SESSION-KEY"}
)
_MEDIA_TAGS = frozenset(
    {"EXTINF", "EXT-X-TARGETDURATION", "EXT-X-MEDIA-SEQUENCE", "EXT-X-ENDLIST", "EXT-X-MAP", "EXT-X-PART", "EXT-X-SKIP"}
)
# Naming these promises nothing: a hinted part does not exist yet, and two renditions that report on each other
# would wait for each other for ever.
_UNPROMISED_TAGS = frozenset(
    {"EXT-X-PRELOAD-HINT", "EXT-X-RENDITION-REPORT", "EXT-X-DATERANGE", "EXT-X-CONTENT-STEERING"}
)


# ---- what a playlist says ----


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `first` to `first + size - 1` of a resource."""

    first: int
    size: int


@dataclass(frozen=True, slots=True)
class Map:
    """EXT-X-MAP: what a decoder needs before the segments that follow (the `init` of fMP4)."""

    uri: str
    byterange: ByteRange | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """EXT-X-PART: a partial segment of low-latency HLS."""

    uri: str
    duration_s: float
    byterange: ByteRange | None = None
    independent: bool = False
    gap: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """A few seconds of media. `program_date_at` is Unix time, known for every segment after the first dated one."""

    uri: str
    duration_s: float
    sequence: int
    byterange: ByteRange | None = None
    map: Map | None = None
    discontinuity: bool = False
    gap: bool = False
    program_date_at: float | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class PreloadHint:
    """EXT-X-PRELOAD-HINT: a part or map that will be wanted next; `size` None means to the resource's end."""

    kind: str
    uri: str
    first: int = 0
    size: int | None = None


@dataclass(frozen=True, slots=True)
class ServerControl:
    """EXT-X-SERVER-CONTROL, durations in seconds; None where the server did not say."""

    can_block_reload: bool = False
    can_skip_until_s: float | None = None
    hold_back_s: float | None = None
    part_hold_back_s: float | None = None


@dataclass(frozen=True, slots=True)
class Media:
    """A media playlist: the segments of one rendition."""

    target_duration_s: float
    media_sequence: int = 0
    discontinuity_sequence: int = 0
    segments: tuple[Segment, ...] = ()
    ended: bool = False
    kind: str | None = None  # EXT-X-PLAYLIST-TYPE: VOD, EVENT or None
    skipped: int = 0  # EXT-X-SKIP: how many segments a delta update left out before the first one here
    part_target_s: float | None = None
    parts: tuple[Part, ...] = ()  # of the segment still being made
    preload_hints: tuple[PreloadHint, ...] = ()
    server_control: ServerControl = ServerControl()

    @property
    def next_sequence(self) -> int:
        """The sequence number of the segment that is not there yet."""
        return self.media_sequence + self.skipped + len(self.segments)

    @property
    def duration_s(self) -> float:
        """Seconds of media in whole segments."""
        return sum(segment.duration_s for segment in self.segments)


@dataclass(frozen=True, slots=True)
class Rendition:
    """EXT-X-STREAM-INF: one rung of a stream's bitrates (RFC 8216 calls it a variant)."""

    uri: str
    bandwidth_bps: int
    average_bandwidth_bps: int | None = None
    resolution: tuple[int, int] | None = None
    codecs: tuple[str, ...] = ()
    frame_rate: float | None = None
    audio: str | None = None  # the group of its alternatives


@dataclass(frozen=True, slots=True)
class Alternative:
    """EXT-X-MEDIA: another language, angle or separate audio; `uri` None means it is inside the rendition itself."""

    kind: str
    group: str
    name: str
    uri: str | None = None
    language: str | None = None
    default: bool = False
    autoselect: bool = False


@dataclass(frozen=True, slots=True)
class Multivariant:
    """A multivariant playlist: the renditions of one stream, in the playlist's order."""

    renditions: tuple[Rendition, ...]
    alternatives: tuple[Alternative, ...] = ()

    def audio_of(self, rendition: Rendition) -> Alternative | None:
        """The separate audio a player would take with this rendition, or None if it is muxed in."""
        group = [
            alternative
            for alternative in self.alternatives
            if alternative.kind == "AUDIO" and alternative.group == rendition.audio
        ]
        default_first = sorted(group, key=lambda alternative: (not alternative.default, not alternative.autoselect))
        chosen = default_first[0] if default_first else None
        return chosen if chosen is not None and chosen.uri is not None else None


# ---- the tokenizer ----


@dataclass(frozen=True, slots=True)
class Line:
    """One line and the bytes that end it ("\\n", "\\r\\n", or nothing at the end of the text)."""

    text: str
    end: str

    @property
    def tag(self) -> str | None:
        """Its tag's name without `#`, None for URIs, comments and blank lines."""
        match = _TAG.match(self.text)
        return match[1] if match else None

    @property
    def value(self) -> str:
        """What follows the tag's colon."""
        match = _TAG.match(self.text)
        return (match[2] or "").strip() if match else ""

    @property
    def uri(self) -> str | None:
        """The URI this line is, if it is one."""
        text = self.text.strip()
        return text if text and not text.startswith("#") else None


def tokenize(text: str) -> list[Line]:
    """The lines of a playlist; joining every `text + end` gives the playlist back."""
    lines = [Line(match[1], match[2]) for match in _LINE.finditer(text)]
    return lines[:-1] if lines and not lines[-1].text and not lines[-1].end else lines


def attributes(value: str) -> dict[str, str]:
    """An attribute list (RFC 8216 section 4.2), quotes taken off. RemoteError if it is not one."""
    found: dict[str, str] = {}
    at = 0
    while at < len(value):
        match = _ATTRIBUTE.match(value, at)
        if match is None:
            raise RemoteError(f"not an attribute list: {value[at : at + 60]!r}")
        found[match[1]] = match[2] if match[2] is not None else match[3].strip()
        at = match.end()
    return found


def _lines_of_playlist(text: str) -> list[Line]:
    """The lines behind #EXTM3U. RFC 8216 forbids a byte order mark; browsers drop it, so we endure one."""
    lines = tokenize(text.removeprefix("\ufeff"))
    if not lines or lines[0].text.rstrip() != "#EXTM3U":
        raise RemoteError("not a playlist: it does not begin with #EXTM3U")
    return lines[1:]


def _integer(value: str, what: str) -> int:
    if not _INTEGER.fullmatch(value.strip()):
        raise RemoteError(f"{what} is not a whole number: {value[:40]!r}")
    return int(value)


def _seconds(value: str, what: str) -> float:
    if not _FLOAT.fullmatch(value.strip()):
        raise RemoteError(f"{what} is not a number of seconds: {value[:40]!r}")
    return float(value)


def _need(found: dict[str, str], name: str, tag: str) -> str:
    if name not in found:
        raise RemoteError(f"{tag} without {name}")
    return found[name]


def _program_date_at(value: str) -> float | None:
    """Unix time of EXT-X-PROGRAM-DATE-TIME; None if unreadable: it informs, and nothing fails for want of it."""
    try:
        date = datetime.fromisoformat(value)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


# ---- parsing ----


def parse(text: str) -> Multivariant | Media:
    """Read a playlist of either kind.

    Raises:
        RemoteError: not a playlist, of both kinds at once, or lacking what RFC 8216 says a player needs.
    """
    lines = _lines_of_playlist(text)
    tags = {line.tag for line in lines}
    is_multivariant, is_media = bool(tags & _MULTIVARIANT_TAGS), bool(tags & _MEDIA_TAGS)
    if is_multivariant == is_media:
        raise RemoteError("a playlist must be multivariant or media" + (", not both" if is_media else ""))
    variables = _variables(lines)
    return _parse_multivariant(lines, variables) if is_multivariant else _MediaReader(variables).read(lines)


def _variables(lines: Iterable[Line]) -> dict[str, str]:
    """EXT-X-DEFINE with NAME and VALUE; imported variables stay unknown, and so unsubstituted."""
    defined = (attributes(line.value) for line in lines if line.tag == "EXT-X-DEFINE")
    return {one["NAME"]: one["VALUE"] for one in defined if "NAME" in one and "VALUE" in one}


def _substitute(uri: str, variables: dict[str, str]) -> str:
    return _VARIABLE.sub(lambda match: variables.get(match[1], match[0]), uri) if variables else uri


def _parse_multivariant(lines: Iterable[Line], variables: dict[str, str]) -> Multivariant:
    renditions: list[Rendition] = []
    alternatives: list[Alternative] = []
    waiting: dict[str, str] | None = None
    for line in lines:
        if line.tag == "EXT-X-STREAM-INF":
            waiting = attributes(line.value)
        elif line.tag == "EXT-X-MEDIA":
            alternatives.append(_alternative(attributes(line.value), variables))
        elif line.uri is not None:
            if waiting is None:
                raise RemoteError(f"a URI without EXT-X-STREAM-INF: {line.uri[:60]!r}")
            renditions.append(_rendition(_substitute(line.uri, variables), waiting))
            waiting = None
    if waiting is not None:
        raise RemoteError("EXT-X-STREAM-INF without a URI")
    return Multivariant(tuple(renditions), tuple(alternatives))


def _rendition(uri: str, found: dict[str, str]) -> Rendition:
    width, _, height = found.get("RESOLUTION", "").partition("x")
    is_size = _INTEGER.fullmatch(width) and _INTEGER.fullmatch(height)
    return Rendition(
        uri=uri,
        bandwidth_bps=_integer(_need(found, "BANDWIDTH", "EXT-X-STREAM-INF"), "BANDWIDTH"),
        average_bandwidth_bps=_integer(found["AVERAGE-BANDWIDTH"], "AVERAGE-BANDWIDTH")
        if "AVERAGE-BANDWIDTH" in found
        else None,
        resolution=(int(width), int(height)) if is_size else None,
        codecs=tuple(codec.strip() for codec in found.get("CODECS", "").split(",") if codec.strip()),
        frame_rate=_seconds(found["FRAME-RATE"], "FRAME-RATE") if "FRAME-RATE" in found else None,
        audio=found.get("AUDIO"),
    )


def _alternative(found: dict[str, str], variables: dict[str, str]) -> Alternative:
    return Alternative(
        kind=_need(found, "TYPE", "EXT-X-MEDIA"),
        group=_need(found, "GROUP-ID", "EXT-X-MEDIA"),
        name=found.get("NAME", ""),
        uri=_substitute(found["URI"], variables) if "URI" in found else None,
        language=found.get("LANGUAGE"),
        default=found.get("DEFAULT") == "YES",
        autoselect=found.get("AUTOSELECT") == "YES",
    )


@dataclass
class _MediaReader:
    """Reads a media playlist line by line; the fields are what the tags so far said about the next segment."""

    variables: dict[str, str]
    segments: list[Segment] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    hints: list[PreloadHint] = field(default_factory=list)
    ends: dict[str, int] = field(default_factory=dict)  # per URI: where its last byte range ended
    duration_s: float | None = None
    byterange: str | None = None
    map: Map | None = None
    discontinuity: bool = False
    gap: bool = False
    program_date_at: float | None = None

    def read(self, lines: Iterable[Line]) -> Media:
        header: dict[str, str] = {}
        for line in lines:
            if line.tag is not None:
                self._on_tag(line.tag, line.value, header)
            elif line.uri is not None:
                self._on_uri(_substitute(line.uri, self.variables))
        if self.duration_s is not None:
            raise RemoteError("EXTINF without a URI")
        return self._media(header)

    def _on_tag(self, tag: str, value: str, header: dict[str, str]) -> None:
        match tag:
            case "EXTINF":
                self.duration_s = _seconds(value.partition(",")[0], "EXTINF")
            case "EXT-X-BYTERANGE":
                self.byterange = value
            case "EXT-X-DISCONTINUITY":
                self.discontinuity = True
                self.program_date_at = None
            case "EXT-X-GAP":
                self.gap = True
            case "EXT-X-PROGRAM-DATE-TIME":
                self.program_date_at = _program_date_at(value)
            case "EXT-X-MAP":
                found = attributes(value)
                self.map = Map(*self._place(found, "EXT-X-MAP", 0))
            case "EXT-X-PART":
                self._on_part(attributes(value))
            case "EXT-X-PRELOAD-HINT":
                self.hints.append(_preload_hint(attributes(value), self.variables))
            case _:
                header[tag] = value

    def _place(self, found: dict[str, str], tag: str, default_first: int | None) -> tuple[str, ByteRange | None]:
        uri = _substitute(_need(found, "URI", tag), self.variables)
        return uri, self._range(found["BYTERANGE"], uri, default_first) if "BYTERANGE" in found else None

    def _range(self, value: str, uri: str, default_first: int | None = None) -> ByteRange:
        """A byte range; without an offset it begins where the last one of that URI ended (RFC 8216 section 4.3.2.2)."""
        match = _BYTERANGE.fullmatch(value.strip())
        first = (int(match[2]) if match[2] else self.ends.get(uri, default_first)) if match else None
        if match is None or first is None:
            raise RemoteError(f"a byte range that begins nowhere: {value[:60]!r}")
        size = int(match[1])
        self.ends[uri] = first + size
        return ByteRange(first, size)

    def _on_part(self, found: dict[str, str]) -> None:
        uri, byterange = self._place(found, "EXT-X-PART", 0)
        duration_s = _seconds(_need(found, "DURATION", "EXT-X-PART"), "DURATION")
        independent, gap = found.get("INDEPENDENT") == "YES", found.get("GAP") == "YES"
        self.parts.append(Part(uri, duration_s, byterange, independent, gap))

    def _on_uri(self, uri: str) -> None:
        if self.duration_s is None:
            raise RemoteError(f"a segment without EXTINF: {uri[:60]!r}")
        segment = Segment(
            uri=uri,
            duration_s=self.duration_s,
            sequence=len(self.segments),  # made absolute once the header is known
            byterange=None if self.byterange is None else self._range(self.byterange, uri),
            map=self.map,
            discontinuity=self.discontinuity,
            gap=self.gap,
            program_date_at=self.program_date_at,
            parts=tuple(self.parts),
        )
        self.segments.append(segment)
        if self.program_date_at is not None:
            self.program_date_at += self.duration_s
        self.parts.clear()
        self.duration_s = self.byterange = None
        self.discontinuity = self.gap = False

    def _media(self, header: dict[str, str]) -> Media:
        target = _need(header, "EXT-X-TARGETDURATION", "a media playlist")
        sequence = _integer(header.get("EXT-X-MEDIA-SEQUENCE", "0"), "EXT-X-MEDIA-SEQUENCE")
        skip = attributes(header.get("EXT-X-SKIP", ""))
        skipped = _integer(skip.get("SKIPPED-SEGMENTS", "0"), "SKIPPED-SEGMENTS")
        part_target = attributes(header.get("EXT-X-PART-INF", "")).get("PART-TARGET")
        first = sequence + skipped
        return Media(
            target_duration_s=_seconds(target, "EXT-X-TARGETDURATION"),
            media_sequence=sequence,
            discontinuity_sequence=_integer(header.get("EXT-X-DISCONTINUITY-SEQUENCE", "0"), "discontinuity sequence"),
            segments=tuple(replace(segment, sequence=first + segment.sequence) for segment in self.segments),
            ended="EXT-X-ENDLIST" in header,
            kind=header.get("EXT-X-PLAYLIST-TYPE"),
            skipped=skipped,
            part_target_s=_seconds(part_target, "PART-TARGET") if part_target is not None else None,
            parts=tuple(self.parts),
            preload_hints=tuple(self.hints),
            server_control=_server_control(attributes(header.get("EXT-X-SERVER-CONTROL", ""))),
        )


def _preload_hint(found: dict[str, str], variables: dict[str, str]) -> PreloadHint:
    size = found.get("BYTERANGE-LENGTH")
    return PreloadHint(
        kind=_need(found, "TYPE", "EXT-X-PRELOAD-HINT"),
        uri=_substitute(_need(found, "URI", "EXT-X-PRELOAD-HINT"), variables),
        first=_integer(found.get("BYTERANGE-START", "0"), "BYTERANGE-START"),
        size=_integer(size, "BYTERANGE-LENGTH") if size is not None else None,
    )


def _server_control(found: dict[str, str]) -> ServerControl:
    def stated(name: str) -> float | None:
        return _seconds(found[name], name) if name in found else None

    return ServerControl(
        can_block_reload=found.get("CAN-BLOCK-RELOAD") == "YES",
        can_skip_until_s=stated("CAN-SKIP-UNTIL"),
        hold_back_s=stated("HOLD-BACK"),
        part_hold_back_s=stated("PART-HOLD-BACK"),
    )


# ---- how long it lives ----


def is_live(media: Media) -> bool:
    """Whether more segments may come."""
    return not media.ended and media.kind != "VOD"


def lifetime_s(playlist: Multivariant | Media, *, blocking: bool = False) -> float:
    """The conventional max-age where the origin gives none. `blocking`: it answered `_HLS_msn` (RFC 8216bis B.1)."""
    if isinstance(playlist, Multivariant):
        return MULTIVARIANT_LIFETIME_S
    if not is_live(playlist):
        return ENDED_LIFETIME_S
    return playlist.target_duration_s * (BLOCKING_LIFETIME_TARGETS if blocking else 0.5)


# ---- URIs ----


def named_uris(text: str) -> list[str]:
    """Every URI whose resource must exist before the playlist may be seen, once each, in order, as written.

    Raises:
        RemoteError: not a playlist.
    """
    lines = _lines_of_playlist(text)
    variables = _variables(lines)
    named: dict[str, None] = {}
    for line in lines:
        if line.uri is not None:
            named[_substitute(line.uri, variables)] = None
        elif line.tag is not None and line.tag not in _UNPROMISED_TAGS:
            for start, end in _uri_spans(line):
                named[_substitute(line.text[start:end], variables)] = None
    return list(named)


def rewrite(text: str, base_url: str, origin_url: str) -> str:
    """The playlist with every URI that lies under the origin's URL made relative; all else byte for byte as it was.

    Args:
        text: the playlist.
        base_url: where the playlist itself lives at the origin.
        origin_url: the origin's URL; it may have a path, which an edge leaves out of its own paths.

    Raises:
        RemoteError: not a playlist.
    """
    variables = _variables(_lines_of_playlist(text))

    def new(uri: str) -> str:
        return _relative(uri, _substitute(uri, variables), base_url, origin_url)

    return "".join(_rewrite_line(line, new) + line.end for line in tokenize(text))


def query_slots(text: str, name: str) -> tuple[str, ...]:
    """The playlist cut where a parameter `name` can be added to each URI that leads back to the playlist's server.

    `"name=value".join(slots)` is the playlist with it in the relative URIs of all tags. URIs with a scheme or a host
    stay as they are, for what is added may be meant for this server alone; so do those that have the parameter.

    Raises:
        RemoteError: not a playlist, or one with a NUL in it.
    """
    variables = _variables(_lines_of_playlist(text))
    if _SLOT in text:
        raise RemoteError("NUL in a playlist")

    def new(uri: str) -> str:
        before, mark, fragment = uri.partition("#")
        query = before.partition("?")[2]
        has_it = any(parameter.startswith(f"{name}=") for parameter in query.split("&"))
        if has_it or not _is_relative(_substitute(uri, variables)):
            return uri
        return before + ("&" if "?" in before else "?") + _SLOT + mark + fragment

    return tuple("".join(_rewrite_line(line, new) + line.end for line in tokenize(text)).split(_SLOT))


def _is_relative(uri: str) -> bool:
    """Whether it leads back to the server that the playlist came from. A variable nobody defined may lead anywhere, and
    so may what browsers read otherwise than the RFC does: they drop tabs and take a backslash for a slash."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return False
    return not (parts.scheme or parts.netloc or uri.startswith("{$") or _ODD.search(uri))


def _rewrite_line(line: Line, new: Callable[[str], str]) -> str:
    if line.uri is not None:
        return line.text.replace(line.uri, new(line.uri))
    text = line.text
    if "URI" not in text and "X-ASSET" not in text:  # most tags: half the time of a long playlist
        return text
    for start, end in reversed(list(_uri_spans(line))):
        text = text[:start] + new(text[start:end]) + text[end:]
    return text


def _uri_spans(line: Line) -> Iterator[tuple[int, int]]:
    """Where the line's quoted URIs stand; a list that is malformed is followed as far as it goes."""
    match = _TAG.match(line.text)
    at = match.start(2) if match and match[2] is not None else -1
    while at >= 0 and (found := _ATTRIBUTE.match(line.text, at)):
        if found[1] in _URI_ATTRIBUTES and found[2] is not None:
            yield found.span(2)
        at = found.end() if found.end() < len(line.text) else -1


def _relative(written: str, uri: str, base_url: str, origin_url: str) -> str:
    """`written`, or what to write in its place: only URIs that leave out nothing but the origin's own URL change."""
    try:
        target, origin, base = urlsplit(urljoin(base_url, uri)), urlsplit(origin_url), urlsplit(base_url)
        reference = urlsplit(uri)
        is_same = _authority(target) == _authority(origin)
    except ValueError:
        return written  # not a URI at all: not ours to mend
    if not is_same or not (reference.netloc or (reference.path.startswith("/") and origin.path.strip("/"))):
        return written
    segments, prefix = _segments(target.path), [part for part in origin.path.split("/") if part]
    if segments[: len(prefix)] != prefix or len(segments) <= len(prefix):
        return written
    path = _path_between(_segments(base.path)[:-1], segments)
    return path + (f"?{target.query}" if target.query else "") + (f"#{target.fragment}" if target.fragment else "")


def _authority(url: SplitResult) -> tuple[str, str | None, int | None, str | None]:
    """Scheme, host, port and user of a URL: two URLs are of one origin if these are equal (RFC 6454 section 4)."""
    port = url.port if url.port is not None else {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, url.hostname, port, url.username


def _segments(path: str) -> list[str]:
    """The path's segments without dot segments, encoded ones included, since browsers resolve those too."""
    kept: list[str] = []
    parts = path.split("/")[1:]
    for index, part in enumerate(parts):
        plain = part.lower().replace("%2e", ".")
        if plain == "..":
            del kept[-1:]
        if plain not in (".", ".."):
            kept.append(part)
        elif index == len(parts) - 1:
            kept.append("")
    return kept


def _path_between(folder: list[str], target: list[str]) -> str:
    """The relative path from a folder to a target; "./" in front where it would read as something else."""
    shared = 0
    while shared < min(len(folder), len(target) - 1) and folder[shared] == target[shared]:
        shared += 1
    rest = [".."] * (len(folder) - shared) + target[shared:]
    is_plain = rest[0] and ":" not in rest[0]
    return "/".join(rest if is_plain else [".", *rest])

"""`python -m loadtests.eviction`: the hit ratio of our keeper beside LRU, SIEVE and S3-FIFO, by requests and by bytes.

The rivals are libCacheSim's, of the paper's authors; all get the same seeded traces and the same number of bytes. Ours
is `swarm.eviction` itself. Sizes are those of video: segments about 800 KiB, a fifth playlists of a few KiB.

A cache is given a share of the *library*: the bytes of all that is asked for more than once. What a scan reads once
belongs to no library.
"""

import argparse
import heapq
import itertools
import math
import random
import struct
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import libcachesim
from xxhash import xxh3_64_intdigest

from swarm.eviction import Keeper

KIB, MIB = 1 << 10, 1 << 20
ALPHAS = (0.8, 0.9, 1.0, 1.1, 1.2)
SHARES = (0.01, 0.05, 0.1, 0.2)
REQUESTS = 400_000
OBJECTS = 100_000

PLAYLIST_SHARE = 0.2
ENTRY = struct.Struct("<IQIq")  # libCacheSim's oracleGeneral: time, object, size, next request (not known)
HASH_BITS = 17  # of its tables: the default takes 128 MiB for each cache


@dataclass
class Trace:
    """Requests for objects, which are numbers; `sizes[object]` in bytes."""

    rng: random.Random
    requests: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def new(self, count: int, draw_size: Callable[[random.Random], int] | None = None) -> range:
        """So many objects that were never asked for."""
        first = len(self.sizes)
        self.sizes.extend((draw_size or any_size)(self.rng) for _ in range(count))
        return range(first, len(self.sizes))

    def library_bytes(self) -> int:
        asked = Counter(self.requests)
        return sum(self.sizes[one] for one, times in asked.items() if times > 1)


def playlist_size(rng: random.Random) -> int:
    return rng.randrange(1 * KIB, 4 * KIB)


def segment_size(rng: random.Random) -> int:
    return min(max(int(rng.lognormvariate(math.log(800 * KIB), 0.7)), 200 * KIB), 4 * MIB)


def any_size(rng: random.Random) -> int:
    return playlist_size(rng) if rng.random() < PLAYLIST_SHARE else segment_size(rng)


def web_size(rng: random.Random) -> int:
    """Of what is on web sites: half below 20 KiB, a few of hundreds of MiB."""
    return min(max(int(rng.lognormvariate(math.log(20 * KIB), 2.0)), 100), 256 * MIB)


class Zipf:
    """Draws from objects of which the n-th most popular is asked for n**-alpha as often as the first."""

    def __init__(self, rng: random.Random, alpha: float, objects: Sequence[int]) -> None:
        self.ranked = rng.sample(objects, len(objects))
        self._rng = rng
        self._weights = list(itertools.accumulate((rank + 1) ** -alpha for rank in range(len(objects))))

    def draw(self, count: int) -> list[int]:
        return self._rng.choices(self.ranked, cum_weights=self._weights, k=count)


# --- traces


def zipf(trace: Trace, alpha: float, count: int) -> None:
    """Each request independent of those before: what papers measure."""
    trace.requests = Zipf(trace.rng, alpha, trace.new(OBJECTS)).draw(count)


def web(trace: Trace, alpha: float, count: int) -> None:
    """The same, of sizes from bytes to hundreds of MiB."""
    trace.requests = Zipf(trace.rng, alpha, trace.new(OBJECTS, web_size)).draw(count)


def scan(trace: Trace, alpha: float, count: int) -> None:
    """Two requests of five are those of a backup, which now and then reads 10,000 objects in a row, each once."""
    popular = Zipf(trace.rng, alpha, trace.new(OBJECTS))
    while len(trace.requests) < count:
        trace.requests += popular.draw(15_000)
        trace.requests += trace.new(10_000)


def crawl(trace: Trace, alpha: float, count: int) -> None:
    """Every third request is that of a crawler, which comes to each object once."""
    popular = Zipf(trace.rng, alpha, trace.new(OBJECTS)).draw(count * 2 // 3)
    crawled = iter(trace.new(count // 3))
    trace.requests = [one for pair in _in_pairs(popular) for one in (*pair, next(crawled))]


def loop(trace: Trace, alpha: float, count: int) -> None:
    """Every third request is that of something that goes round and round 30,000 objects."""
    popular = Zipf(trace.rng, alpha, trace.new(OBJECTS)).draw(count * 2 // 3)
    round_and_round = itertools.cycle(trace.new(30_000))
    trace.requests = [one for pair in _in_pairs(popular) for one in (*pair, next(round_and_round))]


def _in_pairs(objects: list[int]) -> Iterator[tuple[int, int]]:
    each = iter(objects)
    return zip(each, each, strict=False)


def drift(trace: Trace, alpha: float, count: int) -> None:
    """Every ten requests an object takes the place of another, which may be anywhere: fashions come and go."""
    objects = trace.new(OBJECTS)
    popular = Zipf(trace.rng, alpha, objects)
    for _ in range(count // 10):
        trace.requests += popular.draw(10)
        high, low = int(OBJECTS ** trace.rng.random()) - 1, trace.rng.randrange(OBJECTS)
        popular.ranked[high], popular.ranked[low] = popular.ranked[low], popular.ranked[high]


def live(trace: Trace, alpha: float, count: int) -> None:
    """200 channels, with a new segment and a new playlist each every 1,000 requests; two of five requests are for
    20,000 other objects."""
    others, channels = Zipf(trace.rng, alpha, trace.new(20_000)), Zipf(trace.rng, alpha, range(200))
    segments: dict[tuple[int, int], int] = {}
    for tick in range(count // 1000):
        playlists: dict[int, int] = {}
        asked = others.draw(400)
        for channel in channels.draw(300):
            of_segment = channel, tick - _behind_live(trace.rng)
            if channel not in playlists:
                [playlists[channel]] = trace.new(1, playlist_size)
            if of_segment not in segments:
                [segments[of_segment]] = trace.new(1, segment_size)
            asked += playlists[channel], segments[of_segment]
        trace.rng.shuffle(asked)
        trace.requests += asked


def _behind_live(rng: random.Random) -> int:
    behind = 0
    while behind < 7 and rng.random() < 0.4:
        behind += 1
    return behind


def films(trace: Trace, alpha: float, count: int) -> None:
    """300 viewers at a time, each of whom watches a film of 1,500 from its start, and may leave at every segment."""
    library = [trace.new(trace.rng.randrange(20, 150), segment_size) for _ in range(1500)]
    chosen = Zipf(trace.rng, alpha, range(1500))
    watching: list[Iterator[int]] = [iter(()) for _ in range(300)]
    while len(trace.requests) < count:
        viewer = trace.rng.randrange(300)
        segment = next(watching[viewer], None) if trace.rng.random() > 0.03 else None
        if segment is None:
            watching[viewer] = iter(library[chosen.draw(1)[0]])
            segment = next(watching[viewer])
        trace.requests.append(segment)


def fleeting(trace: Trace, alpha: float, count: int) -> None:
    """All is new, asked for a few times at distances of 10 to 100,000 requests, and never again: LRU is at its best.
    What `alpha` is elsewhere is here how often."""
    due: list[tuple[int, int]] = []
    while len(trace.requests) < count:
        now = len(trace.requests)
        one = heapq.heappop(due)[1] if due and due[0][0] <= now else trace.new(1)[0]
        trace.requests.append(one)
        if trace.rng.random() < alpha / 2:
            heapq.heappush(due, (now + int(10 ** trace.rng.uniform(1, 5)), one))


SCANS = (scan, crawl)
TRACES = (zipf, web, *SCANS, loop, drift, live, films)
HARDEST = fleeting  # not Zipf: told, and no promise


def make(kind: Callable[[Trace, float, int], None], alpha: float, requests: int = REQUESTS, seed: int = 1) -> Trace:
    trace = Trace(random.Random(f"{kind.__name__} {alpha} {seed}"))
    kind(trace, alpha, requests)
    return trace


# --- hit ratios


class Hits(NamedTuple):
    """In per cent."""

    by_requests: float
    by_bytes: float


RIVALS: dict[str, Callable[..., libcachesim.CacheBase]] = {
    "LRU": libcachesim.LRU,
    "SIEVE": libcachesim.Sieve,
    "S3-FIFO": libcachesim.S3FIFO,
}


def number_of(one: int) -> int:
    return xxh3_64_intdigest(one.to_bytes(8, "little"))


def hits_of_ours(trace: Trace, capacity_bytes: int) -> Hits:
    keeper: Keeper[int] = Keeper(capacity_bytes, number_of)
    sizes, hits, hit_bytes = trace.sizes, 0, 0
    for one in trace.requests:
        if one in keeper:
            keeper.touch(one)
            hits += 1
            hit_bytes += sizes[one]
        else:
            keeper.admit(one, sizes[one])
    total_bytes = sum(sizes[one] for one in trace.requests)
    return Hits(100 * hits / len(trace.requests), 100 * hit_bytes / total_bytes)


def hits_of_rival(name: str, trace_file: Path, capacity_bytes: int) -> Hits:
    reader = libcachesim.TraceReader(str(trace_file), libcachesim.TraceType.ORACLE_GENERAL_TRACE)
    cache = RIVALS[name](capacity_bytes, hashpower=HASH_BITS)
    missed, missed_bytes = cache.process_trace(reader)
    return Hits(100 - 100 * missed, 100 - 100 * missed_bytes)


@dataclass(frozen=True)
class Compared:
    """One trace at one size. `hits`: by name, "ours" among them."""

    kind: str
    alpha: float
    share: float
    hits: dict[str, Hits]

    def above_lru(self, name: str = "ours") -> Hits:
        """Points."""
        ours, lru = self.hits[name], self.hits["LRU"]
        return Hits(ours.by_requests - lru.by_requests, ours.by_bytes - lru.by_bytes)


def compare(trace: Trace, kind: str, alpha: float, shares: Sequence[float] = SHARES) -> Iterator[Compared]:
    with tempfile.NamedTemporaryFile(suffix=".oracleGeneral.bin") as file:
        file.writelines(ENTRY.pack(at, one, trace.sizes[one], -2) for at, one in enumerate(trace.requests))
        file.flush()
        library_bytes = trace.library_bytes()
        for share in shares:
            capacity_bytes = int(library_bytes * share)
            hits = {name: hits_of_rival(name, Path(file.name), capacity_bytes) for name in RIVALS}
            yield Compared(kind, alpha, share, hits | {"ours": hits_of_ours(trace, capacity_bytes)})


def compare_all(kinds: Sequence[Callable[[Trace, float, int], None]] = TRACES) -> Iterator[Compared]:
    for kind in kinds:
        for alpha in ALPHAS:
            yield from compare(make(kind, alpha), kind.__name__, alpha)


# --- for people


def line(one: Compared) -> str:
    lru = one.hits["LRU"]
    others = [one.above_lru(name) for name in ("SIEVE", "S3-FIFO", "ours")]
    figures = "".join(f"   {hits.by_requests:+6.1f} {hits.by_bytes:+6.1f}" for hits in others)
    return f"{one.kind:9}{one.alpha:5}{one.share:6.0%}   {lru.by_requests:6.1f} {lru.by_bytes:6.1f}{figures}"


def summary(kind: str, compared: Sequence[Compared]) -> str:
    """A row of Markdown: means, and the worst of ours, requests / bytes."""
    cells = [_mean([one.hits["LRU"] for one in compared], ".1f")]
    cells += [_mean([one.above_lru(name) for one in compared], "+.1f") for name in ("SIEVE", "S3-FIFO", "ours")]
    above = [[one.above_lru(name) for one in compared] for name in ("SIEVE", "S3-FIFO", "ours")]
    cells += [f"{min(h.by_requests for h in one):+.1f} / {min(h.by_bytes for h in one):+.1f}" for one in above]
    return f"| {kind} | {' | '.join(cells)} |"


def _mean(hits: Sequence[Hits], form: str) -> str:
    by_requests, by_bytes = (sum(values) / len(values) for values in zip(*hits, strict=True))
    return f"{by_requests:{form}} / {by_bytes:{form}}"


def main() -> None:
    kinds = {kind.__name__: kind for kind in (*TRACES, HARDEST)}
    parser = argparse.ArgumentParser(description="Hit ratios beside LRU, SIEVE and S3-FIFO.")
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(kinds)} (all)")
    chosen = parser.parse_args().kinds or list(kinds)
    print(f"{'trace':9}alpha  size   {'LRU, %':>13}   {'SIEVE':>13}   {'S3-FIFO':>13}   {'ours, points':>13}")
    print(f"{'':23}{'  requests bytes' * 4}")
    rows = []
    for name in chosen:
        compared = []
        for one in compare_all([kinds[name]]):
            compared.append(one)
            print(line(one), flush=True)
        rows.append(summary(name, compared))
    print("\nMeans, then the worst, of all alphas and sizes, requests / bytes; beside LRU in points\n")
    print("| trace | LRU, % | SIEVE | S3-FIFO | ours | SIEVE, worst | S3-FIFO, worst | ours, worst |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()

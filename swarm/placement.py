"""Which edges are home for a path, and which of them for each piece (DESIGN 4). One rule for every topology.

Rendezvous hashing: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998; weighted form by
Schindelhauer and Schomaker, 2005. Pieces go round the set by smooth weighted round robin, so that neighbours differ.
"""

import math
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

from xxhash import xxh3_64_intdigest

RULE = 1  # the format number of this rule; edges whose rules differ would not agree on homes
MOST_HOMES = 32
RUN_BYTES = 1 << 20  # a foreign origin is asked for contiguous runs of at least so much ...
SPLIT_BYTES = 4 << 20  # ... of objects of at least so much
SMALL_BYTES = 64 << 10  # objects under this have one home: splitting them costs more than it spreads
QUARTERS = 4  # weights are whole quarters of the median capacity ...
MOST_WEIGHT = 4 * QUARTERS  # ... and no edge counts for more than four medians


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge that may be home. `weight` is in quarters of the median capacity of the swarm, 1 to 16."""

    node: str
    weight: int = QUARTERS
    zone: str = ""


def weights(capacities_bps: Sequence[float | None]) -> list[int]:
    """Stated capacities as weights: at most four times the median; the median where none is stated.

    >>> weights([1e9, 1e9, None, 100e9])
    [4, 4, 4, 16]
    """
    stated = [capacity for capacity in capacities_bps if capacity]
    if not stated:
        return [QUARTERS] * len(capacities_bps)
    median = statistics.median(stated)
    return [
        max(1, min(MOST_WEIGHT, round(QUARTERS * capacity / median))) if capacity else QUARTERS
        for capacity in capacities_bps
    ]


def score(path: str, edge: Edge) -> float:
    """An edge with twice the weight comes first twice as often; nobody else's rank moves when one leaves."""
    digest = xxh3_64_intdigest(f"{path}/{edge.node}".encode())
    draw = ((digest >> 12) + 0.5) / 2**52  # 52 bits: a float that is never exactly 0 or 1
    return -edge.weight / math.log(draw)


def home_set(path: str, edges: Collection[Edge], most: int = MOST_HOMES) -> tuple[Edge, ...]:
    """The edges that share the work for a path, best first: one hash per edge, whatever the number of pieces."""
    ranked = sorted(edges, key=lambda edge: (score(path, edge), edge.node), reverse=True)
    return tuple(ranked[:most])


def first_zone(path: str, zones: Collection[str]) -> str:
    """The zone whose homes fetch a path from the origin; the homes of the others ask them. Rendezvous again, so that
    only the paths of a zone that comes or goes move. Zones count alike: no edge that comes or goes moves any."""
    return max(zones, key=lambda zone: (xxh3_64_intdigest(f"{path}\0{zone}".encode()), zone))


@lru_cache(maxsize=4096)
def _round(homes: tuple[Edge, ...]) -> tuple[str, ...]:
    """One round of smooth weighted round robin; dealing goes on with the same round for ever."""
    shrink = math.gcd(*(edge.weight for edge in homes))
    weight = {edge.node: edge.weight // shrink for edge in homes}
    total = sum(weight.values())
    credit = dict.fromkeys(weight, 0)
    dealt = []
    for _ in range(total):
        for node in credit:
            credit[node] += weight[node]
        best = max(credit, key=lambda node: credit[node])  # a tie goes to the better rank: dicts keep order
        credit[best] -= total
        dealt.append(best)
    return tuple(dealt)


def home_of(piece: int, homes: tuple[Edge, ...], lost: Collection[str] = ()) -> str | None:
    """The home of a piece. Pieces of a lost home are dealt evenly among the rest; nobody else's move.

    `None` when every home is lost.
    """
    while homes:
        dealt = _round(homes)
        rounds, turn = divmod(piece, len(dealt))
        node = dealt[turn]
        if node not in lost:
            return node
        # Dealt by their number among the lost home's pieces: by their own, every other one would meet the same edge.
        piece = rounds * dealt.count(node) + dealt[:turn].count(node)
        homes = tuple(edge for edge in homes if edge.node != node)
    return None


def home_or_next(piece: int, homes: tuple[Edge, ...], ranked: tuple[Edge, ...], lost: Collection[str]) -> str | None:
    """The home of a piece; where every home is lost, the next living edge in rank (a small object has but one home)."""
    home = home_of(piece, homes, lost)
    return home if home is not None else next((edge.node for edge in ranked if edge.node not in lost), None)


def homes_for(path: str, edges: Collection[Edge], size_bytes: int | None) -> tuple[Edge, ...]:
    """The home set of one version: the first edge alone while it is small (under 64 KiB)."""
    homes = home_set(path, edges)
    return homes[:1] if size_bytes is not None and size_bytes < SMALL_BYTES else homes


@dataclass(frozen=True)
class Dealing:
    """Who is home for which piece of one version: piece by piece, or (a foreign origin's object) run by run."""

    homes: tuple[Edge, ...]
    runs: int | None = None
    pieces: int = 0

    def turn(self, piece: int) -> int:
        """The number that a piece is dealt by: its own, or that of its run."""
        return piece if self.runs is None else piece * self.runs // self.pieces

    def home_of(self, piece: int, lost: Collection[str] = ()) -> str | None:
        return home_of(self.turn(piece), self.homes, lost)

    def home_or_next(self, piece: int, ranked: tuple[Edge, ...], lost: Collection[str]) -> str | None:
        return home_or_next(self.turn(piece), self.homes, ranked, lost)

    def share_of(self, node: str) -> float:
        """The part of the version that an edge is home for."""
        turns = _round(self.homes) if self.homes else ()
        if self.runs is None or not turns:
            return turns.count(node) / len(turns) if turns else 0.0
        return sum(turns[run % len(turns)] == node for run in range(self.runs)) / self.runs


def dealt_in_runs(homes: tuple[Edge, ...], size_bytes: int, pieces: int) -> Dealing:
    """Whole rounds of runs where the object has enough for one, so that no home has more than its share; each run of
    about `RUN_BYTES` or more: requests an object <= its size / 1 MiB."""
    most = max(1, size_bytes // RUN_BYTES)
    turns = len(_round(homes))
    return Dealing(homes, most // turns * turns or most, pieces)

"""Line 6: one liar among eight, of every kind; and a swarm without one, through loss, restarts and new versions, in
which nobody is banned.
"""

import itertools
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from deploy.programs import Swarm
from tests.integration.broken_links import swarm_with_broken_link
from tests.integration.conftest import nodes
from tests.integration.deaths import download_while_killing
from tests.integration.downloads import MIB, download_everywhere, random_file, wrong
from tests.integration.liars import SwarmWithLiar, swarm_with_liar
from tests.integration.purging import purge, until
from tests.shows.measured import Measured, all_held, at_least, at_most, told

EDGES = nodes(8)
LIAR = "edge-3"
RUNS = 3
SIZE = 16 * MIB
SIGNED = ("flip", "truncate", "swap", "replay")
BROKEN = ("forge", "cut")
MOST_BAN_S = 5.0
MOST_BAD_PIECES = 200
PIECE = 16 << 10
LONG_AGO = 1_600_000_000


def run() -> list[Measured]:
    with tempfile.TemporaryDirectory(prefix="show-") as name:
        directory = Path(name)
        figures = list(itertools.chain.from_iterable(_signed(directory, how) for how in SIGNED))
        figures += _unsigned(directory)
        figures += _attested(directory)
        figures += _honest(directory)
    return figures


def _signed(directory: Path, how: str) -> list[Measured]:
    """Two edges have dealings with the liar, and find out; the other five are shown the evidence."""
    amiss, took_s, uninvolved = [], [], []
    for turn in range(RUNS):
        with swarm_with_liar(directory / f"{how}-{turn}", EDGES, LIAR, how) as swarm:
            names = ("a.bin", "b.bin", "c.bin") if how == "replay" else ("a.bin",)
            for size, name in itertools.product((SIZE, SIZE + 1), names):  # twice: there must be something to replay
                amiss += _published_anew(swarm, name, size, swarm.honest[:2])
            swarm.wait_until_banned()
            bans = swarm.bans_of_liar()
            took_s.append(max(ban.at for ban in bans) - min(ban.at for ban in bans))
            uninvolved.append(sum(ban.node != ban.finder for ban in bans))
            amiss += _published_anew(swarm, "after.bin", SIZE, swarm.honest)
            amiss += [f"{node} has banned {one}" for node, one in _bans(swarm) if one != LIAR]
    return [
        all_held(f"signed, one of 8 lies ({how}): wrong bodies, or others banned", amiss, RUNS * 11, RUNS),
        at_most(f"signed, one of 8 lies ({how}): banned by the first until by all", took_s, MOST_BAN_S, "s"),
        at_least(f"signed, one of 8 lies ({how}): edges that banned it by others' evidence", uninvolved, 1),
    ]


def _published_anew(swarm: SwarmWithLiar, name: str, size: int, at: Sequence[str]) -> list[str]:
    sha256 = random_file(swarm.media / name, size)
    purge(swarm, swarm.honest[0], url=f"/{name}")
    return wrong(download_everywhere(swarm, f"/{name}", at), sha256)


def _bans(swarm: Swarm) -> list[tuple[str, str]]:
    return [(node, ban["node"]) for node in swarm.edges for ban in swarm.status(node)["banned"]]


def _unsigned(directory: Path) -> list[Measured]:
    """Who signs for what it should have sent, or breaks off: a broken link to all."""
    amiss = []
    for how in BROKEN:
        with swarm_with_liar(directory / how, EDGES, LIAR, how) as swarm:
            for number in range(5):
                amiss += _published_anew(swarm, f"{number}.bin", SIZE, swarm.honest)
            amiss += [f"{node} has banned {one}, without evidence" for node, one in _bans(swarm)]
    return [all_held("signed, one of 8 sends what it does not sign for: wrong bodies, or bans", amiss, 2 * 5 * 7)]


def _attested(directory: Path) -> list[Measured]:
    bad, took_s, amiss = [], [], []
    for turn in range(RUNS):
        with swarm_with_liar(directory / f"attest-{turn}", EDGES, LIAR, "attest", attested=True) as swarm:
            sums: dict[str, str] = {}
            bad.append(_until_caught(swarm, sums))
            swarm.wait_until_banned()
            bans = swarm.bans_of_liar()
            took_s.append(max(ban.at for ban in bans) - min(ban.at for ban in bans))
            for name, sha256 in sums.items():
                amiss += wrong(download_everywhere(swarm, f"/{name}", swarm.honest), sha256)
            amiss += [f"{node} has banned {one}" for node, one in _bans(swarm) if one != LIAR]
    return [
        at_most("attested, one of 8 vouches for lies: bad pieces until it is caught", bad, MOST_BAD_PIECES),
        at_most("attested, one of 8 vouches for lies: banned by the first until by all", took_s, MOST_BAN_S, "s"),
        all_held("attested, what the liar supplied, asked for again: wrong bodies, others banned", amiss, RUNS, RUNS),
    ]


def _until_caught(swarm: SwarmWithLiar, sums: dict[str, str]) -> int:
    """How many pieces it lied about until then; each went to all edges."""
    bad = 0
    while bad <= 10 * MOST_BAD_PIECES and not any(swarm.banned_at(node) for node in swarm.honest):
        name = f"{len(sums)}.bin"
        sums[name] = random_file(swarm.media / name, 4 * PIECE)
        os.utime(swarm.media / name, (LONG_AGO, LONG_AGO))  # or its validator would be too young for proof
        bad += 4 * any(wrong(download_everywhere(swarm, f"/{name}", swarm.honest), sums[name]))
    return bad


def _honest(directory: Path) -> list[Measured]:
    """A network that flips bytes, edges killed and restarted, a path published anew: and no liar anywhere."""
    amiss = []
    with swarm_with_broken_link(directory / "honest", EDGES, "edge-5") as swarm:
        for number in range(6):
            sha256 = random_file(swarm.media / "a.bin", SIZE + number)
            until(lambda: not purge(swarm, "edge-1", url="/a.bin").told["failed"], "all know of the new version")
            victim = EDGES[1 + number % 3]
            got = download_while_killing(swarm, "/a.bin", victim, MIB * number)
            amiss += wrong([one for node, one in got.items() if node != victim], sha256)
            swarm.edges[victim].kill()
            swarm.start_edge(victim)
            swarm.wait_joined(60.0)
        rejected = sum(swarm.total(node, "starling_pieces_rejected_total") for node in swarm.edges)
        time.sleep(1.0)  # for whoever is still being heard out
        amiss += [f"{node} has banned {one}, who is honest" for node, one in _bans(swarm)]
    return [
        all_held("8 honest edges, a link that flips bytes, restarts, new versions: wrong bodies, or bans", amiss, 42),
        told("8 honest edges: bad pieces and streams meanwhile", [rejected]),
    ]

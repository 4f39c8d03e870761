"""Real edges, one of them a liar: no wrong byte gets anywhere, and the liar is banned by all, or by nobody."""

import os

import pytest

from tests.integration.conftest import nodes
from tests.integration.downloads import MIB, download_everywhere, random_file, wrong
from tests.integration.liars import swarm_with_liar
from tests.integration.purging import purge

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(120)]

LIAR = "edge-2"
PIECE = 16 << 10
LONG_AGO = 1_600_000_000


@pytest.mark.parametrize("how", ["flip", "truncate", "swap"])
def test_a_liar_that_signs_is_banned_by_every_edge(tmp_path, how):
    with swarm_with_liar(tmp_path, nodes(4), LIAR, how) as swarm:
        sha256 = random_file(swarm.media / "a.bin", 8 * MIB)
        got = download_everywhere(swarm, "/a.bin")
        assert wrong(got, sha256) == []
        swarm.wait_until_banned()
        for node in swarm.honest:
            assert swarm.banned_at(node) == [LIAR]
            assert swarm.metrics(node)['starling_peers{state="banned"}'] == 1
            assert swarm.metrics(node)['starling_peers{state="alive"}'] == 2
        sha256 = random_file(swarm.media / "b.bin", MIB)
        before = {node: swarm.total(node, "starling_pieces_rejected_total") for node in swarm.honest}
        assert wrong(download_everywhere(swarm, "/b.bin"), sha256) == []
        assert {node: swarm.total(node, "starling_pieces_rejected_total") for node in swarm.honest} == before
        assert f"answered 403: ban of {LIAR}" in swarm.edges[LIAR].said()
        swarm.edges["edge-1"].kill()
        swarm.start_edge("edge-1")
        assert swarm.banned_at("edge-1") == [LIAR], "a ban outlives its edge's crash"


@pytest.mark.parametrize("how", ["forge", "cut"])
def test_who_signs_for_nothing_wrong_is_a_broken_link_and_banned_by_nobody(tmp_path, how):
    with swarm_with_liar(tmp_path, nodes(4), LIAR, how) as swarm:
        sha256 = random_file(swarm.media / "a.bin", 8 * MIB)
        assert wrong(download_everywhere(swarm, "/a.bin"), sha256) == []
        assert all(swarm.banned_at(node) == [] for node in swarm.edges)
        assert f"peer {LIAR}" in swarm.said_by_honest()


def test_old_pointers_and_pages_for_a_changed_path_get_nowhere_and_their_sender_is_banned(tmp_path):
    with swarm_with_liar(tmp_path, nodes(4), LIAR, "replay") as swarm:
        for size in (MIB, MIB + 1):
            for name in ("a.bin", "b.bin", "c.bin"):
                sha256 = random_file(swarm.media / name, size)
                purge(swarm, "edge-1", url=f"/{name}")
                assert wrong(download_everywhere(swarm, f"/{name}", swarm.honest), sha256) == []
        swarm.wait_until_banned()


def test_a_home_that_vouches_for_wrong_bytes_is_found_by_audits_and_what_it_supplied_is_purged(tmp_path):
    with swarm_with_liar(tmp_path, nodes(4), LIAR, "attest", attested=True) as swarm:
        bad, sums = 0, {}
        for number in range(400):
            name = f"{number}.bin"
            sums[name] = random_file(swarm.media / name, 8 * PIECE)
            os.utime(swarm.media / name, (LONG_AGO, LONG_AGO))  # or its validator would be too young for proof
            bad += 8 * any(wrong(download_everywhere(swarm, f"/{name}", swarm.honest), sums[name]))
            if any(swarm.banned_at(node) for node in swarm.honest):
                break
        assert 0 < bad <= 400
        swarm.wait_until_banned()
        for name, sha256 in sums.items():
            assert wrong(download_everywhere(swarm, f"/{name}", swarm.honest), sha256) == []
        assert sum(swarm.metrics(node)['starling_origin_requests_total{reason="audit"}'] for node in swarm.honest) >= 3

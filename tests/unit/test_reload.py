"""What a running edge takes up of a new configuration, and what it says needs a restart."""

from pathlib import Path

import pytest

from daemon.addresses import Address, HostName, NodeName, Url
from edge.config import Admin, Cache, Drain, EdgeConfig, Log, Origin, Swarm, Tls, Tokens, Viewer
from edge.reload import differences, reloaded
from swarm.units import Bytes, Seconds, Share

HERE = Url("http://here")
RUNNING = EdgeConfig(node=NodeName("e"), origin=Origin(url=(HERE,)), sites={HostName("a"): Origin(url=(HERE,))})
MEMORY = Bytes(64 << 20)


@pytest.mark.parametrize(
    "new, changed, kept",
    [
        ({}, [], []),
        ({"drain": Drain(grace=Seconds(1))}, ["drain.grace"], []),
        ({"log": Log(access=Path("/x"), sample=Share(0.1))}, ["log.access", "log.sample"], []),
        (
            {"cache": Cache(memory=MEMORY, disk=Bytes(1 << 30), ignore_query=("x",), directory=Path("/d"))},
            ["cache.disk", "cache.memory", "cache.ignore_query"],
            ["cache.directory"],
        ),
        ({"cache": Cache(memory=MEMORY, disk=Bytes(0))}, ["cache.memory"], ["cache.disk"]),
        (
            {"viewer": Viewer(listen=Address("127.0.0.1", 1), idle_timeout=Seconds(3))},
            ["viewer.idle_timeout"],
            ["viewer.listen"],
        ),
        ({"viewer": Viewer(tls=Tls(certificate=Path("c"), key=Path("k")))}, [], ["viewer.tls"]),
        (
            {"admin": Admin(listen=Address("127.0.0.1", 1), token_file=Path("/t"))},
            ["admin.token_file"],
            ["admin.listen"],
        ),
        ({"node": NodeName("f"), "zone": "z"}, [], ["node", "zone"]),
        ({"swarm": Swarm(tracker=(HERE,), secret_file=Path("/s"))}, [], ["swarm"]),
        (
            {"origin": Origin(url=(Url("http://there"),), tokens=Tokens(keys_file=Path("/k")))},
            ["origin.url", "origin.tokens"],
            [],
        ),
        (
            {"origin": Origin(url=(HERE,), trust="signed", public_key_file=Path("/p"))},
            [],
            ["origin.trust", "origin.public_key_file"],
        ),
        ({"origin": None}, [], ["origin"]),
        ({"sites": {}}, [], ["sites.a"]),
        (
            {"sites": {HostName("a"): Origin(url=(Url("http://there"),)), HostName("b"): Origin(url=(HERE,))}},
            ["sites.a.url"],
            ["sites.b"],
        ),
    ],
)
def test_what_changes_and_what_stays(new: dict[str, object], changed: list[str], kept: list[str]):
    whole = {field: getattr(RUNNING, field) for field in RUNNING.__struct_fields__} | new
    wanted = EdgeConfig(**whole)
    running = reloaded(RUNNING, wanted)
    assert sorted(differences(RUNNING, running)) == sorted(changed)
    assert sorted(differences(running, wanted)) == sorted(kept)


def test_another_certificate_is_taken_up_where_there_is_one():
    def with_tls(name: str) -> EdgeConfig:
        viewer = Viewer(tls=Tls(certificate=Path(name), key=Path("k")))
        return EdgeConfig(node=NodeName("e"), origin=Origin(url=(HERE,)), viewer=viewer)

    running = reloaded(with_tls("one"), with_tls("two"))
    assert list(differences(with_tls("one"), running)) == ["viewer.tls.certificate"]

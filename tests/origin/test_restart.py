"""What survives a kill: the rising sequence, the hashed pages, and what was ingested, but nothing half received."""

import os

import pytest

from daemon.asking import Asker
from swarm.wire import ALL_BYTES, Ask
from tests.origin.running import answered, hear, running, say

pytestmark = pytest.mark.processes


def pages_kept(directory) -> list[bytes]:
    return [path.read_bytes() for path in sorted((directory / "state" / "digests").iterdir())]


async def ask(origin, path: str, **kwargs):
    asker = Asker("edge-a", origin.secrets())
    try:
        return await answered(origin, asker, Ask(site="default", path=path, inline_bytes=ALL_BYTES, **kwargs))
    finally:
        await asker.close()


async def test_after_a_kill_the_version_is_the_same_the_sequence_higher_and_the_pages_known(tmp_path):
    with running(tmp_path) as origin:
        (origin.media / "film.mp4").write_bytes(os.urandom(20 << 20))
        before = await ask(origin, "/film.mp4")
        kept = pages_kept(tmp_path)
        assert len(kept) == 1
        origin.kill()
    (tmp_path / "media" / "film.mp4").chmod(0o644)
    with running(tmp_path) as origin:
        after = await ask(origin, "/film.mp4", known_sequence=before.pointer.sequence)
        assert after.pointer.version == before.pointer.version
        assert after.pointer.sequence > before.pointer.sequence
        assert after.body == before.body
        assert [signed.body for signed in after.pages] == [signed.body for signed in before.pages]


async def test_pages_are_read_back_rather_than_hashed_again(tmp_path):
    with running(tmp_path) as origin:
        (origin.media / "film.mp4").write_bytes(os.urandom(20 << 20))
        await ask(origin, "/film.mp4")
        origin.kill()
    kept = pages_kept(tmp_path)
    with running(tmp_path) as origin:
        await ask(origin, "/film.mp4")
        origin.kill()
    assert pages_kept(tmp_path) == kept  # hashing again would have appended the records again


async def test_a_torn_page_file_is_mended(tmp_path):
    with running(tmp_path) as origin:
        (origin.media / "film.mp4").write_bytes(os.urandom(20 << 20))
        before = await ask(origin, "/film.mp4")
        origin.kill()
    (file,) = (tmp_path / "state" / "digests").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    with running(tmp_path) as origin:
        assert (await ask(origin, "/film.mp4")).body == before.body
    assert file.read_bytes() == whole


async def test_the_sequence_rises_even_if_the_clock_was_set_back(tmp_path):
    with running(tmp_path) as origin:
        (origin.media / "a.txt").write_text("a")
        await ask(origin, "/a.txt")
        origin.kill()
    ceiling = tmp_path / "state" / "sequence"
    tomorrow = int(ceiling.read_text()) + 86_400_000  # as if the last run's clock had been a day ahead of this one's
    ceiling.write_text(str(tomorrow))
    with running(tmp_path) as origin:
        assert (await ask(origin, "/a.txt")).pointer.sequence > tomorrow


async def test_what_was_ingested_is_still_there_and_what_was_half_received_is_not(tmp_path):
    with running(tmp_path) as origin, origin.connect() as connection:
        say(connection, "PUT /live/seg.m4s HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody")
        assert hear(connection)[0] == 201
        before = await ask(origin, "/live/seg.m4s")
        origin.kill()
        (origin.received / "half").write_bytes(b"half received")
    with running(tmp_path) as origin:
        after = await ask(origin, "/live/seg.m4s")
        assert (after.body, after.pointer.version) == (b"body", before.pointer.version)
        assert list(origin.received.iterdir()) == []


def test_sigterm_finishes_what_is_being_sent_and_exits_0(tmp_path):
    size = 8 << 20
    with running(tmp_path) as origin:
        (origin.media / "film.mp4").write_bytes(bytes(size))
        with origin.connect() as connection:
            say(connection, "GET /film.mp4 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            got = connection.recv(1000)
            origin.process.terminate()
            while more := connection.recv(1 << 20):
                got += more
        assert len(got.partition(b"\r\n\r\n")[2]) == size
        assert origin.process.wait(timeout=10) == 0

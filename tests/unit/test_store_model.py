"""Any sequence of things done to a store, beside what must be true of it: sums, bitmaps and every byte."""

import asyncio
import tempfile
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path as FilePath

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge import store
from edge.held import Held
from edge.store import MOST_IN_USE
from swarm.accounting import Tier
from tests.unit.test_store import PIECE, PIECES, TAKEN, Opened, path_of, piece_of, until

MEMORY_PIECES = 5
DISK_BYTES = 2 * TAKEN
NUMBERS = st.integers(1, 4)


def taken(directory: FilePath) -> int:
    """What all files of versions take on disk, in whole blocks."""
    blocks = 0
    for file in directory.glob("objects/*/*"):
        with suppress(FileNotFoundError):  # being removed meanwhile
            blocks += file.stat().st_blocks
    return blocks * 512


class StoreMachine(RuleBasedStateMachine):
    """Four versions of four pieces; memory for five pieces, disk for two versions."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.directory = FilePath(self.folder.name)
        self.one = self.run(self.open())
        self.flipped: set[tuple[int, int]] = set()  # pieces whose bytes on disk were changed

    def run(self, doing: Coroutine[None, None, Opened]) -> Opened:
        return self.loop.run_until_complete(doing)

    @initialize(most=st.integers(2, 4))
    def keep_in_use(self, most: int) -> None:
        """Beyond so many versions, those that nobody asked for are left to the disk."""
        store.MOST_IN_USE = most

    async def open(self) -> Opened:
        return await Opened(self.directory, MEMORY_PIECES * PIECE, DISK_BYTES).open()

    def teardown(self) -> None:
        store.MOST_IN_USE = MOST_IN_USE
        self.loop.run_until_complete(self.one.store.close())
        self.loop.close()
        self.folder.cleanup()

    def held(self, number: int) -> Held | None:
        return self.one.store.held(bytes([number]) * 16)

    @rule(number=NUMBERS, numbers=st.sets(st.integers(0, PIECES - 1), min_size=1))
    def put(self, number: int, numbers: set[int]) -> None:
        async def put() -> None:
            held = self.held(number) or self.one.hold(number)
            for piece in sorted(numbers):
                if not held.have >> piece & 1:
                    self.flipped.discard((number, piece))
                self.one.put(held, piece)

        self.loop.run_until_complete(put())

    @rule(number=NUMBERS)
    def drop(self, number: int) -> None:
        async def drop() -> None:
            if (held := self.held(number)) is not None:
                self.one.store.drop(held)
                self.flipped -= {(number, piece) for piece in range(PIECES)}
                assert held.have == 0

        self.loop.run_until_complete(drop())

    @rule(steps=st.integers(1, 5))
    def go_on(self, steps: int) -> None:
        """The writer may be anywhere in its work when the next thing is done."""

        async def tick() -> None:
            for _ in range(steps):
                await asyncio.sleep(0)

        self.loop.run_until_complete(tick())

    @rule()
    def settle(self) -> None:
        self.loop.run_until_complete(self.one.written())
        self.loop.run_until_complete(until(lambda: taken(self.directory) == self.one.bytes_in(Tier.DISK)))
        assert self.one.bytes_in(Tier.DISK) <= DISK_BYTES

    @rule(number=NUMBERS, numbers=st.sets(st.integers(0, PIECES - 1), min_size=1))
    def load(self, number: int, numbers: set[int]) -> None:
        held = self.held(number)
        if held is None:
            return
        promised = held.on_disk
        found = self.loop.run_until_complete(self.one.store.load(held, sorted(numbers)))
        for piece in numbers:
            assert found.get(piece) in (None, piece_of(number, piece))
            if promised >> piece & 1 and piece not in found:  # rotten, or evicted meanwhile
                assert not held.on_disk >> piece & 1
                assert (number, piece) in self.flipped or not held.rotten >> piece & 1

    @precondition(lambda self: self.one.store.versions())
    @rule(number=NUMBERS, piece=st.integers(0, PIECES - 1))
    def flip(self, number: int, piece: int) -> None:
        self.settle()
        held = self.held(number)
        if held is not None and held.on_disk >> piece & 1 and (number, piece) not in self.flipped:
            [data] = self.directory.rglob(f"{held.version.hex()}.data")
            with data.open("r+b") as file:  # in place: what was never written stays a hole
                file.seek(piece * PIECE + 5)
                byte = file.read(1)[0]
                file.seek(piece * PIECE + 5)
                file.write(bytes([byte ^ 0x01]))
            self.flipped.add((number, piece))

    @rule(number=NUMBERS)
    def recall(self, number: int) -> None:
        self.loop.run_until_complete(self.one.store.recall(path_of(number)))

    @rule()
    def restart(self) -> None:
        self.loop.run_until_complete(self.one.store.close())
        before = {held.version: held.on_disk for held in self.one.store.versions()}
        self.one = self.run(self.open())
        for held in self.loop.run_until_complete(self.one.recalled()):
            assert held.on_disk & before.get(held.version, 0) == before.get(held.version, 0)

    @invariant()
    def memory_holds_what_it_says_within_its_limit(self) -> None:
        held_bytes = 0
        for held in self.one.store.versions():
            number = held.version[0]
            for piece in range(PIECES):
                data = self.one.store.peek(held, piece)
                assert (data is not None) == bool(held.in_memory >> piece & 1)
                assert data in (None, piece_of(number, piece))
                held_bytes += len(data or b"")
        in_memory = self.one.bytes_in(Tier.MEMORY)
        assert in_memory <= MEMORY_PIECES * PIECE
        assert in_memory <= held_bytes <= in_memory + self.one.store.pending_bytes

    @invariant()
    def nothing_is_kept_of_what_is_not_held(self) -> None:
        assert all(held.have or held.rotten for held in self.one.store.versions())
        assert self.one.store.pending_bytes >= 0

    @invariant()
    def the_disk_is_well(self) -> None:
        assert self.one.store.disk_trouble == ""


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)

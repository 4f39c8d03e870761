"""Any sequence of things done to a store, beside what must be true of it: sums, bitmaps and every byte."""

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path as FilePath

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.held import Held
from swarm import pieces
from swarm.accounting import Tier
from tests.unit.test_store import PIECE, PIECES, Opened, piece_of

MEMORY_PIECES = 5
DISK_BYTES = 2 * PIECES * PIECE
NUMBERS = st.integers(1, 4)


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

    async def open(self) -> Opened:
        return await Opened(self.directory, MEMORY_PIECES * PIECE, DISK_BYTES).open()

    def teardown(self) -> None:
        self.loop.run_until_complete(self.one.store.close())
        self.loop.close()
        self.folder.cleanup()

    def held(self, number: int) -> Held | None:
        return self.one.store.held(bytes([number]) * 16)

    @rule(number=NUMBERS, numbers=st.sets(st.integers(0, PIECES - 1), min_size=1))
    def put(self, number: int, numbers: set[int]) -> None:
        held = self.held(number) or self.one.hold(number)
        for piece in sorted(numbers):
            if not held.have >> piece & 1:
                self.flipped.discard((number, piece))
            self.one.put(held, piece)

    @rule(number=NUMBERS)
    def drop(self, number: int) -> None:
        if (held := self.held(number)) is not None:
            self.one.store.drop(held)
            self.flipped -= {(number, piece) for piece in range(PIECES)}
            assert held.have == 0

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
        held = self.one.store.versions()
        rotten = any(one.rotten for one in held)
        on_disk = sum(one.metainfo.span(piece)[1] for one in held for piece in pieces.each(one.on_disk))
        assert self.one.bytes_in(Tier.DISK) <= DISK_BYTES
        assert rotten or self.one.bytes_in(Tier.DISK) == on_disk

    @rule(number=NUMBERS, numbers=st.sets(st.integers(0, PIECES - 1), min_size=1))
    def load(self, number: int, numbers: set[int]) -> None:
        held = self.held(number)
        if held is None:
            return
        promised = held.on_disk
        found = self.loop.run_until_complete(self.one.store.load(held, sorted(numbers)))
        for piece in numbers:
            is_rotten = (number, piece) in self.flipped
            if promised >> piece & 1 and not is_rotten:
                evicted_meanwhile = not held.on_disk >> piece & 1
                assert found.get(piece) == piece_of(number, piece) or (evicted_meanwhile and piece not in found)
            elif piece in found:
                assert found[piece] == piece_of(number, piece)
                assert not is_rotten
                assert held.on_disk >> piece & 1, "it was written between our look and the store's"
            if promised >> piece & 1 and is_rotten:
                assert held.rotten >> piece & 1
                assert not held.on_disk >> piece & 1

    @precondition(lambda self: self.one.store.versions())
    @rule(number=NUMBERS, piece=st.integers(0, PIECES - 1))
    def flip(self, number: int, piece: int) -> None:
        self.settle()
        held = self.held(number)
        if held is not None and held.on_disk >> piece & 1 and (number, piece) not in self.flipped:
            [data] = self.directory.rglob(f"{held.version.hex()}.data")
            body = bytearray(data.read_bytes())
            body[piece * PIECE + 5] ^= 0x01
            data.write_bytes(body)
            self.flipped.add((number, piece))

    @rule()
    def restart(self) -> None:
        self.loop.run_until_complete(self.one.store.close())
        before = {held.version: held.on_disk for held in self.one.store.versions()}
        self.one = self.run(self.open())
        for held in self.one.store.versions():
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

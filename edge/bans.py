"""Whom this edge has banned, by evidence that it checked itself; told to everybody, kept on disk.

A banned edge is in no view that holds the ban: it is not asked, not home, and not answered.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path as FilePath

import msgspec

from daemon.keys import verify
from edge.roster import Roster
from swarm.errors import RemoteError
from swarm.evidence import (
    ACCUSATION_CONTEXT,
    MOST_BANS_REMEMBERED,
    Accusation,
    AttestedWrong,
    Ban,
    BanBook,
    SentWrong,
    check_attested,
    check_sent,
    encode,
    read_accusation,
)
from swarm.metainfo import Page, Pointer, Signed

log = logging.getLogger(__name__)

FILE_NAME = "bans"  # in the cache directory
MOST_CHECKS = 4  # accusations at once that the origin is asked about
CHECKS_A_MINUTE = 30
DISBELIEVED_A_MINUTE = 30  # of one sender

Spread = Callable[[Signed, float], None]  # to every edge, and to whoever joins within so many seconds
AskOrigin = Callable[[Pointer, Page, int], Awaitable[bool]]  # whether the origin contradicts an attested piece


class Bans:
    """One edge's bans. `on_banned` is told of each that begins."""

    def __init__(self, book: BanBook, roster: Roster, file: "BanFile | None") -> None:
        self.book = book
        self._roster = roster
        self._file = file
        self.spread: Spread = lambda signed, keep_s: None
        self.contradicts: AskOrigin = _nobody_knows
        self.on_banned: Callable[[Ban], None] = lambda ban: None
        self._kept: dict[bytes, deque[Signed]] = {}  # key -> the accusations by which it was banned
        self._attested: set[bytes] = set()  # keys banned by an origin's word
        self._disbelieved: Counter[str] = Counter()  # accusations of each sender, since ...
        self._disbelieved_since = 0.0
        self._checked_at: deque[float] = deque(maxlen=CHECKS_A_MINUTE)
        self._checks: dict[bytes, asyncio.Task[None]] = {}
        self._keeping = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        roster.is_banned = lambda key: self.book.ban_of(key, self._roster.swarm_time()) is not None

    def __repr__(self) -> str:
        return f"<Bans {self.in_force()}>"

    def in_force(self) -> list[Ban]:
        return self.book.in_force(self._roster.swarm_time())

    def refusal(self, node: str) -> str:
        """Why an edge of that name is not answered; empty if it is. Sessions prove names, not keys."""
        peer = self._roster.banned.get(node)
        ban = self.book.ban_of(peer.key, self._roster.swarm_time()) if peer is not None else None
        return f"{ban}: it lied, and there is evidence" if ban is not None else ""

    # --- life

    async def open(self) -> None:
        """Read back what was kept, and tell others of what is still in force: they may have lost it."""
        if self._file is None:
            return
        for signed in await asyncio.to_thread(self._file.read):
            try:
                said = read_accusation(signed.body)
                self._check(said)
            except RemoteError as error:
                log.error("a ban kept on disk was left out: %s", error)
                continue
            if (ban := self.book.restore(said)) is not None:
                self._on_ban(ban, said, signed)

    async def run(self) -> None:
        """Let bans end, until cancelled."""
        while True:
            self._changed.clear()
            now = self._roster.swarm_time()
            end = self.book.next_end(now)
            try:
                async with asyncio.timeout(None if end is None else max(0.0, end - now) + 0.001):
                    await self._changed.wait()
            except TimeoutError:
                self._roster.judge_again()

    async def close(self) -> None:
        tasks = [*self._tasks, *self._checks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- accusations

    def accuse(self, node: str, evidence: SentWrong | AttestedWrong) -> None:
        """This edge caught one. Nothing happens unless everybody else can be shown it."""
        peer = self._roster.peer(node)
        if peer is None:
            return
        said = Accusation(node=node, key=peer.key, at=self._roster.swarm_time(), evidence=evidence)
        signed = self._roster.signer.sign(ACCUSATION_CONTEXT, encode(said))
        try:
            self._check(said)
            if not self._may_ban(said):
                return
        except RemoteError as error:
            log.warning("peer %s sent bad bytes, and no evidence that it lied: %s", node, error)
        else:
            self._take(said, signed)

    def on_heard(self, signed: Signed, sender: str) -> None:
        """Somebody accuses an edge: the evidence is checked here before it counts. Who found it does not matter, and
        may be gone from the view."""
        if not self._listens_to(sender):
            return
        try:
            said = read_accusation(signed.body)
            self._check(said)
            if isinstance(said.evidence, SentWrong):
                self._take(said, signed)
                return
        except RemoteError as error:
            self._disbelieved[sender] += 1
            log.warning("an accusation by %s, heard from %s, was not believed: %s", signed.signer, sender, error)
            return
        if said.key not in self._checks and self._may_check() and self._may_ban(said):
            task = asyncio.create_task(self._ask_origin(said, signed), name=f"checking {said.node}")
            self._checks[said.key] = task
            task.add_done_callback(lambda _: self._on_checked(said.key))

    def _listens_to(self, sender: str) -> bool:
        """Nonsense costs a signature check each time: whoever sends much of it is not listened to for a minute."""
        now = self._roster.swarm_time()
        if not 0.0 <= now - self._disbelieved_since < 60.0:
            self._disbelieved.clear()
            self._disbelieved_since = now
        return self._disbelieved[sender] < DISBELIEVED_A_MINUTE

    def _may_check(self) -> bool:
        """The origin is asked about accusations so often and no more: anybody in the swarm can make some."""
        now, at = self._roster.swarm_time(), self._checked_at
        if len(self._checks) >= MOST_CHECKS or (len(at) == CHECKS_A_MINUTE and now - at[0] < 60.0):
            return False
        at.append(now)
        return True

    def _may_ban(self, said: Accusation) -> bool:
        """By an origin's word one edge is banned at a time: one that breaks its own validators would else have all of
        them banned, one after another. What they vouched for is thrown away all the same."""
        if isinstance(said.evidence, SentWrong):
            return True
        others = [ban.node for ban in self.in_force() if ban.key != said.key and ban.key in self._attested]
        if others:
            log.warning("%s is not banned by the origin's word while %s is", said.node, ", ".join(others))
        return not others

    def _on_checked(self, key: bytes) -> None:
        task = self._checks.pop(key)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)

    def _check(self, said: Accusation) -> None:
        """RemoteError unless it holds by itself; an attested piece is still to be asked about."""
        if isinstance(said.evidence, SentWrong):
            check_sent(said, verify)
        else:
            check_attested(said, verify)

    async def _ask_origin(self, said: Accusation, signed: Signed) -> None:
        assert isinstance(said.evidence, AttestedWrong)
        if self.book.ban_of(said.key, self._roster.swarm_time()) is not None:
            return
        pointer, page = check_attested(said, verify)
        if await self.contradicts(pointer, page, said.evidence.piece):
            if self._may_ban(said):
                self._take(said, signed)
        else:
            log.warning("%s accuses %s of what the origin does not bear out", signed.signer, said.node)

    def _take(self, said: Accusation, signed: Signed) -> None:
        """A checked accusation. RemoteError if it is of a time to come."""
        ban = self.book.take(said, self._roster.swarm_time())
        if ban is None:
            return
        self._on_ban(ban, said, signed)
        task = asyncio.create_task(self._keep(), name="keeping bans")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_ban(self, ban: Ban, said: Accusation, signed: Signed) -> None:
        if isinstance(said.evidence, AttestedWrong):
            self._attested.add(said.key)
        self._kept.setdefault(said.key, deque(maxlen=MOST_BANS_REMEMBERED)).append(signed)
        for key in [key for key in self._kept if not self.book.knows(key)]:
            del self._kept[key]
            self._attested.discard(key)
        left_s = ban.until - self._roster.swarm_time()
        if left_s <= 0:
            return
        log.error("%s %s; found by %s", ban, _what(said), signed.signer)
        self._roster.judge_again()
        self._changed.set()
        self.on_banned(ban)
        self.spread(signed, left_s)

    async def _keep(self) -> None:
        if self._file is None:
            return
        async with self._keeping:
            try:
                await asyncio.to_thread(self._file.write, [one for kept in self._kept.values() for one in kept])
            except OSError as error:
                log.error("bans cannot be kept on disk: %s", error.strerror)


def _what(said: Accusation) -> str:
    case = said.evidence
    if isinstance(case, SentWrong):
        return "It signed for bytes that are not what the page it sent with them says"
    return "It vouched for bytes that are not the origin's"


async def _nobody_knows(pointer: Pointer, page: Page, piece: int) -> bool:
    return False


class BanFile:
    """The accusations believed, each as it was signed. All of it blocks."""

    def __init__(self, path: FilePath) -> None:
        self._path = path

    def read(self) -> tuple[Signed, ...]:
        """Empty if there are none, or none that can be read."""
        try:
            return msgspec.msgpack.decode(self._path.read_bytes(), type=tuple[Signed, ...])
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.error("bans cannot be read from %s: %s", self._path, error)
            return ()

    def write(self, accusations: Sequence[Signed]) -> None:
        """OSError if it cannot be written."""
        partial = self._path.with_suffix(".new")
        partial.write_bytes(msgspec.msgpack.encode(accusations))
        partial.replace(self._path)

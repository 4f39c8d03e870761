"""Evidence that an edge lied, which anybody can check; and for how long it is banned (decision 14).

A sender signs, now and then, what it sent: a `Statement`, bound to the origin's pages that it sent it by. Whoever got
bytes that are not what the pages say holds a statement that contradicts itself, and that is evidence: an honest edge
takes digest and page from the same place, so that whatever the origin, the network or an accuser does, no statement of
its own ever contradicts a page it names.

Of a foreign origin's object the home's own record (its page) is the statement; only the origin can contradict it, so
that whoever would check that evidence must ask the origin for the piece himself.
"""

import hashlib
import math
import struct
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from swarm.accounting import Cause
from swarm.errors import RemoteError
from swarm.metainfo import (
    DIGEST_BYTES,
    PAGE_CONTEXT,
    POINTER_CONTEXT,
    Page,
    Pointer,
    Signed,
    open_page,
    open_pointer,
    read_page,
)

FORMAT = 1
STATEMENT_CONTEXT = b"starling sent\0"
ACCUSATION_CONTEXT = b"starling accusation\0"
SIGN_EVERY_BYTES = 1 << 20
SIGN_EVERY_S = 0.25
MOST_STATED = 256  # pieces of one statement
MOST_PAGES_KEPT = 32  # of one stream: what a statement may refer to
KEY_BYTES = 32
MOST_ACCUSATION_BYTES = 16 << 10

FIRST_BAN_S = 600.0  # doubled with each further lie
LONGEST_BAN_S = 86_400.0
CLOCK_SLACK_S = 60.0  # how far the clocks of accuser and accused may be off
MOST_BANS = 1000
MOST_BANS_REMEMBERED = 16  # of one key: by then a ban lasts a day

_PIECE = struct.Struct(">I")

_T = TypeVar("_T", bound=msgspec.Struct)

PieceSent = tuple[int, bytes]  # number, SHA-256
Verify = Callable[[bytes, bytes, Signed], None]  # (public key, context, signed): RemoteError if it does not verify


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """ "These pieces of this version I sent, as these pages have it", signed with the sender's node key.

    `root`: SHA-256 over number and digest of each piece, in the order in which they were sent; the receiver knows them.
    `made`: by the swarm's clock.
    """

    format: int = FORMAT
    version: bytes
    pages: tuple[bytes, ...]
    root: bytes
    made: float


class SentWrong(msgspec.Struct, frozen=True, tag="sent", kw_only=True):
    """A statement, the pieces that its root stands for, and a page it names that says otherwise."""

    statement: Signed
    sent: tuple[PieceSent, ...]
    page: bytes


class AttestedWrong(msgspec.Struct, frozen=True, tag="attested", kw_only=True):
    """A home's record of a foreign origin's object: a page and a pointer, both signed by it, and a piece that is not
    what the origin answers under the pointer's strong validator. To be checked by asking the origin."""

    pointer: Signed
    page: Signed
    piece: int


class Accusation(msgspec.Struct, frozen=True, kw_only=True):
    """Who lied, and the evidence. `at`: when it was found, by the swarm's clock."""

    format: int = FORMAT
    node: str
    key: bytes
    at: float
    evidence: SentWrong | AttestedWrong


def page_id(body: bytes) -> bytes:
    """All of the hash: whoever can make two pages of one name could have an honest sender of the first accused by the
    second."""
    return hashlib.sha256(body).digest()


def root_of(sent: Iterable[PieceSent]) -> bytes:
    return hashlib.sha256(b"".join(_PIECE.pack(piece) + digest for piece, digest in sent)).digest()


# --- the sender


class Stating:
    """What one stream has sent and its sender not signed yet. Times are seconds of any monotonic clock."""

    def __init__(self) -> None:
        self._version = b""
        self._sent: list[PieceSent] = []
        self._pages: dict[bytes, None] = {}
        self._bytes = 0
        self._since = 0.0
        self._last: tuple[Signed | None, bytes] = (None, b"")  # the page last told, and its id

    def on_sent(self, version: bytes, piece: int, digest: bytes, page: Signed, size: int, now: float) -> bool:
        """Whether it is time to sign."""
        if not self._sent:
            self._version, self._since = version, now
        if self._last[0] is not page:
            self._last = page, page_id(page.body)
        self._pages[self._last[1]] = None
        self._sent.append((piece, digest))
        self._bytes += size
        is_due = self._bytes >= SIGN_EVERY_BYTES or now - self._since >= SIGN_EVERY_S
        return is_due or len(self._sent) >= MOST_STATED

    def statement(self, wall: float) -> bytes | None:
        """What is to be signed, if anything was sent since the last one."""
        if not self._sent:
            return None
        said = Statement(version=self._version, pages=tuple(self._pages), root=root_of(self._sent), made=wall)
        self._sent, self._pages, self._bytes = [], {}, 0
        return msgspec.msgpack.encode(said)


# --- the receiver


class Heard:
    """What came on one stream since its sender last signed: enough to hold the sender to it."""

    def __init__(self) -> None:
        self._sent: list[PieceSent] = []
        self._pages: deque[bytes] = deque(maxlen=MOST_PAGES_KEPT)
        self._is_whole = True  # False: something came that was not looked at, so that no root can be checked

    def on_page(self, signed: Signed) -> None:
        self._pages.append(signed.body)

    def on_piece(self, piece: int, digest: bytes | None) -> None:
        """`digest` None: it was not looked at, for it was here already."""
        if digest is None or len(self._sent) >= MOST_STATED:
            self._is_whole = False
        else:
            self._sent.append((piece, digest))

    def on_all_verified(self) -> None:
        """The sender signed for what came before, and all of that is good: nobody need look at what it signed."""
        self._sent.clear()
        self._is_whole = True

    def on_signed(self, signed: Signed) -> SentWrong | None:
        """The sender signed for what came before: evidence, if that contradicts itself. Signature still unchecked."""
        sent, self._sent = tuple(self._sent), []
        is_whole, self._is_whole = self._is_whole, True
        if not is_whole:
            return None
        for page in self._pages:
            case = SentWrong(statement=signed, sent=sent, page=page)
            if contradicts_itself(case):
                return case
        return None


def contradicts_itself(case: SentWrong) -> bool:
    """Whether what was stated differs from a page it is bound to. Who signed it is not asked here."""
    try:
        said = read_statement(case.statement.body)
        page = read_page(case.page)
    except RemoteError:
        return False
    if root_of(case.sent) != said.root or page_id(case.page) not in said.pages:
        return False
    return page.version != said.version or any(_differs(page, *one) for one in case.sent)


def _differs(page: Page, piece: int, digest: bytes) -> bool:
    return page.first_piece <= piece < page.end_piece and page.told(piece)[2] != digest


# --- whoever is shown evidence


def read_statement(body: bytes) -> Statement:
    said = _decode(body, Statement)
    if said.format != FORMAT or not math.isfinite(said.made):
        raise RemoteError(f"statement of format {said.format}, made {said.made}")
    return said


def encode(accusation: Accusation) -> bytes:
    return msgspec.msgpack.encode(accusation)


def read_accusation(body: bytes) -> Accusation:
    """RemoteError unless it can be read. What it says is still to be checked."""
    if len(body) > MOST_ACCUSATION_BYTES:
        raise RemoteError(f"accusation of {len(body)} bytes")
    said = _decode(body, Accusation)
    if said.format != FORMAT or len(said.key) != KEY_BYTES or not math.isfinite(said.at):
        raise RemoteError(f"accusation of format {said.format}, with a key of {len(said.key)} bytes, at {said.at}")
    return said


def check_sent(said: Accusation, verify: Verify) -> None:
    """RemoteError unless the accused signed what contradicts itself, about when it is said to have been found."""
    case = said.evidence
    assert isinstance(case, SentWrong)
    if case.statement.signer != said.node or len(case.sent) > MOST_STATED:
        raise RemoteError("evidence against somebody else", Cause.SIGNATURE)
    if any(len(digest) != DIGEST_BYTES or not 0 <= piece < 1 << 32 for piece, digest in case.sent):
        raise RemoteError("evidence with a malformed digest")
    verify(said.key, STATEMENT_CONTEXT, case.statement)
    if not contradicts_itself(case):
        raise RemoteError("a statement that contradicts nothing")
    made = read_statement(case.statement.body).made
    if abs(made - said.at) > CLOCK_SLACK_S:
        raise RemoteError(f"a statement of {said.at - made:.0f} s before it was found out")


def check_attested(said: Accusation, verify: Verify) -> tuple[Pointer, Page]:
    """What the accused attested: pointer and page of one version. RemoteError unless it signed both. Whether they are
    wrong only the origin knows."""
    case = said.evidence
    assert isinstance(case, AttestedWrong)
    if {case.pointer.signer, case.page.signer} != {said.node}:
        raise RemoteError("evidence against somebody else", Cause.SIGNATURE)
    pointer = open_pointer(case.pointer, lambda _, signed: verify(said.key, POINTER_CONTEXT, signed))
    page = open_page(case.page, lambda _, signed: verify(said.key, PAGE_CONTEXT, signed))
    if pointer.version != page.version or not page.first_piece <= case.piece < page.end_piece:
        raise RemoteError("evidence of pointer and page that do not belong together")
    return pointer, page


def _decode(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RemoteError(f"malformed {kind.__name__.lower()}: {error}") from error


# --- bans


@dataclass(frozen=True)
class Ban:
    """Times are the swarm's wall clock."""

    node: str
    key: bytes
    began_at: float
    until: float
    lies: int  # how often it was banned so far

    def __str__(self) -> str:
        return f"ban of {self.node} for {self.until - self.began_at:.0f} s, its {self.lies}."


@dataclass
class _Convict:
    bans: deque[Ban] = field(default_factory=lambda: deque(maxlen=MOST_BANS_REMEMBERED))


class BanBook:
    """Who is banned by this edge. Each takes only what it has checked itself. A ban is of a key: whoever could sign in
    the name of another could otherwise have it banned.

    FREE --evidence--> BANNED --over--> FREE --evidence found after that--> BANNED, twice as long
    """

    def __init__(self) -> None:
        self._convicts: OrderedDict[bytes, _Convict] = OrderedDict()

    def __repr__(self) -> str:
        return f"<BanBook of {len(self._convicts)}>"

    def take(self, said: Accusation, now: float) -> Ban | None:
        """A ban begins, by evidence that was checked; None if it says nothing new. RemoteError if it is of a time to
        come. What was found before the end of the last ban is of the lies that were banned for."""
        if said.at > now + CLOCK_SLACK_S:
            raise RemoteError(f"accusation from {said.at - now:.0f} s ahead")
        return self.restore(said) if said.at + LONGEST_BAN_S > now else None

    def restore(self, said: Accusation) -> Ban | None:
        """What was taken once, however long ago, in the order in which it was."""
        convict = self._convicts.get(said.key)
        if convict is not None and said.at <= convict.bans[-1].until:
            return None
        convict = self._convicts.setdefault(said.key, _Convict())
        lies = convict.bans[-1].lies + 1 if convict.bans else 1
        ban = Ban(said.node, said.key, said.at, said.at + ban_s(lies), lies)
        convict.bans.append(ban)
        self._convicts.move_to_end(said.key)
        if len(self._convicts) > MOST_BANS:
            self._convicts.popitem(last=False)
        return ban

    def knows(self, key: bytes) -> bool:
        return key in self._convicts

    def ban_of(self, key: bytes, now: float) -> Ban | None:
        """The ban in force, if there is one."""
        convict = self._convicts.get(key)
        ban = convict.bans[-1] if convict is not None else None
        return ban if ban is not None and now < ban.until else None

    def in_force(self, now: float) -> list[Ban]:
        return [one.bans[-1] for one in self._convicts.values() if now < one.bans[-1].until]

    def next_end(self, now: float) -> float | None:
        return min((ban.until for ban in self.in_force(now)), default=None)

    def taints(self, key: bytes, learned_at: float) -> bool:
        """Whether what that key vouched for, and was learned then, is no good: it has been banned since."""
        convict = self._convicts.get(key)
        return convict is not None and learned_at <= convict.bans[-1].until


def ban_s(lies: int) -> float:
    """Ten minutes, doubling, a day at most.

    >>> [ban_s(1), ban_s(2), ban_s(99)]
    [600.0, 1200.0, 86400.0]
    """
    return min(LONGEST_BAN_S, FIRST_BAN_S * 2.0 ** min(lies - 1, 30))

"""Who is a member, by what members say of themselves and of each other: the memory of `swarm/gossip.py`.

(nobody) --its own word--> LIVING --suspected--> SUSPECT --not refuted in time, or its goodbye--> (grave)
SUSPECT, grave --a later word of its own--> LIVING

Death is nobody's claim: each member draws it from suspicions that were not refuted, so a liar can make others speak
up, but bury nobody. A member carries weight once two others (in a swarm of two: the other) vouch that they reached it
at the address it advertises; until then nobody probes it, it speaks for itself every few seconds, and who falls silent
is forgotten.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from urllib.parse import urlsplit

import msgspec
from xxhash import xxh3_64_intdigest

from swarm.errors import RemoteError
from swarm.members import ANNOUNCEMENT_CONTEXT, MOST_MEMBERS, Announcement, Member, State, read_announcement
from swarm.metainfo import Signed
from swarm.purging import greeters
from swarm.rumours import SAID, SUSPICION, VOUCH, VOUCH_CONTEXT, News, Rumours, Suspicion, Vouch
from swarm.suspicion import CONFIRMATIONS, Awareness, suspicion_s

ENOUGH_VOUCHES = 2
MOST_VOUCHES = 8  # kept of a member; some may be of members unknown here
DIAL_AGAIN_S = (
    1.0,
    2.0,
    4.0,
    8.0,
    15.0,
    30.0,
)  # between attempts to reach a member that nobody reached; the last repeats
RENEW_S = 5.0  # an unreached member speaks anew so often ...
SILENCE_S = 12.0  # ... and one that did not for so long is dialled a last time, and forgotten
GRAVE_S = 3600.0  # the dead are remembered: old rumours must not raise them, and they may be behind a partition
GRAVE_TOLD_S = 60.0  # others are told of a death in push-pulls for so long
MOST_ADDRESS_BYTES = 256

Sign = Callable[[bytes, bytes], Signed]  # (context, body): with this node's key
Verify = Callable[[bytes, bytes, Signed], None]  # (public key, context, signed): RemoteError if it does not verify


@dataclass
class Record:
    """What is known of another member, alive or dead."""

    said: Announcement
    signed: Signed
    heard_at: float
    reached: bool = False
    vouches: dict[str, Signed] = field(default_factory=dict)
    proved: set[tuple[str, bytes]] = field(default_factory=set)  # vouchers and the keys by which their vouches verify
    suspecters: set[str] = field(default_factory=set)
    suspect_at: float = 0.0
    dial_at: float = float("inf")
    is_dialled: bool = False  # just now
    attempts: int = 0
    contender: Signed | None = None  # who bears its name elsewhere, or with another key, should it die
    buried_at: float = 0.0

    @property
    def address(self) -> str:
        return self.said.address or ""

    @property
    def is_suspect(self) -> bool:
        return bool(self.suspecters)


class Members:
    """Times are seconds of any monotonic clock, passed in. `generation` counts what changes a view. With `observes`
    this node is no member: it learns, and nobody hears of it."""

    def __init__(
        self,
        me: Announcement,
        sign: Sign,
        verify: Verify,
        awareness: Awareness,
        *,
        observes: bool = False,
        admits: Callable[[Announcement], bool] = lambda said: True,
    ) -> None:
        self.me = me
        self._sign, self._verify = sign, verify
        self._awareness = awareness
        self.observes = observes
        self._admits = admits
        self.living: dict[str, Record] = {}
        self.graves: dict[str, Record] = {}  # the oldest first
        self._watched: set[str] = set()  # those with a deadline are among them
        self.rumours = Rumours()
        self.generation = 0
        self.misses_some = False  # somebody was vouched for whom we do not know: ask
        self.arrived: list[str] = []  # members new to us, for whoever probes them; he empties it
        self.contested: list[str] = []  # members whose name another claims: are they still there? Likewise
        self.rejected = 0  # announcements and vouches that did not verify
        self._signed = self._sign_me()
        self._own = Record(me, self._signed, 0.0)  # what others vouch of us

    def __repr__(self) -> str:
        suspects = sum(record.is_suspect for record in self.living.values())
        return f"<Members {len(self.living)} living, {suspects} of them suspect, {len(self.graves)} dead>"

    # --- this node itself

    @property
    def signed(self) -> Signed:
        return self._signed

    @property
    def is_member(self) -> bool:
        """Others can know of us: we have an address to give them."""
        return not self.observes and self.me.address is not None

    @property
    def is_reached(self) -> bool:
        return self._own.reached

    @property
    def vouchers(self) -> list[str]:
        return self._vouchers(self._own)

    def _sign_me(self) -> Signed:
        return self._sign(ANNOUNCEMENT_CONTEXT, msgspec.msgpack.encode(self.me))

    def speak(self, now: float, **changes: object) -> None:
        """Announce ourselves anew: later than all that is known of us."""
        self.me = msgspec.structs.replace(self.me, refutation=self.me.refutation + 1, **changes)
        self._signed = self._sign_me()
        kept = (self._own.said.incarnation, self._own.address) == (self.me.incarnation, self.me.address)
        if not kept:
            self._own = Record(self.me, self._signed, now)
            self.generation += 1
        self._own.said, self._own.heard_at = self.me, now
        if self.is_member:
            self.rumours.add((SAID, self.me.node), self._signed)

    def _on_own(self, said: Announcement, now: float) -> None:
        """A word under our key later than our last: from before a restart, by a clock that was ahead."""
        if said.key == self.me.key and said.stamp > self.me.stamp and not self.me.leaving:
            self.me = msgspec.structs.replace(self.me, incarnation=said.incarnation, refutation=said.refutation)
            self.speak(now)

    # --- what is heard

    def take(self, news: News, now: float) -> None:
        """Everything in a message but items. What does not verify or cannot be read is left out, and counted."""
        for doing, rumours in ((self._on_said, news.said), (self._on_vouch, news.vouches)):
            for signed in rumours:
                try:
                    doing(signed, now)
                except RemoteError:
                    self.rejected += 1
        for suspicion in news.suspicions:
            self._on_suspicion(suspicion, now)

    def _on_said(self, signed: Signed, now: float) -> None:
        known = self.living.get(signed.signer)
        if known is not None and known.signed == signed:
            return
        said = read_announcement(signed)
        if said.node == self.me.node:
            self._verify(said.key, ANNOUNCEMENT_CONTEXT, signed)
            self._on_own(said, now)
        elif self._admits(said) and is_address(said.address) and self._is_news(said, known):
            self._verify(said.key, ANNOUNCEMENT_CONTEXT, signed)
            if known is None:
                self._welcome(said, signed, now)
            elif (said.key, said.address) == (known.said.key, known.said.address):
                self._renew(known, said, signed, now)
            else:
                known.contender = signed
                self.contested.append(said.node)

    def _is_news(self, said: Announcement, known: Record | None) -> bool:
        before = known or self.graves.get(said.node)
        if before is None:
            return len(self.living) < MOST_MEMBERS
        return said.stamp > before.said.stamp

    def _welcome(self, said: Announcement, signed: Signed, now: float) -> None:
        """One that only fell silent for a while was reached before, and is what it was."""
        grave = self.graves.pop(said.node, None)
        if said.leaving:
            self._bury(Record(said, signed, now), now)
            return
        record = Record(said, signed, now)
        if grave is not None and (grave.said.incarnation, grave.address) == (said.incarnation, said.address):
            record.reached, record.vouches = grave.reached, grave.vouches
        self.living[said.node] = record
        self.arrived.append(said.node)
        self._watched.add(said.node)
        if not record.reached and (self.observes or self.me.node in greeters(said.node, [*self.living, self.me.node])):
            record.dial_at = now
        self.rumours.drop(SUSPICION, said.node)
        self.rumours.add((SAID, said.node), signed)
        self.generation += 1
        self._judge_all()  # whose vouch could not be verified before

    def _renew(self, known: Record, said: Announcement, signed: Signed, now: float) -> None:
        """A later word of a living member, at the same address: it refutes, it restarted, or it says goodbye."""
        if said.leaving:
            known.said, known.signed = said, signed
            self._bury(known, now)
        elif said.incarnation != known.said.incarnation:
            del self.living[said.node]
            self._welcome(said, signed, now)
        else:
            known.said, known.signed, known.heard_at = said, signed, now
            known.suspecters.clear()
            self.rumours.drop(SUSPICION, said.node)
            self.rumours.add((SAID, said.node), signed)

    def _on_suspicion(self, suspicion: Suspicion, now: float) -> None:
        if suspicion.node == self.me.node:
            if suspicion.stamp == self.me.stamp and not self.me.leaving and self.is_member:
                self._awareness.worsen()
                self.speak(now)
        elif suspicion.by in self.living and suspicion.by != suspicion.node:
            self._suspect(suspicion, now)

    def suspect(self, node: str, now: float) -> None:
        """We could not reach it, nor could those we asked."""
        record = self.living.get(node)
        if record is not None:
            self._suspect(self.suspicion_of(record), now)

    def suspicion_of(self, record: Record) -> Suspicion:
        return Suspicion(record.said.node, *record.said.stamp, by=self.me.node)

    def _suspect(self, suspicion: Suspicion, now: float) -> None:
        record = self.living.get(suspicion.node)
        if record is None or suspicion.stamp != record.said.stamp or not record.reached:
            return  # about an earlier word, or one that nobody here has heard and it could not refute
        if suspicion.by in record.suspecters or len(record.suspecters) > CONFIRMATIONS:
            return
        if not record.suspecters:
            record.suspect_at = now
            self._watched.add(suspicion.node)
        record.suspecters.add(suspicion.by)
        self.rumours.add((SUSPICION, suspicion.node, suspicion.by), suspicion)

    # --- reached or not

    def _on_vouch(self, signed: Signed, now: float) -> None:
        vouch = _read_vouch(signed)
        record = self._own if vouch.node == self.me.node else self.living.get(vouch.node)
        if record is None:
            self.misses_some |= vouch.node not in self.graves
            return
        if (vouch.incarnation, vouch.address) != (record.said.incarnation, record.address):
            return
        if signed.signer in record.vouches or signed.signer == vouch.node:
            return
        if record.reached and len(self._vouchers(record)) >= ENOUGH_VOUCHES:
            return
        while len(record.vouches) >= MOST_VOUCHES:
            del record.vouches[next(iter(record.vouches))]
        record.vouches[signed.signer] = signed
        if signed.signer in self._vouchers(record):
            self.rumours.add((VOUCH, vouch.node, signed.signer), signed)
            self._judge(record)

    def on_reached(self, node: str, now: float) -> None:
        """It answered us at its address. We vouch for it, unless enough others who live do."""
        record = self.living.get(node)
        if record is None:
            return
        record.heard_at, record.dial_at, record.is_dialled, record.attempts = now, float("inf"), False, 0
        if self.me.node not in record.vouches and len(self._vouchers(record)) < ENOUGH_VOUCHES:
            vouch = Vouch(node, record.said.incarnation, record.address)
            signed = self._sign(VOUCH_CONTEXT, msgspec.msgpack.encode(vouch))
            record.vouches[self.me.node] = signed
            if not self.observes:
                self.rumours.add((VOUCH, node, self.me.node), signed)
            self._judge(record)

    def on_unreached(self, node: str, now: float) -> None:
        """It did not answer when it was dialled."""
        record = self.living.get(node)
        if record is None or record.reached:
            return
        record.is_dialled = False
        if now - record.heard_at >= SILENCE_S:
            del self.living[node]
            self.rumours.drop(SAID, node)
            self.generation += 1
            return
        record.dial_at = now + DIAL_AGAIN_S[min(record.attempts, len(DIAL_AGAIN_S) - 1)]
        record.attempts += 1

    def _vouchers(self, record: Record) -> list[str]:
        """The living members whose vouch for it verifies."""
        found = []
        for voucher, signed in list(record.vouches.items()):
            key = self._key_of(voucher)
            if key is None:
                continue
            if (voucher, key) not in record.proved:
                try:
                    self._verify(key, VOUCH_CONTEXT, signed)
                except RemoteError:
                    del record.vouches[voucher]
                    self.rejected += 1
                    continue
                record.proved.add((voucher, key))
            found.append(voucher)
        return found

    def _key_of(self, node: str) -> bytes | None:
        if node == self.me.node:
            return self.me.key
        record = self.living.get(node)
        return record.said.key if record else None

    def _judge(self, record: Record) -> None:
        """Reached once is reached, as long as it lives there."""
        others = len(self.living) - (record is not self._own and self.observes)  # members beside it
        needed = ENOUGH_VOUCHES if others > 1 else 1
        if not record.reached and len(self._vouchers(record)) >= needed:
            record.reached, record.dial_at = True, float("inf")
            self.generation += 1

    def _judge_all(self) -> None:
        for record in chain(self.living.values(), (self._own,)):
            if not record.reached and record.vouches:
                self._judge(record)

    # --- time

    def expire(self, now: float) -> None:
        """Draw the verdicts that are due, speak anew if nobody reaches us, forget old graves."""
        for record in [one for one in self._unsettled() if one.is_suspect and self._verdict_at(one) <= now]:
            self._bury(record, now)
        while self._oldest_grave_at + GRAVE_S <= now:
            del self.graves[next(iter(self.graves))]
        if self._renews and self._own.heard_at + RENEW_S <= now:
            self.speak(now)

    def _unsettled(self) -> list[Record]:
        """Suspect, or not reached: those for whom time counts."""
        living = self.living
        watched = [living[node] for node in sorted(self._watched) if node in living]
        watched = [record for record in watched if record.is_suspect or not record.reached]
        self._watched = {record.said.node for record in watched}
        return watched

    @property
    def _oldest_grave_at(self) -> float:
        return next((grave.buried_at for grave in self.graves.values()), float("inf"))

    @property
    def _renews(self) -> bool:
        return self.is_member and not self.is_reached and bool(self.living) and not self.me.leaving

    def _verdict_at(self, record: Record) -> float:
        others = len(self.living) - self.observes
        return record.suspect_at + suspicion_s(others, len(record.suspecters) - 1)

    def postpone(self, late_s: float) -> None:
        """We were not there to hear refutations."""
        for record in self._unsettled():
            record.suspect_at += late_s

    def due_dials(self, now: float) -> list[Record]:
        """Whom to dial now; each is given out once until its outcome is told."""
        due = [record for record in self._unsettled() if self._dial_at(record) <= now]
        for record in due:
            record.is_dialled = True
        return due

    def _dial_at(self, record: Record) -> float:
        if record.reached or record.is_dialled:
            return float("inf")
        return min(record.dial_at, record.heard_at + SILENCE_S)

    def next_deadline(self) -> float:
        """When `expire` or `due_dials` next has something to do; infinite if never."""
        settled_at = (
            self._verdict_at(record) if record.is_suspect else self._dial_at(record) for record in self._unsettled()
        )
        speak_at = self._own.heard_at + RENEW_S if self._renews else float("inf")
        return min(self._oldest_grave_at + GRAVE_S, speak_at, *settled_at)

    def _bury(self, record: Record, now: float) -> None:
        node = record.said.node
        self.living.pop(node, None)
        record.suspecters.clear()
        record.buried_at = now
        self.graves.pop(node, None)
        self.graves[node] = record
        if len(self.graves) > MOST_MEMBERS:
            del self.graves[next(iter(self.graves))]
        for word in (SAID, VOUCH):
            self.rumours.drop(word, node)
        if record.said.leaving:
            self.rumours.add((SAID, node), record.signed)
        self.generation += 1
        self._judge_all()  # of fewer members fewer need vouch
        if record.contender is not None:
            contender, record.contender = record.contender, None
            self._on_said(contender, now)

    # --- what is told

    def digest(self) -> int:
        """Two members who know the same have the same."""
        digest = 0
        for record in self._all():
            said = record.said
            text = f"{said.node}\0{said.incarnation}\0{said.refutation}\0{record.reached}\0{record.is_suspect}"
            digest ^= xxh3_64_intdigest(text.encode())
        return digest

    def _all(self) -> Iterator[Record]:
        yield from self.living.values()
        if self.is_member and not self.me.leaving:
            yield self._own

    def whole(self, now: float) -> News:
        """All that is known, for a push-pull."""
        fresh = [grave for grave in self.graves.values() if now - grave.buried_at < GRAVE_TOLD_S]
        said = [record.signed for record in self.living.values()]
        said += [grave.signed for grave in fresh if grave.said.leaving]
        if self.is_member:
            said.append(self._signed)
        suspicions = [self.suspicion_of(grave) for grave in fresh if not grave.said.leaving]
        for node, record in self.living.items():
            suspicions += [Suspicion(node, *record.said.stamp, by=by) for by in record.suspecters]
        vouches = [
            record.vouches[voucher] for record in self._all() for voucher in self._vouchers(record)[:ENOUGH_VOUCHES]
        ]
        return News(said=tuple(said), suspicions=tuple(suspicions), vouches=tuple(vouches))

    def beyond(self, theirs: News, now: float) -> News:
        """What of all we know another does not, given all it knows."""
        mine = self.whole(now)
        stamps = {signed.signer: stamp for signed in theirs.said for stamp in _stamp_of(signed)}
        said = tuple(
            signed for signed in mine.said for stamp in _stamp_of(signed) if stamp > stamps.get(signed.signer, (-1, -1))
        )
        known = {*theirs.suspicions, *theirs.vouches}
        suspicions = tuple(one for one in mine.suspicions if one not in known and one.node in stamps)
        return News(said=said, suspicions=suspicions, vouches=tuple(one for one in mine.vouches if one not in known))

    def about(self, node: str) -> Suspicion | None:
        """What a suspect should be told first, and the dead that speak."""
        record = self.living.get(node) or self.graves.get(node)
        dead = record is not None and node not in self.living and not record.said.leaving
        return self.suspicion_of(record) if record is not None and (dead or record.is_suspect) else None

    def last_word(self, node: str) -> tuple[Signed, ...]:
        """What the dead one said last: if it lives again by an earlier clock, that tells it what to go beyond."""
        grave = self.graves.get(node)
        return (grave.signed,) if grave is not None else ()

    def conflict(self, signed: Iterable[Signed], node: str) -> str | None:
        """The address of the living member that bears this name, if it is another than who speaks."""
        for one in signed:
            if one.signer != node:
                continue
            try:
                said = read_announcement(one)
                self._verify(said.key, ANNOUNCEMENT_CONTEXT, one)
            except RemoteError:
                continue
            if node == self.me.node:
                return self.me.address or "an address unknown to itself" if said.key != self.me.key else None
            bearer = self.living.get(node)
            moved = bearer is not None and said.address is not None and said.address != bearer.address
            if bearer is not None and (said.key != bearer.said.key or moved):
                return bearer.address
        return None

    def is_dead(self, node: str, incarnation: int) -> bool:
        """Whether it died (or left) in that life."""
        grave = self.graves.get(node)
        return grave is not None and grave.said.incarnation >= incarnation

    def view(self) -> tuple[Member, ...]:
        """This node included, once others can know of it."""
        return tuple(
            Member(self._signed if record is self._own else record.signed, record.address, _state(record))
            for record in self._all()
        )


def _state(record: Record) -> State:
    return State.ALIVE if record.reached else State.LEAF


def _stamp_of(signed: Signed) -> Iterator[tuple[int, int]]:
    try:
        yield read_announcement(signed).stamp
    except RemoteError:
        return


def _read_vouch(signed: Signed) -> Vouch:
    try:
        return msgspec.msgpack.decode(signed.body, type=Vouch)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RemoteError(f"malformed vouch: {error}") from error


def is_address(address: str | None) -> bool:
    """Whether it is a URL that a member may be asked at."""
    if address is None or len(address.encode()) > MOST_ADDRESS_BYTES or not address.isprintable():
        return False
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and " " not in address
    except ValueError:
        return False

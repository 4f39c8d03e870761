"""Membership without a centre: SWIM (Das, Gupta and Motivala, 2002) with suspicion and Lifeguard's refinements.

A machine over `swarm.membership`: (question | answer | silence | deadline, now) -> effects. Every half second a member
pings another, in a shuffled round; one that is silent is pinged by three others too, then suspected. Rumours ride on
every message, and go to three members every 0.2 s while there are any. Every ten seconds two members compare what they
know. Somebody to start from (a seed, the tracker's view, the last view, a dead member's address) is asked while it is
not among the living, so that halves that were parted find each other.
"""

import random
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from swarm.errors import RemoteError
from swarm.members import Announcement
from swarm.membership import Members, Record, Sign, Verify
from swarm.metainfo import Signed
from swarm.rumours import FORMAT, ITEM, MOST_ITEM_BYTES, GossipMessage, GossipReply, Item, Kind, News
from swarm.suspicion import Awareness

PROBE_EVERY_S = 0.5
DIRECT_S = 0.5  # for an answer to a ping ...
INDIRECT_S = 1.0  # ... and to a request to ping
HELPERS = 3
TELL_EVERY_S = 0.2
TOLD_AT_ONCE = 3
SYNC_EVERY_S = 10.0
OBSERVE_EVERY_S = 0.5  # who is no member asks so often whether anything is new
SYNC_S = 2.0
MISSING_S = 0.5  # after we heard of somebody we do not know
CONTACT_EVERY_S = (1.0, 3.0)  # while nobody is known, and else
CONTACTS_AT_ONCE = 3
DISPUTED_S = 1.0  # between questions while another bears our name
LATE_S = 0.5  # a deadline that is so late tells that we were not running
GOODBYES = 5
MOST_CONTACTS = 10_000
MOST_ITEMS = 1_000  # kept for newcomers
MOST_ITEMS_KNOWN = 2_000


@dataclass(frozen=True)
class Ask:
    """Order: put this question. Tell `on_answered` or, after `within_s` at the latest, `on_silent`: either, once."""

    ticket: int
    address: str
    message: GossipMessage
    within_s: float


@dataclass(frozen=True)
class Answer:
    """Order: answer the question that came with this ticket."""

    ticket: int
    reply: GossipReply


@dataclass(frozen=True)
class Heard:
    """An item of another kind arrived for the first time. Nobody relays what he has not verified: to pass it on, spread
    it."""

    kind: str
    signed: Signed
    sender: str


Effect = Ask | Answer | Heard


class _Why(Enum):
    PROBE = auto()  # is it there?
    HELP = auto()  # can that one reach it?
    RELAY = auto()  # pinged for another
    DIAL = auto()  # can it be reached at its address at all?
    TELL = auto()
    SYNC = auto()


@dataclass
class _Probe:
    """Of a member that did not answer us."""

    node: str
    asked: int
    waiting: int
    unheard: int = 0  # helpers that did not answer either: maybe it is us


@dataclass
class _Asked:
    why: _Why
    node: str  # whom; empty: whoever answers there
    address: str
    probe: _Probe | None = None
    ticket: int = 0  # of whom we relay for
    is_announced: bool = False  # the question told our address


class Gossip:
    """Times are seconds of any monotonic clock, passed in; randomness is brought."""

    def __init__(
        self,
        me: Announcement,
        sign: Sign,
        verify: Verify,
        rng: random.Random,
        *,
        observes: bool = False,
        only_role: str | None = None,
    ) -> None:
        """`observes`: learn, and be no member. `only_role`: who has another is no member either."""
        self.awareness = Awareness()
        self.members = Members(
            me,
            sign,
            verify,
            self.awareness,
            observes=observes,
            admits=lambda said: only_role in (None, said.role),
        )
        self._random = rng
        self._asked: dict[int, _Asked] = {}
        self._tickets = 0
        self._round: list[str] = []
        self._seeds: tuple[str, ...] = ()
        self._contacts: dict[str, str] = {}  # addresses to start from, seeds among them -> who answered there
        self._kept: dict[int, tuple[Item, float]] = {}  # by name: items for newcomers, and until when
        self._known: OrderedDict[int, None] = OrderedDict()  # names of items that were heard
        self._probe_at = self._tell_at = self._sync_at = self._contact_at = float("inf")
        self._due_at = float("inf")
        self.has_met = False  # somebody has answered
        self.is_accepted = False  # ... who took our announcement for ours
        self.conflict: str | None = None  # until then: the address of the living member that bears our name

    def __repr__(self) -> str:
        return f"<Gossip {self.members!r} {self.awareness!r}>"

    @property
    def me(self) -> str:
        return self.members.me.node

    # --- from outside

    def start(self, seeds: Iterable[str], now: float) -> None:
        """From now on deadlines count."""
        self._seeds = tuple(seeds)
        self._contacts = dict.fromkeys(self._seeds, "")
        self._contact_at = now
        self._sync_at = now + self._jittered(self._sync_every_s)
        self._probe_at = self._tell_at = now if not self.members.observes else float("inf")
        self._remember_deadline(now)

    def on_contacts(self, addresses: Iterable[str], now: float) -> None:
        """Where else members may be found, in place of what was told before."""
        before, known = self._contacts, (*self._seeds, *addresses)[:MOST_CONTACTS]
        self._contacts = {address: before.get(address, "") for address in known}
        if self._contacts.keys() - before.keys() and not self.members.living:
            self._contact_at = min(self._contact_at, now)
        self._remember_deadline(now)

    def on_observed(self, host: str, now: float) -> None:
        """Somebody saw us at this host: that is our address if we know none."""
        me = self.members.me
        if me.address is None and host and not self.members.observes:
            self.members.speak(now, address=f"http://{host}:{me.port}")
            self._sync_at = now  # now there is something to say
            self._remember_deadline(now)

    def spread(self, kind: str, signed: Signed, keep_s: float, now: float) -> None:
        """Tell everybody, and newcomers for so long. ValueError if it is too long."""
        item = Item(kind, signed, round(keep_s * 1000))
        if len(signed.body) > MOST_ITEM_BYTES:
            raise ValueError(f"{kind} of {len(signed.body)} bytes")
        if item.name in self._kept:
            return
        self._note_known(item.name)
        self._kept[item.name] = (item, now + keep_s)
        if len(self._kept) > MOST_ITEMS:
            del self._kept[next(iter(self._kept))]
        if not self.members.observes:
            self.members.rumours.add((ITEM, str(item.name)), item)
        self._remember_deadline(now)

    def leave(self, now: float) -> list[Effect]:
        """Say goodbye, signed; who hears it passes it on."""
        if not self.members.is_member:
            return []
        self.members.speak(now, leaving=True)
        told = self._some(GOODBYES)
        self._probe_at = self._tell_at = self._sync_at = self._contact_at = float("inf")
        return [self._ping(_Why.TELL, record) for record in told]

    @property
    def is_alone(self) -> bool:
        """There is nobody to start from."""
        mine = {self.members.me.address, ""}
        return all(node == self.me or address in mine for address, node in self._contacts.items())

    # --- questions

    def on_message(self, ticket: int, message: GossipMessage, now: float) -> list[Effect]:
        """RemoteError for a format we do not read. The answer may come later, when another has been asked."""
        if message.format != FORMAT:
            raise RemoteError(f"gossip of format {message.format}; this program reads {FORMAT}")
        knew = self.members.living.get(message.node)
        effects = self._take(message.news, message.node, now)
        match message.kind:
            case Kind.PING:
                effects.append(Answer(ticket, self._reply(message)))
            case Kind.PROBE:
                effects.append(self._relay(ticket, message))
            case Kind.SYNC:
                if knew is None and (newcomer := self.members.living.get(message.node)) and not newcomer.reached:
                    newcomer.dial_at = now  # whom it came to first is to see whether it can be reached
                effects.append(Answer(ticket, self._sync_reply(message, now)))
        self._remember_deadline(now)
        return effects

    def _reply(self, message: GossipMessage, *, reached: bool = False) -> GossipReply:
        rumours = self.members.rumours
        if message.node in self.members.living:
            news = rumours.take(len(self.members.living), but=message.news)
        else:
            news = rumours.peek()
        return GossipReply(node=self.me, reached=reached, news=self._warn(news, message.node))

    def _warn(self, news: News, node: str) -> News:
        """Who is suspected hears it first (Lifeguard's buddy system)."""
        about = self.members.about(node)
        if about is None or about in news.suspicions:
            return news
        return News(said=news.said, suspicions=(about, *news.suspicions), vouches=news.vouches, items=news.items)

    def _sync_reply(self, message: GossipMessage, now: float) -> GossipReply:
        """Everything, if the asker knows anything else than we do."""
        conflict = self.members.conflict(message.news.said, message.node)
        differs = message.digest != self.members.digest()
        news = self.members.whole(now) if differs else News()
        news = News(
            said=news.said + self.members.last_word(message.node),
            suspicions=news.suspicions,
            vouches=news.vouches,
            items=self._items_beyond(message.items, now),
        )
        return GossipReply(
            node=self.me,
            news=self._warn(news, message.node),
            whole=differs,
            items=tuple(self._known),
            conflict=conflict,
        )

    def _relay(self, ticket: int, message: GossipMessage) -> Effect:
        """Ping a member for another; only members, so that we cannot be used against anybody else."""
        record = self.members.living.get(message.target)
        if record is None:
            return Answer(ticket, self._reply(message))
        return self._ping(_Why.RELAY, record, ticket=ticket, within_s=DIRECT_S)

    # --- answers

    def on_answered(self, ticket: int, reply: GossipReply, now: float) -> list[Effect]:
        asked = self._asked[ticket]
        if reply.node == self.me or (asked.node and reply.node != asked.node) or reply.format != FORMAT:
            if reply.node == self.me:
                self._contacts[asked.address] = self.me
            return self.on_silent(ticket, now)  # whoever lives there now, it is not who was asked
        del self._asked[ticket]
        self.has_met = True
        if asked.address in self._contacts:
            self._contacts[asked.address] = reply.node
        self.on_observed(reply.observed, now)
        effects = self._take(reply.news, reply.node, now)
        record = self.members.living.get(reply.node)
        if record is not None and record.address == asked.address:
            self.members.on_reached(reply.node, now)
        effects += self._on_good(asked, reply, now)
        self._remember_deadline(now)
        return effects

    def _on_good(self, asked: _Asked, reply: GossipReply, now: float) -> list[Effect]:
        match asked.why:
            case _Why.PROBE:
                self.awareness.improve()
            case _Why.HELP:
                assert asked.probe is not None
                self._on_help(asked.probe, now, reached=reply.reached, heard=True)
            case _Why.RELAY:
                return [Answer(asked.ticket, GossipReply(node=self.me, reached=True))]
            case _Why.SYNC:
                return self._on_synced(asked, reply, now)
            case _Why.DIAL | _Why.TELL:
                pass
        return []

    def on_silent(self, ticket: int, now: float) -> list[Effect]:
        """Nobody answered in time, or not who was asked."""
        asked = self._asked.pop(ticket)
        effects: list[Effect] = []
        match asked.why:
            case _Why.PROBE:
                effects = self._ask_helpers(asked.node, now)
            case _Why.HELP:
                assert asked.probe is not None
                self._on_help(asked.probe, now, reached=False, heard=False)
            case _Why.RELAY:
                effects = [Answer(asked.ticket, GossipReply(node=self.me))]
            case _Why.DIAL:
                self.members.on_unreached(asked.node, now)
            case _Why.TELL | _Why.SYNC:
                pass
        self._remember_deadline(now)
        return effects

    def _ask_helpers(self, node: str, now: float) -> list[Effect]:
        helpers = self._some(HELPERS, but=node)
        probe = _Probe(node, len(helpers), len(helpers))
        if not helpers:
            self._on_unreachable(probe, now)
        within_s = INDIRECT_S * self.awareness.factor
        return [
            self._ask(
                _Asked(_Why.HELP, helper.said.node, helper.address, probe),
                GossipMessage(kind=Kind.PROBE, node=self.me, to=helper.said.node, target=node, news=self._news()),
                within_s,
            )
            for helper in helpers
        ]

    def _on_help(self, probe: _Probe, now: float, *, reached: bool, heard: bool) -> None:
        if probe.waiting == 0:
            return
        probe.waiting -= 1
        probe.unheard += not heard
        if reached:
            probe.waiting = 0
            self.awareness.improve()
        elif probe.waiting == 0:
            self._on_unreachable(probe, now)

    def _on_unreachable(self, probe: _Probe, now: float) -> None:
        """Neither we nor our helpers reached it. That the helpers were silent too speaks against ourselves."""
        self.awareness.worsen(probe.unheard if probe.asked else 1)
        self.members.suspect(probe.node, now)

    def _on_synced(self, asked: _Asked, reply: GossipReply, now: float) -> list[Effect]:
        """Push what the other lacks; who is no member only items."""
        if not self.is_accepted and asked.is_announced:
            self.conflict, self.is_accepted = reply.conflict, reply.conflict is None
            if self.conflict is not None:
                self._sync_at = min(self._sync_at, now + DISPUTED_S)
        news = self.members.beyond(reply.news, now) if reply.whole and not self.members.observes else News()
        news = News(
            said=news.said,
            suspicions=news.suspicions,
            vouches=news.vouches,
            items=self._items_beyond(reply.items, now),
        )
        if news == News():
            return []
        message = GossipMessage(node=self.me, to=reply.node, news=news)
        return [self._ask(_Asked(_Why.TELL, reply.node, asked.address), message, SYNC_S)]

    # --- news

    def _take(self, news: News, sender: str, now: float) -> list[Effect]:
        generation = self.members.generation
        self.members.take(news, now)
        if generation != self.members.generation and not self.members.observes:
            self._tell_at = min(self._tell_at, now + TELL_EVERY_S)
        heard: list[Effect] = []
        for item in news.items:
            if item.name not in self._known and len(item.signed.body) <= MOST_ITEM_BYTES:
                self._note_known(item.name)
                heard.append(Heard(item.kind, item.signed, sender))
        if self.members.misses_some:
            self.members.misses_some = False
            self._sync_at = min(self._sync_at, now + self._jittered(MISSING_S))
        self._line_up(now)
        return heard

    def _line_up(self, now: float) -> None:
        """A newcomer comes into the round at random, so that it is probed as often as the others from the start."""
        members = self.members
        for node in members.arrived:
            self._round.insert(self._random.randint(0, len(self._round)), node)
        if members.contested:
            self._round += members.contested
            self._probe_at = min(self._probe_at, now)
        members.arrived.clear()
        members.contested.clear()

    def _note_known(self, name: int) -> None:
        self._known[name] = None
        while len(self._known) > MOST_ITEMS_KNOWN:
            self._known.popitem(last=False)

    def _items_beyond(self, known: Iterable[int], now: float) -> tuple[Item, ...]:
        """Kept items that another does not know, with the time that is left to them."""
        theirs = set(known)
        return tuple(
            Item(item.kind, item.signed, round((until - now) * 1000))
            for name, (item, until) in self._kept.items()
            if name not in theirs and until > now
        )

    def _news(self) -> News:
        return self.members.rumours.take(len(self.members.living))

    # --- time

    def on_deadline(self, now: float) -> list[Effect]:
        """Whatever is due."""
        late_s = now - self._due_at
        if late_s > LATE_S:
            self.awareness.worsen()
            self.members.postpone(late_s)
        self.members.expire(now)
        for name in [name for name, (_, until) in self._kept.items() if until <= now]:
            del self._kept[name]
        effects: list[Effect] = [self._ping(_Why.DIAL, record) for record in self.members.due_dials(now)]
        if self._probe_at <= now:
            effects += self._probe_next(now)
        if self._sync_at <= now:
            self._sync_at = now + self._jittered(self._sync_every_s)
            effects += [self._sync(record.address, record.said.node) for record in self._some(1)]
        if self._contact_at <= now:
            effects += self._contact(now)
        if self._tell_at <= now:
            self._tell_at = now + TELL_EVERY_S
            if self.members.rumours:
                effects += [self._ping(_Why.TELL, record) for record in self._some(TOLD_AT_ONCE)]
        self._remember_deadline(now)
        return effects

    @property
    def _sync_every_s(self) -> float:
        return OBSERVE_EVERY_S if self.members.observes else SYNC_EVERY_S

    def next_deadline(self) -> float:
        """When `on_deadline` next has something to do."""
        tell_at = self._tell_at if self.members.rumours and self.members.living else float("inf")
        probe_at = self._probe_at if self.members.living else float("inf")
        sync_at = self._sync_at if self.members.living else float("inf")
        return min(tell_at, probe_at, sync_at, self._contact_at, self.members.next_deadline())

    def _remember_deadline(self, now: float) -> None:
        self._due_at = max(now, self.next_deadline())

    def _jittered(self, seconds: float) -> float:
        return seconds * self._random.uniform(0.8, 1.2)

    def _probe_next(self, now: float) -> list[Effect]:
        """The next of the round; at the end of it everybody is shuffled anew, so that each is probed once a round."""
        self._probe_at = now + PROBE_EVERY_S * self.awareness.factor
        living = self.members.living
        for _ in range(2):
            while self._round:
                record = living.get(self._round.pop())
                if record is not None and record.reached:
                    return [self._ping(_Why.PROBE, record, within_s=DIRECT_S * self.awareness.factor)]
            self._round = list(living)
            self._random.shuffle(self._round)
        self._round.clear()
        return []

    def _contact(self, now: float) -> list[Effect]:
        """Somebody who may be a member and is not among the living here."""
        living = self.members.living
        self._contact_at = now + self._jittered(CONTACT_EVERY_S[bool(living)])
        known = {record.address for record in living.values()} | {self.members.me.address}
        apart = [
            address
            for address, node in self._contacts.items()
            if address not in known and node not in {*living, self.me}
        ]
        apart += [
            grave.address
            for grave in self.members.graves.values()
            if not grave.said.leaving and grave.address not in known and grave.address not in self._contacts
        ]
        chosen = self._random.sample(apart, min(len(apart), 1 if living else CONTACTS_AT_ONCE))
        return [self._sync(address, "") for address in chosen]

    # --- asking

    def _some(self, most: int, but: str = "") -> list[Record]:
        """Members that can be reached as far as we know, at random."""
        able = [
            record
            for node, record in self.members.living.items()
            if node != but and (record.reached or record.attempts == 0)
        ]
        return self._random.sample(able, min(len(able), most))

    def _ping(self, why: _Why, record: Record, *, ticket: int = 0, within_s: float = DIRECT_S) -> Ask:
        node = record.said.node
        message = GossipMessage(node=self.me, to=node, news=self._warn(self._news(), node))
        return self._ask(_Asked(why, node, record.address, ticket=ticket), message, within_s)

    def _sync(self, address: str, node: str) -> Ask:
        members = self.members
        said = (members.signed,) if not members.observes else ()
        message = GossipMessage(
            kind=Kind.SYNC,
            node=self.me,
            to=node,
            news=News(said=said),
            digest=members.digest(),
            items=tuple(self._known),
        )
        return self._ask(_Asked(_Why.SYNC, node, address, is_announced=members.is_member), message, SYNC_S)

    def _ask(self, asked: _Asked, message: GossipMessage, within_s: float) -> Ask:
        self._tickets += 1
        self._asked[self._tickets] = asked
        return Ask(self._tickets, asked.address, message, within_s)

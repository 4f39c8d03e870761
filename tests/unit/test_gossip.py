"""Membership without a centre: machines that talk over a network in memory, on a virtual clock."""

import random

import msgspec
import pytest

from swarm.errors import RemoteError
from swarm.gossip import LATE_S, Answer, Ask, Gossip
from swarm.members import ANNOUNCEMENT_CONTEXT, SUPERPEER, Announcement, State
from swarm.membership import ENOUGH_VOUCHES, SILENCE_S, Members, is_address
from swarm.metainfo import Signed
from swarm.rumours import (
    MOST_NEWS_BYTES,
    VOUCH_CONTEXT,
    GossipMessage,
    GossipReply,
    Kind,
    News,
    Rumours,
    Suspicion,
    Vouch,
)
from swarm.suspicion import LEAST_S, MOST_S, Awareness, suspicion_s
from tests.sim.gossip_net import Network, key_of, sign_with, verify

JOINED_S = 2.0
GONE_S = 5.5


def net_of(count: int, seed: int = 7, *, loss: float = 0.0, refuses: bool = True) -> Network:
    """`a`, `b`, …: all of them members that carry weight."""
    net = Network(seed, loss=loss, refuses=refuses)
    names = "abcdefgh"[:count]
    for name in names:
        net.start(name, names[0] if name != names[0] else ())
    assert net.run(10, net.agree) < 10
    return net


def said(node: str, *, secret: str = "", **more: object) -> Signed:
    here = Announcement(
        node=node, key=key_of(node, secret), address=f"http://{node}:7400", port=7400, incarnation=1, gossips=True
    )
    body = msgspec.msgpack.encode(msgspec.structs.replace(here, **more))
    return sign_with(key_of(node, secret), node)(ANNOUNCEMENT_CONTEXT, body)


def vouch(by: str, node: str, *, address: str = "", incarnation: int = 1) -> Signed:
    body = msgspec.msgpack.encode(Vouch(node, incarnation, address or f"http://{node}:7400"))
    return sign_with(key_of(by), by)(VOUCH_CONTEXT, body)


def members(*known: str, reached: bool = True) -> Members:
    """What `me` knows: these, alive and, unless told otherwise, reached."""
    here = msgspec.msgpack.decode(said("me").body, type=Announcement)
    found = Members(here, sign_with(key_of("me"), "me"), verify, Awareness())
    found.take(News(said=tuple(map(said, known))), 0.0)
    if reached:
        others = [*known, "me"]
        found.take(News(vouches=tuple(vouch(by, node) for node in others for by in others if by != node)), 0.0)
        assert all(record.reached for record in found.living.values())
    return found


def is_suspect(known: Members, node: str) -> bool:
    return known.living[node].is_suspect


def is_reached(known: Members, node: str) -> bool:
    return known.living[node].reached


def disputed_by(gossip: Gossip) -> str | None:
    return gossip.conflict


# --- joining


def test_the_first_is_alone_and_the_second_carries_weight_once_the_first_has_reached_it():
    net = Network(1)
    net.start("a")
    net.run(1)
    assert net.view("a") == {}, "nobody has told it where it is"
    net.start("b", "a")
    assert net.run(10, net.agree) < JOINED_S


@pytest.mark.parametrize("count", [3, 8])
def test_who_joins_is_in_every_view_within_two_seconds(count):
    net = net_of(count)
    net.run(20)
    net.start("new", "b")
    assert net.run(10, net.agree) < JOINED_S


def test_two_swarms_that_grew_apart_become_one_when_somebody_knows_both():
    net = Network(3)
    for name, seed in (("a", ""), ("b", "a"), ("x", ""), ("y", "x")):
        net.start(name, seed)
    net.run(10)
    assert net.agree("ab")
    assert net.agree("xy")
    net.start("bridge", "ax")
    assert net.run(10, net.agree) < 10


def test_an_edge_whose_address_nobody_reaches_stays_a_leaf_while_it_speaks_and_is_forgotten_when_it_does_not():
    net = net_of(3, refuses=False)
    net.start("leaf", "a", is_reachable=False)
    assert net.run(10, lambda: net.sees("leaf", state=State.LEAF)) < JOINED_S
    net.run(60)
    assert net.sees("leaf", state=State.LEAF)
    assert net.view("leaf") == dict.fromkeys("abc", State.ALIVE) | {"leaf": State.LEAF}
    net.kill("leaf")
    assert net.run(60, lambda: net.sees("leaf", state=None)) < 2 * SILENCE_S


def test_a_seed_that_is_not_there_yet_is_asked_again():
    net = Network(1)
    net.start("a", address="http://a:7400")
    net.kill("a")
    net.start("b", "a")
    net.run(10)
    net.start("a")
    assert net.run(10, net.agree) < 5


# --- death


@pytest.mark.parametrize("refuses", [True, False])
@pytest.mark.parametrize("count", [2, 3, 8])
def test_a_dead_edge_leaves_every_view(count, refuses):
    net = net_of(count, refuses=refuses)
    net.kill("b")
    assert net.run(20, lambda: net.sees("b", state=None)) < GONE_S


def test_one_that_leaves_says_so_and_is_gone_at_once():
    net = net_of(8)
    net.run(5)
    net.leave("b")
    assert net.run(5, lambda: net.sees("b", state=None)) < 1


def test_an_edge_that_slept_too_long_is_buried_and_returns_by_its_next_word():
    net = net_of(5, refuses=False)
    sleeper = net.nodes["c"]
    sleeper.is_up = False
    assert net.run(20, lambda: net.sees("c", state=None)) < GONE_S
    sleeper.is_up = True
    net._perform(sleeper, sleeper.gossip.on_deadline(net.now))
    assert net.run(10, net.agree) < 5
    assert sleeper.gossip.members.graves == {}, "it slept: it did not bury the others"


def test_halves_that_were_parted_find_each_other():
    net = net_of(8, refuses=False)
    net.part("abcd")
    assert net.run(60, lambda: net.agree("abcd") and net.agree("efgh")) < 30
    net.run(60)
    net.heal()
    assert net.run(60, net.agree) < 5


def test_a_restart_at_the_same_address_is_taken_at_once():
    net = net_of(4)
    net.run(5)
    net.kill("c")
    net.start("c", "a")
    assert net.run(10, net.agree) < JOINED_S
    incarnations = {net[name].members.living["c"].said.incarnation for name in "abd"}
    assert incarnations == {net["c"].members.me.incarnation}


@pytest.mark.parametrize("away_s", [0, 30])
def test_a_clock_that_was_set_back_does_not_keep_an_edge_out(away_s):
    net = net_of(3)
    net.start("late", "a", clock_is_off_s=1e6)
    assert net.run(10, net.agree) < JOINED_S
    net.kill("late")
    net.run(away_s)
    net.start("late", "a")
    assert net.run(10, net.agree) < JOINED_S
    assert net["late"].members.me.stamp > (10**9, 0)


def test_under_ten_percent_loss_suspects_refute_and_nobody_is_buried():
    net = net_of(8, seed=2, loss=0.1)
    net.run(120)
    assert net.agree()
    assert sum(len(node.gossip.members.graves) for node in net.up()) == 0
    assert sum(node.gossip.members.me.refutation for node in net.up()) > 8, "there was something to refute"


# --- names


def test_a_name_belongs_to_its_living_bearer_and_the_later_one_is_told_so():
    net = net_of(3)
    net.start("b", "a", address="http://elsewhere:7400", secret="other")
    second = net.nodes["b again"]
    net.run(3)
    assert disputed_by(second.gossip) == "http://b:7400"
    assert not second.gossip.is_accepted
    assert net["a"].members.living["b"].address == "http://b:7400"
    net.kill("b")
    net.run(10, lambda: second.gossip.is_accepted)
    assert disputed_by(second.gossip) is None
    assert net.run(10, lambda: net["a"].members.living["b"].address == "http://elsewhere:7400") < 5


def test_a_copied_key_at_another_address_waits_for_the_death_of_the_first():
    net = net_of(3)
    net.start("b", "a", address="http://copy:7400")
    net.run(3)
    assert net.nodes["b again"].gossip.conflict == "http://b:7400"
    assert net["a"].members.living["b"].address == "http://b:7400"


# --- nobody speaks for another


@pytest.mark.parametrize(
    "forged",
    [
        msgspec.structs.replace(said("b"), signature=bytes(64)),
        msgspec.structs.replace(said("b", secret="other"), signature=said("b").signature),
        msgspec.structs.replace(said("b"), signer="c"),
        Signed(b"\xc1", bytes(64), "b"),
    ],
)
def test_an_announcement_that_its_node_did_not_sign_is_left_out(forged):
    known = members("a")
    known.take(News(said=(forged, said("c"))), 1.0)
    assert sorted(known.living) == ["a", "c"]
    assert known.rejected == 1


@pytest.mark.parametrize(
    "address", [None, "", "b:7400", "ftp://b", "http://b:0", "http://b :7400", "http://" + "b" * 300]
)
def test_without_an_address_to_ask_at_nobody_is_a_member(address):
    assert not is_address(address)
    known = members("a")
    known.take(News(said=(said("b", address=address),)), 1.0)
    assert list(known.living) == ["a"]


def test_nobody_says_goodbye_for_another():
    known = members("a", "b", "c")
    by_c = sign_with(key_of("c"), "b")
    body = msgspec.structs.replace(
        msgspec.msgpack.decode(said("b").body, type=Announcement), refutation=1, leaving=True
    )
    known.take(News(said=(by_c(ANNOUNCEMENT_CONTEXT, msgspec.msgpack.encode(body)),)), 1.0)
    assert "b" in known.living
    known.take(News(said=(said("b", refutation=1, leaving=True),)), 1.0)
    assert "b" not in known.living


def test_an_old_goodbye_does_not_end_a_new_life():
    known = members("a", "b")
    known.take(News(said=(said("b", incarnation=2), said("b", refutation=9, leaving=True))), 1.0)
    assert known.living["b"].said.incarnation == 2


def test_a_suspicion_buries_nobody_who_speaks_up():
    known = members("a", "b", "c")
    known.take(News(suspicions=(Suspicion("b", 1, 0, by="c"),)), 1.0)
    assert is_suspect(known, "b")
    known.take(News(said=(said("b", refutation=1),)), 2.0)
    assert not is_suspect(known, "b")
    known.take(News(suspicions=(Suspicion("b", 1, 0, by="a"),)), 2.5)
    assert not is_suspect(known, "b"), "that was about its last word but one"
    known.expire(100.0)
    assert "b" in known.living


def test_a_suspicion_of_a_word_that_was_never_said_counts_for_nothing():
    known = members("a", "b")
    known.take(News(suspicions=(Suspicion("b", 1, 7, by="a"), Suspicion("me", 1 << 62, 0, by="a"))), 1.0)
    assert not is_suspect(known, "b")
    assert known.me.stamp == (1, 0)


@pytest.mark.parametrize("by", ["stranger", "b"])
def test_a_suspicion_by_a_stranger_or_by_the_suspect_counts_for_nothing(by):
    known = members("a", "b")
    known.take(News(suspicions=(Suspicion("b", 1, 0, by=by),)), 1.0)
    assert not is_suspect(known, "b")


def test_who_is_suspected_refutes_with_a_later_word():
    known = members("a", "b")
    known.take(News(suspicions=(Suspicion("me", 1, 0, by="a"),)), 1.0)
    assert known.me.stamp == (1, 1)
    known.take(News(suspicions=(Suspicion("me", 1, 0, by="b"),)), 1.0)
    assert known.me.stamp == (1, 1), "refuted before it was said"


# --- reached


def test_two_vouches_make_a_member_carry_weight_and_one_in_a_swarm_of_two():
    known = members("a", "b", "c", reached=False)
    known.take(News(vouches=(vouch("a", "b"),)), 1.0)
    assert not is_reached(known, "b")
    known.take(News(vouches=(vouch("c", "b"),)), 1.0)
    assert is_reached(known, "b")
    pair = members("a", reached=False)
    pair.on_reached("a", 1.0)
    assert is_reached(pair, "a")
    pair.take(News(vouches=(vouch("a", "me"),)), 1.0)
    assert pair.is_reached


@pytest.mark.parametrize(
    "worthless",
    [
        vouch("b", "b"),
        vouch("c", "b", address="http://elsewhere:7400"),
        vouch("c", "b", incarnation=2),
        vouch("stranger", "b"),
        msgspec.structs.replace(vouch("c", "b"), signature=bytes(64)),
        Signed(b"\xc1", bytes(64), "c"),
    ],
)
def test_what_is_no_vouch_for_this_life_at_this_address_counts_for_nothing(worthless):
    known = members("a", "b", "c", reached=False)
    known.take(News(vouches=(vouch("a", "b"), worthless)), 1.0)
    assert not is_reached(known, "b")


def test_a_vouch_counts_once_its_voucher_is_known():
    known = members("a", "b", "c", reached=False)
    known.take(News(vouches=(vouch("a", "b"), vouch("late", "b"))), 1.0)
    assert not is_reached(known, "b")
    known.take(News(said=(said("late"),)), 2.0)
    assert is_reached(known, "b")


def test_weight_outlives_those_who_vouched_but_not_a_restart():
    known = members("a", "b", "c")
    for node in "ac":
        known.take(News(said=(said(node, refutation=1, leaving=True),)), 1.0)
    assert is_reached(known, "b")
    known.take(News(said=(said("b", incarnation=2),)), 2.0)
    assert not is_reached(known, "b")


def test_for_one_whose_vouchers_left_another_vouches_so_that_newcomers_believe_it():
    net = net_of(5)
    for name in [voucher for voucher in net["a"].members.living["b"].vouches if voucher != "a"]:
        net.leave(name)
    net.run(5)
    assert all(
        len(net[node.name].members._vouchers(record))
        for node in net.up()
        for record in node.gossip.members.living.values()
    )
    net.start("new", "b")
    assert net.run(10, net.agree) < JOINED_S


# --- suspicion and ourselves


@pytest.mark.parametrize(
    "others, confirmations, expected",
    [
        (0, 0, LEAST_S),
        (1, 0, LEAST_S),
        (2, 0, MOST_S),
        (2, 1, LEAST_S),
        (100, 0, MOST_S),
        (100, 1, 2.25),
        (100, 3, 1.5),
    ],
)
def test_a_suspect_has_less_time_the_more_agree(others, confirmations, expected):
    assert suspicion_s(others, confirmations) == pytest.approx(expected)


def test_awareness_stays_within_its_bounds():
    awareness = Awareness()
    awareness.improve()
    assert awareness.factor == 1
    awareness.worsen(99)
    assert awareness.factor == 9


def test_who_was_not_running_draws_no_verdict_when_it_wakes():
    gossip = lonely()
    gossip.members.take(News(said=(said("a"), said("b"), said("c"))), 0.0)
    everybody = ["a", "b", "c", "me"]
    gossip.members.take(News(vouches=tuple(vouch(by, to) for by in everybody for to in everybody if by != to)), 0.0)
    gossip.members.take(News(suspicions=tuple(Suspicion("b", 1, 0, by) for by in "ac")), 0.0)
    gossip.on_contacts((), 0.0)
    gossip.on_deadline(LEAST_S + LATE_S + 10)
    assert "b" in gossip.members.living
    assert gossip.awareness.score == 1
    gossip.on_deadline(gossip.next_deadline())
    while "b" in gossip.members.living:
        gossip.on_deadline(gossip.next_deadline())
    assert gossip.members.graves["b"].buried_at > LEAST_S + LATE_S + 10


# --- messages


def lonely() -> Gossip:
    here = msgspec.msgpack.decode(said("me").body, type=Announcement)
    gossip = Gossip(here, sign_with(key_of("me"), "me"), verify, random.Random(1))
    gossip.start((), 0.0)
    return gossip


def test_a_newer_format_is_refused():
    with pytest.raises(RemoteError, match="format 2"):
        lonely().on_message(1, GossipMessage(format=2, node="a"), 0.0)


def test_a_question_for_another_to_ask_is_put_to_members_only():
    gossip = lonely()
    gossip.members.take(News(said=(said("b"),)), 0.0)
    (answer,) = gossip.on_message(1, GossipMessage(kind=Kind.PROBE, node="a", target="victim"), 0.0)
    assert isinstance(answer, Answer)
    assert not answer.reply.reached
    (ask,) = gossip.on_message(2, GossipMessage(kind=Kind.PROBE, node="a", target="b"), 0.0)
    assert isinstance(ask, Ask)
    assert ask.address == "http://b:7400"
    (answer,) = gossip.on_answered(ask.ticket, GossipReply(node="b"), 0.1)
    assert answer == Answer(2, GossipReply(node="me", reached=True))


def test_another_who_answers_at_a_members_address_is_not_that_member():
    gossip = lonely()
    gossip.members.take(News(said=(said("b"),)), 0.0)
    asks = [effect for effect in gossip.on_deadline(0.0) if isinstance(effect, Ask) and effect.message.to == "b"]
    for ask in asks:
        gossip.on_answered(ask.ticket, GossipReply(node="c"), 0.1)
    assert not gossip.members.living["b"].reached
    assert gossip.members.living["b"].attempts == 1


def test_an_edge_that_meets_itself_among_its_seeds_is_alone():
    net = Network(1)
    node = net.start("a", address="http://a:7400")
    node.gossip.on_contacts(["http://a:7400"], 0.0)
    net._arm(node)
    net.run(3)
    assert node.gossip.is_alone
    assert node.gossip.members.living == {}


# --- rumours


def test_a_rumour_is_told_only_so_often_and_the_least_told_first():
    rumours = Rumours()
    first, second = Suspicion("a", 1, 0, "x"), Suspicion("b", 1, 0, "x")
    rumours.add(("suspicion", "a", "x"), first)
    assert rumours.take(3).suspicions == (first,)
    rumours.add(("suspicion", "b", "x"), second)
    assert rumours.take(3).suspicions == (second, first)
    assert rumours.take(3, but=News(suspicions=(first,))).suspicions == (second,), "who told us need not hear it"
    for _ in range(9):
        rumours.take(3)
    assert len(rumours) == 0


def test_news_of_one_message_are_bounded_and_peeking_does_not_count():
    rumours = Rumours()
    for number in range(100):
        rumours.add(("said", f"edge-{number}"), Signed(bytes(1000), bytes(64), f"edge-{number}"))
    taken = rumours.peek()
    assert 10 < len(taken.said) < 17
    assert sum(len(one.body) for one in taken.said) <= MOST_NEWS_BYTES
    assert rumours.peek() == taken


def test_a_later_rumour_takes_the_place_of_an_earlier_one():
    rumours = Rumours()
    rumours.add(("said", "a"), said("a"))
    rumours.add(("said", "a"), said("a", refutation=1))
    rumours.add(("said", "ab"), said("ab"))
    rumours.drop("said", "ab")
    assert rumours.peek().said == (said("a", refutation=1),)


# --- items of other kinds

BAN = Signed(b"liar", bytes(64), "a")


def test_an_item_is_heard_once_and_goes_no_further_unless_it_is_spread():
    net = net_of(4)
    net["a"].spread("ban", BAN, 60.0, net.now)
    net._arm(net.nodes["a"])
    net.run(3)
    heard = {node.name: [(one.kind, one.signed) for one in node.heard] for node in net.up()}
    assert heard == {"a": [], "b": [("ban", BAN)], "c": [("ban", BAN)], "d": [("ban", BAN)]}
    assert {one.sender for node in net.up() for one in node.heard} == {"a"}, "nobody relays what he did not spread"


def test_a_newcomer_hears_what_is_kept_and_only_while_it_is():
    net = net_of(3)
    for name in "ab":
        net[name].spread("ban", BAN, 60.0, net.now)
    net.run(30)
    net.start("early", "a")
    net.run(3)
    assert [one.signed for one in net.nodes["early"].heard] == [BAN]
    net.run(60)
    net.start("late", "a")
    net.run(20)
    assert net.nodes["late"].heard == []


def test_what_a_leaf_of_superpeers_spreads_reaches_them_and_by_them_the_other_leaves():
    net = Network(5)
    for name in ("s1", "s2"):
        net.start(name, ["s1"] if name != "s1" else (), role=SUPERPEER, only_role=SUPERPEER)
    for name in ("l1", "l2"):
        net.start(name, ["s1"], observes=True, only_role=SUPERPEER)
    net.run(5)
    net["l1"].spread("ban", BAN, 60.0, net.now)
    net.run(2)
    assert {node.name for node in net.up() if node.heard} >= {"s1"}
    for name in ("s1", "s2"):
        net[name].spread("ban", BAN, 60.0, net.now)
    net.run(2)
    assert [len(node.heard) for node in net.up()] == [1, 1, 0, 1]


def test_an_item_that_is_too_long_is_not_spread():
    with pytest.raises(ValueError, match="ban of 20000 bytes"):
        lonely().spread("ban", Signed(bytes(20_000), bytes(64), "a"), 60.0, 0.0)


# --- superpeers


def test_leaves_of_superpeers_know_them_and_nobody_knows_the_leaves():
    net = Network(5)
    for name in ("s1", "s2", "s3"):
        net.start(name, ["s1"] if name != "s1" else (), role=SUPERPEER, only_role=SUPERPEER)
    for name in ("l1", "l2"):
        net.start(name, ["s1"], observes=True, only_role=SUPERPEER)
    three = {"s1", "s2", "s3"}
    net.run(5)
    assert {node.name: set(net.view(node.name)) for node in net.up()} == dict.fromkeys(net.nodes, three)
    assert all(state is State.ALIVE for node in net.up() for state in net.view(node.name).values())
    net.kill("s2")
    assert net.run(20, lambda: net.sees("s2", state=None)) < GONE_S + 1


def test_an_ordinary_edge_is_no_member_among_superpeers():
    net = Network(5)
    net.start("s1", role=SUPERPEER, only_role=SUPERPEER)
    net.start("s2", ["s1"], role=SUPERPEER, only_role=SUPERPEER)
    net.start("astray", ["s1"])
    net.run(10)
    assert set(net.view("s1")) == {"s1", "s2"}
    assert ENOUGH_VOUCHES == 2

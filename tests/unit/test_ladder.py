"""The fetch ladder: facts and the orders that follow, and what holds for every sequence of facts.

Homes a, b, c, d with equal weights: piece 0 is a's, 1 b's, 2 c's, 3 d's, 4 a's again. Of a's pieces, when it is lost,
0 goes to b, 4 to c, 8 to d.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm import pieces
from swarm.accounting import Reason, Role
from swarm.ladder import (
    ORIGIN,
    AskEdge,
    AskOrigin,
    FetchAsHome,
    GiveUp,
    Order,
    Plan,
    holder_rungs,
    home_rungs,
    judge,
    pointer_rungs,
    viewer_rungs,
    zone_rungs,
)
from swarm.placement import Dealing, Edge
from swarm.wire import Why

HOME, HOLDER = Role.HOME, Role.HOLDER
EVEN = tuple(Edge(node) for node in "abcd")
FIRST, FIFTH, NINTH = 1 << 0, 1 << 4, 1 << 8  # a's pieces


def viewer(me: str = "d", *lost: str) -> Plan:
    """The viewers' plan of one of the homes, or of a leaf."""
    return Plan(me, viewer_rungs(Dealing(EVEN)), lost)


def duty(me: str = "a", previous: str = "", *, check_holders: bool = True) -> Plan:
    before = tuple(Edge(node) for node in previous)
    return Plan(me, home_rungs(EVEN, Dealing(before), check_holders=check_holders, otherwise=Reason.FIRST_COPY))


# --- a viewer's plan


def test_each_home_is_asked_once_for_all_of_its_pieces():
    assert viewer().on_wanted(0b1111_1111) == [
        AskEdge("a", HOME, 0b0001_0001),
        AskEdge("b", HOME, 0b0010_0010),
        AskEdge("c", HOME, 0b0100_0100),
        FetchAsHome(0b1000_1000, None),
    ]


def test_what_is_under_way_is_not_asked_for_again():
    plan = viewer()
    plan.on_wanted(0b0011)
    assert plan.on_wanted(0b0111) == [AskEdge("c", HOME, 0b0100)]
    plan.on_expected("b", 1 << 9)
    assert plan.on_wanted(1 << 9) == []
    assert (plan.missing, plan.expected_from("b")) == (0b10_0000_0111, 0b10_0000_0010)


def test_what_arrived_is_missing_no_more():
    plan = viewer()
    plan.on_wanted(0b0111)
    plan.on_held(1)
    plan.on_held(1)
    plan.on_held(77)
    assert plan.missing == 0b0101
    assert plan.on_refused("b", 0b0010, Why.NOT_HELD) == []
    assert repr(plan) == "<Plan 2 missing: 1 at a, 1 at c>"


def test_a_dead_homes_pieces_go_to_its_stand_ins_who_are_told_of_the_loss():
    plan = viewer()
    plan.on_wanted(FIRST | FIFTH | NINTH)
    assert plan.on_failed("a") == [
        AskEdge("b", HOME, FIRST, lost=("a",)),
        AskEdge("c", HOME, FIFTH, lost=("a",)),
        FetchAsHome(NINTH, Reason.HOME_LOST),
    ]


def test_an_edge_known_to_be_away_is_left_out_from_the_start():
    assert viewer("d", "a").on_wanted(FIRST | NINTH) == [
        AskEdge("b", HOME, FIRST, lost=("a",)),
        FetchAsHome(NINTH, None),
    ]


def test_a_home_that_does_not_think_itself_home_names_another():
    plan = viewer()
    plan.on_wanted(FIRST)
    assert plan.on_refused("a", FIRST, Why.NOT_HOME, ["c"]) == [AskEdge("c", HOME, FIRST)]
    assert plan.on_refused("c", FIRST, Why.NOT_HOME, ["a"]) == [AskEdge("a", HOLDER, FIRST)], "a was asked as home"


def test_holders_that_a_refusal_names_are_asked_in_order():
    plan = viewer()
    plan.on_wanted(FIRST)
    assert plan.on_refused("a", FIRST, Why.BUSY, ["x", "d", "y"]) == [AskEdge("x", HOLDER, FIRST)]
    assert plan.on_failed("x") == [AskEdge("y", HOLDER, FIRST, lost=("x",))], "d is this edge itself"


def test_a_refusal_that_names_nobody_leads_to_the_next_in_rank_and_at_last_to_the_origin():
    plan = viewer()
    plan.on_wanted(FIRST)
    assert plan.on_refused("a", FIRST, Why.NOT_HOME) == [AskEdge("a", HOLDER, FIRST)]
    assert plan.on_refused("a", FIRST, Why.NOT_HELD) == [AskEdge("b", HOLDER, FIRST)]
    assert plan.on_refused("b", FIRST, Why.NOT_HELD) == [AskOrigin(FIRST, Reason.HOME_LOST)]
    assert plan.on_origin_failed(FIRST) == [AskEdge("c", HOLDER, FIRST)]
    assert plan.on_refused("c", FIRST, Why.NOT_HELD) == [GiveUp(FIRST)]
    assert plan.missing == 0


def test_two_homes_whose_origin_failed_them_are_enough():
    plan = viewer("x")
    plan.on_wanted(FIRST)
    assert plan.on_refused("a", FIRST, Why.ORIGIN) == [AskEdge("b", HOME, FIRST)], "b may reach it"
    assert plan.on_refused("b", FIRST, Why.ORIGIN) == [AskEdge("a", HOLDER, FIRST)], "a third would bury the origin"
    assert plan.on_refused("a", FIRST, Why.NOT_HELD) == [AskEdge("b", HOLDER, FIRST)]
    assert plan.on_refused("b", FIRST, Why.NOT_HELD) == [AskEdge("c", HOLDER, FIRST)]
    assert plan.on_refused("c", FIRST, Why.NOT_HELD) == [AskEdge("d", HOLDER, FIRST)]
    assert plan.on_refused("d", FIRST, Why.NOT_HELD) == [GiveUp(FIRST)]


def test_a_home_whose_own_origin_failed_looks_at_the_next():
    plan = viewer("a")
    assert plan.on_wanted(FIRST) == [FetchAsHome(FIRST, None)]
    assert plan.on_origin_failed(FIRST) == [AskEdge("b", HOME, FIRST)]
    assert plan.on_refused("b", FIRST, Why.ORIGIN) == [AskEdge("b", HOLDER, FIRST)]


def test_pieces_that_do_not_verify_lose_their_sender_and_say_so_to_the_origin():
    plan = viewer()
    plan.on_wanted(FIRST | NINTH)
    assert plan.on_failed("a", rejected=True) == [
        AskEdge("b", HOME, FIRST, lost=("a",)),
        FetchAsHome(NINTH, Reason.VERIFY_FAILED),
    ]


def test_a_leaf_whose_swarm_is_lost_asks_the_origin_itself():
    plan = viewer("x")
    plan.on_wanted(FIRST)
    for node in ("a", "b", "c"):
        plan.on_failed(node)
    assert plan.on_failed("d") == [AskOrigin(FIRST, Reason.HOME_LOST)]
    assert plan.on_origin_failed(FIRST) == [GiveUp(FIRST)]


def test_a_home_that_all_others_left_is_home_for_everything():
    plan = viewer("d", "a", "b", "c")
    assert plan.on_wanted(0b1111) == [FetchAsHome(0b1111, None)]


def test_alone_an_edge_is_its_own_home():
    plan = Plan("d", viewer_rungs(Dealing((Edge("d"),))))
    assert plan.on_wanted(0b11, Reason.ROT) == [FetchAsHome(0b11, Reason.ROT)]
    assert plan.on_origin_failed(0b11) == [GiveUp(0b11)]


def test_a_small_objects_one_home_has_a_successor_when_it_is_lost():
    plan = Plan("d", viewer_rungs(Dealing(EVEN[:1]), EVEN))
    assert plan.on_wanted(0b11) == [AskEdge("a", HOME, 0b11)]
    assert plan.on_failed("a") == [AskEdge("b", HOME, 0b11, lost=("a",))]
    assert plan.on_failed("b") == [AskEdge("c", HOME, 0b11, lost=("a", "b"))]
    assert plan.on_failed("c") == [FetchAsHome(0b11, Reason.HOME_LOST)]


def test_a_refusal_from_an_edge_that_was_given_up_for_another_means_nothing():
    plan = viewer()
    plan.on_wanted(FIRST)
    plan.on_failed("a")
    assert plan.on_refused("a", FIRST, Why.ORIGIN, ["c"]) == []
    assert plan.on_failed("a") == []


def test_a_refusal_that_names_half_the_world_costs_a_few_questions():
    plan = viewer("x")
    plan.on_wanted(FIRST)
    orders = plan.on_refused("a", FIRST, Why.NOT_HOME, [f"liar-{number}" for number in range(1000)])
    asked = 0
    while not isinstance(orders[0], AskOrigin):
        assert isinstance(orders[0], AskEdge)
        asked += 1
        orders = plan.on_failed(orders[0].node)
    assert asked <= 10


# --- a home's duty


def test_what_is_younger_than_a_homes_claim_nobody_can_have():
    plan = duty(check_holders=False)
    assert plan.on_wanted(0b1) == [AskOrigin(0b1, Reason.FIRST_COPY)]
    assert plan.on_origin_failed(0b1) == [GiveUp(0b1)]


def test_what_is_older_is_looked_for_at_the_previous_home_and_the_next_two_in_rank():
    plan = duty(previous="xyzd")
    assert plan.on_wanted(0b1) == [AskEdge("x", HOLDER, 0b1)]
    assert plan.on_refused("x", 0b1, Why.NOT_HELD) == [AskEdge("b", HOLDER, 0b1)]
    assert plan.on_failed("b") == [AskEdge("c", HOLDER, 0b1, lost=("b",))]
    assert plan.on_refused("c", 0b1, Why.NOT_HELD) == [AskOrigin(0b1, Reason.FIRST_COPY)]


def test_a_home_that_was_home_before_asks_the_next_in_rank_alone():
    assert duty(previous="abcd").on_wanted(0b1) == [AskEdge("b", HOLDER, 0b1)]


def test_the_reason_is_the_askers_unless_what_came_did_not_verify():
    assert duty(check_holders=False).on_wanted(0b1, Reason.ROT) == [AskOrigin(0b1, Reason.ROT)]
    plan = duty()
    plan.on_wanted(0b1, Reason.ROT)
    plan.on_failed("b", rejected=True)
    assert plan.on_failed("c") == [AskOrigin(0b1, Reason.VERIFY_FAILED)]


def test_a_lost_homes_stand_in_looks_at_holders_first_however_young_the_version():
    """The lost home may have passed it on."""
    assert duty(check_holders=False).on_wanted(0b1, Reason.HOME_LOST) == [AskEdge("b", HOLDER, 0b1)]


def test_a_home_asks_nobody_as_home_whatever_it_is_told():
    """Else two homes could wait for each other."""
    plan = duty()
    plan.on_wanted(0b1)
    assert plan.on_refused("b", 0b1, Why.NOT_HOME, ["d"]) == [AskEdge("d", HOLDER, 0b1)]


# --- pointers, and who is home by this edge's view


@pytest.mark.parametrize(
    "me, lost, expected",
    [
        ("d", [], [("a", HOME), ("b", HOME)]),
        ("a", [], []),
        ("b", [], [("a", HOME)]),
        ("b", ["a"], []),
        ("x", ["a", "c"], [("b", HOME), ("d", HOME)]),
        ("x", ["a", "b", "c", "d"], []),
    ],
)
def test_what_a_path_means_is_asked_of_its_first_living_homes(me, lost, expected):
    assert pointer_rungs(EVEN, me, lost) == expected


@pytest.mark.parametrize(
    "me, lost, expected", [("a", [], ["b", "c", "d"]), ("x", ["a"], ["b", "c", "d"]), ("x", [], ["a", "b", "c"])]
)
def test_when_the_origin_is_silent_the_best_in_rank_are_asked_as_holders(me, lost, expected):
    assert holder_rungs(EVEN, me, lost) == [(node, HOLDER) for node in expected]


@pytest.mark.parametrize(
    "me, piece, lost, home",
    [
        ("a", 0, [], "a"),
        ("a", 1, [], "b"),
        ("b", 0, ["a"], "b"),
        ("b", 4, ["a"], "c"),
        ("a", 0, ["a"], "a"),  # the asker lost us, but here we are
        ("x", 0, ["a", "b", "c", "d"], None),
    ],
)
def test_an_edge_asked_as_home_judges_without_those_the_asker_lost(me, piece, lost, home):
    assert judge(piece, Dealing(EVEN), me, lost) == home


@pytest.mark.parametrize("lost, home", [([], "a"), (["a"], "b"), (["a", "c"], "b"), (["a", "b", "c", "d"], "b")])
def test_the_next_in_rank_judges_itself_home_of_a_small_object_whose_home_is_lost(lost, home):
    assert judge(0, Dealing(EVEN[:1]), "b", lost, EVEN) == home


# --- whatever happens

NODES = "abcdefg"
NAMES = st.lists(st.sampled_from([*NODES, ORIGIN, "stranger"]), max_size=4)
WANT = st.integers(1, (1 << 10) - 1)


@st.composite
def home_sets(draw: st.DrawFn, least: int = 1) -> tuple[Edge, ...]:
    nodes = draw(st.lists(st.sampled_from(NODES), unique=True, min_size=least))
    return tuple(Edge(node, draw(st.sampled_from([1, 4, 4, 8]))) for node in nodes)


@st.composite
def plans(draw: st.DrawFn) -> tuple[Plan, bool]:
    """A plan, and whether it is a home's duty."""
    me, homes = draw(st.sampled_from(NODES)), draw(home_sets())
    if draw(st.booleans()):
        first = draw(st.sampled_from([1, len(homes)]))
        return Plan(
            me, viewer_rungs(Dealing(homes[:first]), homes), draw(st.sets(st.sampled_from(NODES.replace(me, ""))))
        ), False
    rungs = home_rungs(
        homes, Dealing(draw(home_sets(0))), check_holders=draw(st.booleans()), otherwise=Reason.FIRST_COPY
    )
    return Plan(me, rungs), True


class Facts:
    """Feeds a plan facts until nothing is under way, and keeps account of its orders."""

    def __init__(self, plan: Plan, is_duty: bool) -> None:
        self.plan, self.is_duty = plan, is_duty
        self.under_way: list[Order] = []
        self.asked: set[tuple[str, Role, int]] = set()
        self.origin_asked = self.held = self.given_up = 0
        self.orders = 0

    def take(self, orders: list[Order]) -> None:
        for order in orders:
            self.orders += 1
            if isinstance(order, AskEdge):
                assert order.node not in {self.plan.me, ORIGIN, *self.plan.lost, *order.lost}
                assert not (self.is_duty and order.role is HOME)
                for piece in pieces.each(order.want):
                    assert (order.node, order.role, piece) not in self.asked
                    self.asked.add((order.node, order.role, piece))
            elif isinstance(order, GiveUp):
                assert not order.want & self.given_up
                self.given_up |= order.want
            else:
                assert not order.want & self.origin_asked
                self.origin_asked |= order.want
            if not isinstance(order, GiveUp):
                self.under_way.append(order)

    def happen(self, data: st.DataObject) -> None:
        order = data.draw(st.sampled_from(self.under_way))
        arrived = order.want & data.draw(st.integers(0, (1 << 10) - 1))
        for piece in pieces.each(arrived):
            self.plan.on_held(piece)
        self.held |= arrived & ~self.given_up
        self.under_way.remove(order)
        left = order.want & ~arrived
        if not isinstance(order, AskEdge):
            self.take(self.plan.on_origin_failed(left))
        elif data.draw(st.booleans()):
            why, named = data.draw(st.sampled_from(Why)), data.draw(NAMES)
            self.take(self.plan.on_refused(order.node, left, why, named))
        else:
            self.take(self.plan.on_failed(order.node, rejected=data.draw(st.booleans())))


@given(plans(), WANT, st.data())
def test_a_plan_ends_and_every_piece_is_held_or_given_up(plan_and_kind, want, data):
    """And on the way it asks no edge twice in the same role for the same piece, nor itself, nor a lost edge, nor the
    origin twice; a home's duty asks nobody as home."""
    facts = Facts(*plan_and_kind)
    facts.take(facts.plan.on_wanted(want))
    while facts.under_way:
        facts.happen(data)
    assert facts.plan.missing == 0
    assert facts.held | facts.given_up == want
    assert facts.orders <= want.bit_count() * (2 * len(NODES) + 3)


# --- zones: e and f are the homes of another zone than the path's first

NEAR = tuple(Edge(node) for node in "ef")
ZONE_HOME = Role.ZONE_HOME


def zone(me: str = "e", *, check_holders: bool = False) -> Plan:
    return Plan(me, zone_rungs(NEAR, Dealing(()), Dealing(EVEN), EVEN, check_holders=check_holders))


def test_in_another_zone_a_viewer_asks_the_homes_of_its_own_and_its_own_share_is_its_zones_duty():
    plan = Plan("e", viewer_rungs(Dealing(NEAR), NEAR, ZONE_HOME))
    assert plan.on_wanted(0b0011) == [AskEdge("f", ZONE_HOME, 0b0010), FetchAsHome(0b0001, None, ZONE_HOME)]


def test_a_zones_duty_asks_the_homes_of_the_first_zone_and_never_the_origin_itself():
    plan = zone()
    assert plan.on_wanted(FIRST) == [AskEdge("a", HOME, FIRST)]
    assert plan.on_failed("a") == [AskEdge("b", HOME, FIRST, ("a",))]
    orders = [order for node in "bcd" for order in plan.on_failed(node)]
    assert orders[-1] == FetchAsHome(FIRST, Reason.HOME_LOST)


def test_a_zone_that_may_hold_an_older_version_is_asked_before_anything_crosses():
    plan = zone(check_holders=True)
    assert plan.on_wanted(FIRST) == [AskEdge("f", HOLDER, FIRST)]
    assert plan.on_refused("f", FIRST, Why.NOT_HELD) == [AskEdge("a", HOME, FIRST)]


def test_when_every_home_of_a_zone_is_lost_a_viewer_crosses_by_its_own_zones_duty():
    plan = Plan("g", viewer_rungs(Dealing(NEAR), NEAR, ZONE_HOME), "ef")
    assert plan.on_wanted(FIRST) == [FetchAsHome(FIRST, Reason.NO_HOLDER, ZONE_HOME)]


def test_a_zones_home_that_names_another_is_believed_in_that_role_only():
    plan = Plan("g", viewer_rungs(Dealing(NEAR), NEAR, ZONE_HOME))
    plan.on_wanted(FIRST)
    assert plan.on_refused("e", FIRST, Why.NOT_HOME, ["f"]) == [AskEdge("f", ZONE_HOME, FIRST)]
    duty = zone()
    duty.on_wanted(FIRST)
    assert duty.on_refused("a", FIRST, Why.NOT_HOME, ["c"]) == [AskEdge("c", HOME, FIRST)]

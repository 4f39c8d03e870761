"""Who proves the secret to whom, and what a replayed, forged or moved request is worth."""

import pytest

from daemon.peer_auth import WINDOW, Gatekeeper, Pass, WrongSecret, new_hello

SECRET, OTHER, OLD = b"s" * 32, b"o" * 32, b"p" * 32


def session(server_secrets=(SECRET,), asker_secrets=(SECRET,)):
    """A gatekeeper, and an asker's pass for it."""
    gatekeeper = Gatekeeper("edge-b", server_secrets)
    hello = new_hello("edge-a")
    return gatekeeper, Pass(asker_secrets, hello, gatekeeper.greet(hello))


def test_a_request_with_the_secret_is_admitted_under_the_askers_name():
    gatekeeper, own_pass = session()
    assert own_pass.node == "edge-b"
    assert gatekeeper.admit(own_pass.header("POST", "/x", b"body"), "POST", "/x", b"body") == "edge-a"


def test_an_asker_refuses_a_server_that_does_not_know_the_secret():
    with pytest.raises(WrongSecret, match="edge-b does not know"):
        session(server_secrets=(OTHER,))


def test_a_server_refuses_an_asker_that_does_not_know_the_secret():
    gatekeeper = Gatekeeper("edge-b", (SECRET,))
    hello = new_hello("edge-a")
    reply = gatekeeper.greet(hello)
    forger = Pass((SECRET,), hello, reply)
    forger._key = b"guessed" * 4
    with pytest.raises(WrongSecret, match="edge-a does not know"):
        gatekeeper.admit(forger.header("POST", "/x", b""), "POST", "/x", b"")


@pytest.mark.parametrize(
    "method, path, body", [("GET", "/x", b"body"), ("POST", "/y", b"body"), ("POST", "/x", b"bodY")]
)
def test_a_proof_holds_for_its_own_method_path_and_body_alone(method, path, body):
    gatekeeper, own_pass = session()
    with pytest.raises(WrongSecret):
        gatekeeper.admit(own_pass.header("POST", "/x", b"body"), method, path, body)


def test_a_request_that_comes_twice_is_refused():
    gatekeeper, own_pass = session()
    header = own_pass.header("POST", "/x", b"")
    gatekeeper.admit(header, "POST", "/x", b"")
    with pytest.raises(WrongSecret, match="came twice"):
        gatekeeper.admit(header, "POST", "/x", b"")


def test_requests_may_overtake_each_other_within_the_window():
    gatekeeper, own_pass = session()
    headers = [own_pass.header("POST", "/x", b"") for _ in range(WINDOW + 1)]
    gatekeeper.admit(headers[-1], "POST", "/x", b"")  # counter WINDOW + 1
    assert gatekeeper.admit(headers[1], "POST", "/x", b"") == "edge-a"  # counter 2: the last within the window
    with pytest.raises(WrongSecret, match="came twice"):
        gatekeeper.admit(headers[1], "POST", "/x", b"")
    with pytest.raises(WrongSecret, match="came twice"):
        gatekeeper.admit(headers[0], "POST", "/x", b"")  # beyond it nobody remembers: refused


def test_a_session_of_before_a_restart_is_worth_nothing():
    _, own_pass = session()
    with pytest.raises(WrongSecret, match="unknown session"):
        Gatekeeper("edge-b", (SECRET,)).admit(own_pass.header("POST", "/x", b""), "POST", "/x", b"")


@pytest.mark.parametrize(
    "header", [None, "", "a.b", "a.1.zz", "a.one.00", "....", "a.-1.00", f"a.{1 << 70}.00", "a.1." + "0" * 64]
)
def test_nonsense_is_refused(header):
    gatekeeper, _ = session()
    with pytest.raises(WrongSecret):
        gatekeeper.admit(header, "POST", "/x", b"")


@pytest.mark.parametrize(
    "server, asker",
    [
        ((OLD, SECRET), (OLD,)),  # the new one was appended at the server first
        ((OLD, SECRET), (SECRET, OLD)),  # an asker that signs with the new one already
        ((SECRET, OLD), (OLD, SECRET)),
        ((SECRET,), (SECRET, OLD)),
    ],
)
def test_secrets_are_changed_without_a_gap(server, asker):
    gatekeeper, own_pass = session(server, asker)
    assert gatekeeper.admit(own_pass.header("POST", "/x", b""), "POST", "/x", b"") == "edge-a"


def test_beyond_the_bound_the_longest_unused_session_goes(monkeypatch):
    monkeypatch.setattr("daemon.peer_auth.MOST_SESSIONS", 2)
    gatekeeper = Gatekeeper("edge-b", (SECRET,))
    passes = []
    for node in ("a", "b"):
        hello = new_hello(node)
        passes.append(Pass((SECRET,), hello, gatekeeper.greet(hello)))
    gatekeeper.admit(passes[0].header("POST", "/x", b""), "POST", "/x", b"")
    gatekeeper.greet(new_hello("c"))
    assert gatekeeper.admit(passes[0].header("POST", "/x", b""), "POST", "/x", b"") == "a"
    with pytest.raises(WrongSecret, match="unknown session"):
        gatekeeper.admit(passes[1].header("POST", "/x", b""), "POST", "/x", b"")
    assert repr(gatekeeper) == "<Gatekeeper of edge-b, 2 sessions>"

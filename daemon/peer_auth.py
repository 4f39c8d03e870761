"""Proof of the swarm's secret, on both sides, replay-proof and without trusting clocks.

    asker  -> POST /-/swarm/hello {node, nonce}
    server -> {node, session, nonce, proof}         proof: HMAC(secret, "server", both nonces, both names)
    asker  -> every request: Starling-Session: session.counter.mac
              mac: HMAC(session key, counter, method, path, SHA-256 of the body)
              session key: HMAC(secret, "session", both nonces, both names)

The server's nonce makes old requests worthless, the counter (with a sliding window, as in RFC 4303 section 3.4.3) makes
each request of a session good once. Several secrets may be in force: each side proves its first, and accepts any.
"""

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

HELLO_PATH = "/-/swarm/hello"
SESSION_HEADER = "Starling-Session"
NONCE_BYTES = 16
MOST_SESSIONS = 20_000
WINDOW = 1024  # how far requests of one session may overtake each other


class WrongSecret(Exception):
    """The other side does not know our secret, or we do not know its."""


class Hello(msgspec.Struct, frozen=True):
    node: str
    nonce: bytes


class HelloReply(msgspec.Struct, frozen=True):
    node: str
    session: str
    nonce: bytes
    proof: bytes


def _mac(secret: bytes, *parts: bytes) -> bytes:
    framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hmac.digest(secret, framed, hashlib.sha256)


def _derive(secret: bytes, label: bytes, hello: Hello, nonce: bytes, server: str) -> bytes:
    return _mac(secret, b"starling " + label, hello.nonce, nonce, hello.node.encode(), server.encode())


def _request_mac(key: bytes, counter: int, method: str, path: str, body: bytes) -> bytes:
    return _mac(key, counter.to_bytes(8, "big"), method.encode(), path.encode(), hashlib.sha256(body).digest())


@dataclass
class _Session:
    node: str
    keys: list[bytes]
    highest: int = 0
    seen: int = 0  # bitmap: bit i is counter `highest - i`

    def accept(self, counter: int) -> bool:
        """Each counter once, within the window."""
        ahead = counter - self.highest
        if ahead > 0:
            self.seen = ((self.seen << ahead) | 1) & ((1 << WINDOW) - 1) if ahead < WINDOW else 1
            self.highest = counter
            return True
        bit = 1 << -ahead
        if -ahead >= WINDOW or self.seen & bit:
            return False
        self.seen |= bit
        return True


class Gatekeeper:
    """The server's side: who may ask. The longest unused session is dropped when there are too many."""

    def __init__(self, node: str, known: Sequence[bytes]) -> None:
        self._node = node
        self._secrets = tuple(known)
        self.refuses: Callable[[str], str] = lambda node: ""  # why a node that proved the secret is not answered
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Gatekeeper of {self._node}, {len(self._sessions)} sessions>"

    def greet(self, hello: Hello) -> HelloReply:
        nonce = secrets.token_bytes(NONCE_BYTES)
        session = secrets.token_hex(8)
        keys = [_derive(secret, b"session", hello, nonce, self._node) for secret in self._secrets]
        self._sessions[session] = _Session(hello.node, keys)
        while len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)
        proof = _derive(self._secrets[0], b"server", hello, nonce, self._node)
        return HelloReply(self._node, session, nonce, proof)

    def admit(self, header: str | None, method: str, path: str, body: bytes) -> str:
        """The name of the node that proved the secret with this request. WrongSecret if it did not."""
        try:
            name, counter_text, mac_text = (header or "").split(".")
            counter, mac = int(counter_text), bytes.fromhex(mac_text)
        except ValueError:
            raise WrongSecret("no session") from None
        session = self._sessions.get(name)
        if session is None or not 0 < counter < 1 << 63:
            raise WrongSecret("unknown session")
        for key in session.keys:
            if hmac.compare_digest(_request_mac(key, counter, method, path, body), mac):
                session.keys = [key]
                break
        else:
            raise WrongSecret(f"{session.node} does not know the swarm's secret")
        if not session.accept(counter):
            raise WrongSecret(f"a request of {session.node} came twice")
        self._sessions.move_to_end(name)
        return session.node


class Pass:
    """The asker's side of one session."""

    def __init__(self, known: Sequence[bytes], hello: Hello, reply: HelloReply) -> None:
        """WrongSecret unless the server proved one of our secrets."""
        for secret in known:
            if hmac.compare_digest(_derive(secret, b"server", hello, reply.nonce, reply.node), reply.proof):
                break
        else:
            raise WrongSecret(f"{reply.node} does not know the swarm's secret")
        self.node = reply.node
        self._session = reply.session
        self._key = _derive(known[0], b"session", hello, reply.nonce, reply.node)
        self._counter = 0

    def header(self, method: str, path: str, body: bytes) -> str:
        self._counter += 1
        mac = _request_mac(self._key, self._counter, method, path, body)
        return f"{self._session}.{self._counter}.{mac.hex()}"


def new_hello(node: str) -> Hello:
    return Hello(node, secrets.token_bytes(NONCE_BYTES))

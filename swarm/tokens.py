"""Viewer tokens: signed URLs, checked by the edge (design, section 7). Pure: signatures come in as functions.

A token is one query parameter, `starling_token`, of characters that no URL needs to encode:

    web-1.1764003600.L2xpdmUv.3q2-7w...
    key   expires    prefix   signature

`expires` is Unix time in seconds, `prefix` the path it opens and all below it, `prefix` and `signature` are base64url
without padding (RFC 4648 section 5). Signed is CONTEXT, then all that stands before the last dot, as it stands there.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from urllib.parse import unquote_plus

PARAMETER = "starling_token"
CONTEXT = b"starling viewer token 1\0"
MOST_TOKEN_CHARACTERS = 2048
MOST_REMEMBERED = 16_384  # tokens whose signature need not be checked again: 32 MiB at the very most

_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TOKEN = re.compile(r"([A-Za-z0-9_-]{1,64})\.([1-9][0-9]{0,11})\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
# In a URL that stands in another one (a page's `?src=...`), what was encoded is encoded once more.
_ENCODED_NAME = "".join(f"(?:{character}|(?i:%(?:25)*{ord(character):02x}))" for character in f"{PARAMETER}=")
_IN_TEXT = re.compile(rf"({_ENCODED_NAME})([A-Za-z0-9_-]{{1,64}}\.)?[^&\s\"'#]*")

Sign = Callable[[bytes], bytes]  # message -> signature
Verify = Callable[[bytes, bytes], bool]  # (message, signature) -> whether it is that key's


class Refusal(StrEnum):
    """Why a viewer gets 403, in words that it may read: they tell nothing that its token does not."""

    MISSING = f"this path needs a token: the query parameter {PARAMETER}"
    SIGNATURE = "the token is not one that was made with a key of this site"
    EXPIRED = "the token has expired"
    PATH = "the token is for another path"


class TokenRefused(Exception):
    """The viewer may not have it; `why` is for the viewer."""

    def __init__(self, why: Refusal) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class Token:
    """A genuine one: `text` is its only spelling, safe in any URL."""

    text: str
    key: str
    expires_at: int
    prefix: str


class Gate:
    """Who may have what of one site: whoever shows a token that was made with one of its keys."""

    def __init__(self, keys: Mapping[str, Verify]) -> None:
        self.key_names = tuple(keys)
        # Every segment of a viewer comes with the same token. Only genuine ones are remembered.
        self._open = lru_cache(maxsize=MOST_REMEMBERED)(lambda text: open_token(text, keys))

    def __repr__(self) -> str:
        return f"<Gate of {', '.join(self.key_names)}>"

    def admit(self, target: str, url_path: str, now: float) -> Token:
        """The token that opens `url_path` (normalised) in a request target, at Unix time `now`. TokenRefused."""
        shown = values_in(target)
        if not shown:
            raise TokenRefused(Refusal.MISSING)
        if len(shown) > 1:  # which of them would whoever looks next take?
            raise TokenRefused(Refusal.SIGNATURE)
        token = self._open(shown[0])
        if now >= token.expires_at:
            raise TokenRefused(Refusal.EXPIRED)
        if not covers(token.prefix, url_path):
            raise TokenRefused(Refusal.PATH)
        return token


def make_token(key: str, expires_at: int, prefix: str, sign: Sign) -> str:
    """A token. `prefix` is normalised and begins with "/". ValueError for what no token can say."""
    if not is_key_name(key):
        raise ValueError(f"{key!r} cannot name a key: at most 64 letters, digits, - and _")
    if not prefix.startswith("/") or not prefix.isascii():
        raise ValueError("the prefix must be a path that begins with /")
    if not 0 < expires_at < 10**12:
        raise ValueError("no such time")
    claims = f"{key}.{expires_at}.{_base64(prefix.encode())}"
    text = f"{claims}.{_base64(sign(CONTEXT + claims.encode()))}"
    if len(text) > MOST_TOKEN_CHARACTERS:
        raise ValueError("the prefix is too long")
    return text


def open_token(text: str, keys: Mapping[str, Verify]) -> Token:
    """A token whose signature is right; whether it is in time and for this path is still to be asked. TokenRefused.

    What is no token, an unknown key and a wrong signature are told alike: only the maker of a token may know better.
    """
    match = _TOKEN.fullmatch(text) if len(text) <= MOST_TOKEN_CHARACTERS else None
    verify = keys.get(match[1]) if match else None
    if match is None or verify is None:
        raise TokenRefused(Refusal.SIGNATURE)
    signature = _unbase64(match[4])
    if signature is None or not verify(CONTEXT + text[: match.start(4) - 1].encode(), signature):
        raise TokenRefused(Refusal.SIGNATURE)
    prefix = _unbase64(match[3])
    if prefix is None or not prefix.isascii():
        raise TokenRefused(Refusal.SIGNATURE)
    return Token(text, match[1], int(match[2]), prefix.decode())


def covers(prefix: str, url_path: str) -> bool:
    """Whether a token for `prefix` opens `url_path`: that path itself and all below it, so "/live" not "/live2"."""
    return url_path == prefix or url_path.startswith(prefix if prefix.endswith("/") else prefix + "/")


def values_in(target: str) -> Sequence[str]:
    """What a request target gives as token, each time it does; names are compared as `swarm.names` compares them."""
    found = []
    for parameter in target.partition("?")[2].split("&"):
        name, _, value = parameter.partition("=")
        if name == PARAMETER or ("%" in name and unquote_plus(name) == PARAMETER):
            found.append(unquote_plus(value) if "%" in value else value)
    return found


def hide(text: str) -> str:
    """The text with every token in it cut off behind the name of its key: for logs."""
    return _IN_TEXT.sub(r"\1\2...", text) if PARAMETER in text or "%" in text else text


def is_key_name(name: str) -> bool:
    return _KEY.fullmatch(name) is not None


# ---- HMAC-SHA256; for Ed25519 see daemon/token_keys.py ----


def hmac_signer(secret: bytes) -> Sign:
    return lambda message: hmac.digest(secret, message, hashlib.sha256)


def hmac_verifier(secret: bytes) -> Verify:
    """Compares in constant time."""
    return lambda message, signature: hmac.compare_digest(hmac.digest(secret, message, hashlib.sha256), signature)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unbase64(text: str) -> bytes | None:
    """None for what this encoder would not have written: the spare bits of the last character must be 0."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        return None
    return data if _base64(data) == text else None

"""The file of the keys that viewer tokens are made with: one key a line, `NAME KIND KEY`, `#` begins a comment.

    web-1 hmac-sha256 6f1c...    # a shared secret in hexadecimal, at least 16 bytes; who has it can make tokens
    cms   ed25519     MCowBQ...  # a public key as it stands between the lines of a PEM file (or its raw 32 bytes)

All keys check tokens. Names begin tokens, so they are letters, digits, - and _.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from daemon.errors import StartupError
from daemon.keys import LEAST_SECRET_BYTES
from swarm.tokens import Sign, Verify, hmac_signer, hmac_verifier, is_key_name

HMAC, ED25519 = "hmac-sha256", "ed25519"
_RAW_BYTES = 32


@dataclass(frozen=True)
class TokenKeys:
    """What a file holds: how each key checks a token, and how those make one that can."""

    verifiers: Mapping[str, Verify]
    signers: Mapping[str, Sign]  # of the shared secrets alone


def load_token_keys(path: Path, what: str = "token keys") -> TokenKeys:
    """StartupError, one line that names the line but shows no key, if the file cannot be read or holds no key."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"{what} {path}: {getattr(error, 'strerror', None) or 'not text'}") from error
    verifiers: dict[str, Verify] = {}
    signers: dict[str, Sign] = {}
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            name, kind, key = _words(words, verifiers)
            if kind == HMAC:
                secret = _secret(key)
                verifiers[name], signers[name] = hmac_verifier(secret), hmac_signer(secret)
            else:
                verifiers[name] = ed25519_verifier(_public_key(key))
        except ValueError as error:
            raise StartupError(f"{what} {path}: line {number}: {error}") from error
    if not verifiers:
        raise StartupError(f"{what} {path}: no key in it")
    return TokenKeys(verifiers, signers)


def ed25519_verifier(public: Ed25519PublicKey) -> Verify:
    def verify(message: bytes, signature: bytes) -> bool:
        try:
            public.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    return verify


def ed25519_signer(private: Ed25519PrivateKey) -> Sign:
    return private.sign


def _words(words: list[str], known: Mapping[str, Verify]) -> tuple[str, str, str]:
    if len(words) != 3:
        raise ValueError("expected NAME KIND KEY")
    name, kind, key = words
    if not is_key_name(name):
        raise ValueError("a name is at most 64 letters, digits, - and _")
    if name in known:
        raise ValueError(f"a second key named {name}")
    if kind not in (HMAC, ED25519):
        raise ValueError(f"expected {HMAC} or {ED25519} after the name")
    return name, kind, key


def _secret(key: str) -> bytes:
    try:
        secret = bytes.fromhex(key)
    except ValueError:
        raise ValueError("the secret is not hexadecimal") from None
    if len(secret) < LEAST_SECRET_BYTES:
        raise ValueError(f"the secret has under {LEAST_SECRET_BYTES} bytes")
    return secret


def _public_key(key: str) -> Ed25519PublicKey:
    problem = ValueError("not an Ed25519 public key in base64")
    try:
        data = base64.b64decode(key, validate=True)
        public = Ed25519PublicKey.from_public_bytes(data) if len(data) == _RAW_BYTES else load_der_public_key(data)
    except (binascii.Error, ValueError, UnsupportedAlgorithm):
        raise problem from None
    if not isinstance(public, Ed25519PublicKey):
        raise problem
    return public

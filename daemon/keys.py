"""Key files and Ed25519: the origin's signing key, each node's own key, the swarm's shared secret.

`signing.key` is PEM (PKCS 8), `signing.pub` one or more PEM public keys (rotation), `swarm.secret` one hex secret a
line: the first signs, all verify.
"""

import hashlib
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from daemon.errors import StartupError
from swarm.accounting import Cause
from swarm.errors import RemoteError
from swarm.metainfo import CheckSignature, Signed

LEAST_SECRET_BYTES = 16
_PEM_PUBLIC = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)


def key_id(public: bytes) -> str:
    """A short name of a public key (its raw 32 bytes)."""
    return hashlib.sha256(public).hexdigest()[:16]


class Signer:
    """An Ed25519 key and the name under which it signs: its key id (origin) or the node's name (edge)."""

    def __init__(self, key: Ed25519PrivateKey, name: str | None = None) -> None:
        self._key = key
        self.public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.name = name or key_id(self.public)

    def __repr__(self) -> str:
        return f"<Signer {self.name}>"

    @classmethod
    def throwaway(cls, name: str) -> "Signer":
        """A key for one run: for a node without a directory to keep one in."""
        return cls(Ed25519PrivateKey.generate(), name)

    def sign(self, context: bytes, body: bytes) -> Signed:
        return Signed(body, self._key.sign(context + body), self.name)


def verify(public: bytes, context: bytes, signed: Signed) -> None:
    """RemoteError(SIGNATURE) unless that key signed exactly these bytes in this context."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signed.signature, context + signed.body)
    except (InvalidSignature, ValueError) as error:
        raise RemoteError(f"signature of {signed.signer or 'nobody'} does not verify", Cause.SIGNATURE) from error


def checker(public_of: Callable[[str], bytes | None]) -> CheckSignature:
    """A check for `swarm`: `public_of` maps a signer's name to its public key, or None for a stranger."""

    def check(context: bytes, signed: Signed) -> None:
        public = public_of(signed.signer)
        if public is None:
            raise RemoteError(f"signed by {signed.signer or 'nobody'}, whose key is not known here", Cause.SIGNATURE)
        verify(public, context, signed)

    return check


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StartupError(f"{what} {path}: {error.strerror}") from error


def load_signing_key(path: Path, what: str = "signing key") -> Ed25519PrivateKey:
    """StartupError if the file is missing, unreadable or no Ed25519 private key; `what` (here and below: the
    configuration key that names the file) begins its line."""
    pem = _read(path, what)
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise StartupError(f"{what} {path}: not a PEM private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise StartupError(f"{what} {path}: not an Ed25519 key")
    return key


def load_public_keys(path: Path, what: str = "public key") -> dict[str, bytes]:
    """Key id -> raw public key, for each key in the file. StartupError if there is none or one is malformed."""
    blocks = _PEM_PUBLIC.findall(_read(path, what))
    if not blocks:
        raise StartupError(f"{what} {path}: no PEM public key in it")
    keys = {}
    for block in blocks:
        try:
            key = load_pem_public_key(block)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise StartupError(f"{what} {path}: malformed PEM public key") from error
        if not isinstance(key, Ed25519PublicKey):
            raise StartupError(f"{what} {path}: not an Ed25519 key")
        raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        keys[key_id(raw)] = raw
    return keys


def load_secrets(path: Path, what: str = "swarm secret") -> tuple[bytes, ...]:
    """The swarm's secrets, first the one that signs. StartupError if the file is missing or malformed."""
    lines = [line.strip() for line in _read(path, what).splitlines()]
    found = []
    for line in lines:
        if not line or line.startswith(b"#"):
            continue
        try:
            secret = bytes.fromhex(line.decode("ascii"))
        except ValueError as error:
            raise StartupError(f"{what} {path}: a line is not hexadecimal") from error
        if len(secret) < LEAST_SECRET_BYTES:
            raise StartupError(f"{what} {path}: a secret has under {LEAST_SECRET_BYTES} bytes")
        found.append(secret)
    if not found:
        raise StartupError(f"{what} {path}: no secret in it")
    return tuple(found)


def _write_private(path: Path, content: bytes) -> None:
    """Create the file readable by its owner alone; FileExistsError if it is there."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def private_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write_key_files(directory: Path) -> list[Path]:
    """Make signing.key, signing.pub and swarm.secret. FileExistsError rather than overwrite any of them."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / name for name in ("signing.key", "signing.pub", "swarm.secret")]
    for path in paths:
        if path.exists():
            raise FileExistsError(path)
    key = Ed25519PrivateKey.generate()
    _write_private(paths[0], private_pem(key))
    paths[1].write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    _write_private(paths[2], secrets.token_hex(32).encode() + b"\n")
    return paths


def load_or_make_node_key(path: Path, node: str) -> Signer:
    """The node's own key, made at first start. StartupError if the file is there but unusable."""
    try:
        key = load_signing_key(path, "node key")
    except StartupError:
        if path.exists():
            raise
        key = Ed25519PrivateKey.generate()
        partial = path.with_name(path.name + ".new")
        partial.unlink(missing_ok=True)
        _write_private(partial, private_pem(key))
        partial.replace(path)
    return Signer(key, node)

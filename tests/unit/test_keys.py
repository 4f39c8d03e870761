"""Key files: made once, never overwritten, and every way in which one can be wrong is one clear line."""

import dataclasses
import stat

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from daemon import keys
from daemon.errors import StartupError
from swarm.accounting import Cause
from swarm.errors import RemoteError


@pytest.fixture
def made(tmp_path):
    keys.write_key_files(tmp_path)
    return tmp_path


def test_what_the_origin_signs_verifies_with_the_public_file(made):
    signer = keys.Signer(keys.load_signing_key(made / "signing.key"))
    check = keys.checker(keys.load_public_keys(made / "signing.pub").get)
    check(b"context\0", signer.sign(b"context\0", b"body"))


def test_a_signature_holds_for_its_own_context_body_and_signer_alone(made):
    signer = keys.Signer(keys.load_signing_key(made / "signing.key"))
    check = keys.checker(keys.load_public_keys(made / "signing.pub").get)
    signed = signer.sign(b"page\0", b"body")
    for context, changed in (
        (b"pointer\0", signed),
        (b"page\0", msgspec.structs.replace(signed, body=b"bodY")),
        (b"page\0", msgspec.structs.replace(signed, signature=b"")),
        (b"page\0", msgspec.structs.replace(signed, signer="stranger")),
    ):
        with pytest.raises(RemoteError) as caught:
            check(context, changed)
        assert caught.value.cause is Cause.SIGNATURE


def test_private_files_are_readable_by_their_owner_alone(made):
    assert stat.S_IMODE((made / "signing.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((made / "swarm.secret").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["signing.key", "signing.pub", "swarm.secret"])
def test_no_file_is_ever_overwritten(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError):
        keys.write_key_files(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_public_file_may_hold_several_keys(tmp_path):
    file = tmp_path / "signing.pub"
    pems = []
    for _ in range(2):
        key = Ed25519PrivateKey.generate()
        pems.append(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    file.write_bytes(b"# old and new\n" + b"\n".join(pems))
    found = keys.load_public_keys(file)
    assert [keys.key_id(raw) for raw in found.values()] == list(found)
    assert len(found) == 2


def _elliptic_pem() -> bytes:
    return generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _elliptic_public_pem() -> bytes:
    return generate_private_key(SECP256R1()).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@dataclasses.dataclass
class Wrong:
    load: object
    content: bytes | None
    says: str


WRONG = {
    "missing key": Wrong(keys.load_signing_key, None, "signing key .*: No such file"),
    "not PEM": Wrong(keys.load_signing_key, b"hello", "not a PEM private key"),
    "another kind of key": Wrong(keys.load_signing_key, _elliptic_pem(), "not an Ed25519 key"),
    "missing public": Wrong(keys.load_public_keys, None, "public key .*: No such file"),
    "no public": Wrong(keys.load_public_keys, b"hello", "no PEM public key in it"),
    "another kind of public": Wrong(keys.load_public_keys, _elliptic_public_pem(), "not an Ed25519 key"),
    "malformed public": Wrong(
        keys.load_public_keys,
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        "malformed PEM public key",
    ),
    "missing secret": Wrong(keys.load_secrets, None, "swarm secret .*: No such file"),
    "empty secret": Wrong(keys.load_secrets, b"# nothing\n\n", "no secret in it"),
    "not hexadecimal": Wrong(keys.load_secrets, b"secret!\n", "not hexadecimal"),
    "short secret": Wrong(keys.load_secrets, b"00112233\n", "under 16 bytes"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path, wrong):
    file = tmp_path / "file"
    if wrong.content is not None:
        file.write_bytes(wrong.content)
    with pytest.raises(StartupError, match=wrong.says) as caught:
        wrong.load(file)
    assert "\n" not in str(caught.value)


def test_several_secrets_are_read_in_their_order(tmp_path):
    file = tmp_path / "swarm.secret"
    file.write_text("# new\n" + "ab" * 16 + "\n\n" + "cd" * 32 + "\n")
    assert keys.load_secrets(file) == (b"\xab" * 16, b"\xcd" * 32)


def test_a_node_makes_its_key_once_and_keeps_it(tmp_path):
    first = keys.load_or_make_node_key(tmp_path / "node.key", "edge-a")
    assert keys.load_or_make_node_key(tmp_path / "node.key", "edge-a").public == first.public
    assert first.sign(b"c", b"b").signer == "edge-a"
    assert stat.S_IMODE((tmp_path / "node.key").stat().st_mode) == 0o600


def test_a_node_key_that_is_there_but_unusable_is_not_replaced(tmp_path):
    (tmp_path / "node.key").write_text("damaged")
    with pytest.raises(StartupError):
        keys.load_or_make_node_key(tmp_path / "node.key", "edge-a")
    assert (tmp_path / "node.key").read_text() == "damaged"
